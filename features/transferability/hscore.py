"""H-score: the share of feature variance that lies between classes, redundancy discounted (Bao et al. 2019), with
shrinkage (Ibrahim et al. 2022)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from features.errors import DataError
from features.transferability.inputs import Floats, check_classes, check_features, one_hot
from features.transferability.spectrum import spectrum


def hscore(features: ArrayLike, labels: ArrayLike, *, shrinkage: float | str = "ledoit-wolf") -> float:
    """tr(cov(F)^-1 cov(E[F|y])): between 0 and K - 1 (shrunk, at most N / (N - 1) times that); higher is better.

    Parameters
    ----------
    features : shape (N, D)
    labels : shape (N,)
    shrinkage : "ledoit-wolf" estimates how far to pull cov(F) to a multiple of the identity, and shrinks the
    between-class covariance by the
        same share (arXiv 2110.06893); a number in [0, 1) sets it; 0 is the plain score, which needs more examples than
        dimensions

    Raises
    ------
    CheckpointError : features not finite, or constant
    DataError : one class; or the plain score with too few examples, where it is K - 1 for any features
    """
    matrix = check_features(features)
    classes, count = check_classes(labels, len(matrix))
    examples, dimensions = matrix.shape
    centred = matrix - matrix.mean(axis=0)
    indicator = one_hot(classes, count)
    members = indicator.sum(axis=0)
    squares, projections = spectrum(centred, indicator)
    amount = ledoit_wolf_shrinkage(centred) if shrinkage == "ledoit-wolf" else float(shrinkage)
    if not 0 <= amount <= 1:
        raise DataError(f"shrinkage must be ledoit-wolf or between 0 and 1, not {shrinkage}")
    if amount == 0 and len(squares) >= examples - 1:
        raise DataError(
            f"the plain H-score needs more examples than independent dimensions: {examples} examples have {len(squares)}",
            remedy="use shrinkage",
        )
    # A class mean in the basis of the right singular vectors is S U'Y / n_k: only the spanned directions matter.
    means = projections * np.sqrt(squares)[:, None] / np.sqrt(members)
    variances = (1 - amount) * squares / examples + amount * squares.sum() / (examples * dimensions)
    # Both covariances of the plain score are over N. The shrunk one is its authors': cov(F) over N, cov(E[F|y]) over N - 1.
    between = examples if amount == 0 else examples - 1
    return float((1 - amount) / between * (means**2 / variances[:, None]).sum())


def ledoit_wolf_shrinkage(centred: Floats) -> float:
    """The intensity in [0, 1] that Ledoit and Wolf (2004) estimate for centred data of shape (N, D)."""
    examples, dimensions = centred.shape
    norms = (centred**2).sum(axis=1)
    gram = centred @ centred.T if examples < dimensions else centred.T @ centred
    frobenius = float((gram**2).sum()) / examples**2
    trace = float(norms.sum()) / examples
    noise = (float((norms**2).sum()) / examples - frobenius) / examples
    spread = frobenius - trace**2 / dimensions
    return 1.0 if spread <= 0 else float(np.clip(noise / spread, 0.0, 1.0))
