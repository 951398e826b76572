"""One checkpoint's share of an extraction: loaded once, measured by each extractor in turn, each result kept before the next
begins.

Runs in the parent, in a worker process or on another machine; it is given a Job and yields what it finds.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from features.corpora import Corpora
from features.errors import ForetuneError, StoreError, UserError
from features.registry import Extractor, Selection, Session
from features.registry import load as load_extractor
from features.rows import Feature
from features.store import Arrays, FeatureStore, Key
from features.tasks import Task
from features.zoo import Checkpoint

DTYPES = ("float32", "bfloat16", "float16", "float64")


@dataclass(frozen=True)
class Job:
    """What is to be measured of one checkpoint.

    Attributes
    ----------
    store : the feature store's file; None where the machine cannot reach it: then `known` says what is kept already, and the
        parent
        keeps what comes back
    following : the checkpoint that this worker will probably have next, to be read ahead
    """

    checkpoint: Checkpoint
    tasks: tuple[Task, ...]
    corpora: Mapping[str, Path]
    selection: Selection
    store: Path | None
    device: str = "auto"
    dtype: str = "auto"
    memory_budget_mb: float | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    known: frozenset[str] = frozenset()
    following: Checkpoint | None = None


@dataclass(frozen=True)
class Measured:
    """What one extractor found on one checkpoint (and task).

    Attributes
    ----------
    checkpoint, digest, task, extractor : what it is of; extractor "" where the checkpoint as a whole failed
    rows : the features; with `error`, none
    error : the line that says why there is nothing
    cached : whether it was in the store already
    key, arrays : for the parent to keep, where the worker could not
    """

    checkpoint: str
    digest: str
    task: str = ""
    extractor: str = ""
    rows: tuple[Feature, ...] = ()
    error: str = ""
    cached: bool = False
    key: Key | None = None
    arrays: Arrays = field(default_factory=dict)


class Keeper(Protocol):
    """Where results are kept: the feature store, or the parent at the other end."""

    def get(self, key: Key) -> Sequence[Feature] | None: ...

    def put(self, key: Key, rows: Sequence[Feature], arrays: Arrays | None = None) -> None: ...


class Relay:
    """Keeps nothing: it knows what the parent has, and the parent keeps what it is sent."""

    def __init__(self, known: frozenset[str]) -> None:
        self.known = known

    def get(self, key: Key) -> Sequence[Feature] | None:
        return () if key.digest in self.known else None

    def put(self, key: Key, rows: Sequence[Feature], arrays: Arrays | None = None) -> None:
        return None


def check_place(device: str, dtype: str, *, here: bool) -> None:
    """Refuse a device or dtype that there is not, before anything is loaded; `here` asks this machine for its CUDA devices.

    Raises
    ------
    UserError : names the option and what can be given
    """
    if dtype_name(dtype, "cpu") not in DTYPES:
        raise UserError(f"no dtype named {dtype!r}", where="--dtype", remedy=f"use auto, {', '.join(DTYPES)}")
    if device in ("auto", "cpu"):
        return
    import torch

    try:
        asked = torch.device(device)
    except RuntimeError:
        raise UserError(f"no device named {device!r}", where="--device", remedy="use auto, cpu, cuda or cuda:1") from None
    count = torch.cuda.device_count() if here else 0
    if here and asked.type == "cuda" and (asked.index or 0) >= count:
        raise UserError(f"{device!r} is not there: {count} CUDA device(s)", where="--device", remedy="use auto or cpu")


def dtype_name(dtype: str, device: str) -> str:
    """The dtype that will compute: "auto" is float32 on the CPU, bfloat16 on CUDA."""
    if dtype != "auto":
        return str(dtype).removeprefix("torch.")
    if device == "cpu" or not _may_have_cuda():
        return "float32"
    import torch

    return "bfloat16" if (device != "auto" and device.startswith("cuda")) or torch.cuda.is_available() else "float32"


def _may_have_cuda() -> bool:
    """False where the operating system shows no accelerator at all: then there is no need to import torch to ask it."""
    if sys.platform == "linux":
        return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd"))
    return sys.platform != "darwin"


def units(selection: Selection, tasks: Sequence[Task]) -> list[tuple[Extractor, Task | None]]:
    """Every (extractor, task) to be measured on a checkpoint, in order: cheap extractors first, each on all tasks."""
    found: list[tuple[Extractor, Task | None]] = []
    for name in selection.extractors:
        extractor = load_extractor(name)
        found += [(extractor, None)] if extractor.scope == "checkpoint" else [(extractor, task) for task in tasks]
    return found


def key_of(extractor: Extractor, task: Task | None, digest: str, corpora: Corpora, dtype: str) -> Key:
    """The store's key of an extractor on a checkpoint (by digest) and a task."""
    settings = {**extractor.settings(), "dtype": dtype}
    return Key.of(digest, extractor.name, extractor.version, settings, extractor.data_digest(task, corpora))


