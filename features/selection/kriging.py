"""A Gaussian model of how a new checkpoint's losses on N examples hang together, and the few that tell its mean best.

A checkpoint's losses are taken as mean + level of the example's stratum (task and class) + a low-rank part within strata + noise
of each example's own, all estimated from the C checkpoints that were scored in full. The levels are what differs most between
checkpoints of one size: two of them may prefer other label words altogether, and a model without levels takes a few examples of
one class for the whole. But it also loses that the same skill moves levels and examples, so a fifth of the covariance is that of
the model without them. Both shares were chosen on four runs of tiny checkpoints; docs/studies/selection.md judges on others.

Given the losses on some examples, the mean is predicted by its posterior expectation, offset + w' losses: kriging, as geologists
call it (Matheron 1963). The greedy choice of what lessens the posterior variance of the mean most is Bayesian c-optimal design.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVELS = 0.8  # share of the covariance that is modelled with levels
SHRINKAGE = 0.1  # of the correlations between the levels of strata
MOST_FACTORS = 10
LEAST_NOISE = 0.1  # share of an example's variance that is always its own


@dataclass(frozen=True)
class Gaussian:
    """Covariance of N examples as factors @ factors.T + diag(noise).

    Attributes
    ----------
    mean : (N,)
    factors : (N, r)
    noise : (N,)
    """

    mean: np.ndarray
    factors: np.ndarray
    noise: np.ndarray


def fitted(losses: np.ndarray, strata: np.ndarray) -> Gaussian:
    """The model of (C, N) losses, C of 3 or more, with (N,) strata.

    The covariance of the levels is the sample's, its correlations shrunk by a tenth. Within strata, and in the model without
    levels: probabilistic principal components (Tipping and Bishop 1999), a third of the degrees of freedom but at most 10, each
    factor's variance lessened by the mean of those left out; each example keeps its own total variance.
    """
    count = len(losses)
    mean = losses.mean(axis=0)
    centred = (losses - mean) / np.sqrt(count - 1)
    owner = np.unique(strata, return_inverse=True)[1]
    sizes = np.bincount(owner)
    levels = np.stack([np.bincount(owner, weights=row) for row in centred]) / sizes
    covariance = levels.T @ levels
    spread = np.diag(covariance)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.diag(spread)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    within, noise_within = _factors(centred - levels[:, owner])
    whole, noise_whole = _factors(centred)
    factors = np.concatenate([np.sqrt(LEVELS) * root[owner], np.sqrt(LEVELS) * within, np.sqrt(1 - LEVELS) * whole], axis=1)
    return Gaussian(mean, factors, LEVELS * noise_within + (1 - LEVELS) * noise_whole)


def _factors(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal components (N, r) and noise (N,) of (C, N) centred rows whose cross product is the covariance."""
    freedom = len(rows) - 1
    variance = np.einsum("ij,ij->j", rows, rows)
    rank = int(np.clip(freedom // 3, 1, MOST_FACTORS))
    _, singular, directions = np.linalg.svd(rows, full_matrices=False)
    spectrum = singular**2
    kept = np.maximum(spectrum[:rank] - spectrum[rank:].sum() / max(freedom - rank, 1), 0)
    factors = directions[:rank].T * np.sqrt(kept)
    floor = LEAST_NOISE * variance + 1e-9 * max(float(variance.mean()), 1e-300)
    return factors, np.maximum(variance - np.einsum("ij,ij->i", factors, factors), floor)


def greedy(model: Gaussian, target: np.ndarray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Examples (B,), in the order in which they were taken, and their weights (B,) in the prediction of target @ losses.

    Each step takes the example with the greatest reduction of the posterior variance; O(N B (B + r)).
    """
    factors, noise = model.factors, model.noise
    covariance = factors @ (factors.T @ target) + noise * target  # of each example with the target
    variance = np.einsum("ij,ij->i", factors, factors) + noise
    taken: list[int] = []
    basis = np.empty((budget, len(noise)))
    left, gain_target = variance.copy(), covariance.copy()
    for step in range(budget):
        gain = np.where(left > 1e-9 * variance, gain_target**2 / np.maximum(left, 1e-300), -1.0)
        gain[taken] = -np.inf
        best = int(np.argmax(gain))
        column = factors @ factors[best]
        column[best] += noise[best]
        column -= basis[:step].T @ basis[:step, best]
        scale = np.sqrt(max(left[best], 1e-12 * variance[best] + 1e-300))
        basis[step] = column / scale
        gain_target -= basis[step] * (gain_target[best] / scale)
        left -= basis[step] ** 2
        taken.append(best)
    chosen = np.array(taken)
    inner = factors[chosen] @ factors[chosen].T + np.diag(noise[chosen])
    inner[np.diag_indices_from(inner)] += 1e-9 * variance[chosen]
    return chosen, np.linalg.solve(inner, covariance[chosen])
