"""Held-out pairs, and what they teach: how much each scorer is worth, and what may be quoted of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranker.blend import probability, weights
from ranker.pairs import Floats, Ints
from ranker.steepness import steepness

SCORERS = ("signs", "single", "linear", "logistic", "process", "trees", "own trees", "own process")
_ROWS_A_SHARE, _MOST_SHARES = 25, 3.0
_LEAST = 0.5


def prior(rows: float = 0) -> tuple[float, ...]:
    """(M,) shares that the weights are shrunk to, on a task with scorers of its own from so many rows; 0 where it has none.

    The more rows, the more these count, and the less do the linear ones (docs/studies/choices.md).
    """
    if rows <= 0:
        return (0.3, 0.3, 0.3, 0.3, 1.0, 1.0, 0.0, 0.0)
    own = float(np.clip(rows / _ROWS_A_SHARE, 1.0, _MOST_SHARES))
    return (0.1, 0.1, 0.1, 0.1, 1.0, 1.0, own, own)


@dataclass
class Held:
    """Held-out pairs of all resamples.

    Attributes
    ----------
    gap : (n, M) score differences of each scorer
    better : (n,) +1 or -1
    weight : (n,) certainty, over the root of how many checkpoints stand in each one's group
    i, j : (n,) rows of the sample
    fold : (n,) which resample left the two out
    own : (n,) rows of the task where it has scorers of its own, else 0
    task : (n,) code
    size : what the pairs are worth, in independent ones: the effective number of groups
    worth : the same of each task's pairs, by its code
    """

    gap: Floats
    better: Floats
    weight: Floats
    i: Ints
    j: Ints
    fold: Ints
    own: Ints
    task: Ints
    size: float
    worth: Mapping[int, float]

    def only(self, rows: Any) -> Held:
        pair = (self.weight[rows], self.i[rows], self.j[rows], self.fold[rows], self.own[rows], self.task[rows])
        return Held(self.gap[rows], self.better[rows], *pair, self.size, self.worth)

    def log_odds(self, weights: Floats, steep: Mapping[int, float] | None = None) -> Floats:
        """(n,) of each pair's first, from (2, M) weights on a task without and with scorers of its own, and its steepness."""
        whole = (self.gap * weights[(self.own > 0).astype(int)]).sum(1)
        tasks, at = np.unique(self.task, return_inverse=True)
        return whole * np.array([(steep or {}).get(int(k), 1.0) for k in tasks])[at]


def group_sizes(group: Ints, checkpoint: Ints) -> tuple[Floats, float]:
    """(groups,) checkpoints in each group, and how many groups of one size they are worth: (sum n)^2 / sum n^2 (Kish 1965).

    `group`, `checkpoint` : (rows,) codes. Where one uploader has a tenth of all checkpoints, most pairs are that one's and repeat
    each other: what they say of the next uploader's is worth far less than their number.
    """
    names, group = np.unique(group, return_inverse=True)
    owner = np.zeros(int(checkpoint.max()) + 1, np.int64)
    owner[checkpoint] = group
    members = np.bincount(owner[np.unique(checkpoint)], minlength=len(names)).astype(float)
    members = np.maximum(members, 1.0)
    return members, float(members.sum() ** 2 / (members**2).sum())


def weigh(held: Held, shares: Sequence[float], **blend: Any) -> Floats:
    """(M,) blend weights from held-out pairs: every scorer on its own scale first, then shrunk towards `shares`.

    A scorer that has hardly found anything (its differences are under `_LEAST`, half a deviation of the outcome) keeps its size.
    `blend` goes to `ranker.blend.weights`.
    """
    if not len(held.better):
        return np.asarray(shares, float) / np.sum(shares)
    scale = np.sqrt(np.average(held.gap**2, axis=0, weights=held.weight)) if held.weight.sum() > 0 else np.ones(len(SCORERS))
    alive = (scale > 1e-9) & (np.array(shares) > 0)
    out = np.zeros(len(SCORERS))
    if not alive.any():
        return out
    size = np.maximum(scale, _LEAST)[alive]
    found = weights(held.gap[:, alive] / size, held.better, held.weight, held.size, np.array(shares)[alive].tolist(), **blend)
    out[alive] = found / size
    return out


def weigh_both(held: Held) -> Floats:
    """(2, M) blend weights where a task has no scorers of its own, learnt as if none had, and where it has."""
    own = held.own[held.own > 0]
    without = weigh(held, prior())
    return np.array([without, weigh(held.only(held.own > 0), prior(float(np.median(own)))) if len(own) else without])


def cross_fitted(held: Held, folds: int = 4) -> Floats:
    """P of each held-out pair, learnt (weights, steepness) on the other resamples' pairs: the figures that may be quoted."""
    out = np.empty(len(held.better))
    part = held.fold % folds
    for k in np.unique(part):
        rows = part == k
        others = held.only(~rows) if not rows.all() else held
        learnt = weigh_both(others)
        out[rows] = probability(held.only(rows).log_odds(learnt, steepness(others, learnt)))
    return out