def digest_of(checkpoint: Checkpoint, *, allow_pickle: bool = False) -> str:
    """Digest of a checkpoint's weights. Raises CheckpointError where they are missing or damaged."""
    from features.weights import weights_digest

    return weights_digest(checkpoint.location, checkpoint.gguf_file, revision=checkpoint.revision, allow_pickle=allow_pickle)


def measure(job: Job) -> Iterator[Measured]:
    """Measure a job, yielding each result when it is kept. What is in the store is not measured again, and where everything
    is, no
    weight is loaded.

    A failure of the checkpoint, or of one extractor on it, is yielded as an error. Raises StoreError alone.
    """
    checkpoint = job.checkpoint
    keeper: Keeper = FeatureStore(job.store) if job.store is not None else Relay(job.known)
    try:
        digest = digest_of(checkpoint, allow_pickle=job.allow_pickle)
        dtype = dtype_name(job.dtype, job.device)
    except Exception as error:
        yield Measured(checkpoint.name, "", error=told(error))
        return
    corpora = Corpora(job.corpora)
    pending = []
    for extractor, task in units(job.selection, job.tasks):
        key = key_of(extractor, task, digest, corpora, dtype)
        rows = keeper.get(key)
        if rows is None:
            pending.append((extractor, task, key))
        else:
            yield Measured(checkpoint.name, digest, task.name if task else "", extractor.name, tuple(rows), cached=True, key=key)
    if not pending:
        return
    if job.following is not None:
        from features.model import prefetch

        following = job.following
        prefetch(following.location, revision=following.revision, gguf_file=following.gguf_file)
    try:
        session = _load(job, corpora)
    except StoreError:
        raise
    except Exception as error:
        yield Measured(checkpoint.name, digest, error=told(error))
        return
    for extractor, task, key in pending:
        yield _one(session.on(task), extractor, key, keeper)
    session.cache.clear()
    del session
    release()


def _load(job: Job, corpora: Corpora) -> Session:
    from features.model import load

    checkpoint = job.checkpoint
    model = load(
        checkpoint.location,
        revision=checkpoint.revision,
        gguf_file=checkpoint.gguf_file,
        device=job.device,
        dtype=job.dtype,
        trust_remote_code=job.trust_remote_code,
        allow_pickle=job.allow_pickle,
        name=checkpoint.name,
    )
    return Session(checkpoint, model, corpora, memory_budget_mb=job.memory_budget_mb)


def _one(session: Session, extractor: Extractor, key: Key, keeper: Keeper) -> Measured:
    task = session.task.name if session.task else ""
    who = (session.checkpoint.name, key.checkpoint, task, extractor.name)
    started = time.perf_counter()
    try:
        rows = extractor.measure(session) if extractor.applies(session.model.kind, session.task) else []
    except StoreError:
        raise
    except Exception as error:  # whatever one extractor does on one checkpoint, the others go on
        release()
        return Measured(*who, error=told(error))
    seconds = time.perf_counter() - started
    rows = [completed(row, task, seconds / len(rows)) for row in rows]
    keeper.put(key, rows, session.kept)
    return Measured(*who, rows=tuple(rows), key=key, arrays=session.kept)


def completed(row: Feature, task: str, seconds: float) -> Feature:
    """A row with its task and seconds, where the extractor left them empty; a number that is not finite becomes an error."""
    row = replace(row, task=row.task or task, seconds=row.seconds or seconds)
    if row.value is not None and not math.isfinite(row.value):
        return replace(row, value=None, stderr=None, error=f"the value is {row.value}")
    if row.stderr is not None and not math.isfinite(row.stderr):
        return replace(row, stderr=None)
    return row


def told(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, ForetuneError):
        return str(error)
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def release() -> None:
    """Give back what a checkpoint held, on the accelerator too."""
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
