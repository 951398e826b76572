"""Relatedness of examples: which behave alike over training.

Exact: the Pearson correlation of all pairs, in blocks, O(n^2). Linear cost: the coefficients of a polynomial fitted to each
standardised trajectory, O(n), then clustered (Vivek et al., section 3.4).

Why the document saw its best agreement at degree = checkpoints - 1: in a basis that is orthonormal on the checkpoints, the
coefficients at that degree are a rotation of the trajectory, so that their squared distance is 2 C (1 - r) exactly. Lower degrees
smooth, higher ones have no meaning. In the monomial basis, which the document seems to have used, the same distance is distorted
by the conditioning of the Vandermonde matrix; both are offered so that the figure can be drawn either way.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from features.errors import DataError

Basis = Literal["orthonormal", "monomial"]


def standardised(trajectories: np.ndarray) -> np.ndarray:
    """(C, N) trajectories to (N, C) rows of mean 0 and length 1, float64. A constant trajectory becomes zeros."""
    rows = np.asarray(trajectories, dtype=np.float64).T
    if rows.ndim != 2 or rows.shape[1] < 3:
        raise DataError(
            f"trajectories of shape {np.shape(trajectories)}", remedy="examples are related over at least three checkpoints"
        )
    if not np.isfinite(rows).all():
        raise DataError("a trajectory is not finite at every checkpoint", remedy="leave out checkpoints that were not measured")
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    scale = np.maximum(1.0, np.abs(trajectories).max(axis=0))[:, None]
    return np.where(length > 1e-9 * scale, rows / np.where(length == 0, 1, length), 0.0)


def correlations(trajectories: np.ndarray, *, block: int = 2048) -> np.ndarray:
    """Pearson correlation of every two examples.

    Parameters
    ----------
    trajectories : (C, N)
    block : rows computed at a time; bounds the working memory at 8 * block * N bytes

    Returns
    -------
    (N, N) float32, symmetric, 1 on the diagonal; 0 with an example whose trajectory is constant
    """
    rows = standardised(trajectories).astype(np.float32)
    n = len(rows)
    result = np.empty((n, n), dtype=np.float32)
    for start in range(0, n, block):
        np.matmul(rows[start : start + block], rows.T, out=result[start : start + block])
    np.clip(result, -1, 1, out=result)
    np.fill_diagonal(result, 1)
    return result


def coefficients(trajectories: np.ndarray, steps: np.ndarray, degree: int, *, basis: Basis = "orthonormal") -> np.ndarray:
    """Polynomial coefficients of each standardised trajectory, constant term left out (it is zero).

    Parameters
    ----------
    trajectories : (C, N)
    steps : (C,); only their order matters: the abscissa is the checkpoint's rank, scaled to [-1, 1], since steps are often
        logarithmic
    degree : 1 to C - 1 in the orthonormal basis; any positive degree in the monomial one (least norm beyond C - 1)

    Returns
    -------
    (N, degree)
    """
    rows = standardised(trajectories)
    count = rows.shape[1]
    if degree < 1 or (basis == "orthonormal" and degree > count - 1):
        raise DataError(f"degree {degree} for {count} checkpoints", remedy=f"use 1 to {count - 1}")
    rows = rows[:, np.argsort(steps, kind="stable")]
    x = np.linspace(-1, 1, count)
    if basis == "monomial":
        powers = np.vander(x, degree + 1, increasing=True)
        return np.linalg.lstsq(powers, rows.T, rcond=None)[0][1:].T
    directions, _ = np.linalg.qr(np.polynomial.chebyshev.chebvander(x, degree))
    return rows @ directions[:, 1:]


def distances(points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Euclidean distance of the rows of (N, d) `points` named by (P, 2) `pairs`."""
    return np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)


def agreement(
    trajectories: np.ndarray, steps: np.ndarray, degree: int, *, basis: Basis = "orthonormal", pairs: int = 200_000, seed: int = 0
) -> float:
    """How well the linear-cost distances say what the exact correlations say (figure 8).

    Returns the Pearson correlation, over pairs of examples (all, or `pairs` of them drawn at random), of the distance between
    coefficients and one minus the correlation of trajectories. NaN where either never varies.
    """
    rows = standardised(trajectories)
    n = len(rows)
    if n * (n - 1) // 2 <= pairs:
        index = np.stack(np.triu_indices(n, 1), axis=1)
    else:
        draw = np.random.default_rng(seed).integers(0, n, size=(pairs, 2))
        index = draw[draw[:, 0] != draw[:, 1]]
    exact = 1 - np.einsum("ij,ij->i", rows[index[:, 0]], rows[index[:, 1]])
    cheap = distances(coefficients(trajectories, steps, degree, basis=basis), index)
    if exact.std() < 1e-12 or cheap.std() < 1e-12:
        return float("nan")
    return float(np.corrcoef(exact, cheap)[0, 1])


def cluster(points: np.ndarray, k: int, *, seed: int = 0) -> np.ndarray:
    """k-means labels of (N, d) points, of at most k clusters: never more than there are distinct points. In mini-batches past
    20,000 points, so that the cost stays linear.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if not 1 <= k <= len(points):
        raise DataError(f"{k} clusters of {len(points)} examples", remedy=f"ask for 1 to {len(points)}")
    k = min(k, len(np.unique(points.round(12), axis=0)))
    method = KMeans if len(points) <= 20_000 else MiniBatchKMeans
    return method(n_clusters=k, n_init=5, random_state=seed).fit_predict(points)


def scaling(correlation: np.ndarray, dimensions: int = 2) -> np.ndarray:
    """Classical multidimensional scaling of 1 - correlation (Torgerson 1952): (N, N) to (N, dimensions).

    Axes are in order of the variance that they carry; the sign of an axis is fixed by its largest entry being positive.
    """
    from scipy.linalg import eigh

    n = len(correlation)
    squared = (1 - np.asarray(correlation, dtype=float)) ** 2
    centred = -0.5 * (squared - squared.mean(0) - squared.mean(1)[:, None] + squared.mean())
    values, vectors = eigh(centred, subset_by_index=[max(0, n - dimensions), n - 1])
    axes = vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0))
    return axes * np.where(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] < 0, -1, 1)


def against_labels(clusters: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How far clusters and class labels agree: adjusted Rand index and normalised mutual information (0 chance, 1 equal)."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return {
        "adjusted_rand": float(adjusted_rand_score(labels, clusters)),
        "mutual_information": float(normalized_mutual_info_score(labels, clusters)),
    }
