"""What the studies compare: our estimator, the baselines of `ranker.baselines`, and learning to compare as it was published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ranker.baselines import BestSingle, Logistic, Single
from ranker.compare import LearningToCompare
from ranker.pairs import Floats, Ints
from ranker.studies.holdout import Comparer
from ranker.table import is_number
from ranker.trees import QUIET

Maker = Callable[[], Comparer]


@dataclass
class Strengths:
    """A baseline whose log-odds are differences of strengths; one column alone is as sure as it was right in training."""

    inner: Any

    def fit(self, train: pd.DataFrame, columns: list[str]) -> Strengths:
        self.inner.fit(train, columns)
        return self

    def gaps(self, rows: pd.DataFrame, context: pd.DataFrame, i: Ints, j: Ints) -> Floats:
        s = self.inner.strengths(rows, context)
        gap = np.asarray(s[i] - s[j], float)
        slope = self.inner.slope(str(rows["task"].iloc[0]))
        return np.asarray(np.sign(gap) * slope if slope else gap, float)

    def order(self, rows: pd.DataFrame, context: pd.DataFrame) -> Floats:
        return np.asarray(self.inner.strengths(rows, context), float)


@dataclass
class Ours:
    """`LearningToCompare`, all tasks fitted together, asked with the whole zoo as context."""

    parameters: dict[str, Any] = field(default_factory=dict)
    only: list[str] | None = None
    ranker: LearningToCompare | None = None
    columns: list[str] = field(default_factory=list)

    def fit(self, train: pd.DataFrame, columns: list[str]) -> Ours:
        self.columns = self.only if self.only is not None else columns
        self.ranker = LearningToCompare(**self.parameters).fit(
            train[self.columns],
            train["outcome"].to_numpy(float),
            task=train["task"],
            group=train[" code"],
            zoo=train.get("zoo"),
            outcome_sd=train["outcome_sd"].to_numpy(float) if "outcome_sd" in train else None,
        )
        return self

    def order(self, rows: pd.DataFrame, context: pd.DataFrame) -> Floats:
        assert self.ranker is not None
        zoo = pd.concat([rows, context])[self.columns] if len(context) else rows[self.columns]
        return self.ranker.strengths(rows[self.columns], task=str(rows["task"].iloc[0]), context=zoo)

    def gaps(self, rows: pd.DataFrame, context: pd.DataFrame, i: Ints, j: Ints) -> Floats:
        s = self.order(rows, context)
        return self._sureness(rows, i, j)[0] * (s[i] - s[j])

    def bars(self, rows: pd.DataFrame, i: Ints, j: Ints) -> Floats:
        """(m,) confidence from which each pair is called."""
        return self._sureness(rows, i, j)[1]

    def _sureness(self, rows: pd.DataFrame, i: Ints, j: Ints) -> tuple[Floats, Floats]:
        assert self.ranker is not None
        if self.ranker.strata_ is None:
            return np.ones(len(i)), np.full(len(i), self.ranker.call_from_)
        return self.ranker.sureness(rows.iloc[i], rows.iloc[j])


@dataclass
class Published:
    """Learning to compare as Zeng et al. 2025 describe it: LightGBM's defaults on [a - b, a * b, a, b] of each feature, one
    model a task.

    Both orders of every training pair are rows; the answer is that of the order asked. Texts become 0/1 levels, missing
    numbers stay missing.
    """

    boosters: dict[str, Any] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    levels: dict[str, list[str]] = field(default_factory=dict)

    def fit(self, train: pd.DataFrame, columns: list[str]) -> Published:
        import lightgbm as lgb

        self.columns = columns
        self.levels = {c: sorted(map(str, train[c].dropna().unique())) for c in columns if not is_number(train[c])}
        for task, rows in train.groupby("task", sort=False):
            X, y = self._matrix(rows), rows["outcome"].to_numpy(float)
            i, j = np.triu_indices(len(rows), 1)
            i, j = np.concatenate([i, j]), np.concatenate([j, i])
            data = lgb.Dataset(_pair_features(X, i, j), (y[i] > y[j]).astype(int), params=QUIET)
            self.boosters[str(task)] = lgb.train({**QUIET, "objective": "binary", "seed": 0}, data, 100)
        return self

    def _matrix(self, rows: pd.DataFrame) -> Floats:
        parts = []
        for c in self.columns:
            if c in self.levels:
                words = rows[c].astype(object).where(rows[c].notna(), "").astype(str).to_numpy()
                parts.append((words[:, None] == np.array(self.levels[c], dtype=object)).astype(float))
            else:
                parts.append(rows[[c]].to_numpy(float))
        return np.hstack(parts)

    def gaps(self, rows: pd.DataFrame, context: pd.DataFrame, i: Ints, j: Ints) -> Floats:
        X = self._matrix(rows)
        booster = self.boosters[str(rows["task"].iloc[0])]
        return np.asarray(booster.predict(_pair_features(X, i, j), raw_score=True, num_threads=1), float)

    def order(self, rows: pd.DataFrame, context: pd.DataFrame) -> Floats:
        """Borda: the mean chance to win over all others."""
        n = len(rows)
        i, j = (a.ravel() for a in np.meshgrid(range(n), range(n), indexing="ij"))
        p = 1 / (1 + np.exp(-self.gaps(rows, context, i.astype(np.int64), j.astype(np.int64)).reshape(n, n)))
        return np.asarray((p * (1 - np.eye(n))).sum(1), float)


def _pair_features(X: Floats, i: Ints, j: Ints) -> Floats:
    return np.hstack([X[i] - X[j], X[i] * X[j], X[i], X[j]])


def single(column: str) -> Maker:
    """One column alone; higher is better, or as its name says."""
    return lambda: Strengths(Single(column))


def baselines(configuration: bool = True) -> dict[str, Maker]:
    """best-single, logistic and, where the table has configurations, configuration (logistic on them alone)."""
    out: dict[str, Maker] = {
        "best-single": lambda: Strengths(BestSingle()),
        "logistic": lambda: Strengths(Logistic()),
    }
    if configuration:
        out["configuration"] = lambda: Strengths(Logistic(configuration=True))
    return out
