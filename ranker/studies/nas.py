"""NAS-Bench-BERT: 500 architectures, mean GLUE after fine-tuning, from their shape, training time "
"and scores at initialisation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ranker.evaluate import grouping, splits_of
from ranker.pairs import Floats
from ranker.studies import methods, sources
from ranker.studies.holdout import run
from ranker.studies.page import Page, difference, with_interval


@dataclass
class ExtraTrees:
    """The simple rival named in the study: extra trees on the outcome, one model."""

    columns: list[str] = field(default_factory=list)
    model: Any = None

    def fit(self, train: pd.DataFrame, columns: list[str]) -> ExtraTrees:
        from sklearn.ensemble import ExtraTreesRegressor

        self.columns = columns
        self.model = ExtraTreesRegressor(300, min_samples_leaf=2, random_state=0).fit(train[columns], train["outcome"])
        return self

    def strengths(self, rows: pd.DataFrame, context: pd.DataFrame) -> Floats:
        return np.asarray(self.model.predict(rows[self.columns]), float)

    def slope(self, task: str) -> float:
        return 0.0


def study(table: str | Path | None = None, *, splits: int = 20, seed: int = 0, command: str = "", quick: bool = False) -> Page:
    """Mean GLUE; `quick` is the same."""
    page = Page("NAS-Bench-BERT: 500 architectures, mean GLUE", command)
    df = sources.nas(table)
    columns = [c for c in df.columns if c not in ("task", "checkpoint", "outcome")]
    groups = grouping(df, None)
    makers: dict[str, methods.Maker] = {
        **{f"single:{c}": methods.single(c) for c in ("time_to_train", "Head Confidence", "Number of Parameters")},
        **methods.baselines(True),
        "extra trees": lambda: methods.Strengths(ExtraTrees()),
        "ltc without training time": lambda: methods.Ours(only=[c for c in columns if c != "time_to_train"]),
        "ltc": methods.Ours,
    }
    parts = splits_of(df, groups, None, splits=splits, train_share=0.6, seed=seed)
    found = run(df, makers, parts, columns=columns, groups=groups, seed=seed)
    rows = []
    for name in makers:
        one = found.of(name, against="extra trees")
        page.figures[name] = one
        rows.append(
            [
                name,
                with_interval(one),
                difference(one),
                one["sd"],
                one["kendall_tau"],
                one["ece"],
                one.get("called"),
                one.get("called_accuracy"),
            ]
        )
    page.text(
        f"{splits} splits of the architectures, 300 train, 200 held out. Published: pre-training time .806, extra trees .870."
    )
    page.table(
        "Pairwise accuracy",
        [
            "method",
            "accuracy [95 %]",
            "less extra trees [95 %]",
            "sd over splits",
            "Kendall tau",
            "ECE",
            "called",
            "right of them",
        ],
        rows,
        "Extra trees give no probabilities: their calibration error is that of an untempered difference.",
    )
    return page
