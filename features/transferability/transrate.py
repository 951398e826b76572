"""TransRate: mutual information of features and labels through coding rates (Huang et al. 2022, arXiv 2106.09362)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from features.transferability.inputs import Floats, check_classes, check_features


def transrate(features: ArrayLike, labels: ArrayLike, *, distortion: float = 1e-4) -> float:
    """R(F) - R(F|y) of centred features, in nats; higher is better.

    R(F|y) is the mean of the classes' rates weighted by their shares, as a conditional entropy is; the published
    listing divides by the
    number of classes, which is the same where they are balanced. The value depends on the features' scale: compare
    checkpoints on
    features scaled alike (the extractor scales them to unit mean square).

    Parameters
    ----------
    features : shape (N, D)
    labels : shape (N,)
    distortion : epsilon, the allowed mean squared error

    Raises
    ------
    CheckpointError : features not finite, or constant
    DataError : one class
    """
    matrix = check_features(features)
    classes, count = check_classes(labels, len(matrix))
    centred = matrix - matrix.mean(axis=0)
    members = np.bincount(classes, minlength=count)
    within = sum(members[k] * coding_rate(centred[classes == k], distortion) for k in range(count)) / len(matrix)
    return coding_rate(centred, distortion) - float(within)


def coding_rate(features: Floats, distortion: float = 1e-4) -> float:
    """R(F) = 1/2 log det(I + F'F / (N eps)) of features of shape (N, D), in nats."""
    examples, dimensions = features.shape
    gram = features @ features.T if examples < dimensions else features.T @ features
    gram[np.diag_indices_from(gram)] += examples * distortion
    _, logdet = np.linalg.slogdet(gram / (examples * distortion))
    return 0.5 * float(logdet)
