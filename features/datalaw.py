"""How the loss after fine-tuning falls with the number of examples, and what it will be on all of them.

Rectified scaling law (Lin et al. 2024, arXiv 2402.02314): L(D) = B / (D_l + D^beta) + E. Before the power phase the curve
is flat, because
pre-training has already taught as much as D_l's worth of examples; a plain power law, fitted across both phases,
extrapolates wrongly.

    law = fit(sizes, losses);  law.predict(100_000)        the four parameters, from four or more sizes
    accept_then_stop(sizes, losses, 100_000)               the paper's selection: a power law on the largest sizes that obey one
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.errors import DataError

_BETAS = np.linspace(0.02, 2.0, 100)


@dataclass(frozen=True)
class DataLaw:
    """L(D) = B / (D_l + D^beta) + E, all parameters at least 0.

    Attributes
    ----------
    scale : B; learnt : D_l, what pre-training is worth; exponent : beta; floor : E, the loss that no amount of data removes
    residual : root mean square of (predicted - measured) / measured over the sizes it was fitted on
    """

    scale: float
    learnt: float
    exponent: float
    floor: float
    residual: float

    def predict(self, sizes: ArrayLike) -> NDArray[np.float64]:
        """Loss at each number of examples, in the unit of the losses it was fitted on."""
        return self.scale / (self.learnt + np.asarray(sizes, dtype=float) ** self.exponent) + self.floor


def fit(sizes: ArrayLike, losses: ArrayLike) -> DataLaw:
    """The law that fits best in relative error.

    For each (D_l, beta) of a grid the best B >= 0 and E >= 0 have a closed form; the grid is then refined around its best
    point, three times.
    Losses that do not fall give B = 0: a flat line at their mean.

    Parameters
    ----------
    sizes : numbers of examples, at least four different ones, each above 0
    losses : mean losses, each above 0

    Raises
    ------
    DataError : fewer than four sizes, or values that are not positive and finite
    """
    d, y = _checked(sizes, losses, fewest=4)
    learnt = np.concatenate([[0.0], np.geomspace(1e-2, 1e4 * d.max(), 80)])
    betas = _BETAS
    best = (np.inf, 0.0, 0.0, 1.0, float(y.mean()))
    for _ in range(4):
        best = min(best, _grid(d, y, learnt, betas))
        at, beta = best[2], best[3]
        learnt = np.concatenate([[0.0, at], np.geomspace(max(at, 1e-2) / 1.5, max(at, 1e-2) * 1.5, 30)])
        betas = np.clip(np.linspace(beta - 0.02, beta + 0.02, 41), 1e-3, 3.0)
    cost, scale, at, beta, floor = best
    return DataLaw(scale=scale, learnt=at, exponent=beta, floor=floor, residual=float(np.sqrt(cost / len(d))))


def _grid(d: NDArray, y: NDArray, learnt: NDArray, betas: NDArray) -> tuple[float, float, float, float, float]:
    """(cost, B, D_l, beta, E) of the best point of a grid: weighted least squares with B, E >= 0 at each point at once."""
    x = 1 / (learnt[:, None, None] + d[None, None, :] ** betas[None, :, None])  # (D_l, beta, sizes)
    w = 1 / y**2
    total, mean_y = w.sum(), (w * y).sum() / w.sum()
    mean_x = (w * x).sum(axis=-1) / total
    centred = x - mean_x[..., None]
    spread = (w * centred**2).sum(axis=-1)
    slope = np.divide((w * centred * (y - mean_y)).sum(axis=-1), spread, out=np.zeros_like(spread), where=spread > 1e-300)
    slope = np.maximum(slope, 0.0)
    floor = mean_y - slope * mean_x
    through_zero = (w * x * y).sum(axis=-1) / (w * x**2).sum(axis=-1)  # E = 0 where the free fit wants it negative
    slope, floor = np.where(floor < 0, through_zero, slope), np.maximum(floor, 0.0)
    cost = (w * (slope[..., None] * x + floor[..., None] - y) ** 2).sum(axis=-1)
    i, j = np.unravel_index(int(cost.argmin()), cost.shape)
    return float(cost[i, j]), float(slope[i, j]), float(learnt[i]), float(betas[j]), float(floor[i, j])


def accept_then_stop(sizes: ArrayLike, losses: ArrayLike, target: float, *, first: int = 3, tolerance: float = 5.0) -> float:
    """Loss expected at `target` examples: the power law of the largest sizes, from the top down for as long as they obey one.

    It starts with the `first` largest sizes and takes the next smaller one while its log loss lies within `tolerance`
    standard deviations of the line through those taken; the first that does not ends the power phase (Lin et al. 2024,
    Algorithm 1). As in the published program the smallest of all sizes is never taken on top of the first: no smaller one
    could show that it still belongs to the power phase.

    Raises
    ------
    DataError : fewer than `first` sizes, or values that are not positive and finite
    """
    d, y = _checked(sizes, losses, fewest=first)
    order = np.argsort(-d)
    x, z = np.log(d[order]), np.log(y[order])
    taken = first
    while taken < len(x) - 1:
        line = np.polyfit(x[:taken], z[:taken], 1)
        spread = float(np.std(z[:taken] - np.polyval(line, x[:taken])))
        if abs(z[taken] - np.polyval(line, x[taken])) > tolerance * spread:
            break
        taken += 1
    return float(np.exp(np.polyval(np.polyfit(x[:taken], z[:taken], 1), np.log(target))))


def _checked(sizes: ArrayLike, losses: ArrayLike, *, fewest: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    d, y = np.asarray(sizes, dtype=float), np.asarray(losses, dtype=float)
    if d.shape != y.shape or d.ndim != 1:
        raise DataError(f"{d.shape} sizes but {y.shape} losses")
    if not (np.isfinite(d).all() and np.isfinite(y).all() and (d > 0).all() and (y > 0).all()):
        raise DataError("sizes and losses must be finite and above 0", remedy="leave failed measurements out")
    if len(np.unique(d)) < fewest:
        raise DataError(f"{len(np.unique(d))} sizes do not determine a law", remedy=f"measure at least {fewest}")
    return d, y
