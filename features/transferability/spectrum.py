"""Squared singular values of a feature matrix and what they span, from the smaller of its two Gram matrices.

A transferability score needs the spectrum of F (N examples, D dimensions) and the labels seen from its left singular
vectors, never the
right ones. The eigen-decomposition of F'F or FF', whichever is smaller, costs min(N, D)^3 and gives both.
"""

from __future__ import annotations

import numpy as np

from features.transferability.inputs import Floats


def spectrum(features: Floats, directions: Floats) -> tuple[Floats, Floats]:
    """Spectrum of the features and the projections of some directions on it.

    Parameters
    ----------
    features : shape (N, D)
    directions : shape (N, K), e.g. one-hot labels

    Returns
    -------
    squares : squared singular values above rounding error, shape (R,), R <= min(N, D)
    projections : U'Y, with U the matching left singular vectors, shape (R, K)
    """
    squares, vectors, wide = _decomposed(features)
    if wide:
        return squares, vectors.T @ directions
    return squares, (vectors.T @ (features.T @ directions)) / np.sqrt(squares)[:, None]


def basis(features: Floats) -> tuple[Floats, Floats]:
    """Squared singular values as `spectrum` has them, shape (R,), and the left singular vectors themselves, shape (N, R)."""
    squares, vectors, wide = _decomposed(features)
    return squares, vectors if wide else features @ (vectors / np.sqrt(squares))


def _decomposed(features: Floats) -> tuple[Floats, Floats, bool]:
    """Squared singular values, and the singular vectors of the side that is smaller: the left ones where features are wide."""
    examples, dimensions = features.shape
    wide = examples < dimensions
    values, vectors = np.linalg.eigh(features @ features.T if wide else features.T @ features)
    kept = values > values[-1] * np.finfo(np.float64).eps * max(examples, dimensions)
    return values[kept], vectors[:, kept], wide
