"""IBM model recycling: Hub checkpoints of four base architectures, uploaders held out, pairs within a base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ranker.evaluate import grouping, splits_of
from ranker.pairs import codes
from ranker.studies import methods, sources
from ranker.studies.holdout import Figures, run
from ranker.studies.page import Page, difference, with_interval

PROBE = "single:mnli_lp"


def judge(df: pd.DataFrame, makers: dict[str, methods.Maker], *, splits: int, seed: int) -> Figures:
    """Uploaders held out, 60 % of the checkpoints train; the bootstrap draws uploaders."""
    groups = grouping(df, "group")
    parts = splits_of(df, groups, "group", splits=splits, train_share=0.6, seed=seed)
    return run(df, makers, parts, columns=_columns(df), groups=groups, seed=seed, most=1000)


def _columns(df: pd.DataFrame) -> list[str]:
    return [c for c in df.columns if c not in ("task", "checkpoint", "outcome", "zoo", "group", "outcome_sd")]


def study(table: str | Path | None = None, *, splits: int = 5, seed: int = 0, command: str = "", quick: bool = False) -> Page:
    """Per task and for the mean of all tasks; `quick` keeps six tasks."""
    page = Page("IBM model recycling: 1,148 Hub checkpoints, 36 tasks", command)
    df = sources.ibm(table)
    if quick:
        df = df[df["task"].isin(list(dict.fromkeys(df["task"]))[::6])].reset_index(drop=True)
    words = [c for c in _columns(df) if c.startswith("name_")]
    plain = [c for c in _columns(df) if not c.startswith("name_")]
    page.text(
        f"{df['checkpoint'].nunique()} checkpoints of {df['group'].nunique()} uploaders; t5 bases left out "
        "(their seeds scatter as much as the "
        f"checkpoints). 60 % of the UPLOADERS train; pairs of two held-out checkpoints of one base. "
        "Features: the MNLI linear probe, "
        f"what the Hub says of the checkpoint (date, size, conversions), and {len(words)} words of its name. "
        "Intervals are bootstraps over uploaders. Published, on all pairs: "
        "probe .583 per task, .690 on the mean of the 36 tasks."
    )
    makers: dict[str, methods.Maker] = {
        PROBE: methods.single("mnli_lp"),
        **methods.baselines(False),
        "ltc without names": lambda: methods.Ours(only=plain),
        "ltc": methods.Ours,
    }
    for label, part in (("per task", df), ("mean of the tasks", sources.mean_over_tasks(df))):
        chosen, repeats = dict(makers), splits if label == "per task" else 5 * splits
        if label == "mean of the tasks":
            chosen["ltc without names"] = lambda: methods.Ours(only=[c for c in plain if c in part.columns])  # noqa: B023
        found = judge(part, chosen, splits=repeats, seed=seed)
        rows: list[list[Any]] = []
        for name in chosen:
            one = found.of(name, against=PROBE)
            page.figures[f"{label}/{name}"] = one
            rows.append(
                [name, with_interval(one), difference(one), one["sd"], one["ece"], one.get("called"), one.get("called_accuracy")]
            )
        page.table(
            label.capitalize(),
            ["method", "accuracy [95 %]", "less the probe [95 %]", "sd over splits", "ECE", "called", "right of them"],
            rows,
            f"{repeats} splits.",
        )
        if label == "per task":
            ours, probe = found.tasks("ltc"), found.tasks(PROBE)
            order = sorted(ours, key=lambda t: probe[t] - ours[t])
            page.table("Task by task", ["task", "probe", "ltc"], [[t, probe[t], ours[t]] for t in order])
        page.text(f"Probe on ALL pairs within a base, {label}: {_everywhere(part):.3f}.")
    if "outcome_sd" in df:
        page.text(f"Seed-noise ceiling (20 seeds of each vanilla base), mean over tasks: {_ceiling(df):.3f} per task.")
        page.figures["ceiling"] = _ceiling(df)
    return page


def _everywhere(df: pd.DataFrame) -> float:
    """The probe's accuracy on all pairs within a base, nothing held out: the published protocol."""
    found = []
    for _, of_task in df.groupby("task", sort=False):
        right = pairs = 0.0
        for _, rows in of_task.groupby("zoo"):
            x, y = rows["mnli_lp"].to_numpy(float), rows["outcome"].to_numpy(float)
            i, j = np.triu_indices(len(y), 1)
            keep = y[i] != y[j]
            agree = np.sign(x[i] - x[j])[keep] * np.sign(y[i] - y[j])[keep]
            right, pairs = right + float((0.5 + 0.5 * agree).sum()), pairs + float(keep.sum())
        found.append(right / pairs)
    return float(np.mean(found))


def _ceiling(df: pd.DataFrame) -> float:
    """Mean over tasks of the chance that a pair's order survives new seeds."""
    from scipy.stats import norm

    found = []
    for _, of_task in df.groupby("task", sort=False):
        y, sd, zoo = of_task["outcome"].to_numpy(float), of_task["outcome_sd"].to_numpy(float), codes(of_task["zoo"])
        values = []
        for z in np.unique(zoo):
            rows = np.flatnonzero(zoo == z)
            i, j = (rows[k] for k in np.triu_indices(len(rows), 1))
            noise = np.sqrt(sd[i] ** 2 + sd[j] ** 2)
            keep = (noise > 0) & (y[i] != y[j])
            values.append(norm.cdf(np.abs(y[i] - y[j])[keep] / noise[keep]))
        together = np.concatenate(values)
        if len(together):
            found.append(float(together.mean()))
    return float(np.mean(found))
