"""A standard error for a score that is no mean over examples: the delete-a-group jackknife."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.errors import ForetuneError


def jackknife(
    score: Callable[[NDArray, NDArray], float], features: ArrayLike, labels: ArrayLike, *, groups: int = 10, seed: int = 0
) -> float | None:
    """Standard error of ``score(features, labels)`` over examples, in the score's unit; None where a part cannot be scored.

    The examples are dealt into `groups` at random, stratified by label, and the score is measured with each group left out:
    se^2 = (G - 1)/G sum_g (s_g - mean s)^2 (Efron and Stein 1981).

    Parameters
    ----------
    score : any score of this package, with its settings bound
    features : shape (N, ...)
    labels : shape (N,): classes, or graded targets (then the groups are stratified by rank)
    groups : how many are left out in turn, at most N
    seed : of the dealing
    """
    matrix, given = np.asarray(features), np.asarray(labels)
    count = min(groups, len(matrix))
    if count < 2:
        return None
    shuffled = np.random.default_rng(seed).permutation(len(matrix))
    dealt = shuffled[np.argsort(given[shuffled], kind="stable")]
    group = np.empty(len(matrix), dtype=np.int64)
    group[dealt] = np.arange(len(matrix)) % count
    try:
        parts = np.array([score(matrix[group != g], given[group != g]) for g in range(count)])
    except ForetuneError:
        return None
    return float(np.sqrt((count - 1) / count * ((parts - parts.mean()) ** 2).sum()))
