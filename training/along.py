"""Comparison tables of whole runs: every checkpoint of each run asked zero-shot under several templates, and fine-tuned.

    python -m training.along trajectories/A.yaml trajectories/B.yaml ... -o DIR --tasks DIR --task sst2

writes DIR/TASK.csv, one row for each checkpoint of each run, for `python -m features.studies prompts-along` (with --metric M
DIR/TASK-M.csv, by another metric of the same fine-tunings). The fine-tuning is
that of the reference zoo (`training.reference.FINETUNING`), on `training/recipes/tasks/TASK.yaml`; the templates are those of
`training/recipes/templates/TASK.yaml`, on examples that no outcome is measured on. Each answer and each fine-tuning is on disk
before the next begins, and the table is written again after each run: stop it when you like, start it again with the same words.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import DataError, ForetuneError
from features.writing import whole
from training import reference

if TYPE_CHECKING:
    import pandas as pd

TEMPLATES = Path(__file__).parent / "recipes" / "templates"


def measure(
    runs: Sequence[Path | str], task: str, data: Path, out: Path, *, seeds: int = 3, metric: str = "", limit: int = 500
) -> pd.DataFrame:
    """The table of one task over the checkpoints of some runs; it is written after each run.

    Parameters
    ----------
    runs : manifests of a run each, as `foretune zoo build` leaves them under trajectories/
    task : name of a reference task that has templates
    data : folder of the tasks' data files
    out : folder of the table, the task files and the two stores
    seeds : fine-tunings of each checkpoint
    metric : one of `training.measurement.METRICS`; empty for the task's usual one
    limit : examples that a checkpoint is asked at most

    Raises
    ------
    ManifestError : no such task, or a data file is not there
    DataError : a checkpoint could not be asked or fine-tuned, or a run has no two outcomes that differ
    """
    import pandas as pd

    from features.extract import extract
    from features.zoo import Zoo
    from ranker.table import join
    from training.finetune import finetune

    tuned = reference.tasks(data, out / "tasks", [task])
    asked = reference.tasks(data, out / "templates", [task], source=TEMPLATES)
    tables: list[pd.DataFrame] = []
    for path in runs:
        run = Zoo.read(path)
        told = extract(run, asked, features="prompt", store=out / "features.db", limit=limit, device="cpu", progress=False)
        outcomes = finetune(
            run,
            tuned,
            seeds=seeds,
            metric=metric or reference.METRICS.get(task, "auto"),
            store=out / "outcomes.db",
            device="cpu",
            progress=False,
            **reference.FINETUNING,
        )
        failed = [*map(str, told.failed), *outcomes["error"][outcomes["error"].fillna("") != ""]]
        if failed:
            raise DataError(failed[0], where=run.name, remedy="a run is studied whole: mend or leave out that checkpoint")
        tables.append(join(told.rows, outcomes))
        name = f"{task}-{metric}.csv" if metric else f"{task}.csv"
        with whole(out / name) as draft:
            pd.concat(tables, ignore_index=True).to_csv(draft, index=False)
        mean = outcomes.groupby("checkpoint", sort=False)["outcome"].mean()
        print(f"{run.name}: {len(mean)} checkpoints, {mean.min():.3f} to {mean.max():.3f}", file=sys.stderr, flush=True)
    return pd.concat(tables, ignore_index=True)


def main() -> None:
    """The command line; see the top of this module."""
    parser = argparse.ArgumentParser(prog="python -m training.along", description=__doc__.split("\n", 1)[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="manifest of a run's checkpoints")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--tasks", type=Path, required=True, help="folder of the tasks' data files")
    parser.add_argument("--task", action="append", help="a reference task that has templates; may be given several times")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--metric", default="", help="of the outcome: accuracy, gold_loglikelihood, ... (default: the task's)")
    given = parser.parse_args()
    try:
        for task in given.task or ["sst2"]:
            measure(given.runs, task, given.tasks, given.out, seeds=given.seeds, metric=given.metric)
    except ForetuneError as error:
        print(f"{error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
