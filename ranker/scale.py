"""Numbers on one scale: robust spreads, bent far values, normal scores of ranks, standardised outcomes."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from ranker.pairs import Floats, Ints, far_out

_IQR = 1.3489795


def normal_scores(values: Floats, ordered: Floats) -> Floats:
    """Normal score of each value's quantile position among the sorted `ordered` (ties at their middle); NaN stays NaN."""
    n = len(ordered)
    place = 0.5 * (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right"))
    return np.where(np.isnan(values), np.nan, ndtri((place + 0.5) / (n + 1)))


def soft(z: Floats) -> Floats:
    """Identity on [-2, 2], bent beyond and never past 4, odd and smooth at the seam; NaN stays NaN."""
    size = np.abs(z)
    return np.where(size <= 2, z, np.sign(z) * (4 - 2 / np.sqrt(1 + np.maximum(size - 2, 0))))


def spread_of(values: Floats) -> float:
    """Robust standard deviation: the interquartile range / 1.349; the ordinary one where half the values agree or there are
    under 5.
    """
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return float("nan")
    if len(values) >= 5:
        low, high = np.quantile(values, [0.25, 0.75])
        plain = float(np.std(values, ddof=1))
        robust = float(high - low) / _IQR
        # A far-out value must not set the scale, but neither may a lump of equal ones.
        return robust if robust > 0.2 * plain or (robust > 0 and plain > 20 * robust) else 0.5 * plain
    return float(np.std(values, ddof=1))


def standard_outcome(y: Floats, unit: Ints) -> Floats:
    """Outcomes of each unit to mean 0 and deviation about 1: the mean of the winsorised robust score and the normal score of the
    rank.

    A failed run keeps its rank (last) but not its distance.
    """
    out = np.zeros(len(y))
    for u in np.unique(unit):
        rows = np.flatnonzero(unit == u)
        values = y[rows]
        n = len(rows)
        if n < 2 or np.ptp(values) == 0:
            continue
        ranks = ndtri((rankdata(values) - 0.5) / n)
        ranks = ranks / max(float(np.std(ranks)), 1e-9)
        kept = values[~far_out(values, np.zeros(n, np.int64))]
        centre, scale = float(np.median(kept)), spread_of(kept)
        if not scale > 0:
            scale = float(np.std(values)) or 1.0
        z = np.clip((values - centre) / scale, -2.5, 2.5)
        mixed = 0.5 * ranks + 0.5 * (z - z.mean()) / max(float(np.std(z)), 1e-9)
        out[rows] = mixed - mixed.mean()
    return out
