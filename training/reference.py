"""Make a data set of a zoo: variant by variant, pre-train, measure every feature, fine-tune, write its rows.

    python -m training.reference reference -o DIR --corpora DIR --tasks DIR --table ranker/reference/foretune_zoo.csv

Each stage of each variant is durable before the next begins, and what is there is not done again: stop it when you like, start it
again with the same words. Several may be at work in one folder, each on variants of its own. The table grows by one variant at a
time; a variant is in it when all of it is done. In a new folder, on another machine say, the variants that the table has are kept
as they are and not made again: raise the recipe's `runs`, and the same words make those that are missing.

The tasks are `training/recipes/tasks/*.yaml`; their data files are looked for in the folder given (docs/zoo.md
names the sources).
"""

from __future__ import annotations

import argparse
import fcntl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from features.errors import DataError, ForetuneError, ManifestError
from features.writing import whole, write_text
from training import recipe as recipes
from training.build import build

if TYPE_CHECKING:
    import pandas as pd

    from features.tasks import Task

TASKS = Path(__file__).parent / "recipes" / "tasks"
# The outcome of each task: accuracy, but where tiny checkpoints stay at chance, the likelihood of the right answer.
METRICS = {"openbookqa": "gold_loglikelihood", "nq_oracle": "gold_loglikelihood"}
FINETUNING: dict[str, Any] = {
    "epochs": 4,
    "learning_rate": 1e-3,
    "batch_size": 16,
    "max_train_examples": 1000,
    "max_test_examples": 400,
    "max_length": 128,
}
# SST-2's variants lie near one another: on 400 test examples it is the draw of these that orders them (docs/zoo.md).
TEST_EXAMPLES = {"sst2": 1000}
FEATURE_EXAMPLES = 100  # of each task


def tasks(data: Path, folder: Path, names: list[str] | None = None, *, source: Path = TASKS) -> list[Task]:
    """The tasks in the folder `source` (or those named), their YAML written into `folder` with the data file looked for in
    `data`.

    Raises
    ------
    ManifestError : a data file is not there, or no task has that name
    """
    from features.tasks import Task

    folder.mkdir(parents=True, exist_ok=True)
    read = []
    for name in names or sorted(file.stem for file in source.glob("*.yaml")):
        if not (source / f"{name}.yaml").is_file():
            raise ManifestError(f"no reference task {name!r}", where="--task", remedy=f"see {source}")
        content = yaml.safe_load((source / f"{name}.yaml").read_text(encoding="utf-8"))
        content["data"] = str((data / content["data"]).resolve())
        write_text(folder / f"{name}.yaml", yaml.safe_dump(content, sort_keys=False))  # another worker may be reading it
        read.append(Task.read(folder / f"{name}.yaml"))
    return read


def measure(out: Path, name: str, on: list[Task], seeds: int) -> None:
    """Features and outcomes of one finished variant, as `rows/NAME.features.csv` and `rows/NAME.outcomes.csv`."""
    import pandas as pd

    from features.extract import EXTRACTORS, extract
    from features.zoo import Zoo
    from training.finetune import finetune

    zoo = Zoo.read(out / "zoo.yaml")
    one = replace(zoo, checkpoints=tuple(c for c in zoo.checkpoints if c.name == name))
    (out / "rows").mkdir(exist_ok=True)
    features, outcomes = out / "rows" / f"{name}.features.csv", out / "rows" / f"{name}.outcomes.csv"
    if not features.exists():
        found = extract(
            one,
            on,
            features=[*EXTRACTORS, "curve"],
            store=out / "features.db",
            limit=FEATURE_EXAMPLES,
            device="cpu",
            progress=False,
        )
        for failure in found.failed:
            print(f"{name}: {failure}", file=sys.stderr, flush=True)
        _write(found.rows, features)
    if not outcomes.exists():
        rows = []
        for task in on:
            metric = METRICS.get(task.name, "auto")
            settings: dict[str, Any] = {
                **FINETUNING,
                "max_test_examples": TEST_EXAMPLES.get(task.name, FINETUNING["max_test_examples"]),
                "seeds": seeds,
                "metric": metric,
                "store": out / "outcomes.db",
                "device": "cpu",
                "progress": False,
            }
            rows.append(finetune(one, [task], **settings))
        _write(pd.concat(rows, ignore_index=True), outcomes)


