"""A Gaussian process over checkpoints and tasks: smooth and cautious where the trees are coarse and bold.

The outcome of a checkpoint on a task is a sum of a linear and a smooth function of its standardised features, partly shared by
all tasks, plus what the features do not tell, partly shared by the tasks too:

    k((x, t), (x', t')) = (rho + (1 - rho) [t = t']) (a exp(-|x - x'|^2 / 2 l^2) + b x.x' / d)
    noise               = s (tau [same checkpoint] + (1 - tau) [same row]) / weight

The six numbers are chosen by their evidence under weak priors. Reference: Rasmussen and Williams 2006, chapters 2 and 5; E.
Bonilla et al., Multi-task Gaussian process prediction, 2007.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize
from scipy.special import expit

from ranker.pairs import Floats, Ints

MOST_ROWS = 1200
_HYPER_ROWS = 400
_UNIT = 0.3  # variance of the mean of a unit, which no comparison depends on
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


@dataclass
class Process:
    """Fitted once; `dual` holds one solution per resample, so that all of them cost little more than one.

    Attributes
    ----------
    X, task : (n, d) rows and (n,) task codes that were kept (at most `MOST_ROWS`)
    theta : (6,) log a, log b, log s, log l, logit rho, logit tau
    dual : (bags, n) weights of the rows; 0 for a row that a resample left out
    """

    X: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    task: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    theta: Floats = field(default_factory=lambda: np.zeros(6))
    dual: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    size: float = 1.0

    def fit(
        self, Z: Floats, t: Floats, w: Floats, unit: Ints, task: Ints, checkpoint: Ints, fold: NDArray[np.bool_], seed: int
    ) -> Self:
        """Fit all resamples.

        Parameters
        ----------
        Z : (n, d) standardised features, NaN at the centre
        t, w, unit, task, checkpoint : (n,) standardised outcomes, weights and codes
        fold : (bags, n) True where a resample is fitted on the row; the last one is the answer
        """
        rng = np.random.default_rng(seed)
        n = len(Z)
        self.kept = np.sort(rng.choice(n, MOST_ROWS, replace=False)) if n > MOST_ROWS else np.arange(n)
        X = np.nan_to_num(Z)[self.kept]
        self.X, self.task = X, task[self.kept]
        t, w, unit, checkpoint = t[self.kept], w[self.kept], unit[self.kept], checkpoint[self.kept]
        self.size = max(float(X.var(0).sum()), 1e-6)
        several = len(np.unique(self.task)) > 1
        few = np.sort(rng.choice(len(X), _HYPER_ROWS, replace=False)) if len(X) > _HYPER_ROWS else np.arange(len(X))
        self.theta = self._choose(X[few], t[few], w[few], unit[few], self.task[few], checkpoint[few], several)
        K, noise = self.covariance(X, w, unit, self.task, checkpoint)
        self.dual = np.zeros((len(fold), len(X)))
        for b, rows in enumerate(fold):
            used = np.flatnonzero(rows[self.kept])
            if len(used):
                C = (K + noise)[np.ix_(used, used)]
                self.dual[b, used] = cho_solve(cho_factor(C, lower=True), t[used])
        return self

    def covariance(self, X: Floats, w: Floats, unit: Ints, task: Ints, checkpoint: Ints) -> tuple[Floats, Floats]:
        """(n, n) of what the features tell, and (n, n) of what they do not: the noise of a run and of a checkpoint."""
        return self._covariance(self.theta, X, w, unit, task, checkpoint)

    def _covariance(self, theta: Floats, X: Floats, w: Floats, unit: Ints, task: Ints, checkpoint: Ints) -> tuple[Floats, Floats]:
        _, s, tau = self._kernel_numbers(theta), float(np.exp(theta[2])), float(expit(theta[5]))
        K = self._kernel(theta, X, X, task[:, None] == task[None])
        K += _UNIT * (unit[:, None] == unit[None])
        same = checkpoint[:, None] == checkpoint[None]
        root = 1 / np.sqrt(w)
        noise = s * tau * same * root[:, None] * root[None] + np.diag(s * (1 - tau) / w + 1e-6)
        return K, noise

    def _kernel_numbers(self, theta: Floats) -> tuple[float, float, float, float]:
        a, b, length = np.exp(theta[[0, 1, 3]])
        return float(a), float(b), float(length), float(expit(theta[4]))

    def _kernel(self, theta: Floats, A: Floats, B: Floats, same_task: Any) -> Floats:
        a, b, length, rho = self._kernel_numbers(theta)
        inner = A @ B.T
        distance = np.maximum((A**2).sum(1)[:, None] + (B**2).sum(1)[None] - 2 * inner, 0)
        return (a * np.exp(-0.5 * distance / length**2) + b * inner / self.size) * (rho + (1 - rho) * same_task)

    def _choose(self, X: Floats, t: Floats, w: Floats, unit: Ints, task: Ints, checkpoint: Ints, several: bool) -> Floats:
        """The numbers of the kernel with the highest posterior, by L-BFGS with exact gradients."""
        n = len(X)
        prior = np.array([np.log(0.5), np.log(0.3), np.log(0.4), 0.5 * np.log(self.size), 1.0, 0.0])
        loose = np.array([1.5, 1.5, 1.0, 0.7, 1.5, 1.5])
        free = np.arange(6) if several else np.arange(4)
        if not several:
            prior[4], prior[5] = 20.0, -20.0  # one task, one row per checkpoint: nothing to share
        inner = X @ X.T
        distance = np.maximum(np.diag(inner)[:, None] + np.diag(inner)[None] - 2 * inner, 0)
        linear = inner / self.size
        same_task = (task[:, None] == task[None]).astype(float)
        base = _UNIT * (unit[:, None] == unit[None]) + 1e-6 * np.eye(n)
        root = 1 / np.sqrt(w)
        same = (checkpoint[:, None] == checkpoint[None]) * root[:, None] * root[None]
        own = np.diag(1 / w)

        def loss(part: Floats) -> tuple[float, Floats]:
            theta = prior.copy()
            theta[free] = part
            a, b, length, rho = self._kernel_numbers(theta)
            s, tau = np.exp(theta[2]), expit(theta[5])
            smooth = a * np.exp(-0.5 * distance / length**2)
            share = rho + (1 - rho) * same_task
            noise = s * (tau * same + (1 - tau) * own)
            factor, _ = cho_factor((smooth + b * linear) * share + base + noise, lower=True)
            alpha = cho_solve((factor, True), t)
            inverse, _ = dpotri(factor, lower=1)
            inverse = np.tril(inverse) + np.tril(inverse, -1).T
            M = np.outer(alpha, alpha) - inverse
            smooth_share = smooth * share
            gradient = np.array([
                0.5 * (M * smooth_share).sum(),
                0.5 * (M * linear * share).sum() * b,
                0.5 * (M * noise).sum(),
                0.5 * (M * smooth_share * distance).sum() / length**2,
                0.5 * (M * (smooth + b * linear) * (1 - same_task)).sum() * rho * (1 - rho),
                0.5 * (M * (same - own)).sum() * s * tau * (1 - tau),
            ])  # fmt: skip
            pull = (theta - prior) / loose**2
            value = (
                0.5 * float(t @ alpha) + float(np.log(np.diag(factor)).sum()) + 0.5 * float((theta - prior)[free] @ pull[free])
            )
            return value, (pull - gradient)[free]

        bounds = [(prior[k] - 5, prior[k] + 5) for k in free]
        found = minimize(loss, prior[free], jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 30})
        theta = prior.copy()
        theta[free] = found.x
        return theta

    def score(self, Z: Floats, task: Ints | int, *, last: bool = False) -> Floats:
        """(bags, n) predictions of every resample, or of the last only; a task never seen (-1) gets the shared part."""
        code = np.broadcast_to(np.asarray(task), (len(Z),))
        return (self.dual[-1:] if last else self.dual) @ self._kernel(
            self.theta, np.nan_to_num(Z), self.X, code[:, None] == self.task[None]
        ).T

    def between(self, za: Floats, zb: Floats, task: int) -> Floats:
        """(d,) shares of each feature in the last prediction of a less that of b.

        The gradient is integrated along the straight line from b to a (Aumann-Shapley), so that the shares add up to the
        difference and a feature in which the two agree gets none.
        """
        za, zb = np.nan_to_num(za), np.nan_to_num(zb)
        a, b, length, rho = self._kernel_numbers(self.theta)
        alpha = self.dual[-1] * (rho + (1 - rho) * (self.task == task))
        apart, at = za - zb, 0.5 * (_NODES + 1)
        # |zb + u (za - zb) - x|^2 is a parabola in u for every row x: no row is visited once per node and feature.
        start = (self.X**2).sum(1) - 2 * (self.X @ zb) + zb @ zb
        slope = 2 * (apart @ zb - self.X @ apart)
        distance = start + np.multiply.outer(at, slope) + (at**2 * (apart @ apart))[:, None]
        smooth = (0.5 * _WEIGHTS)[:, None] * a * np.exp(-0.5 * distance / length**2) * alpha
        mass = smooth.sum(1)
        pull = mass.sum() * zb + (mass @ at) * apart - smooth.sum(0) @ self.X
        return (b * (alpha @ self.X) / self.size - pull / length**2) * apart

    def to_json(self) -> dict[str, Any]:
        return {
            "X": self.X.tolist(),
            "task": self.task.tolist(),
            "theta": self.theta.tolist(),
            "dual": self.dual.tolist(),
            "size": self.size,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            np.array(data["X"], float),
            np.array(data["task"], np.int64),
            np.array(data["theta"], float),
            np.array(data["dual"], float),
            float(data["size"]),
        )
