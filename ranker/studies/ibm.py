"""IBM model recycling: Hub checkpoints of four base architectures, uploaders held out, pairs within a base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ranker.evaluate import grouping, splits_of
from ranker.pairs import codes
from ranker.scale import standard_outcome
from ranker.studies import methods, sources
from ranker.studies.holdout import Figures, run
from ranker.studies.page import Page, difference, with_interval

PROBE = "single:mnli_lp"
_CHANCE = 0.36  # a probe that says the same of every example; many checkpoints have it, and are not one


def judge(df: pd.DataFrame, makers: dict[str, methods.Maker], *, splits: int, seed: int) -> Figures:
    """Uploaders held out, 60 % of the checkpoints train; the bootstrap draws uploaders."""
    groups = grouping(df, "group")
    parts = splits_of(df, groups, "group", splits=splits, train_share=0.6, seed=seed)
    return run(df, makers, parts, columns=_columns(df), groups=groups, seed=seed, most=1000)


def _columns(df: pd.DataFrame) -> list[str]:
    return [c for c in df.columns if c not in ("task", "checkpoint", "outcome", "zoo", "group", "outcome_sd")]


def study(table: str | Path | None = None, *, splits: int = 25, seed: int = 0, command: str = "", quick: bool = False) -> Page:
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
        chosen = dict(makers)
        if label == "mean of the tasks":
            chosen["ltc without names"] = lambda: methods.Ours(only=[c for c in plain if c in part.columns])  # noqa: B023
        found = judge(part, chosen, splits=splits, seed=seed)
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
            f"{splits} splits.",
        )
        if label == "per task":
            ours, probe = found.tasks("ltc"), found.tasks(PROBE)
            order = sorted(ours, key=lambda t: probe[t] - ours[t])
            page.table("Task by task", ["task", "probe", "ltc"], [[t, probe[t], ours[t]] for t in order])
        page.text(f"Probe on ALL pairs within a base, {label}: {_everywhere(part):.3f}.")
    if "outcome_sd" in df:
        page.text(f"Seed-noise ceiling (20 seeds of each vanilla base), mean over tasks: {_ceiling(df):.3f} per task.")
        page.figures["ceiling"] = _ceiling(df)
    if df["task"].nunique() > 2:
        _bounds(page, df)
    return page


def _bounds(page: Page, df: pd.DataFrame) -> None:
    """What the same checkpoints' other outcomes tell, and how far copies of one checkpoint lie apart."""
    others, (count, base, ratio, perfect) = from_other_outcomes(df), copies(df)
    page.figures["bounds"] = {"other outcomes": others, "copies": count, "noise share": ratio, "perfect": perfect}
    page.text(
        f"Who saw how a held-out checkpoint came out on all OTHER tasks, after fine-tuning it there, would put {others:.3f} of "
        "pairs in the right order (ridge on the other outcomes, uploaders held out): what is known before can hardly tell more."
    )
    if count > 4:
        page.text(
            f"{count} checkpoints are {base} by their probe, to the last digit. Their outcomes scatter with {ratio:.2f} of the "
            f"deviation of all of that base (median over tasks): were both normal, a ranker that knew every checkpoint's true "
            f"quality would be right on {perfect:.3f} of pairs."
        )


def from_other_outcomes(df: pd.DataFrame, penalty: float = 30.0, folds: int = 5) -> float:
    """Mean over tasks of the accuracy of a ridge on a checkpoint's outcomes on the other tasks, within a base."""
    right: dict[str, float] = {}
    count: dict[str, float] = {}
    for _, rows in df.groupby("zoo", sort=False):
        wide = rows.pivot(index="checkpoint", columns="task", values="outcome").dropna()
        if len(wide) < 4 * folds:
            continue
        owner = rows.drop_duplicates("checkpoint").set_index("checkpoint")["group"].reindex(wide.index)
        fold = np.random.default_rng(0).permutation(owner.nunique())[codes(owner)] % folds
        y = wide.to_numpy(float)
        T = standard_outcome(y.T.ravel(), np.repeat(np.arange(y.shape[1]), len(y))).reshape(y.T.shape).T
        i, j = np.triu_indices(len(y), 1)
        for k, task in enumerate(map(str, wide.columns)):
            seen, found = np.delete(T, k, 1), np.zeros(len(y))
            for f in range(folds):
                A, b = seen[fold != f], T[fold != f, k]
                found[fold == f] = seen[fold == f] @ np.linalg.solve(A.T @ A + penalty * np.eye(A.shape[1]), A.T @ b)
            better = np.sign(y[i, k] - y[j, k])
            agree = (np.sign(found[i] - found[j]) * better)[better != 0]
            right[task] = right.get(task, 0.0) + float((0.5 + 0.5 * agree).sum())
            count[task] = count.get(task, 0.0) + len(agree)
    return float(np.mean([right[t] / count[t] for t in right])) if right else float("nan")


def copies(df: pd.DataFrame) -> tuple[int, str, float, float]:
    """Checkpoints with the probe of their base's own, of the base that has most; their scatter over that of all; what a ranker
    that knew the truth would reach, by the normal's arcsine law."""
    bare = df.drop_duplicates("checkpoint")
    most = (0, "", float("nan"), float("nan"))
    for base, rows in bare.groupby("zoo"):
        own = rows.loc[rows["checkpoint"] == base, "mnli_lp"]
        if own.empty or own.iloc[0] < _CHANCE:
            continue
        names = rows.loc[(rows["mnli_lp"] - own.iloc[0]).abs() < 1e-9, "checkpoint"]
        if len(names) > max(most[0], 1):
            wide = df[df["zoo"] == base].pivot(index="checkpoint", columns="task", values="outcome")
            ratio = float((wide.loc[names].std() / wide.std()).median())
            perfect = 0.5 + float(np.arcsin(np.sqrt(max(0.0, 1 - ratio**2)))) / np.pi
            most = (len(names), str(base), ratio, perfect)
    return most


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