def table(out: Path, order: Sequence[str], kept: pd.DataFrame | None = None) -> pd.DataFrame | None:
    """The comparison table of the rows `kept` from elsewhere and of all variants whose rows are complete, by task and, within
    one, in the recipe's `order`; None while there are fewer than two variants.

    Raises
    ------
    DataError : nothing to compare in them, all outcomes of every task being equal say
    """
    import pandas as pd

    from ranker.table import check, merge

    done = [name for name in order if _complete(out, name)]
    parts = [] if kept is None else [kept]
    if done:
        features, outcomes = (
            pd.concat([pd.read_csv(out / "rows" / f"{name}.{kind}.csv") for name in done], ignore_index=True)
            for kind in ("features", "outcomes")
        )
        parts.append(merge(features, outcomes))
    if sum(part["checkpoint"].nunique() for part in parts) < 2:
        return None
    rows = pd.concat(parts, ignore_index=True)
    place = pd.DataFrame({"task": pd.factorize(rows["task"])[0], "variant": rows["checkpoint"].map(list(order).index)})
    return check(rows.loc[place.sort_values(["task", "variant"]).index].reset_index(drop=True), where="the variants' rows")


def elsewhere(target: Path | None, plan: recipes.Recipe, out: Path) -> pd.DataFrame | None:
    """The rows of the table `target` whose variants have none in the folder; None where there are none.

    Raises
    ------
    DataError : the table has a checkpoint that is no variant of the recipe, or is no comparison table
    """
    from ranker.table import read

    if target is None or not target.exists():
        return None
    rows = read(target)
    strange = sorted(set(rows["checkpoint"]) - {variant.name for variant in plan.runs()})
    if strange:
        raise DataError(
            f"{strange[0]!r} is no variant of the recipe {plan.zoo!r}",
            where=str(target),
            remedy="give the table of this recipe, raise its runs, or name a new file",
        )
    rows = rows[[not _complete(out, name) for name in rows["checkpoint"]]]
    return rows if len(rows) else None


def costs(out: Path) -> pd.DataFrame:
    """What each number cost: `task` ("" for a checkpoint's own), `name` of a feature or "finetune", mean `seconds`."""
    import pandas as pd

    done = [file.name.removesuffix(".outcomes.csv") for file in sorted((out / "rows").glob("*.outcomes.csv"))]
    features = pd.concat(
        [pd.read_csv(out / "rows" / f"{n}.features.csv", keep_default_na=False) for n in done], ignore_index=True
    )
    features = features[(features["error"] == "") & (features["seconds"] != "")].astype({"seconds": float})
    runs = pd.concat([pd.read_csv(out / "rows" / f"{n}.outcomes.csv") for n in done], ignore_index=True).assign(name="finetune")
    both = pd.concat([part[["task", "name", "seconds"]] for part in (features, runs)], ignore_index=True)
    return both.groupby(["task", "name"], as_index=False, sort=False)["seconds"].mean().round(5)


def noise(out: Path) -> pd.DataFrame:
    """Per task: the spread between variants' means, and the spread that seeds alone give such a mean.

    Columns: task, metric, variants, seeds, mean, lowest, highest, sd_between (of the variants' means), sd_seed (root mean square
    over variants of the standard deviation over seeds, divided by the root of their number), ratio.
    """
    import numpy as np
    import pandas as pd

    runs = pd.concat([pd.read_csv(file) for file in sorted((out / "rows").glob("*.outcomes.csv"))], ignore_index=True)
    rows = []
    for task, group in runs[runs["outcome"].notna()].groupby("task"):
        per = group.groupby("checkpoint")["outcome"].agg(["mean", "var", "count"])
        seed = float(np.sqrt((per["var"] / per["count"]).mean()))
        between = float(per["mean"].std(ddof=1))
        rows.append(
            {
                "task": task,
                "metric": group["metric"].iloc[0],
                "variants": len(per),
                "seeds": int(per["count"].min()),
                "mean": float(per["mean"].mean()),
                "lowest": float(per["mean"].min()),
                "highest": float(per["mean"].max()),
                "sd_between": between,
                "sd_seed": seed,
                "ratio": between / seed if seed else float("inf"),
            }
        )
    return pd.DataFrame(rows)


