"""Scorers that are linear in known functions of the features: one weight each, shrunk by the evidence.

All of them predict the standardised outcome of a checkpoint from its standardised features; a comparison is the difference of two
predictions, so it is antisymmetric, transitive, and splits into one contribution per feature.

References: D. MacKay, Bayesian interpolation, 1992 (the evidence for a ridge); A. Raftery et al., Bayesian model averaging, 1997.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize

from ranker.pairs import Floats, Ints, better_first, within

_MOST_PAIRS = 20_000
_RATIOS = np.exp(np.linspace(np.log(1e-3), np.log(1e4), 36))


def centred(values: Floats, weight: Floats, unit: Ints) -> Floats:
    """`values` (n, ...) less their weighted mean in each unit."""
    compact, inverse = np.unique(unit, return_inverse=True)
    total = np.bincount(inverse, weight, minlength=len(compact))
    if values.ndim == 1:
        return values - (np.bincount(inverse, weight * values, minlength=len(compact)) / np.maximum(total, 1e-12))[inverse]
    means = np.zeros((len(compact), values.shape[1]))
    np.add.at(means, inverse, values * weight[:, None])
    return values - (means / np.maximum(total, 1e-12)[:, None])[inverse]


def ridge(A: Floats, t: Floats, freedom: float) -> Floats:
    """(d,) weights of the ridge with the highest evidence.

    t ~ N(A b, s2), b ~ N(0, s2 / ratio): `ratio` is taken from a grid, s2 is profiled out; where no ratio beats the model without
    features, all weights are 0.

    Parameters
    ----------
    A : (n, d) centred design
    t : (n,) centred target
    freedom : rows less the centred means: what the noise is estimated from
    """
    n, d = A.shape
    freedom = max(freedom, 1.0)
    total = float(t @ t)
    if d == 0 or total <= 0:
        return np.zeros(d)
    if d <= n:
        values, V = np.linalg.eigh(A.T @ A)
        values = np.maximum(values, 0)
        c = V.T @ (A.T @ t)
        power = np.where(values > 1e-10 * max(values.max(), 1e-300), c**2 / np.maximum(values, 1e-300), 0.0)
    else:
        values, U = np.linalg.eigh(A @ A.T)
        values = np.maximum(values, 0)
        power = (U.T @ t) ** 2
        power = np.where(values > 1e-10 * max(values.max(), 1e-300), power, 0.0)
    size = max(float(values.sum()) / d, 1e-12)
    lam = _RATIOS * size
    shrink = values[None] / (values[None] + lam[:, None])
    rss = np.maximum(total - shrink @ power, 1e-9 * total)
    evidence = -0.5 * (freedom * np.log(rss / total) + np.log1p(values[None] / lam[:, None]).sum(1))
    k = int(np.argmax(evidence))
    if evidence[k] <= 0:
        return np.zeros(d)
    if d <= n:
        return V @ (c / (values + lam[k]))
    return A.T @ (U @ ((U.T @ t) / (values + lam[k])))


@dataclass
class Linear:
    """Ridge over all features at once, then one small correction per task on what it leaves over.

    Attributes
    ----------
    weights : (d,) shared by all tasks
    task_weights : task code -> (d,) added for that task
    """

    weights: Floats = field(default_factory=lambda: np.empty(0))
    task_weights: dict[int, Floats] = field(default_factory=dict)

    def fit(self, Z: Floats, t: Floats, w: Floats, unit: Ints, task: Ints, sign: Ints | None = None) -> Self:
        """Fit.

        Parameters
        ----------
        Z : (n, d) standardised features; NaN counts as the centre
        t, w : (n,) standardised outcomes and weights
        unit, task : (n,) codes
        sign : (d,) +1 or -1 where a weight may only have that sign, 0 where it is free
        """
        self._sign = np.zeros(Z.shape[1], np.int64) if sign is None else sign
        root = np.sqrt(w)
        A = centred(np.nan_to_num(Z), w, unit) * root[:, None]
        b = centred(t, w, unit) * root
        self.weights = self._solve(A, b, unit, w)
        self.task_weights = {}
        tasks = np.unique(task)
        if len(tasks) > 1:
            rest = b - A @ self.weights
            for k in tasks:
                rows = task == k
                if rows.sum() >= 4:
                    extra = ridge(A[rows], rest[rows], float((w[rows] > 0).sum()) - len(np.unique(unit[rows])))
                    bad = (self.weights + extra) * self._sign < 0
                    self.task_weights[int(k)] = np.where(bad, -self.weights, extra)
        return self

    def _solve(self, A: Floats, b: Floats, unit: Ints, w: Floats) -> Floats:
        freedom = float((w > 0).sum()) - len(np.unique(unit))
        out = np.zeros(A.shape[1])
        allowed = np.arange(A.shape[1])
        while len(allowed):
            found = ridge(A[:, allowed], b, freedom)
            wrong = found * self._sign[allowed] < 0
            if not wrong.any():
                out[allowed] = found
                break
            allowed = allowed[~wrong]
        return out

    def vector(self, task: int) -> Floats:
        """(d,) weights for a task; the shared ones for a task never seen."""
        extra = self.task_weights.get(task)
        return self.weights if extra is None else self.weights + extra

    def score(self, Z: Floats, task: Ints) -> Floats:
        """(n,) predictions."""
        D = np.nan_to_num(Z)
        out = np.empty(len(Z))
        for k in np.unique(task):
            rows = task == k
            out[rows] = D[rows] @ self.vector(int(k))
        return out

    def to_json(self) -> dict[str, Any]:
        return {"weights": self.weights.tolist(), "task_weights": {str(k): v.tolist() for k, v in self.task_weights.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(np.array(data["weights"], float), {int(k): np.array(v, float) for k, v in data["task_weights"].items()})


@dataclass
class Signs(Linear):
    """What is known before any outcome: features of known direction vote, those that say the same share one vote.

    `sign` holds the known directions. Nothing is fitted but the votes, sign x (R + 1)^-1 1 with R the correlation matrix of the
    features turned their right way; on a table of a few checkpoints that is often all that can be known.
    """

    def fit(self, Z: Floats, t: Floats, w: Floats, unit: Ints, task: Ints, sign: Ints | None = None) -> Self:
        self.weights, self.task_weights = np.zeros(Z.shape[1]), {}
        known = np.flatnonzero(sign) if sign is not None else np.zeros(0, np.int64)
        A = centred(np.nan_to_num(Z), w, unit)[:, known] * np.sqrt(w)[:, None]
        size = np.sqrt((A**2).sum(0))
        known, A = known[size > 1e-9], A[:, size > 1e-9]
        if sign is not None and len(known):
            turned = A / size[size > 1e-9] * sign[known]
            votes = np.maximum(np.linalg.solve(turned.T @ turned + np.eye(len(known)), np.ones(len(known))), 0)
            self.weights[known] = sign[known] * votes / max(float(votes.sum()), 1e-12)
        return self


@dataclass
class Single(Linear):
    """One feature at a time, averaged by evidence: on a small table, the best single feature with the doubt about which one it
    is.

    Every feature's own slope is weighed by exp(its evidence).
    """

    def _solve(self, A: Floats, b: Floats, unit: Ints, w: Floats) -> Floats:
        freedom = max(float((w > 0).sum()) - len(np.unique(unit)), 1.0)
        size = (A**2).sum(0)
        slope = np.where(size > 1e-9, (A.T @ b) / np.where(size > 1e-9, size, 1.0), 0.0)
        usable = (size > 1e-9) & (slope * self._sign >= 0)
        total = max(float(b @ b), 1e-12)
        share = np.clip(np.where(usable, slope**2 * size / total, 0.0), 0, 1 - 1e-9)
        evidence = -0.5 * freedom * np.log1p(-share)
        chance = np.where(usable, np.exp(evidence - evidence.max()), 0.0)
        chance /= max(chance.sum(), 1e-300)
        shrink = share / (share + (1 - share) / freedom)
        return chance * slope * shrink


@dataclass
class Logistic(Linear):
    """Logistic regression through the origin on the differences of a pair: shared by all tasks, then per task shrunk to it.

    Where features say nearly the same (losses after 200 and after 400 examples), what matters is their difference; a penalty that
    does not grow with the noise keeps it.
    """

    def fit(self, Z: Floats, t: Floats, w: Floats, unit: Ints, task: Ints, sign: Ints | None = None) -> Self:
        Z = np.nan_to_num(Z)
        i, j, weight = better_first(t, w, *within(unit, limit=_MOST_PAIRS))
        bounds = [
            (0, None) if s > 0 else (None, 0) if s < 0 else (None, None) for s in (np.zeros(Z.shape[1]) if sign is None else sign)
        ]
        tasks = np.unique(task)
        start = np.zeros(Z.shape[1])
        self.weights = _logistic(Z, i, j, weight, len(Z) / np.sqrt(len(tasks)), start, bounds)
        self.task_weights = {}
        if len(tasks) > 1:
            for k in tasks:
                rows, pairs = np.flatnonzero(task == k), task[i] == k
                if weight[pairs].sum() > 0:
                    ends = np.searchsorted(rows, i[pairs]), np.searchsorted(rows, j[pairs])
                    own = _logistic(Z[rows], *ends, weight[pairs], float(len(rows)), self.weights, bounds)
                    self.task_weights[int(k)] = own - self.weights
        return self


def _logistic(Z: Floats, i: Ints, j: Ints, weight: Floats, size: float, centre: Floats, bounds: list[Any]) -> Floats:
    """(d,) minimiser of size x mean log loss + |b - centre|^2 / 2, where row i of each pair is the better one.

    The pairs' differences are never laid out: a pair costs two look-ups a step, whatever the number of features.
    """
    total = float(weight.sum())
    if total <= 0:
        return centre

    def loss(b: Floats) -> tuple[float, Floats]:
        score = Z @ b
        z = score[i] - score[j]
        small = np.exp(-np.abs(z))
        value = size * float(weight @ (np.log(1 + small) - np.minimum(z, 0))) / total + 0.5 * float((b - centre) @ (b - centre))
        pull = weight * np.where(z > 0, small, 1) / (1 + small)
        slope = np.bincount(j, pull, len(Z)) - np.bincount(i, pull, len(Z))
        return value, size * (slope @ Z) / total + b - centre

    return np.asarray(minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60}).x)
