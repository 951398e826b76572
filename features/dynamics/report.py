"""A folder with all that the dynamics of some tasks say: tables, pictures and a page that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from features.dynamics import pictures
from features.dynamics.cartography import coordinates, regions
from features.dynamics.curves import course
from features.dynamics.history import read_history
from features.dynamics.page import Page
from features.dynamics.points import against_labels, agreement, cluster, coefficients
from features.dynamics.relatedness import Detrend, relatedness
from features.dynamics.rows import history_features
from features.dynamics.trajectories import Trajectories, shared
from features.errors import DataError
from features.rows import FEATURE_COLUMNS
from features.writing import whole
from features.zoo import Checkpoint


def write(tasks: Sequence[Trajectories], folder: Path | str, *, detrend: Detrend = "none") -> list[Path]:
    """Write `report.md` and `.html`, the pictures, `cartography.csv`, `courses.csv` and one `.npz` of trajectories per task.

    Relatedness of tasks needs two tasks and five checkpoints, maps of examples three checkpoints: what there is too little for is
    left out, and the report says so. Described are the checkpoints that every task has.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tasks = shared(tasks)
    files = describe(tasks, detrend=detrend).write(folder / "report.md")
    cartography = []
    for task in tasks:
        frame = coordinates(task.probability, task.correct)
        cartography.append(frame.assign(region=regions(frame), task=task.task, example=task.examples))
        task.save(folder / f"{task.task}.npz")
        files.append(folder / f"{task.task}.npz")
    courses = pd.DataFrame(
        {
            "task": t.task,
            "checkpoint": t.checkpoints[i],
            "step": int(t.steps[i]),
            **course(t.steps[: i + 1], t.nll.mean(axis=1)[: i + 1]),
        }
        for t in tasks
        for i in range(len(t.checkpoints))
    )
    for name, frame in (("cartography", pd.concat(cartography)), ("courses", courses)):
        path = folder / f"{name}.csv"
        with whole(path) as draft:
            frame.to_csv(draft, index=False)
        files.append(path)
    return files


def write_history(path: Path | str, folder: Path | str) -> list[Path]:
    """Write `report.md`, `report.html`, the picture of a training history's losses, and its `curve_*` rows as `features.csv`.

    `path` is a `trainer_state.json`; the checkpoint is named after the folder that it lies in. Raises DataError as
    `features.dynamics.history.read_history` does, and for a history too short to describe.
    """
    path, folder = Path(path).resolve(), Path(folder)
    checkpoint = Checkpoint(path.parent.name, str(path.parent))
    steps, losses = read_history(path)
    rows = history_features(steps, losses)
    if not rows:
        raise DataError(f"{len(steps)} logged losses", where=str(path), remedy="a history needs eight rows: log more often")
    page = Page(f"Training history of {checkpoint.name}")
    page.picture(pictures.courses({"training loss": losses}, steps, "loss"), "loss", f"Training loss, {len(steps)} logged steps.")
    page.table(pd.DataFrame([{"feature": r.name, "value": round(r.value or 0.0, 4)} for r in rows]))
    files = page.write(folder / "report.md")
    table = pd.DataFrame([["", checkpoint.name, "", *(r.to_dict()[c] for c in FEATURE_COLUMNS[3:])] for r in rows])
    table.columns = pd.Index(FEATURE_COLUMNS)
    with whole(folder / "features.csv") as draft:
        table.to_csv(draft, index=False)
    return [*files, folder / "features.csv"]


def describe(tasks: Sequence[Trajectories], *, detrend: Detrend = "none") -> Page:
    """The page of `write`; the tasks in the order of their steps, and of the same checkpoints."""
    steps = tasks[0].steps
    count = len(steps)
    page = Page(f"Training dynamics of {', '.join(t.task for t in tasks)}")
    page.text(f"{count} checkpoints, steps {steps.min()} to {steps.max()}.")
    means = {t.task: t.nll.mean(axis=1) for t in tasks}
    right = {t.task: t.correct.mean(axis=1) for t in tasks}
    page.picture(
        pictures.courses(means, steps, "mean loss of the gold answer, nats"),
        "courses",
        "Mean negative log-likelihood of the gold answer.",
    )
    page.picture(pictures.courses(right, steps, "zero-shot accuracy"), "accuracy", "Zero-shot accuracy.")
    if len(tasks) > 1 and count >= 5:
        related = relatedness(means, steps, detrend=detrend)
        page.picture(
            pictures.matrix(related),
            "relatedness",
            f"Correlation of mean trajectories (detrended: {detrend}); p-values for autocorrelated series, Holm-corrected.",
        )
        page.text("p-values as if checkpoints were independent, for comparison with published tables:")
        page.table(related.p_naive.round(4).reset_index(names="task"))
    elif len(tasks) > 1:
        page.text("Relatedness of tasks needs five checkpoints.")
    if count >= 3:
        _points(page, tasks, count)
    else:
        page.text("Maps of examples need three checkpoints.")
    for task in tasks:
        frame = coordinates(task.probability, task.correct)
        page.picture(pictures.data_map(frame, title=task.task), f"cartography-{task.task}", f"{task.task}: dataset cartography.")
    return page


def _points(page: Page, tasks: Sequence[Trajectories], count: int) -> None:
    """Relatedness of examples: maps, agreement over degrees, clusters against labels."""
    rows = []
    for task in tasks:
        page.picture(
            pictures.maps([task]),
            f"map-{task.task}",
            f"{task.task}: examples by classical scaling of 1 - correlation of their losses.",
        )
        groups = cluster(
            coefficients(task.nll, task.steps, min(count - 1, 5)), min(max(2, len(set(task.labels))), len(task.examples))
        )
        found = against_labels(groups, np.array(task.labels)) if task.labels else {}
        rows.append({"task": task.task, "agreement at full degree": agreement(task.nll, task.steps, count - 1), **found})
    page.picture(pictures.degrees(tasks), "degrees", "Agreement of polynomial distances with exact correlations, over degrees.")
    if len(tasks) > 1:
        page.picture(pictures.maps(tasks), "map-all", "Examples of all tasks together.")
    page.text("Clusters of polynomial coefficients against class labels (1 equal, 0 chance):")
    page.table(pd.DataFrame(rows).round(3))
