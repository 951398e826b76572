"""A zoo in, feature rows out: nothing that was finished is lost or measured again, and one broken checkpoint stops no other.

report = extract(Zoo.read("zoo.yaml"), ["films.yaml"], store="mlruns/features.db")
report.rows       # a DataFrame of FEATURE_COLUMNS
report.failed     # what could not be measured, and why; empty when all went well
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from features.backends import Backend, Crash, backend
from features.configuration import metadata
from features.corpora import Corpora
from features.errors import CheckpointError, UnknownNameError
from features.manifest import closest
from features.measuring import Job, Measured, check_place, digest_of, dtype_name, key_of, measure, units
from features.registry import DERIVED, EXTRACTORS, Extractor, Selection, Session, select
from features.rows import FEATURE_COLUMNS, Feature
from features.store import FeatureStore
from features.tasks import Task, read_tasks
from features.zoo import Checkpoint, Zoo

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EXTRACTORS", "ExtractReport", "Extractor", "Failure", "Session", "extract", "prepared", "resolve_tasks", "stored"]

LIMIT = 200  # examples of a task that features are measured on, unless told otherwise
_WHOLE = "checkpoint"  # name of the row that says that a checkpoint as a whole failed


@dataclass(frozen=True)
class Failure:
    """What could not be measured. `extractor` is "" where the checkpoint as a whole failed."""

    checkpoint: str
    task: str
    extractor: str
    error: str

    def __str__(self) -> str:
        what = f"{self.extractor}{f' on {self.task}' if self.task else ''}: " if self.extractor else ""
        return f"{self.checkpoint}: {what}{self.error}"


@dataclass(frozen=True)
class ExtractReport:
    """What an extraction found.

    Attributes
    ----------
    rows : DataFrame of FEATURE_COLUMNS, in the order of zoo, extractors and tasks; a failure is a row with an `error`
    failed : the failures
    measured, cached : how many (checkpoint, task, extractor) were measured now, and how many were in the store
    seconds : wall seconds of it all
    splits : how each task's splits came about, one line each
    """

    rows: pd.DataFrame
    failed: list[Failure]
    measured: int
    cached: int
    seconds: float
    splits: list[str]


def resolve_tasks(zoo: Zoo, paths: Iterable[str | Path] = ()) -> list[Task]:
    """The zoo's tasks and those at `paths`; one of these takes the place of the zoo's task of the same name."""
    given = read_tasks(paths)
    names = {task.name for task in given}
    return [*(task for task in read_tasks(zoo.tasks) if task.name not in names), *given]


def extract(
    zoo: Zoo | str | Path,
    tasks: Sequence[Task | str | Path] | None = None,
    *,
    features: str | Iterable[str] | None = None,
    store: FeatureStore | str | Path,
    backend: str | Backend = "inline",
    workers: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    examples: str | Path | None = None,
    limit: int | None = LIMIT,
    memory_budget_mb: float | None = None,
    trust_remote_code: Collection[str] = (),
    allow_pickle: Collection[str] = (),
    progress: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> ExtractReport:
    """Measure features of every checkpoint of a zoo, on every task.

    Parameters
    ----------
    tasks : None means the zoo's own
    features : names of extractors or features ("ppl_clm,kshot_acc" or a list); None means every default one that applies
    store : where results are kept and looked up
    backend : "inline", "process" (one worker per GPU, else several on the CPU) or "ray"
    workers : how many, for "process"; None chooses
    dtype : "auto" is float32 on the CPU and bfloat16 on CUDA; part of a result's key
    examples : a file of `foretune select`: measure on these examples, with their weights
    limit : examples of each task at most (drawn seeded, spread over the labels); None for all
    memory_budget_mb : working memory of a batch of the scoring engine beyond the weights; None chooses by device
    trust_remote_code, allow_pickle : names of the checkpoints whose code may run, whose pickled weights may be read
    progress : a bar on stderr
    on_progress : called with (done, total) after each (checkpoint, task, extractor)

    Raises UserError for anything wrong with what was asked, before the first checkpoint is loaded, and StoreError. A failure
    of a checkpoint is
    reported, and the others go on.
    """
    started = time.perf_counter()
    zoo, read, selection = prepared(zoo, tasks, features, examples, limit)
    kept = store if isinstance(store, FeatureStore) else FeatureStore(store)
    runner = _backend(backend, workers, device)
    check_place(device, dtype, here=not runner.remote)
    for named in {*trust_remote_code, *allow_pickle}:
        zoo[named]
    corpora = Corpora(zoo.corpora)
    if any(extractor.data_digest(None, corpora) for extractor, task in units(selection, read) if task is None):
        corpora.digest  # noqa: B018  a corpus that cannot be read is the user's mistake, told before anything is loaded
    known = frozenset(kept.keys()) if runner.remote else frozenset()
    ahead = [None] * len(zoo.checkpoints) if runner.remote else [*zoo.checkpoints[runner.workers :], *[None] * runner.workers]
    jobs = [
        Job(
            checkpoint,
            tuple(read),
            dict(zoo.corpora),
            selection,
            store=None if runner.remote else kept.path.resolve(),
            device=device,
            dtype=dtype,
            memory_budget_mb=memory_budget_mb,
            trust_remote_code=checkpoint.name in trust_remote_code,
            allow_pickle=checkpoint.name in allow_pickle,
            known=known,
            following=following,
        )
        for checkpoint, following in zip(zoo.checkpoints, ahead, strict=False)
    ]
    found: list[list[Measured]] = [[] for _ in jobs]
    each = len(units(selection, read))
    with _Progress(each * len(jobs), progress, on_progress) as bar:
        for index, arrived in runner.map(measure, jobs):
            if isinstance(arrived, Crash):
                item = Measured(zoo.checkpoints[index].name, "", error=arrived.message)
            else:
                item = _kept_here(arrived, kept) if runner.remote else arrived
            left = each - len(found[index])
            found[index].append(item)
            bar.step(left if not item.extractor else 1, item)
    failed = [Failure(m.checkpoint, m.task, m.extractor, m.error) for group in found for m in group if m.error]
    digests = [next((m.digest for m in group if m.digest), "") for group in found]
    derived = _derived(zoo, selection, read, kept, digests)
    failed += [Failure(name, row.task, row.name, row.error) for name, some in derived.items() for row in some if row.error]
    rows = [
        row
        for checkpoint, group, digest in zip(zoo.checkpoints, found, digests, strict=True)
        for row in _rows(zoo, checkpoint, group, selection, read, digest, derived[checkpoint.name])
    ]
    return ExtractReport(
        rows=_table(rows),
        failed=failed,
        measured=sum(not m.cached and not m.error for group in found for m in group),
        cached=sum(m.cached for group in found for m in group),
        seconds=time.perf_counter() - started,
        splits=[task.report for task in read],
    )


def stored(
    zoo: Zoo | str | Path,
    tasks: Sequence[Task | str | Path] | None = None,
    *,
    features: str | Iterable[str] | None = None,
    store: FeatureStore | str | Path,
    examples: str | Path | None = None,
    limit: int | None = LIMIT,
    dtype: str | None = None,
    allow_pickle: Collection[str] = (),
) -> pd.DataFrame:
    """What the store already holds of what `extract` would measure: FEATURE_COLUMNS. Loads no checkpoint and imports no torch.

    `features` None takes what is there of every extractor, those that `extract` measures by name only included. `dtype` None
    takes what there is, float32 before the others. A checkpoint that cannot be read (pickled weights without being named in
    `allow_pickle`, say) has no rows but those of its metadata.
    """
    zoo, read, selection = prepared(zoo, tasks, [*EXTRACTORS, *DERIVED] if features is None else features, examples, limit)
    kept = store if isinstance(store, FeatureStore) else FeatureStore(store)
    corpora = Corpora(zoo.corpora)
    groups, digests = [], []
    for checkpoint in zoo.checkpoints:
        group = []
        try:
            digest = digest_of(checkpoint, allow_pickle=checkpoint.name in allow_pickle)
        except CheckpointError:
            digest = ""
        for extractor, task in units(selection, read) if digest else []:
            for name in [dtype_name(dtype, "cpu")] if dtype else ["float32", "bfloat16", "float16"]:
                found = kept.get(key_of(extractor, task, digest, corpora, name))
                if found is not None:
                    where = task.name if task else ""
                    group.append(Measured(checkpoint.name, digest, where, extractor.name, tuple(found), cached=True))
                    break
        groups.append(group)
        digests.append(digest)
    derived = _derived(zoo, selection, read, kept, digests)
    rows = []
    for checkpoint, group, digest in zip(zoo.checkpoints, groups, digests, strict=True):
        rows += _rows(zoo, checkpoint, group, selection, read, digest, derived[checkpoint.name])
    return _table(rows)


def prepared(
    zoo: Zoo | str | Path,
    tasks: Sequence[Task | str | Path] | None,
    features: str | Iterable[str] | None,
    examples: str | Path | None,
    limit: int | None,
) -> tuple[Zoo, list[Task], Selection]:
    """What `extract` was asked for, read and checked: the zoo, the tasks (restricted or limited) and the extractors."""
    zoo = zoo if isinstance(zoo, Zoo) else Zoo.read(zoo)
    selection = select(features.split(",") if isinstance(features, str) else features)
    read = read_tasks(zoo.tasks if tasks is None else tasks)
    if examples is not None:
        read = _restricted(read, examples)
    elif limit is not None:
        read = [task.limited(limit) for task in read]
    return zoo, read, selection


def _restricted(tasks: list[Task], path: str | Path) -> list[Task]:
    from features.selection.subset import load

    by_name = {task.name: task for task in tasks}
    for subset in load(path):
        if subset.task not in by_name:
            raise UnknownNameError(
                f"the subset is of the task {subset.task!r}", where=str(path), remedy=closest(subset.task, by_name)
            )
        by_name[subset.task] = by_name[subset.task].restricted(subset.examples, subset.weights or None)
    return list(by_name.values())


def _backend(named: str | Backend, workers: int | None, device: str) -> Backend:
    return backend(named, workers=workers, device=device) if isinstance(named, str) else named


def _kept_here(item: Measured, store: FeatureStore) -> Measured:
    """What came back from a worker that keeps nothing: put into the store, or filled from it."""
    if item.key is None:
        return item
    if item.cached:
        return replace(item, rows=tuple(store.get(item.key) or ()))
    store.put(item.key, item.rows, item.arrays)
    return item


def _derived(
    zoo: Zoo, selection: Selection, tasks: Sequence[Task], store: FeatureStore, digests: Sequence[str]
) -> dict[str, list[Feature]]:
    """The rows of each checkpoint that follow from its training history and from the checkpoints before it."""
    from features.dynamics.rows import Known, derive, place

    if not selection.derived:
        return {checkpoint.name: [] for checkpoint in zoo.checkpoints}
    places = {place(checkpoint): digest for checkpoint, digest in zip(zoo.checkpoints, digests, strict=True) if digest}
    return derive(zoo.checkpoints, selection, Known(store, Corpora(zoo.corpora), tuple(tasks), places))


def _rows(
    zoo: Zoo,
    checkpoint: Checkpoint,
    group: Sequence[Measured],
    selection: Selection,
    tasks: Sequence[Task],
    digest: str,
    derived: Sequence[Feature],
) -> list[list[object]]:
    """A checkpoint's rows, in the order of extractors and tasks, its metadata first and what is derived last."""
    order = {(extractor.name, task.name if task else ""): i for i, (extractor, task) in enumerate(units(selection, tasks))}
    features = metadata(checkpoint)
    for measured in sorted(group, key=lambda m: order.get((m.extractor, m.task), -1)):
        if measured.error:
            features.append(Feature(measured.extractor or _WHOLE, task=measured.task, error=measured.error))
        features += [replace(row, task=measured.task) for row in measured.rows if selection.keeps(measured.extractor, row)]
    features += derived
    columns = FEATURE_COLUMNS[3:]
    return [[zoo.name, checkpoint.name, digest, *(row.to_dict()[column] for column in columns)] for row in features]


def _table(rows: list[list[object]]) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(rows, columns=pd.Index(FEATURE_COLUMNS))
    for column in ("value", "stderr", "seconds"):
        table[column] = table[column].astype(float)
    return table


class _Progress:
    """A bar on stderr: what was just measured, how many are done, and the time left."""

    def __init__(self, total: int, shown: bool, listener: Callable[[int, int], None] | None) -> None:
        self.total, self.done, self.shown, self.listener = total, 0, shown, listener

    def __enter__(self) -> _Progress:
        from tqdm import tqdm

        self.bar = tqdm(total=self.total, file=sys.stderr, disable=not self.shown, unit="feature", dynamic_ncols=True)
        return self

    def step(self, count: int, item: Measured) -> None:
        """`count` more are done, the last of them `item`."""
        self.done += count
        what = f"{item.extractor}{f' on {item.task}' if item.task else ''}" if item.extractor else "failed"
        self.bar.set_description(f"{item.checkpoint}: {what}", refresh=False)
        self.bar.update(count)
        if item.error:
            self.bar.write(f"{item.checkpoint}: {item.error}", file=sys.stderr) if self.shown else None
        if self.listener is not None:
            self.listener(self.done, self.total)

    def __exit__(self, *_: object) -> None:
        self.bar.close()
