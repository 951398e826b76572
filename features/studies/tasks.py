"""Selecting among the tasks of a published benchmark instead of among examples: few tasks that rank models as all of them do."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from features.dynamics import pictures
from features.dynamics.page import Page
from features.errors import DataError
from features.selection.study import against_random
from features.studies.selection import as_table

SHARES = (2 / 46, 3 / 46, 5 / 46, 9 / 46, 14 / 46)


def task_page(path: Path | str, *, repetitions: int = 40) -> Page:
    """The page: models of Gadre et al. 2024 (arXiv 2403.08540), `acc_TASK` columns, whole (data set, size) groups held out.

    Raises DataError for a table without `dataset`, `params` and two `acc_` columns.
    """
    frame = pd.read_csv(path)
    columns = [c for c in frame.columns if c.startswith("acc_") and c != "acc_mean"]
    if not {"dataset", "params"} <= set(frame.columns) or len(columns) < 2:
        raise DataError("no columns dataset, params and acc_TASK", where=str(path), remedy="give the table of Gadre et al.")
    frame = frame.dropna(subset=columns)
    groups = [f"{data}/{size}" for data, size in zip(frame["dataset"], frame["params"], strict=True)]
    study = against_random(1 - frame[columns].to_numpy(float), groups=groups, shares=SHARES, repetitions=repetitions)
    page = Page("Ranking published models from a few of 46 tasks")
    page.text(
        "`python -m features.studies tasks`. No matrix of published models by examples is at hand, but one of models by tasks",
        f"is: {study.checkpoints} models of Gadre et al. 2024 in {study.runs} groups of one data set and size, accuracies of",
        f"{len(columns)} tasks. The same selectors choose tasks instead of examples; half of the groups are held out",
        f"{repetitions} times, and the held-out models are ranked by the chosen tasks alone. Pairs right: in the order of the",
        "mean over all tasks. Intervals: bootstrap over groups, 95 %, paired with random; bold beats random by an interval that",
        "excludes zero.",
    )
    page.table(as_table(study))
    title = f"Pairs of {study.checkpoints} published models right, by the share of {len(columns)} tasks"
    page.picture(pictures.budgets({"mean accuracy over all tasks": study.table}), "selection-tasks", f"{title}.")
    accuracy = study.table.pivot(index="budget", columns="selector", values="accuracy")
    best = accuracy.idxmax(axis=1)
    page.text(
        f"Tasks are few and very unlike, so that it matters which are taken: with {accuracy.index[0]} tasks the best selector is",
        f"{best.iloc[0]} ({accuracy.iloc[0].max():.3f} against {accuracy.iloc[0]['random']:.3f} for random), with",
        f"{accuracy.index[-1]} it is {best.iloc[-1]} ({accuracy.iloc[-1].max():.3f} against {accuracy.iloc[-1]['random']:.3f}).",
    )
    return page
