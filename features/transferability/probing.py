"""Linear probing: how well a linear model of frozen representations tells the labels, on examples it has not seen (Alain and
Bengio 2016, arXiv 1610.01644); and the effective rank of the representations themselves (RankMe: Garrido et al. 2023, arXiv
2210.02885)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.estimate import ratio
from features.transferability.inputs import check_classes, check_features, one_hot
from features.transferability.spectrum import basis

PENALTIES = np.geomspace(1e-4, 1e2, 19)  # in units of the mean square of a row


@dataclass(frozen=True)
class Probed:
    """What leave-one-out ridge regression on the labels' indicators says of each example.

    Attributes
    ----------
    right : whether the left-out example's class is the likeliest, shape (N,)
    squared : squared error of the left-out example's indicator, summed over the classes, shape (N,)
    variance : the same of the mean of the others, shape (N,)
    penalty : the ridge penalty whose squared error is the least
    """

    right: NDArray[np.bool_]
    squared: NDArray[np.float64]
    variance: NDArray[np.float64]
    penalty: float

    @property
    def r2(self) -> tuple[float, float | None]:
        """1 - squared / variance of the examples' sums, and its standard error over the examples."""
        share, error = ratio(self.squared, self.variance)
        return 1 - share, error


def probe(features: ArrayLike, labels: ArrayLike) -> Probed:
    """Leave-one-out ridge regression of the classes' indicators on standardised features, in closed form for every penalty at
    once.

    Parameters
    ----------
    features : shape (N, D), any N and D
    labels : shape (N,)

    Raises
    ------
    CheckpointError : features not finite, or constant
    DataError : one class
    """
    matrix = check_features(features)
    classes, count = check_classes(labels, len(matrix))
    examples = len(matrix)
    centred = matrix - matrix.mean(axis=0)
    spread = centred.std(axis=0)
    centred = centred / np.where(spread > 1e-6 * spread.max(), spread, np.inf)
    indicator = one_hot(classes, count)
    target = indicator - indicator.mean(axis=0)
    values, left = basis(centred)
    projected, leverage = left.T @ target, left**2
    best: tuple[float, float, NDArray[np.float64]] | None = None
    for penalty in PENALTIES * values.sum() / examples:
        shrunk = values / (values + penalty)
        left_out = 1 - leverage @ shrunk - 1 / examples
        error = (target - left @ (shrunk[:, None] * projected)) / np.maximum(left_out, 1e-9)[:, None]
        total = float((error**2).sum())
        if best is None or total < best[0]:
            best = total, float(penalty), error
    assert best is not None
    guess = (indicator - best[2]).argmax(axis=1)
    mean_alone = target * examples / (examples - 1)
    return Probed(guess == classes, (best[2] ** 2).sum(axis=1), (mean_alone**2).sum(axis=1), best[1])


def effective_rank(features: ArrayLike) -> float:
    """exp of the entropy of the singular values' shares, of the centred features (N, D): 1 to min(N - 1, D); for rows that
    spread over many directions higher.

    Raises
    ------
    CheckpointError : features not finite, or constant
    """
    matrix = check_features(features)
    values, _ = basis(matrix - matrix.mean(axis=0))
    share = np.sqrt(values) / np.sqrt(values).sum()
    return float(np.exp(-(share * np.log(share)).sum()))
