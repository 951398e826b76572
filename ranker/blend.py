"""How much each scorer is worth, learnt on held-out pairs only; the same fit makes the log-odds calibrated.

The log-odds of a pair is a sum over scorers of a positive weight times the difference of their scores: a logistic regression
through the origin, which is antisymmetric whatever the weights. Weights are shrunk towards a common one in the logarithm;
held-out pairs count as many times as there are checkpoints, not pairs, since pairs of one checkpoint repeat each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from ranker.pairs import Floats

# Logarithm of the log-odds per unit of the standardised outcome, and how far tables lie from it: over published tables of 10 to
# 50 checkpoints these two gave the lowest Brier score (docs/studies/choices.md).
_SLOPE, _SLOPE_FREEDOM = 0.3, 0.6
_FEWEST = 7  # fitted on 6, called pairs were right too rarely (docs/studies/choices.md)
_MARGIN = 0.5


def probability(logit: Floats) -> Floats:
    """sigmoid(logit) so that p(x) + p(-x) == 1 to the last bit and p(0) == 1/2: the smaller side is computed, the larger is
    1 less it.
    """
    logit = np.asarray(logit, float)
    small = expit(-np.abs(logit))
    return np.where(logit < 0, small, 1.0 - small)


def weights(
    gap: Floats,
    better: Floats,
    weight: Floats,
    size: float,
    prior: Sequence[float],
    *,
    freedom: float = 0.7,
    steep: tuple[float, float] = (_SLOPE, _SLOPE_FREEDOM),
) -> Floats:
    """Positive weights of M scorers.

    Parameters
    ----------
    gap : (n, M) differences of held-out scores, each scorer's on the scale of the standardised outcome
    better : (n,) +1 where the first of the pair is better, -1 where the second
    weight : (n,) certainty of each pair
    size : how many independent pieces of evidence the pairs are worth (checkpoints)
    prior : (M,) shares that the weights are shrunk to
    freedom : standard deviation of the logarithm of a weight around its prior
    steep : expected logarithm of the common slope, and its standard deviation

    Returns
    -------
    (M,) weights; the prior at slope 1 where there is no pair
    """
    share = np.asarray(prior, float) / np.sum(prior)
    total = float(weight.sum())
    if total <= 0 or not len(gap):
        return share
    w = weight / total
    signed = gap * better[:, None]

    def slope_loss(theta: Floats) -> tuple[float, Floats]:
        z = np.exp(theta[0]) * (signed @ share)
        pull = (theta[0] - steep[0]) / steep[1] ** 2
        value = size * float(w @ np.logaddexp(0, -z)) + 0.5 * (theta[0] - steep[0]) * pull
        return value, np.array([-size * float(w @ (expit(-z) * z)) + pull])

    start = minimize(slope_loss, np.array([steep[0]]), jac=True, method="L-BFGS-B", bounds=[(-3, 4)]).x[0]
    centre = np.log(share) + start

    def loss(theta: Floats) -> tuple[float, Floats]:
        c = np.exp(theta)
        z = signed @ c
        pull = (theta - centre) / freedom**2
        value = size * float(w @ np.logaddexp(0, -z)) + 0.5 * float((theta - centre) @ pull)
        return value, -size * ((w * expit(-z)) @ signed) * c + pull

    found = minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=[(c - 7, c + 5) for c in centre])
    return np.exp(found.x)


def too_close_below(p: Floats, right: Floats, weight: Floats, error_rate: float, size: float) -> float:
    """Confidence max(P, 1-P) from which a pair may be called, so that of the pairs called no more than `error_rate` are wrong.

    The lowest confidence from which that is proven: the share of wrong held-out pairs above it, and what the model itself expects
    if that is more, raised by half a standard error of so many CHECKPOINTS (pairs of one repeat each other), stays within the
    rate. Where nothing is proven, each pair answers by its own confidence, 1 - error_rate, or more where held-out pairs did not
    keep that. Of under `_FEWEST` checkpoints nothing can be held out that proves anything, and nothing is called.

    Parameters
    ----------
    p, right, weight : (n,) held-out probabilities, whether they were right, certainty of each pair
    size : number of checkpoints (or groups of them) that the pairs come from
    """
    alone = 1.0 - error_rate
    if size < _FEWEST:
        return 1.0
    if not len(p) or weight.sum() <= 0:
        return alone
    confidence = np.maximum(p, 1 - p)
    order = np.argsort(-confidence, kind="stable")
    share = weight[order] / weight.sum()
    mass = np.cumsum(share)
    expected = np.cumsum(share * (1 - confidence[order])) / np.maximum(mass, 1e-12)
    seen = np.cumsum(share * (1 - right[order]))
    pieces = mass * size
    wrong = np.maximum((seen * size + expected) / (pieces + 1), expected)
    proven = np.flatnonzero(wrong + _MARGIN * np.sqrt(error_rate * (1 - error_rate) / (pieces + 1)) <= error_rate)
    if len(proven) and confidence[order][proven[-1]] <= alone:
        return float(max(confidence[order][proven[-1]], 0.5))
    at = int(np.searchsorted(-confidence[order], -alone, side="right")) - 1
    if at < 0 or wrong[at] <= error_rate:
        return alone
    kept = np.flatnonzero(wrong[: at + 1] <= error_rate)
    return float(confidence[order][kept[-1]]) if len(kept) else 1.0


def calibration_error(p: Floats, right: Floats, weight: Floats | None = None, bins: int = 10) -> float:
    """Expected calibration error of the confidence max(P, 1-P) in bins of equal mass: mean |confidence - share right|.

    Every pair is taken from its favoured side, so that the figure does not depend on which of the two was written first.
    """
    if not len(p):
        return float("nan")
    weight = np.ones(len(p)) if weight is None else weight
    confidence = np.maximum(p, 1 - p)
    order = np.argsort(confidence, kind="stable")
    error = 0.0
    for part in np.array_split(order, bins):
        if len(part) and weight[part].sum() > 0:
            gap = np.average(confidence[part] - right[part], weights=weight[part])
            error += abs(gap) * weight[part].sum()
    return float(error / weight.sum())
