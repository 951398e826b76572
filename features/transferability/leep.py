"""LEEP (Nguyen et al. 2020, arXiv 2002.12462) and NCE (Tran et al. 2019): from the distribution that the checkpoint's
own head predicts.

theta(x)_z is the probability that the head gives to the source label z for the example x. For a language model z is
the token that it would
write at the answer's place (see `features.representations.answer_distribution`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from features.errors import CheckpointError, DataError
from features.transferability.inputs import Floats, check_classes, one_hot


def check_distribution(source: ArrayLike) -> Floats:
    """Probabilities of shape (N, Z): finite, not negative, rows summing to 1 within 1e-3 (then made exact).

    Raises
    ------
    DataError : not a matrix
    CheckpointError : not a distribution
    """
    theta = np.asarray(source, dtype=np.float64)
    if theta.ndim != 2 or theta.shape[1] == 0 or len(theta) < 2:
        raise DataError(f"source probabilities must have the shape (examples >= 2, source labels), not {theta.shape}")
    totals = theta.sum(axis=1)
    if not np.isfinite(theta).all() or (theta < 0).any() or (np.abs(totals - 1) > 1e-3).any():
        raise CheckpointError("the head's probabilities are not finite, negative or do not sum to 1")
    return theta / totals[:, None]


def leep(source: ArrayLike, labels: ArrayLike) -> float:
    """Mean over examples of log sum_z P(y|z) theta(x)_z, in nats; at most 0; higher is better.

    Parameters
    ----------
    source : theta, shape (N, Z)
    labels : shape (N,)

    Raises
    ------
    CheckpointError : rows that are not distributions
    DataError : one class, or lengths that differ
    """
    theta = check_distribution(source)
    classes, count = check_classes(labels, len(theta))
    theta = theta[:, theta.sum(axis=0) > 0]
    joint = one_hot(classes, count).T @ theta / len(theta)
    conditional = joint / joint.sum(axis=0)
    return float(np.log((theta * conditional[classes]).sum(axis=1)).mean())


def nce(source: ArrayLike, labels: ArrayLike) -> float:
    """-H(Y | Z), Z the head's most probable source label, in nats; at most 0; higher is better. Takes and raises what
    `leep` does."""
    theta = check_distribution(source)
    classes, count = check_classes(labels, len(theta))
    _, source_labels = np.unique(theta.argmax(axis=1), return_inverse=True)
    joint = np.zeros((count, int(source_labels.max()) + 1))
    np.add.at(joint, (classes, source_labels), 1.0 / len(theta))
    conditional = joint / joint.sum(axis=0)
    present = joint > 0
    return float((joint[present] * np.log(conditional[present])).sum())
