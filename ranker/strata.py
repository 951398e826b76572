"""How sure, given what two checkpoints are known to share: a steepness and a bar of their own for pairs that agree in a column.

Odds that are right on average over all pairs are too bold on those that agree in what moves outcomes most and is not among the
features: at equal learning rate proxies still differ, but much of what their difference says elsewhere is the learning rate. No
feature of the pair tells; the column does (docs/studies/choices.md). Which of two is favoured does not change, so that accuracy,
order and antisymmetry stay as they are.

Reference: U. Hebert-Johnson et al., Multicalibration, 2018: a predictor is calibrated on those groups only that it was shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from ranker.blend import probability, too_close_below
from ranker.cells import is_empty
from ranker.pairs import Floats

_FREEDOM = 1.0  # of .3, .5, 1 and 2, the lowest log loss over three tables without the column that pairs agree in
Told = NDArray[np.object_]


def told(rows: Sequence[Mapping[str, Any]] | pd.DataFrame, columns: Sequence[str]) -> Told:
    """(n, k) values of the columns, numbers as floats; None where a value is missing."""
    if not columns:
        return np.empty((len(rows), 0), dtype=object)
    if isinstance(rows, pd.DataFrame):
        rows = rows.reindex(columns=list(columns)).astype(object).to_dict("records")
    out = np.empty((len(rows), len(columns)), dtype=object)
    for n, row in enumerate(rows):
        for k, c in enumerate(columns):
            out[n, k] = _value(row.get(c))
    return out


def _value(value: Any) -> Any:
    if is_empty(value):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value).strip() or None


@dataclass
class Strata:
    """Fitted on held-out pairs.

    Attributes
    ----------
    columns : what pairs may agree in
    slopes : (1 + k,) logarithms: what log-odds are multiplied by where a pair is told of, and once more per column it agrees in
    bars : confidence from which a pair is called that agrees in no column, and one that agrees in any
    """

    columns: tuple[str, ...]
    slopes: Floats = field(default_factory=lambda: np.zeros(1))
    bars: tuple[float, float] = (1.0, 1.0)

    def fit(self, log_odds: Floats, better: Floats, weight: Floats, size: float, a: Told, b: Told, error_rate: float) -> Self:
        """Learn from held-out pairs.

        Parameters
        ----------
        log_odds, better, weight : (n,) of each pair, the log-odds without strata
        size : how many independent pieces of evidence the pairs are worth
        a, b : (n, k) of `told`, of the first and the second
        """
        agree, known = _agree(a, b)
        signed = (log_odds * better)[known]
        w = weight[known]
        self.slopes = np.zeros(1 + len(self.columns))
        nothing = np.zeros(0)
        self.bars = (too_close_below(nothing, nothing, nothing, error_rate, size),) * 2
        if not len(w) or w.sum() <= 0:
            return self
        X = np.column_stack([np.ones(len(w)), agree[known]])
        share = w / w.sum()

        def loss(theta: Floats) -> tuple[float, Floats]:
            z = np.exp(X @ theta) * signed
            value = size * float(share @ np.logaddexp(0, -z)) + 0.5 * float(theta @ theta) / _FREEDOM**2
            return value, X.T @ (-size * share * expit(-z) * z) + theta / _FREEDOM**2

        bounds = [(-4.0, 2.0)] * X.shape[1]
        self.slopes = np.asarray(minimize(loss, self.slopes, jac=True, method="L-BFGS-B", bounds=bounds).x, float)
        p = probability(np.exp(X @ self.slopes) * signed)
        right = np.where(p == 0.5, 0.5, (p > 0.5).astype(float))
        any_ = agree[known].any(1)
        low, high = (too_close_below(p[s], right[s], w[s], error_rate, size) for s in (~any_, any_))
        self.bars = (low, high)
        return self

    def pairs(self, a: Told, b: Told, call_from: float) -> tuple[Floats, Floats]:
        """(n,) factor of each pair's log-odds, and (n,) confidence from which it is called; 1 and `call_from` where the columns
        of either are not told.
        """
        agree, known = _agree(a, b)
        factor = np.where(known, np.exp(self.slopes[0] + agree @ self.slopes[1:]), 1.0)
        return factor, np.where(known, np.where(agree.any(1), self.bars[1], self.bars[0]), call_from)

    def common(self, a: Told, call_from: float) -> tuple[float, float]:
        """Factor and bar of a whole list of candidates that agree in every column; 1 and `call_from` where they do not."""
        if len(a) < 2 or any(len(set(column)) > 1 for column in a.T):
            return 1.0, call_from
        factor, bar = self.pairs(a[:1], a[1:2], call_from)
        return float(factor[0]), float(bar[0])

    def to_json(self) -> dict[str, Any]:
        return {"columns": list(self.columns), "slopes": self.slopes.tolist(), "bars": list(self.bars)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        low, high = data["bars"]
        return cls(tuple(map(str, data["columns"])), np.array(data["slopes"], float), (float(low), float(high)))


def _agree(a: Told, b: Told) -> tuple[Floats, NDArray[np.bool_]]:
    """(n, k) 1 where the two have the same value, and (n,) whether all values of both are told."""
    known = np.array([all(v is not None for v in (*x, *y)) for x, y in zip(a, b, strict=True)], bool)
    same = np.array([[float(u == v) for u, v in zip(x, y, strict=True)] for x, y in zip(a, b, strict=True)], float)
    return same.reshape(a.shape), known
