"""Build a zoo from a recipe: variant by variant, each durable before the next, to the end or to the end of the time allowed.

What a build leaves in its folder:

    zoo.yaml                     the finished variants, for `foretune extract`, `rank` and `finetune`
    trajectories/NAME.yaml       a zoo of one variant's checkpoints along its training
    variants/NAME/step-NNNNNN/   a checkpoint, as save_pretrained writes it, 16 bits
    variants/NAME/record.json    what was trained, how, and how its loss fell; its presence says that the variant is finished
    text/reference.jsonl         held-out documents of every corpus, on which perplexity is measured
    tokenizer.json, tokens/      the shared tokenizer, and the corpora as it reads them (a cache)

Called again on the same folder, a build does what is missing: after a kill, after its time ran out, or because the recipe now
asks for more runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from features.errors import ForetuneError, ManifestError, StoreError
from features.orphans import end_with
from features.writing import write_text
from training import recipe as recipes
from training.recipe import Recipe, Variant
from training.streams import Streams

Record = dict[str, Any]
Job = tuple[Recipe, Streams, Path, int, float | None, str]  # what `_train` takes


@dataclass
class BuildReport:
    """What a build did: the manifest, and the variants finished (now or before), not finished, and failed (name -> why)."""

    manifest: Path
    finished: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def build(
    recipe: str | Path,
    out: str | Path,
    *,
    jobs: int = 1,
    time_budget: float | None = None,
    corpora: str | Path | None = None,
    only: Collection[str] | None = None,
    device: str = "auto",
    progress: bool = True,
    wait: bool = False,
    on_variant: Callable[[Record], None] | None = None,
) -> BuildReport:
    """Pre-train the variants of a recipe, in its order.

    Parameters
    ----------
    recipe : a YAML file, or the name of a shipped one (demo, pilot, reference)
    out : the zoo's folder; made if need be, resumed if it is there
    jobs : variants trained at once, each in a process of its own with its share of the cores
    time_budget : minutes after which to stop cleanly, between two steps
    corpora : the folder that the recipe's corpus files are in; default: the recipe's own
    only : names of the variants to build in this call; default: all
    device : "auto" or "cpu"
    progress : a bar on stderr with the time left
    wait : where another build is at work in the folder, wait until it ends
    on_variant : called with the record of each variant finished by this call, after it is durable (the place for MLflow)

    Raises
    ------
    ManifestError : the recipe is wrong, or the folder holds variants made otherwise
    StoreError : another build is at work in the folder, and `wait` is off

    A variant that fails (its loss is not finite, say, or its length filter leaves too little text) is a row of the report; the
    others go on.
    """
    plan = recipes.read(recipe)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.time()
    deadline = None if time_budget is None else started + 60 * time_budget
    report = BuildReport(folder / "zoo.yaml")
    with _alone(folder, wait):
        streams = Streams.prepare(plan, folder, Path(corpora) if corpora is not None else plan.path.parent)
        runs = plan.runs()
        todo = [place for place, run in enumerate(runs) if not _finished(plan, streams, folder, run, place)]
        report.finished = [run.name for place, run in enumerate(runs) if place not in todo]
        todo = [place for place in todo if only is None or runs[place].name in only]
        write_manifests(plan, folder)
        from tqdm import tqdm

        with tqdm(
            total=len(todo) * plan.steps,
            unit="step",
            desc=plan.zoo,
            disable=not progress or os.environ.get("RANK", "0") != "0",
            smoothing=0.05,
            mininterval=0.5,
        ) as bar:
            arguments = [(plan, streams, folder, place, deadline, device) for place in todo]
            for place, ended in _each(arguments, jobs, bar):
                name = runs[place].name
                if isinstance(ended, str):
                    report.failed[name] = ended
                elif ended is None:
                    report.unfinished.append(name)
                else:
                    report.finished.append(name)
                    write_manifests(plan, folder)
                    if on_variant:
                        on_variant(ended)
    report.seconds = time.time() - started
    return report


def _each(arguments: list[Job], jobs: int, bar: Any) -> Iterator[tuple[int, Record | str | None]]:
    """Run the variants, one after another here or `jobs` at once: (place, its record | why it failed | None where time ran
    out).
    """
    if jobs <= 1:
        for one in arguments:
            yield one[3], _train(*one, tick=bar)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(threads, os.getpid())
    ) as pool:
        pending = {pool.submit(_train, *one): one[3] for one in arguments}
        try:
            for future in as_completed(pending):
                bar.update(arguments[0][0].steps)
                yield pending[future], future.result()
        except BaseException:  # interrupted: what the variants in work have is kept, and nobody waits for their end
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise


def _begin(threads: int, parent: int) -> None:
    """What a worker does first: it takes its share of the cores, and ends when the build is killed."""
    import torch

    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker too: it shall not go on with the next variant
    torch.set_num_threads(threads)


def _train(
    plan: Recipe, streams: Streams, folder: Path, place: int, deadline: float | None, device: str, tick: Any = None
) -> Record | str | None:
    """Train one variant to its end and write its record; None where time ran out first, a text where it failed.

    A worker of a build that was killed may be at the variant still, for a moment: nothing is touched before it is gone.
    """
    run = plan.runs()[place]
    home = folder / "variants" / run.name
    home.mkdir(parents=True, exist_ok=True)
    with _alone(home, wait=True):
        if _finished(plan, streams, folder, run, place):  # it came to its end in that moment
            return dict(json.loads((home / "record.json").read_text()))
        return _train_in(home, plan, streams, run, place, deadline, device, tick)


def _train_in(
    home: Path, plan: Recipe, streams: Streams, run: Variant, place: int, deadline: float | None, device: str, tick: Any
) -> Record | str | None:
    """`_train`, in the variant's folder, which is ours alone."""
    from training import tokenizer as tokenizers
    from training.pretrain import STATE, Progress, pretrain

    if deadline is not None and time.time() > deadline:
        return None
    write_json(home / "run.json", {"fingerprint": _fingerprint(plan, streams, run, place)})
    seen: list[int] = []

    def on_step(done: Progress) -> None:
        if tick is not None:
            tick.set_description(f"{run.name} loss {done.losses[-1]:.2f}", refresh=False)
            tick.update(done.step - seen[-1] if seen else done.step)
        seen[:] = [done.step]

    try:
        done = pretrain(
            streams.loader(plan, run),
            plan.architecture,
            plan.training,
            run.learning_rate,
            home,
            tokenizers.for_kind(streams.tokenizer(), plan.architecture.kind),
            seed=plan.seed,
            keep_at=plan.keep_at(place),
            deadline=deadline,
            device=device,
            on_step=on_step,
        )
    except ForetuneError as error:
        return str(error)
    if not done.finished:
        return None
    per_step = plan.training.rows * plan.architecture.context
    every = max(1, done.steps // 100)
    record = {
        "name": run.name,
        "fingerprint": _fingerprint(plan, streams, run, place),
        "parameters": {
            **run.model_dump(exclude={"name"}),
            **{f"architecture.{k}": v for k, v in plan.architecture},
            **{f"training.{k}": v for k, v in plan.training},
            "zoo": plan.zoo,
            "seed": plan.seed,
        },
        "metrics": {
            "loss_first": done.losses[0],
            "loss_last": sum(done.losses[-every:]) / every,
            "tokens": done.steps * per_step,
            "steps": done.steps,
            "seconds": done.seconds,
            "tokens_per_second": done.steps * per_step / max(done.seconds, 1e-9),
        },
        "history": [{"step": s, "loss": done.losses[s - 1], "tokens": s * per_step} for s in range(every, done.steps + 1, every)],
        "checkpoints": plan.keep_at(place),
    }
    write_json(home / "record.json", record)
    (home / STATE).unlink(missing_ok=True)
    return record


def _fingerprint(plan: Recipe, streams: Streams, run: Variant, place: int) -> str:
    """All that decides a variant's weights, as one digest: the same digest, the same weights (on the same machine and
    threads).
    """
    decides = {
        **run.model_dump(exclude={"name"}),
        "architecture": plan.architecture.model_dump(),
        "training": plan.training.model_dump(exclude={"state_every"}),
        "checkpoints": plan.keep_at(place),
        "seed": plan.seed,
        "mix": plan.mixes[run.data_mix],
        "text": {name: streams.digests[name] for name in plan.mixes[run.data_mix]},
        "tags": {name: plan.corpora[name].tag or name for name in plan.mixes[run.data_mix]} if run.domain_tag else {},
        "tokenizer": streams.tokenizer_digest,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _finished(plan: Recipe, streams: Streams, folder: Path, run: Variant, place: int) -> bool:
    """Whether a variant is there already; an error where what is there was made otherwise."""
    home = folder / "variants" / run.name
    for file in (home / "record.json", home / "run.json"):
        if file.exists() and json.loads(file.read_text())["fingerprint"] != _fingerprint(plan, streams, run, place):
            raise ManifestError(
                f"{home} was made from another recipe, text or tokenizer",
                where=str(plan.path),
                remedy="build into another folder, or delete this one",
            )
    return (home / "record.json").exists()


def write_manifests(plan: Recipe, folder: Path) -> None:
    """Write `zoo.yaml` (finished variants) and, for each variant with a trajectory, `trajectories/NAME.yaml`."""
    if os.environ.get("RANK", "0") != "0":
        return
    finished = []
    for run in plan.runs():
        file = folder / "variants" / run.name / "record.json"
        if not file.exists():
            continue
        record = json.loads(file.read_text())
        per_step = plan.training.rows * plan.architecture.context
        entries = [
            {
                "name": f"{run.name}@{step}",
                "model": f"variants/{run.name}/step-{step:06d}",
                "family": plan.zoo,
                "step": step,
                "meta": {**run.model_dump(exclude={"name"}), "tokens": step * per_step},
            }
            for step in record["checkpoints"]
        ]
        finished.append({**entries[-1], "name": run.name})
        if len(entries) > 1:
            along = [{**entry, "model": f"../{entry['model']}", "family": run.name} for entry in entries]
            write_yaml(
                folder / "trajectories" / f"{run.name}.yaml",
                {"zoo": run.name, "checkpoints": along, "corpora": {"reference": "../text/reference.jsonl"}},
            )
    if finished:
        write_yaml(
            folder / "zoo.yaml", {"zoo": plan.zoo, "checkpoints": finished, "corpora": {"reference": "text/reference.jsonl"}}
        )


def write_yaml(path: Path, content: Any) -> None:
    """Write YAML atomically."""
    write_text(path, yaml.safe_dump(content, sort_keys=False, width=140))


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(content, indent=1))


@contextmanager
def _alone(folder: Path, wait: bool) -> Iterator[None]:
    """Hold the folder: one build at a time. The other ranks of one distributed build share rank 0's hold."""
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            raise StoreError(
                "another build is at work here", where=str(folder), remedy="wait for it, or build into another folder"
            ) from error
        yield
