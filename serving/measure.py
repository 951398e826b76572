"""One measuring job, in a process of its own: ``python -m serving.measure JOBS.db JOB_ID``, started by `serving.jobs.Runner`.

It ends when its parent is gone, so that a killed service leaves no process behind; what was finished is in the feature store.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

from features.errors import ForetuneError
from features.orphans import end_with
from serving.console import finite
from serving.jobs import Jobs
from serving.settings import Settings


def measure(jobs: Jobs, job: str, settings: Settings, device: str) -> None:
    """Measure the job's checkpoint on its tasks, writing progress and result to its row.

    Raises
    ------
    ForetuneError : the zoo does not list it any more, or nothing could be measured
    """
    from features.errors import UnknownNameError, UserError
    from features.extract import extract, resolve_tasks
    from features.zoo import Zoo

    row = jobs.status(job)
    if settings.zoo is None or settings.store is None:
        raise UserError("the service has no zoo", remedy="start it with --zoo")
    zoo = Zoo.read(settings.zoo)
    kept = tuple(c for c in zoo.checkpoints if c.name == row["checkpoint"])
    if not kept:
        raise UnknownNameError(
            f"checkpoint {row['checkpoint']!r} is not in the zoo", where=str(settings.zoo), remedy="submit another"
        )
    tasks = [t for t in resolve_tasks(zoo, settings.tasks) if t.name in row["tasks"]]
    report = extract(
        dataclasses.replace(zoo, checkpoints=kept),
        tasks,
        store=settings.store,
        device=device,
        limit=settings.limit,
        progress=False,
        on_progress=lambda done, total: jobs.progress(job, done, total),
    )
    failed = [str(f) for f in report.failed]
    good = report.rows[report.rows["error"].fillna("") == ""]
    if not len(good):
        raise UserError(failed[0] if failed else "nothing was measured", where=row["checkpoint"])
    try:
        from training.tracking import log_extract

        log_extract(report, params={"features": "default", "job": job, "limit": settings.limit}, root=settings.root)
    except ForetuneError as error:  # the features are stored, and the answer does not need MLflow
        print(f"job {job} is not logged in MLflow: {error}", file=sys.stderr, flush=True)
    keep = ["task", "name", "value", "text", "stderr", "count", "seconds", "direction"]
    jobs.found(job, {"features": finite(good[keep].astype(object).to_dict("records")), "failed": failed})


def main() -> None:
    """Entry of the process; the last line on stderr is the job's error."""
    end_with(os.getppid())
    jobs, job = Jobs(Path(sys.argv[1])), sys.argv[2]
    try:
        measure(jobs, job, Settings.read(), os.environ.get("FORETUNE_DEVICE", "auto"))
    except ForetuneError as error:
        jobs.fail(job, str(error))


if __name__ == "__main__":
    main()
