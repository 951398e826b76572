"""Means with their standard errors: over examples (possibly weighted) and over documents (ratios of sums)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def mean(values: ArrayLike, weights: Sequence[float] | None = None) -> tuple[float, float | None]:
    """Mean of n values and its standard error (None for fewer than 2).

    With weights w, normalised to sum 1, the mean is sum(w x) and its standard error sqrt(n/(n-1) * sum(w^2 (x - mean)^2)): the
    linearised variance of a ratio estimator (Cochran, Sampling Techniques, 1977, section 6.3), which for equal weights is sd /
    sqrt(n).
    """
    x = np.asarray(values, dtype=float)
    if not len(x):
        raise ValueError("no values to average")
    w = np.full(len(x), 1 / len(x)) if weights is None else np.asarray(weights, dtype=float) / np.sum(weights)
    centre = float(np.sum(w * x))
    if len(x) < 2:
        return centre, None
    return centre, float(np.sqrt(len(x) / (len(x) - 1) * np.sum(w**2 * (x - centre) ** 2)))


def ratio(numerators: ArrayLike, denominators: ArrayLike) -> tuple[float, float | None]:
    """sum(numerators) / sum(denominators) over n units, and its standard error over the units (None for fewer than 2).

    Units with a large denominator count for more: this is the mean of the units' ratios weighted by their denominators.
    """
    top, bottom = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)
    kept = bottom > 0
    if not kept.any():
        raise ValueError("every denominator is 0")
    return mean(top[kept] / bottom[kept], bottom[kept].tolist())
