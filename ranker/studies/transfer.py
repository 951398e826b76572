"""Does a ranker fitted on one table, task or base answer for another?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.errors import DataError
from ranker import metrics
from ranker.blend import probability
from ranker.compare import LearningToCompare
from ranker.evaluate import grouping
from ranker.pairs import Floats
from ranker.reference import OUTCOMES, PROXIES, SHARED, vocabulary
from ranker.studies import sources
from ranker.studies.holdout import DRAWS
from ranker.studies.page import Page, cell, with_interval


@dataclass(frozen=True)
class Answered:
    """What a fitted ranker did on a whole table: accuracy and its 95 % interval (bootstrap over checkpoints), calibration error,
    the share of pairs that it called and the share of those that were right (None where it called none).
    """

    accuracy: float
    ci95: list[float | None]
    ece: float
    called: float
    called_accuracy: float | None


def asked(ranker: LearningToCompare, df: pd.DataFrame, columns: list[str]) -> Answered:
    """Ask a fitted ranker about every pair of a table of which it has seen nothing but, as context, the features."""
    from ranker.blend import calibration_error

    group = grouping(df, None)
    p, hit, gi, gj = [], [], [], []
    for _, rows in df.groupby([c for c in ("zoo", "task") if c in df], sort=False):
        if len(rows) < 2:
            continue
        s: Floats = ranker.strengths(rows[columns], task=str(rows["task"].iloc[0]))
        y = rows["outcome"].to_numpy(float)
        i, j = np.triu_indices(len(rows), 1)
        keep = y[i] != y[j]
        i, j = i[keep], j[keep]
        own = group[df.index.get_indexer(rows.index)]
        q = probability(s[i] - s[j])
        p.append(np.maximum(q, 1 - q))
        hit.append(metrics.right(q, np.sign(y[i] - y[j])))
        gi.append(own[i])
        gj.append(own[j])
    n = int(group.max()) + 1
    rng = np.random.default_rng(0)
    draws = np.array([np.bincount(rng.choice(n, n), minlength=n) for _ in range(min(DRAWS, 400))])
    right = np.concatenate(hit)
    interval = metrics.interval(metrics.bootstrap(right, np.concatenate(gi), np.concatenate(gj), n, draws))
    sure = np.concatenate(p)
    called = sure >= ranker.call_from_
    share = float(right[called].mean()) if called.any() else None
    return Answered(float(right.mean()), interval, calibration_error(sure, right), float(called.mean()), share)


def study(table: str | Path | None = None, *, splits: int = 20, seed: int = 0, command: str = "", quick: bool = False) -> Page:
    """Between tables (where they share a feature), between tasks, between base architectures."""
    page = Page("Does a ranker answer for a table that it was not fitted on?", command)
    page.text(
        "Nothing of the asked table was seen in fitting, only its features as context. Intervals are "
        "bootstraps over the asked checkpoints."
    )
    rows: list[list[Any]] = []

    def line(kind: str, fitted: str, about: str, result: Answered, beside: str = "") -> None:
        page.figures[f"{kind}/{fitted} -> {about}"] = asdict(result)
        shown = with_interval(asdict(result))
        rows.append([kind, fitted, about, shown, result.ece, result.called, result.called_accuracy, beside])

    own, rankers = vocabulary("zeng2025"), {}
    for label, signs in (("known signs only", "strict"), ("free signs", "proven")):
        rankers[label] = LearningToCompare(signs=signs, random_state=seed).fit(
            own[list(SHARED)], own["outcome"], task=own["task"], group=own["checkpoint"]
        )
    for name, foreign, columns in _foreign(table):
        each = {c: alone(foreign, c) for c in columns}
        beside = ", ".join(f"{c} alone {cell(v)}" for c, v in each.items())
        for label, ranker in rankers.items():
            line("tables", f"zeng ({label})", name, asked(ranker, foreign, columns), beside)
    zeng = sources.zeng(parts=False)[["task", "checkpoint", "outcome", *PROXIES]]
    for task in OUTCOMES:
        result = _held_out_tasks(zeng, task, list(PROXIES), seed)
        line("tasks", "zeng, the two other tasks, other models", task, result)
    for name, read in (("rectified", sources.rectified), ("vision", sources.vision)):
        try:
            df = read(sources.find(table, name))
        except DataError:
            continue
        columns = [c for c in df.columns if c not in ("task", "checkpoint", "outcome")]
        for task in list(dict.fromkeys(df["task"]))[: 2 if quick else None]:
            line("tasks", f"{name}, the other tasks, other models", str(task), _held_out_tasks(df, str(task), columns, seed))
    try:
        _bases(table, line, seed)
    except DataError:
        page.text("The table of IBM model recycling was not given: transfer between bases left out.")
    page.table("Transfer", ["between", "fitted on", "asked about", "accuracy [95 %]", "ECE", "called", "right", "beside"], rows)
    return page


def _foreign(table: str | Path | None) -> list[tuple[str, pd.DataFrame, list[str]]]:
    """Tables that share a feature with Zeng's: a zero-shot loss is the logarithm of a perplexity, a "
    "4-shot score is a k-shot accuracy."""
    out = []
    try:
        df = sources.rectified(sources.find(table, "rectified"), samples=0)
        df["ppl_clm"] = np.exp(df["loss_zero_shot"])
        out.append(("rectified: ppl_clm of the task's own text", df, ["ppl_clm"]))
        df = sources.amuro(sources.find(table, "amuro"))
        out.append(("amuro: kshot_acc", df, ["kshot_acc"]))
    except DataError:
        pass
    return out


