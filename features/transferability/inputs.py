"""What may be scored. A score of nonsense would be a number like any other, so nonsense is refused by name."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.errors import CheckpointError, DataError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def check_features(features: ArrayLike) -> Floats:
    """Finite features of shape (examples >= 2, dimensions >= 1) in float64 that are not the same for every example.

    Raises
    ------
    DataError : not a matrix, or fewer than two examples
    CheckpointError : NaN or infinite activations; or the checkpoint represents every example alike
    """
    matrix = np.asarray(features, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise DataError(f"features must have the shape (examples, dimensions), not {matrix.shape}")
    if len(matrix) < 2:
        raise DataError(f"{len(matrix)} example: nothing to compare", remedy="measure on more examples")
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise CheckpointError(
            f"representations of {len(bad)} of {len(matrix)} examples are NaN or infinite (first: example {bad[0]})",
            remedy="load the checkpoint in float32, or leave it out",
        )
    spread = np.abs(matrix - matrix[0]).max()
    if spread <= 1e-7 * max(float(np.abs(matrix).max()), 1e-30):
        raise CheckpointError(
            f"representations of all {len(matrix)} examples are the same: no score is defined",
            remedy="choose another pooling or layer, or leave the checkpoint out",
        )
    return matrix


def check_classes(labels: ArrayLike, examples: int) -> tuple[Integers, int]:
    """Labels of any kind as 0..K-1 in the order of their sorted values (gaps closed), and K >= 2.

    Raises
    ------
    DataError : not one label per example, a missing label, or only one class
    """
    given = np.asarray(labels)
    if given.shape != (examples,):
        raise DataError(f"{examples} examples but labels of shape {given.shape}")
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise DataError("labels are missing (NaN) for some examples", remedy="leave unlabelled examples out")
    names, classes = np.unique(given, return_inverse=True)
    if len(names) < 2:
        raise DataError(f"all {examples} examples have the label {names[0]!r}: one class cannot be told apart")
    return classes.astype(np.int64), len(names)


def check_targets(targets: ArrayLike, examples: int) -> Floats:
    """Graded targets, finite and not constant, of shape (examples,) in float64.

    Raises
    ------
    DataError : not one number per example, a missing one, or all the same
    """
    graded = np.asarray(targets, dtype=np.float64)
    if graded.shape != (examples,):
        raise DataError(f"{examples} examples but targets of shape {graded.shape}")
    if not np.isfinite(graded).all():
        raise DataError("targets are missing or infinite for some examples", remedy="leave those examples out")
    if np.ptp(graded) == 0:
        raise DataError(f"all {examples} examples have the target {graded[0]:g}: nothing to predict")
    return graded


def one_hot(classes: Integers, count: int) -> Floats:
    """Indicator matrix of shape (examples, classes)."""
    indicator = np.zeros((len(classes), count))
    indicator[np.arange(len(classes)), classes] = 1.0
    return indicator
