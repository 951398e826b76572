"""A folder with all that the dynamics of some tasks say: tables, pictures and a page that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from features.dynamics import pictures
from features.dynamics.cartography import coordinates, regions
from features.dynamics.curves import course
from features.dynamics.points import against_labels, agreement, cluster, coefficients
from features.dynamics.relatedness import Detrend, relatedness
from features.dynamics.trajectories import Trajectories


def write(tasks: Sequence[Trajectories], folder: Path | str, *, detrend: Detrend = "none") -> list[Path]:
    """Write `report.md`, its pictures, `cartography.csv`, `courses.csv` and one `.npz` of trajectories per task.

    Relatedness of tasks needs two tasks and five checkpoints, maps of examples three checkpoints: what there is too little for is
    left out, and the report says so.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [task.sorted() for task in tasks]
    steps = tasks[0].steps
    count = len(steps)
    lines = [
        f"# Training dynamics of {', '.join(t.task for t in tasks)}",
        "",
        f"{count} checkpoints, steps {steps.min()} to {steps.max()}.",
        "",
    ]
    files: list[Path] = []

    def picture(figure: pictures.Figure, name: str, caption: str) -> None:
        files.append(pictures.write(figure, folder / f"{name}.png"))
        lines.extend([f"![{caption}]({name}.png)", "", caption, ""])

    means = {t.task: t.nll.mean(axis=1) for t in tasks}
    picture(
        pictures.courses(means, steps, "mean loss of the gold answer, nats"),
        "courses",
        "Mean negative log-likelihood of the gold answer.",
    )
    right = {t.task: t.correct.mean(axis=1) for t in tasks}
    picture(pictures.courses(right, steps, "zero-shot accuracy"), "accuracy", "Zero-shot accuracy.")
    if len(tasks) > 1 and count >= 5:
        related = relatedness(means, steps, detrend=detrend)
        picture(
            pictures.matrix(related),
            "relatedness",
            f"Correlation of mean trajectories (detrended: {detrend}); p-values for autocorrelated series, Holm-corrected.",
        )
        lines += ["p-values as if checkpoints were independent, for comparison with published tables:", ""]
        lines += [_markdown(related.p_naive.round(4).reset_index(names="task")), ""]
    elif len(tasks) > 1:
        lines += ["Relatedness of tasks needs five checkpoints.", ""]
    if count >= 3:
        rows = []
        for task in tasks:
            picture(
                pictures.maps([task]),
                f"map-{task.task}",
                f"{task.task}: examples by classical scaling of 1 - correlation of their losses.",
            )
            degree = min(count - 1, 5)
            kinds = max(2, len(set(task.labels)))
            groups = cluster(coefficients(task.nll, task.steps, degree), min(kinds, len(task.examples)))
            found = against_labels(groups, np.array(task.labels)) if task.labels else {}
            rows.append({"task": task.task, "agreement at full degree": agreement(task.nll, task.steps, count - 1), **found})
        picture(pictures.degrees(tasks), "degrees", "Agreement of polynomial distances with exact correlations, over degrees.")
        if len(tasks) > 1:
            picture(pictures.maps(tasks), "map-all", "Examples of all tasks together.")
        lines += [
            "Clusters of polynomial coefficients against class labels (1 equal, 0 chance):",
            "",
            _markdown(pd.DataFrame(rows).round(3)),
            "",
        ]
    else:
        lines += ["Maps of examples need three checkpoints.", ""]
    cartography = []
    for task in tasks:
        frame = coordinates(task.probability, task.correct)
        picture(pictures.data_map(frame, title=task.task), f"cartography-{task.task}", f"{task.task}: dataset cartography.")
        cartography.append(frame.assign(region=regions(frame), task=task.task, example=task.examples))
        np_path = folder / f"{task.task}.npz"
        task.save(np_path)
        files.append(np_path)
    courses = pd.DataFrame(
        {"task": t.task, "checkpoint": t.checkpoints[i], "step": int(steps[i]), **course(steps[: i + 1], means[t.task][: i + 1])}
        for t in tasks
        for i in range(count)
    )
    for name, frame in (("cartography", pd.concat(cartography)), ("courses", courses)):
        path = folder / f"{name}.csv"
        frame.to_csv(path, index=False)
        files.append(path)
    report = folder / "report.md"
    report.write_text("\n".join(lines), encoding="utf-8")
    return [report, *files]


def _markdown(frame: pd.DataFrame) -> str:
    head = "| " + " | ".join(map(str, frame.columns)) + " |\n|" + "---|" * len(frame.columns)
    return "\n".join([head, *("| " + " | ".join(map(str, row)) + " |" for row in frame.itertuples(index=False))])
