"""Which of two checkpoints comes first: how often a score says it right on held-out checkpoints, with a bootstrap over them.

Pairs are not independent (a checkpoint is in many), so intervals come from drawing checkpoints, or whole runs, with replacement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

DRAWS = 1000


@dataclass
class Verdicts:
    """Verdicts of one method on pairs of C checkpoints, over any number of hold-outs.

    Attributes
    ----------
    right : (C, C) sum of verdicts: 1 for the true order, 1/2 for a tie, 0 for the wrong order
    judged : (C, C) how often each pair was judged
    """

    count: int
    right: np.ndarray = field(init=False)
    judged: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.right, self.judged = np.zeros((self.count, self.count)), np.zeros((self.count, self.count))

    def add(self, places: np.ndarray, score: np.ndarray, truth: np.ndarray) -> None:
        """Judge the pairs of the checkpoints at `places`, (m,) indices, by their (m,) scores against (m,) truths; more is better
        in both, or less in both. Pairs whose truth is equal are not judged.
        """
        real = np.sign(np.subtract.outer(truth, truth))
        told = np.sign(np.subtract.outer(score, score))
        block = np.ix_(places, places)
        self.judged[block] += real != 0
        self.right[block] += np.where(real != 0, (1 + real * told) / 2, 0)

    def accuracy(self, weights: np.ndarray) -> np.ndarray:
        """(D,) share of right verdicts under (D, C) weights of checkpoints; each pair counts once however often it was judged."""
        seen = self.judged > 0
        mean = np.divide(self.right, self.judged, out=np.zeros_like(self.right), where=seen)
        top = np.einsum("di,ij,dj->d", weights, mean, weights, optimize=True)
        bottom = np.einsum("di,ij,dj->d", weights, seen.astype(float), weights, optimize=True)
        return np.divide(top, bottom, out=np.full(len(weights), np.nan), where=bottom > 0)


def resampled(names: Sequence[str] | np.ndarray, seed: int = 0, draws: int = DRAWS) -> np.ndarray:
    """(draws + 1, C) bootstrap weights of checkpoints, those of one name (a run) always together; the first row is the sample."""
    units, owner = np.unique(np.asarray(names), return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(units), np.full(len(units), 1 / len(units)), size=draws)
    return np.concatenate([np.ones((1, len(owner))), counts[:, owner]])


def interval(values: np.ndarray, name: str) -> dict[str, float]:
    """NAME, NAME_low and NAME_high (95 %) of (draws + 1,) values, the first of which is the sample's; NaN are left out."""
    low, high = np.nanquantile(values[1:], [0.025, 0.975]) if np.isfinite(values[1:]).any() else (np.nan, np.nan)
    return {name: float(values[0]), f"{name}_low": float(low), f"{name}_high": float(high)}
