"""Figures of merit for predicted probabilities of pairs and for a predicted order, all on checkpoints that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from ranker.blend import calibration_error
from ranker.pairs import Floats, Ints

TOP = 5


def right(p: Floats, better: Floats) -> Floats:
    """(n,) 1 where the favoured side was better, 0 where not, 1/2 where P is exactly 1/2; `better` is +1 or -1."""
    return np.where(p == 0.5, 0.5, ((p > 0.5) == (better > 0)).astype(float))


def gap_quintiles(right_: Floats, gap: Floats) -> list[float | None]:
    """Accuracy in the five equal parts of the pairs by the size of their outcome gap, smallest gaps first; None where there
    are no pairs.
    """
    order = np.argsort(gap, kind="stable")
    return [float(right_[part].mean()) if len(part) else None for part in np.array_split(order, 5)]


def order_figures(strength: Floats, y: Floats, ks: Sequence[int] = (TOP,)) -> dict[str, float]:
    """Of one unit's held-out checkpoints: Kendall tau-b, top-1 hit, the regret of the first, where the best true one stands,
    recall.

    ``top1_regret`` is the best true outcome less the outcome of the one ranked first, in the outcome's own unit (mean over ties
    for
    the first place); ``best_at`` is the place at which the best true checkpoint is found (1 = first; ties in the ranking count
    their mean place); ``top_k_recall`` the share of the true best k among the first k.
    """
    first = strength == strength.max()
    best = y == y.max()
    places = _mean_places(-strength)
    tau = kendalltau(strength, y).statistic if np.ptp(strength) > 0 and np.ptp(y) > 0 else 0.0
    out = {
        "kendall_tau": float(tau) if np.isfinite(tau) else 0.0,
        "top1": float((best & first).sum() / first.sum()),
        "top1_regret": float(y.max() - y[first].mean()),
        "best_at": float(places[best].min()),
    }
    for k in ks:
        k = min(k, len(y))
        truth = set(np.argsort(-y, kind="stable")[:k].tolist())
        found = set(np.argsort(-strength, kind="stable")[:k].tolist())
        out[f"top{TOP}_recall"] = len(truth & found) / k
    return out


def _mean_places(values: Floats) -> Floats:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values, method="average"), float)


def pair_figures(p: Floats, better: Floats, gap: Floats) -> dict[str, Any]:
    """Brier score, calibration error, reliability in ten bins of equal mass, and accuracy by gap quintile of (n,) pairs."""
    r = right(p, better)
    favoured = np.where(better > 0, p, 1 - p)
    confidence = np.maximum(p, 1 - p)
    bins = [part for part in np.array_split(np.argsort(confidence, kind="stable"), 10) if len(part)]
    return {
        "brier": float(np.mean((1 - favoured) ** 2)),
        "ece": calibration_error(p, r),
        "by_gap": gap_quintiles(r, gap),
        "reliability": [{"confidence": float(confidence[b].mean()), "right": float(r[b].mean()), "pairs": len(b)} for b in bins],
    }


def bootstrap(values: Floats, i: Ints, j: Ints, n: int, draws: Floats) -> Floats:
    """(draws,) weighted means of pair values when the groups are drawn with replacement.

    Parameters
    ----------
    values : (m,) one figure per pair
    i, j : (m,) group codes of the two sides
    draws : (draws, n) how often each group was drawn
    """
    out = np.full(len(draws), np.nan)
    for b, count in enumerate(draws):
        weight = count[i] * count[j]
        total = weight.sum()
        if total > 0:
            out[b] = float(weight @ values) / float(total)
    return out


def interval(samples: Floats) -> list[float | None]:
    """The middle 95 % of bootstrap samples."""
    samples = samples[np.isfinite(samples)]
    if len(samples) < 20:
        return [None, None]
    low, high = np.quantile(samples, [0.025, 0.975])
    return [float(low), float(high)]
