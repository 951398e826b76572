"""LogME: the log of the maximum evidence of a Bayesian linear model of the labels given the features (You et al. 2021,
arXiv 2102.11005).

For one target vector y (a class's indicator, or graded targets), weights w ~ N(0, 1/alpha) and y ~ N(Fw, 1/beta):

    LogME = max over alpha, beta of log p(y | F, alpha, beta) / N,   averaged over the classes

found by MacKay's fixed point, iterated to convergence. The published code stops after 11 rounds and adds 1e-5 to both
denominators,
which bounds the evidence where features interpolate the labels; the second is kept, for equal values, the first is a
setting.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from features.transferability.inputs import Floats, check_classes, check_features, check_targets, one_hot
from features.transferability.spectrum import spectrum

_EPSILON = 1e-5  # of the published code


def logme(features: ArrayLike, labels: ArrayLike, *, rounds: int = 1000, tolerance: float = 1e-6) -> float:
    """LogME of a classification task, in nats per example; higher is better. Comparable only between values for the
    same labels.

    Parameters
    ----------
    features : shape (N, D); N < D is allowed: the missing directions count as unobserved, as in the published code
    labels : shape (N,), any hashable kind, gaps allowed
    rounds, tolerance : when to stop: at most so many rounds, or alpha/beta changed by less than this share in every class

    Raises
    ------
    CheckpointError : features not finite, or constant
    DataError : one class, or lengths that differ
    """
    matrix = check_features(features)
    classes, count = check_classes(labels, len(matrix))
    return float(_evidence(matrix, one_hot(classes, count), rounds, tolerance).mean())


def logme_regression(features: ArrayLike, targets: ArrayLike, *, rounds: int = 1000, tolerance: float = 1e-6) -> float:
    """LogME of graded targets of shape (N,), in nats per example. Its level depends on the targets' unit, its order
    does not.

    Raises
    ------
    CheckpointError : features not finite, or constant
    DataError : targets constant or not finite, or lengths that differ
    """
    matrix = check_features(features)
    return float(_evidence(matrix, check_targets(targets, len(matrix))[:, None], rounds, tolerance)[0])


def _evidence(features: Floats, targets: Floats, rounds: int, tolerance: float) -> Floats:
    """Maximum log evidence per example of each column of the targets (N, K), shape (K,)."""
    examples, dimensions = features.shape
    squares, projections = spectrum(features, targets)
    sigma, explained = squares[:, None], projections**2
    unexplained = np.maximum((targets**2).sum(axis=0) - explained.sum(axis=0), 0.0)
    alpha = np.ones(targets.shape[1])
    beta = np.ones(targets.shape[1])
    for _ in range(rounds):
        ratio = alpha / beta
        effective = (sigma / (sigma + ratio)).sum(axis=0)
        weights = (sigma * explained / (sigma + ratio) ** 2).sum(axis=0)
        residual = (explained / (1 + sigma / ratio) ** 2).sum(axis=0) + unexplained
        alpha = effective / (weights + _EPSILON)
        beta = (examples - effective) / (residual + _EPSILON)
        if (np.abs(alpha / beta - ratio) <= tolerance * ratio).all():
            break
    evidence = (
        dimensions / 2 * np.log(alpha)
        + examples / 2 * np.log(beta)
        - 0.5 * np.log(alpha + beta * sigma).sum(axis=0)
        - 0.5 * (dimensions - len(squares)) * np.log(alpha)
        - beta / 2 * (residual + _EPSILON)
        - alpha / 2 * (weights + _EPSILON)
        - examples / 2 * np.log(2 * np.pi)
    )
    return np.asarray(evidence / examples)
