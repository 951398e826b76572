"""Relatedness of tasks: correlations of their mean trajectories over checkpoints.

Vivek et al. (benchmark hill climbing, figure 4) give Pearson correlations of mean negative log-likelihoods over 29 checkpoints
with the textbook p-value. Two things make that p-value too small: successive checkpoints resemble each other, and many pairs are
tested. Both are corrected here, and the trend that all tasks share can be removed first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from features.errors import DataError

Detrend = Literal["none", "linear", "difference"]


@dataclass(frozen=True)
class Relatedness:
    """Correlations between T tasks, each a (T, T) frame with the task names on both axes.

    Attributes
    ----------
    correlation : Pearson correlation of the (detrended) mean trajectories
    p_naive : two-sided p-value as if the checkpoints were independent
    p_value : two-sided p-value at the effective number of checkpoints
    p_adjusted : `p_value` corrected for testing all pairs (Holm)
    effective : effective number of checkpoints of each pair
    """

    correlation: pd.DataFrame
    p_naive: pd.DataFrame
    p_value: pd.DataFrame
    p_adjusted: pd.DataFrame
    effective: pd.DataFrame

    def marked(self, level: float = 0.05) -> pd.DataFrame:
        """The lower triangle as text: `0.77 (1e-06)**`; ** below level / 5, * below level, by the adjusted p-value."""
        tasks = list(self.correlation.index)
        cells = pd.DataFrame("", index=tasks, columns=tasks)
        for i, a in enumerate(tasks):
            for j, b in enumerate(tasks[: i + 1]):
                r, p = self.correlation.iloc[i, j], self.p_adjusted.iloc[i, j]
                mark = "" if i == j or not p <= level else "**" if p <= level / 5 else "*"
                cells.loc[a, b] = "1" if i == j else f"{r:.2f} ({p:.2g}){mark}"
        return cells


def detrended(series: np.ndarray, steps: np.ndarray, how: Detrend) -> np.ndarray:
    """Remove what every task shares during training.

    Parameters
    ----------
    series : (T, C), one row per task
    steps : (C,), training steps, used by `linear` as log(1 + step)
    how : `none`; `linear` takes the straight line in log step away; `difference` takes first differences, giving (T, C - 1)
    """
    if how == "none":
        return series
    if how == "difference":
        return np.diff(series, axis=1)
    if how == "linear":
        x = np.log1p(steps)
        basis = np.stack([np.ones_like(x), x], axis=1)
        return series - (basis @ np.linalg.lstsq(basis, series.T, rcond=None)[0]).T
    raise DataError(f"unknown detrending {how!r}", remedy="use none, linear or difference")


def effective_size(x: np.ndarray, y: np.ndarray) -> float:
    """Number of independent pairs that carry as much about corr(x, y) as these autocorrelated n.

    n* = n / (1 + 2 sum_k (1 - k/n) r_x(k) r_y(k)) over the lags k up to n / 4 (Bartlett 1935; Pyper and Peterman 1998), kept
    between 3 and n.
    """
    n = len(x)
    x, y = x - x.mean(), y - y.mean()
    spread = np.sqrt((x @ x) * (y @ y))
    if spread == 0:
        return float(n)
    lags = range(1, n // 4 + 1)
    total = sum((1 - k / n) * (x[k:] @ x[:-k]) / (x @ x) * (y[k:] @ y[:-k]) / (y @ y) for k in lags)
    return float(np.clip(n / max(1 + 2 * total, 1e-9), 3, n))


def p_value(r: np.ndarray | float, n: np.ndarray | float) -> np.ndarray:
    """Two-sided p-value of a Pearson correlation `r` of `n` (not necessarily whole) pairs, by Student's t with n - 2 degrees."""
    r, n = np.clip(np.asarray(r, dtype=float), -1 + 1e-15, 1 - 1e-15), np.asarray(n, dtype=float)
    t = np.abs(r) * np.sqrt((n - 2) / (1 - r**2))
    return 2 * stats.t.sf(t, n - 2)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of a vector of p-values. NaN stay NaN and are not counted as tests."""
    adjusted = np.full(len(p), np.nan)
    order = [i for i in np.argsort(p) if not np.isnan(p[i])]
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p[i]))
        adjusted[i] = running
    return adjusted


def relatedness(means: Mapping[str, np.ndarray], steps: np.ndarray, *, detrend: Detrend = "none") -> Relatedness:
    """Correlate the mean trajectories of tasks.

    Parameters
    ----------
    means : for each task (C,), its mean negative log-likelihood (or accuracy) at each checkpoint
    steps : (C,), training steps
    detrend : what to remove first

    A task that never changes correlates with nothing: NaN. Raises DataError for fewer than two tasks or five checkpoints.
    """
    tasks = list(means)
    if len(tasks) < 2 or len(steps) < 5:
        raise DataError(
            f"{len(tasks)} tasks at {len(steps)} checkpoints", remedy="relatedness needs two tasks and five checkpoints"
        )
    series = np.array([np.asarray(means[t], dtype=float) for t in tasks])
    if series.shape != (len(tasks), len(steps)) or not np.isfinite(series).all():
        raise DataError(
            "a mean trajectory is not finite at every checkpoint", remedy="leave out checkpoints that were not measured"
        )
    series = detrended(series, np.asarray(steps, dtype=float), detrend)
    size = len(tasks)
    r, n = np.eye(size), np.full((size, size), float(series.shape[1]))
    naive, p, adjusted = np.zeros((size, size)), np.zeros((size, size)), np.zeros((size, size))
    flat = series.std(axis=1) <= 1e-12 * np.maximum(1.0, np.abs(series).max(axis=1))
    lower = [(i, j) for i in range(size) for j in range(i)]
    for i, j in lower:
        if flat[i] or flat[j]:
            r[i, j] = naive[i, j] = p[i, j] = np.nan
        else:
            r[i, j] = np.corrcoef(series[i], series[j])[0, 1]
            n[i, j] = effective_size(series[i], series[j])
            naive[i, j], p[i, j] = p_value(r[i, j], series.shape[1]), p_value(r[i, j], n[i, j])
    for (i, j), value in zip(lower, holm(np.array([p[k] for k in lower])), strict=True):
        adjusted[i, j] = value
    for matrix in (r, n, naive, p, adjusted):
        matrix[np.triu_indices(size, 1)] = matrix.T[np.triu_indices(size, 1)]
    return Relatedness(*(pd.DataFrame(m, index=tasks, columns=tasks) for m in (r, naive, p, adjusted, n)))
