"""Rectified scaling law: which of 30 models has the lowest loss after a long fine-tuning, from short ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ranker.evaluate import grouping, splits_of
from ranker.pairs import Floats
from ranker.studies import methods, sources
from ranker.studies.holdout import run
from ranker.studies.page import Page, difference, with_interval

BUDGETS = (0, 800, 6400, 51200)


@dataclass
class Extrapolation:
    """The last measured loss, carried on along the line through the last two points in log loss against log samples."""

    doublings: float
    columns: tuple[str, str]

    def fit(self, train: pd.DataFrame, columns: list[str]) -> Extrapolation:
        return self

    def strengths(self, rows: pd.DataFrame, context: pd.DataFrame) -> Floats:
        before, last = (np.log(rows[c].to_numpy(float)) for c in self.columns)
        return -(last + self.doublings * (last - before))

    def slope(self, task: str) -> float:
        return 0.0


def study(table: str | Path | None = None, *, splits: int = 20, seed: int = 0, command: str = "", quick: bool = False) -> Page:
    """One table per budget of fine-tuning samples; `quick` keeps two budgets."""
    page = Page("Rectified scaling law: 30 models, three tasks, short fine-tuning losses as features", command)
    page.text(
        f"Outcome: minus the loss after 1,638,400 samples. {splits} splits of the models (18 train, 12 held "
        "out), three tasks fitted together. "
        "Losses are per token of each model's own tokenizer, so part of the order is the tokenizer's; taken as published."
    )
    rows = []
    for samples in BUDGETS[1:3] if quick else BUDGETS:
        df = sources.rectified(table, samples=samples)
        columns = [c for c in df.columns if c not in ("task", "checkpoint", "outcome")]
        losses = [c for c in columns if c.startswith("loss_")]
        groups = grouping(df, None)
        makers: dict[str, methods.Maker] = {
            f"single:{losses[-1]}": methods.single(losses[-1]),
            **methods.baselines(False),
            "published": methods.Published,
        }
        if samples:
            doublings = float(np.log2(1638400 / samples))
            last_two = (losses[-2], losses[-1])
            makers["extrapolation"] = lambda d=doublings, c=last_two: methods.Strengths(Extrapolation(d, c))  # type: ignore[misc]
            makers["ltc, losses only"] = lambda c=columns: methods.Ours(only=[x for x in c if not x.startswith("gain_")])  # type: ignore[misc]
        makers["ltc"] = methods.Ours
        parts = splits_of(df, groups, None, splits=splits, train_share=0.6, seed=seed)
        found = run(df, makers, parts, columns=columns, groups=groups, seed=seed)
        for name in makers:
            one = found.of(name, against="best-single")
            page.figures[f"{samples}/{name}"] = one
            rows.append(
                [samples, name, with_interval(one), difference(one), one["kendall_tau"], one["ece"], one.get("called_accuracy")]
            )
    page.table(
        "By the samples that may be spent on each model",
        ["samples", "method", "accuracy [95 %]", "less best-single [95 %]", "Kendall tau", "ECE", "right of the called"],
        rows,
        "Features: parameters, architecture, the losses up to that many samples and how much each doubling took away.",
    )
    return page
