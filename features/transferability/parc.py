"""PARC: do examples that differ in their label differ in their features? (Bolya et al. 2021, arXiv 2111.06977)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from features.errors import CheckpointError
from features.transferability.inputs import check_classes, check_features


def parc(features: ArrayLike, labels: ArrayLike) -> float:
    """100 x Spearman correlation, over all pairs of examples, of 1 - corr(features) and 1 - corr(one-hot labels); in
    [-100, 100].

    Dimensions are standardised first, as in the published code. Between one-hot labels 1 - corr takes two values only,
    equal or not, so the
    correlation is that of the feature distances' ranks with an indicator. Costs N^2 memory and N^2 log N time.

    Raises
    ------
    CheckpointError : features not finite or constant; or fewer than two dimensions vary, so that no correlation is defined
    DataError : one class
    """
    matrix = check_features(features)
    classes, _ = check_classes(labels, len(matrix))
    centred = matrix - matrix.mean(axis=0)
    deviations = centred.std(axis=0)
    varying = deviations > 1e-12 * deviations.max()
    if varying.sum() < 2:
        raise CheckpointError("only one dimension of the representations varies: correlations of examples are undefined")
    rows = centred[:, varying] / deviations[varying]
    rows -= rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1)
    if (norms == 0).any():
        flat = int((norms == 0).sum())
        raise CheckpointError(f"{flat} examples have the same value in every dimension: their correlation is undefined")
    rows /= norms[:, None]
    above = np.triu_indices(len(rows), k=1)
    distances = (1 - rows @ rows.T)[above]
    differ = (classes[:, None] != classes[None, :])[above]
    ranks = rankdata(distances)
    centred_ranks = ranks - ranks.mean()
    centred_labels = differ - differ.mean()
    scale = np.sqrt((centred_ranks @ centred_ranks) * (centred_labels @ centred_labels))
    if scale == 0:
        raise CheckpointError("all pairs of examples are equally far apart: rank correlation undefined")
    return float(100 * (centred_ranks @ centred_labels) / scale)