def alone(df: pd.DataFrame, column: str) -> float:
    from ranker.baselines import Single
    from ranker.studies.methods import Strengths

    one = Strengths(Single(column)).fit(df, [column])
    hits = []
    for _, rows in df.groupby("task", sort=False):
        i, j = np.triu_indices(len(rows), 1)
        y = rows["outcome"].to_numpy(float)
        hits.append(metrics.right(probability(one.gaps(rows, rows, i, j)), np.sign(y[i] - y[j]))[y[i] != y[j]])
    return float(np.concatenate(hits).mean())


def _held_out_tasks(df: pd.DataFrame, task: str, columns: list[str], seed: int, folds: int = 2) -> Answered:
    """Fitted on half the checkpoints on the other tasks, asked about the other half on `task`; both halves, means."""
    names = np.random.default_rng(seed).permutation(df["checkpoint"].unique())
    results = []
    for k in range(folds):
        held = set(names[k::folds])
        train = df[(df["task"] != task) & ~df["checkpoint"].isin(held)]
        test = df[(df["task"] == task) & df["checkpoint"].isin(held)].reset_index(drop=True)
        ranker = LearningToCompare(random_state=seed).fit(
            train[columns], train["outcome"], task=train["task"], group=train["checkpoint"]
        )
        results.append(asked(ranker, test, columns))
    low, high = ([r.ci95[e] for r in results if r.ci95[e] is not None] for e in (0, 1))
    told = [r.called_accuracy for r in results if r.called_accuracy is not None]
    return Answered(
        float(np.mean([r.accuracy for r in results])),
        [float(np.mean(low)) if low else None, float(np.mean(high)) if high else None],  # type: ignore[arg-type]
        float(np.mean([r.ece for r in results])),
        float(np.mean([r.called for r in results])),
        float(np.mean(told)) if told else None,
    )


def _bases(table: str | Path | None, line: Any, seed: int) -> None:
    """The mean of IBM's tasks: fitted on three base architectures, asked about the fourth."""
    df = sources.mean_over_tasks(sources.ibm(sources.find(table, "ibm")))
    columns = [c for c in df.columns if c not in ("task", "checkpoint", "outcome", "zoo", "group", "outcome_sd")]
    for base in sorted(df["zoo"].unique()):
        train, test = df[df["zoo"] != base], df[df["zoo"] == base].reset_index(drop=True)
        train = train[~train["group"].isin(set(test["group"]))]
        ranker = LearningToCompare(random_state=seed).fit(
            train[columns], train["outcome"], zoo=train["zoo"], task=train["task"], group=train["group"]
        )
        line(
            "bases",
            "ibm, the other bases, other uploaders",
            base,
            asked(ranker, test, columns),
            f"mnli_lp alone {cell(alone(test, 'mnli_lp'))}",
        )