def _write(frame: pd.DataFrame, path: Path) -> None:
    with whole(path) as draft:
        frame.to_csv(draft, index=False)


@contextmanager
def _claimed(out: Path, name: str) -> Iterator[bool]:
    """Whether a variant is this worker's; another that is at work on it keeps it until it ends, or dies."""
    (out / "rows").mkdir(parents=True, exist_ok=True)
    with (out / "rows" / f".{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def run(
    recipe: str,
    out: Path,
    corpora: Path,
    data: Path,
    target: Path | None,
    names: list[str] | None,
    seeds: int,
    minutes: float | None,
) -> int:
    """All that no other worker is at and the table `target` has not from elsewhere, in the recipe's order; how many variants are
    complete at the end."""
    plan = recipes.read(recipe)
    deadline = None if minutes is None else time.time() + 60 * minutes
    order = [variant.name for variant in plan.runs()]
    kept = elsewhere(target, plan, out)
    there = set() if kept is None else set(kept["checkpoint"])
    on = tasks(data, out / "tasks", names)
    _grow(target, out, order, kept)  # of a worker that was stopped before it could
    for name in order:
        with _claimed(out, name) as ours:
            if not ours or name in there or _complete(out, name):
                continue
            left = None if deadline is None else (deadline - time.time()) / 60
            if left is not None and left <= 0:
                break
            started = time.time()
            report = build(recipe, out, corpora=corpora, only=[name], time_budget=left, device="cpu", progress=False, wait=True)
            if name in report.failed:
                print(f"{name}: {report.failed[name]}", file=sys.stderr, flush=True)
                continue
            if name not in report.finished:
                break
            trained = time.time()
            measure(out, name, on, seeds)
            print(
                f"{name}: trained {trained - started:.0f} s, measured and fine-tuned {time.time() - trained:.0f} s",
                file=sys.stderr,
                flush=True,
            )
        _grow(target, out, order, kept)
    return sum(name in there or _complete(out, name) for name in order)


def _grow(target: Path | None, out: Path, order: Sequence[str], kept: pd.DataFrame | None) -> None:
    """Write the table of all that is complete."""
    if target is None:
        return
    try:
        made = table(out, order, kept)
    except DataError as error:  # the first variants may all have the same outcome
        print(f"no table yet: {error}", file=sys.stderr, flush=True)
        return
    if made is not None:
        _write(made, target)
        if kept is None:  # else the machine that began the table has measured them, and this one is another
            _write(costs(out), target.with_suffix(".costs.csv"))


def _complete(out: Path, name: str) -> bool:
    return (out / "rows" / f"{name}.outcomes.csv").exists()


def main() -> None:
    """The command line; see the top of this module."""
    parser = argparse.ArgumentParser(prog="python -m training.reference", description=__doc__.split("\n", 1)[0])
    parser.add_argument("recipe")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--corpora", type=Path, required=True, help="folder of the recipe's corpus files")
    parser.add_argument("--tasks", type=Path, required=True, help="folder of the tasks' data files")
    parser.add_argument("--task", action="append", help="only this task; may be given several times")
    parser.add_argument(
        "--table",
        type=Path,
        help="comparison table to write after each variant, TABLE.csv, with TABLE.costs.csv beside it; "
        "the variants that it has are not made again",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--time-budget", type=float, help="minutes")
    given = parser.parse_args()
    try:
        complete = run(
            given.recipe, given.out, given.corpora, given.tasks, given.table, given.task, given.seeds, given.time_budget
        )
        print(f"{complete} variants complete", file=sys.stderr)
        if any((given.out / "rows").glob("*.outcomes.csv")):
            print(noise(given.out).to_string(index=False))
    except ForetuneError as error:
        print(f"{error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
