"""A standard error for a score that is no mean over examples: the delete-a-group jackknife."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.errors import ForetuneError


def jackknife(
    score: Callable[[NDArray, NDArray], float],
    features: ArrayLike,
    labels: ArrayLike,
    *,
    units: ArrayLike | None = None,
    groups: int = 10,
    seed: int = 0,
) -> float | None:
    """Standard error of ``score(features, labels)`` over examples, in the score's unit; None where a part cannot be scored.

    The examples are dealt into `groups` at random, stratified by label, and the score is measured with each group left out:
    se^2 = (G - 1)/G sum_g (s_g - mean s)^2 (Efron and Stein 1981).

    Parameters
    ----------
    score : any score of this package, with its settings bound
    features : shape (N, ...)
    labels : shape (N,): classes, or graded targets (then the groups are stratified by rank)
    units : which example each row belongs to, shape (N,), where an example has several rows: they are left out together.
    Default: one each
    groups : how many are left out in turn, at most as many as there are examples
    seed : of the dealing
    """
    matrix, given = np.asarray(features), np.asarray(labels)
    if units is None:
        first = unit = np.arange(len(matrix))
    else:
        _, first, unit = np.unique(np.asarray(units), return_index=True, return_inverse=True)
    count = min(groups, len(first))
    if count < 2:
        return None
    shuffled = np.random.default_rng(seed).permutation(len(first))
    dealt = shuffled[np.argsort(given[first][shuffled], kind="stable")]
    group_of_unit = np.empty(len(first), dtype=np.int64)
    group_of_unit[dealt] = np.arange(len(first)) % count
    group = group_of_unit[unit]
    try:
        parts = np.array([score(matrix[group != g], given[group != g]) for g in range(count)])
    except ForetuneError:
        return None
    return float(np.sqrt((count - 1) / count * ((parts - parts.mean()) ** 2).sum()))
