"""The rankers to beat: one feature alone, the best one, a logistic regression, the configuration alone.

Each is fitted on training rows and gives every row of a table one strength per task; P(a beats b) = sigmoid of the difference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit

from ranker.pairs import Floats, certainty, codes, within
from ranker.table import RESERVED, configurations_of, is_number
from ranker.vocabulary import meaning

_LARGEST = 1e100  # figures whose squares are no numbers are cut


class Method(Protocol):
    """Something that can be evaluated."""

    def fit(self, train: pd.DataFrame, columns: list[str]) -> Method: ...

    def strengths(self, rows: pd.DataFrame, context: pd.DataFrame) -> Floats: ...


def _unit(df: pd.DataFrame) -> np.ndarray:
    return codes(df["zoo"].astype(str) if "zoo" in df else np.zeros(len(df)), df["task"])


def pair_accuracy(x: Floats, y: Floats, unit: np.ndarray, *, limit: int = 200_000) -> float:
    """Share of same-unit pairs of different outcome that a higher `x` orders rightly; ties and missing values of x count 1/2."""
    i, j = within(unit, limit=limit)
    keep = certainty(y, None, i, j) > 0
    i, j = i[keep], j[keep]
    if not len(i):
        return 0.5
    agree = np.nan_to_num(np.sign(x[i] - x[j])) * np.sign(y[i] - y[j])
    return float(np.mean(0.5 + 0.5 * agree))


@dataclass
class Single:
    """One column alone, higher or lower is better.

    The direction is the one that its name is known for; where none is known, the one that orders more training pairs of the task
    rightly. A text column stands for the mean training outcome (within zoo and task) of its level.
    """

    column: str
    any_direction: bool = False
    signs: dict[str, int] = field(default_factory=dict)
    slopes: dict[str, float] = field(default_factory=dict)
    levels: dict[str, dict[str, float]] = field(default_factory=dict)

    def fit(self, train: pd.DataFrame, columns: list[str]) -> Single:
        known = 0 if self.any_direction or not is_number(train[self.column]) else meaning(self.column).column_direction
        for task, rows in train.groupby("task", sort=False):
            y = rows["outcome"].to_numpy(float)
            unit = _unit(rows)
            if not is_number(train[self.column]):
                self.levels[str(task)] = _level_means(rows[self.column], y, unit)
            x = self._values(rows, str(task))
            accuracy = pair_accuracy(x, y, unit)
            sign = known or (1 if accuracy >= 0.5 else -1)
            sure = np.clip(accuracy if sign > 0 else 1 - accuracy, 0.51, 0.99)
            self.signs[str(task)] = sign
            self.slopes[str(task)] = float(np.log(sure / (1 - sure)))
        return self

    def _values(self, rows: pd.DataFrame, task: str) -> Floats:
        if is_number(rows[self.column]) and task not in self.levels:
            return rows[self.column].to_numpy(float)
        means = self.levels.get(task) or _pool(self.levels)
        return np.array([means.get(str(v), np.nan) if v is not None and v == v else np.nan for v in rows[self.column]])

    def strengths(self, rows: pd.DataFrame, context: pd.DataFrame) -> Floats:
        """A checkpoint without the feature stands at the median of the context: even odds against the middle one."""
        task = str(rows["task"].iloc[0])
        sign = self.signs.get(task) or (1 if sum(self.signs.values()) >= 0 else -1)
        x = self._values(rows, task)
        everyone = np.concatenate([x, self._values(context, task)]) if len(context) else x
        middle = np.nanmedian(everyone) if np.isfinite(everyone).any() else 0.0
        return sign * np.where(np.isnan(x), middle, x)

    def slope(self, task: str) -> float:
        """Log-odds of the favoured side: the training accuracy, whatever the gap of the feature."""
        return self.slopes.get(task, float(np.mean(list(self.slopes.values()))))


def _pool(levels: dict[str, dict[str, float]]) -> dict[str, float]:
    out: dict[str, list[float]] = {}
    for means in levels.values():
        for level, value in means.items():
            out.setdefault(level, []).append(value)
    return {level: float(np.mean(values)) for level, values in out.items()}


def _level_means(words: pd.Series, y: Floats, unit: np.ndarray) -> dict[str, float]:
    deviation = y - pd.Series(y).groupby(unit).transform("mean").to_numpy()
    frame = pd.DataFrame({"level": words.to_numpy(object), "y": deviation}).dropna()
    return {str(k): float(v) for k, v in frame.groupby("level")["y"].mean().items()}


@dataclass
class BestSingle:
    """The one column, and its direction, that orders most training pairs of the task rightly."""

    chosen: dict[str, Single] = field(default_factory=dict)
    fallback: Single | None = None

    def fit(self, train: pd.DataFrame, columns: list[str]) -> BestSingle:
        numbers = [c for c in columns if is_number(train[c]) and train[c].notna().any()] or [
            c for c in columns if train[c].notna().any()
        ]
        total: dict[str, float] = dict.fromkeys(numbers, 0.0)
        for task, rows in train.groupby("task", sort=False):
            best, score = None, -1.0
            for column in numbers:
                if not is_number(rows[column]):
                    one = Single(column, any_direction=True).fit(rows, columns)
                    accuracy = pair_accuracy(one._values(rows, str(task)), rows["outcome"].to_numpy(float), _unit(rows))
                else:
                    raw = pair_accuracy(rows[column].to_numpy(float), rows["outcome"].to_numpy(float), _unit(rows))
                    accuracy = max(raw, 1 - raw)
                total[column] += accuracy
                if accuracy > score:
                    best, score = column, accuracy
            if best is not None:
                self.chosen[str(task)] = Single(best, any_direction=True).fit(rows, columns)
        self.fallback = Single(max(total, key=lambda c: total[c]), any_direction=True).fit(train, columns)
        return self

    def _for(self, task: str) -> Single:
        one = self.chosen.get(task, self.fallback)
        assert one is not None
        return one

    def strengths(self, rows: pd.DataFrame, context: pd.DataFrame) -> Floats:
        return self._for(str(rows["task"].iloc[0])).strengths(rows, context)

    def slope(self, task: str) -> float:
        return self._for(task).slope(task)


@dataclass
class Logistic:
    """Logistic regression through the origin on differences of standardised features, one per task; levels of texts as 0 and 1.

    Parameters
    ----------
    configuration : use only the columns that are known without a forward pass
    penalty : weight of the squared coefficients for one training checkpoint's worth of pairs
    """

    configuration: bool = False
    penalty: float = 1.0
    columns: list[str] = field(default_factory=list)
    scale: dict[str, tuple[float, float]] = field(default_factory=dict)
    levels: dict[str, list[str]] = field(default_factory=dict)
    weights: dict[str, Floats] = field(default_factory=dict)

    def fit(self, train: pd.DataFrame, columns: list[str]) -> Logistic:
        usable = [c for c in columns if train[c].notna().any()]
        self.columns = configurations_of(train, usable) if self.configuration else usable
        for c in self.columns:
            if is_number(train[c]):
                x = meaning(c).apply(train[c].to_numpy(float)).clip(-_LARGEST, _LARGEST)
                if np.isnan(x).all():
                    x = np.zeros(len(train))
                self.scale[c] = (float(np.nanmean(x)), float(np.nanstd(x)) or 1.0)
            else:
                found = train[c].dropna().value_counts()
                self.levels[c] = [str(k) for k, n in found.items() if n >= 2][:30]
        for task, rows in train.groupby("task", sort=False):
            X, y, unit = self._matrix(rows), rows["outcome"].to_numpy(float), _unit(rows)
            i, j = within(unit, limit=100_000)
            keep = y[i] != y[j]
            i, j = i[keep], j[keep]
            if not len(i) or not X.shape[1]:
                self.weights[str(task)] = np.zeros(X.shape[1])
                continue
            D = (X[i] - X[j]) * np.sign(y[i] - y[j])[:, None]
            n = len(rows)

            def loss(b: Floats, D: Floats = D, n: int = n) -> tuple[float, Floats]:
                z = D @ b
                value = n * float(np.logaddexp(0, -z).mean()) + 0.5 * self.penalty * float(b @ b)
                return value, -n * (expit(-z) @ D) / len(D) + self.penalty * b

            self.weights[str(task)] = minimize(loss, np.zeros(X.shape[1]), jac=True, method="L-BFGS-B").x
        return self

    def _matrix(self, rows: pd.DataFrame) -> Floats:
        parts = []
        for c in self.columns:
            if c in self.scale:
                mean, sd = self.scale[c]
                x = (meaning(c).apply(rows[c].to_numpy(float)).clip(-_LARGEST, _LARGEST) - mean) / sd
                parts.append(np.clip(np.nan_to_num(x), -5, 5)[:, None])
            else:
                words = np.array([str(v) if v is not None and v == v else "" for v in rows[c]], dtype=object)
                parts.append((words[:, None] == np.array(self.levels[c], dtype=object)).astype(float))
        return np.hstack(parts) if parts else np.zeros((len(rows), 0))

    def strengths(self, rows: pd.DataFrame, context: pd.DataFrame) -> Floats:
        weights = self.weights.get(str(rows["task"].iloc[0]))
        if weights is None:
            weights = np.mean(list(self.weights.values()), axis=0)
        return self._matrix(rows) @ weights

    def slope(self, task: str) -> float:
        return 0.0


def feature_columns(df: pd.DataFrame) -> list[str]:
    """All columns that are not bookkeeping."""
    return [str(c) for c in df.columns if c not in RESERVED]
