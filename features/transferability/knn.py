"""k nearest neighbours, each example left out in turn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from features.errors import DataError
from features.transferability.inputs import Floats, Integers, check_classes, check_features, check_targets

_BLOCK = 1024  # rows of the distance matrix held at once


def knn(features: ArrayLike, labels: ArrayLike, *, k: int = 3, ties: str = "nearest") -> float:
    """Leave-one-out accuracy of the majority label of the k nearest neighbours (Euclidean), in [0, 1]."""
    return float(knn_correct(features, labels, k=k, ties=ties).mean())


def knn_correct(features: ArrayLike, labels: ArrayLike, *, k: int = 3, ties: str = "nearest") -> Floats:
    """1 where an example's neighbours vote for its label, else 0; shape (N,). They share neighbours, so that the standard error
    of their mean is too small by a fifth or more: use `jackknife`.

    Parameters
    ----------
    features : shape (N, D)
    labels : shape (N,)
    k : neighbours that vote; fewer than N
    ties : "nearest": of the labels with most votes, that of the nearest neighbour; "smallest": the one that sorts
    first (other packages)

    Raises
    ------
    CheckpointError : features not finite, or constant
    DataError : one class; k out of range; an unknown rule for ties
    """
    if ties not in ("nearest", "smallest"):
        raise DataError(f"ties must be nearest or smallest, not {ties!r}")
    matrix = check_features(features)
    classes, count = check_classes(labels, len(matrix))
    correct = np.zeros(len(matrix))
    for start, neighbours in _neighbours(matrix, k):
        voted = classes[neighbours]
        votes = np.zeros((len(voted), count))
        for position in range(k):
            votes[np.arange(len(voted)), voted[:, position]] += 1.0
        if ties == "nearest":  # among the leaders, how near each one's nearest neighbour is
            nearness = np.zeros_like(votes)
            for position in reversed(range(k)):
                nearness[np.arange(len(voted)), voted[:, position]] = k - position
            votes = np.where(votes == votes.max(axis=1, keepdims=True), nearness, -1.0)
        correct[start : start + len(voted)] = votes.argmax(axis=1) == classes[start : start + len(voted)]
    return correct


def knn_regression(features: ArrayLike, targets: ArrayLike, *, k: int = 3) -> float:
    """Pearson correlation of graded targets with the mean target of the k nearest neighbours, each example left out in turn.

    Raises
    ------
    CheckpointError : features not finite, or constant
    DataError : targets constant or not finite; k out of range; every prediction the same
    """
    matrix = check_features(features)
    graded = check_targets(targets, len(matrix))
    predicted = np.concatenate([graded[neighbours].mean(axis=1) for _, neighbours in _neighbours(matrix, k)])
    if np.ptp(predicted) == 0:
        raise DataError("all examples have the same neighbours' mean: correlation undefined")
    return float(np.corrcoef(graded, predicted)[0, 1])


def _neighbours(features: Floats, k: int) -> Iterator[tuple[int, Integers]]:
    """Blocks of (first row, indices of the k nearest others, nearest first, shape (rows, k))."""
    if not 1 <= k < len(features):
        raise DataError(f"k must lie between 1 and examples - 1 = {len(features) - 1}, not {k}")
    centred = features - features.mean(axis=0)  # distances are the same, cancellation is less
    norms = (centred**2).sum(axis=1)
    for start in range(0, len(centred), _BLOCK):
        block = centred[start : start + _BLOCK]
        distances = norms[None, :] - 2 * block @ centred.T
        distances[np.arange(len(block)), np.arange(start, start + len(block))] = np.inf
        nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
        order = np.take_along_axis(distances, nearest, axis=1).argsort(axis=1, kind="stable")
        yield start, np.take_along_axis(nearest, order, axis=1)
