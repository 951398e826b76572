"""Estimates of a benchmark's mean loss from a subset that was drawn with known probabilities.

PURE and LURE are those of Farquhar, Gal and Rainforth 2021 (arXiv 2101.11665), used for active testing by Kossen et al. 2021
(arXiv 2103.05331): examples are drawn one after the other without replacement, example m with probability q_m among those left.
Both are unbiased for any q that is positive wherever the loss is not zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.errors import DataError


@dataclass(frozen=True)
class Estimate:
    """An estimate of a mean, and its standard error (NaN where one example cannot say)."""

    value: float
    stderr: float


def _checked(losses: np.ndarray, size: int) -> np.ndarray:
    losses = np.asarray(losses, dtype=float)
    if losses.ndim != 1 or not 1 <= len(losses) <= size:
        raise DataError(f"{losses.shape} losses of a benchmark of {size}", remedy="give one loss for each selected example")
    if not np.isfinite(losses).all():
        raise DataError("a loss is not finite", remedy="score the example again or select without it")
    return losses


def _spread(values: np.ndarray, size: int) -> float:
    count = len(values)
    if count == size:
        return 0.0
    if count < 2:
        return float("nan")
    return float(np.sqrt(values.var(ddof=1) / count * (1 - count / size)))


def plain(losses: np.ndarray, size: int) -> Estimate:
    """The mean of the subset; unbiased for a uniform draw. Standard error with the finite-population factor."""
    losses = _checked(losses, size)
    return Estimate(float(losses.mean()), _spread(losses, size))


def weighted(losses: np.ndarray, weights: np.ndarray, size: int, *, offset: float = 0.0) -> Estimate:
    """offset + sum_m w_m loss_m, e.g. with anchor points' cluster sizes. Biased unless the weights make it otherwise.

    The standard error is that of a weighted mean (Cochran 1977, ratio estimator); it sees the spread between examples, not
    the bias, and is NaN for weights that are not all positive (kriging).
    """
    losses, weights = _checked(losses, size), np.asarray(weights, dtype=float)
    value = float(offset + weights @ losses)
    count, total = len(losses), weights.sum()
    if count < 2 or (weights <= 0).any():
        return Estimate(value, 0.0 if count == size else float("nan"))
    share = weights / total
    error = np.sqrt(count / (count - 1) * np.sum((share * (losses - share @ losses)) ** 2) * (1 - count / size))
    return Estimate(value, float(error * total))


def lure_weights(probabilities: np.ndarray, size: int) -> np.ndarray:
    """v_m = 1 + (N - M)/(N - m) * (1/((N - m + 1) q_m) - 1), for m = 1..M."""
    q, m = np.asarray(probabilities, dtype=float), np.arange(1, len(probabilities) + 1)
    factor = np.divide(size - len(q), size - m, out=np.zeros(len(q)), where=size > m)
    return 1 + factor * (1 / ((size - m + 1) * q) - 1)


def pure_weights(probabilities: np.ndarray, size: int) -> np.ndarray:
    """v_m = 1/(N q_m) + (M - m)/N, for m = 1..M."""
    q, m = np.asarray(probabilities, dtype=float), np.arange(1, len(probabilities) + 1)
    return 1 / (size * q) + (len(q) - m) / size


def lure(losses: np.ndarray, probabilities: np.ndarray, size: int) -> Estimate:
    """Levelled unbiased risk estimator: mean of v_m loss_m. The standard error treats the v_m loss_m as a simple random sample:
    exact for uniform q, an approximation otherwise.
    """
    losses = _checked(losses, size)
    terms = lure_weights(_probabilities(probabilities, losses), size) * losses
    return Estimate(float(terms.mean()), _spread(terms, size))


def pure(losses: np.ndarray, probabilities: np.ndarray, size: int) -> Estimate:
    """Plain unbiased risk estimator: mean of a_m = loss_m/(N q_m) + (losses seen before m)/N.

    The a_m are uncorrelated with the benchmark's mean as expectation, so their spread gives the standard error. Even where all
    examples are drawn the estimate depends on their order, and has one.
    """
    losses = _checked(losses, size)
    q = _probabilities(probabilities, losses)
    terms = losses / (size * q) + np.concatenate([[0.0], np.cumsum(losses)[:-1]]) / size
    error = float(np.sqrt(terms.var(ddof=1) / len(terms))) if len(terms) > 1 else float("nan")
    return Estimate(float(terms.mean()), error)


def _probabilities(probabilities: np.ndarray, losses: np.ndarray) -> np.ndarray:
    q = np.asarray(probabilities, dtype=float)
    if q.shape != losses.shape or not ((q > 0) & (q <= 1 + 1e-12)).all():
        raise DataError(
            "the subset was not drawn with known probabilities", remedy="use the plain or weighted estimator, or draw it again"
        )
    return q
