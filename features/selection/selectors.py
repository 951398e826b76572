"""SELECT of Algorithm 1: which B of N examples to score, given how other checkpoints did on all of them.

One interface: `select(name, losses, budget, ...)`. `losses` is what CORRELATE hands over: (C, N), the negative log-likelihoods
of the checkpoints already scored in full. Several tasks share one budget by laying their examples side by side and naming each
example's task: the target is then the mean over tasks of the mean over a task's examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from features.dynamics.points import cluster, standardised
from features.errors import DataError, UnknownNameError
from features.selection.estimators import lure_weights
from features.selection.kriging import fitted, greedy
from features.selection.subset import Subset


@dataclass(frozen=True)
class Problem:
    """What a selector is given.

    Attributes
    ----------
    losses : (C, N), gold negative log-likelihoods of the checkpoints already scored
    target : (N,) weight of each example in the mean to be estimated; sums to 1
    strata : (N,) class or task of each example
    budget : B
    rng : the source of chance
    """

    losses: np.ndarray
    target: np.ndarray
    strata: np.ndarray
    budget: int
    rng: np.random.Generator


def select(
    name: str,
    losses: np.ndarray,
    budget: int,
    *,
    tasks: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    seed: int = 0,
) -> Subset:
    """Choose `budget` of N examples.

    Parameters
    ----------
    name : one of SELECTORS
    losses : (C, N), finite; checkpoints on the training side only: the checkpoints to be ranked must not be among them
    budget : 1 to N
    tasks : (N,) task of each example; by default all are of one
    strata : (N,) class of each example, for `stratified`; by default the task
    seed : of everything random

    Raises UnknownNameError for the name, DataError for losses or a budget that cannot be used.
    """
    if name not in SELECTORS:
        raise UnknownNameError(f"no selector named {name!r}", where="--selector", remedy=f"known are {', '.join(SELECTORS)}")
    losses = np.asarray(losses, dtype=float)
    if losses.ndim != 2 or not np.isfinite(losses).all():
        raise DataError("losses are not a finite matrix of checkpoints x examples", remedy="leave out what was not scored")
    size = losses.shape[1]
    if not 1 <= budget <= size:
        raise DataError(f"a budget of {budget} for {size} examples", where="--budget", remedy=f"use 1 to {size}")
    owner = np.zeros(size, dtype=int) if tasks is None else np.unique(np.asarray(tasks), return_inverse=True)[1]
    counts = np.bincount(owner)
    target = 1 / (len(counts) * counts[owner])
    groups = owner if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1] + owner * (size + 1)
    return SELECTORS[name](Problem(losses, target, groups, budget, np.random.default_rng(seed)))


def uniform(problem: Problem) -> Subset:
    """Draw by the target's weights (uniformly, for one task), without replacement: the one to beat."""
    return _drawn(problem, problem.target, "random")


def high_loss(problem: Problem) -> Subset:
    """Draw in proportion to the loss that the known checkpoints expect, times the target's weight: the least variance where the
    expectation is right (Kossen et al. 2021). Probabilities stay above a tenth of uniform, so that weights stay bounded.
    """
    expected = np.maximum(problem.losses.mean(axis=0), 0) * problem.target
    if expected.sum() <= 0:
        return _drawn(problem, problem.target, "high-loss")
    return _drawn(problem, 0.9 * expected / expected.sum() + 0.1 * problem.target, "high-loss")


def stratified(problem: Problem) -> Subset:
    """Draw from every stratum in proportion to its weight (largest remainder); weights make the strata whole again."""
    names, owner = np.unique(problem.strata, return_inverse=True)
    mass = np.bincount(owner, weights=problem.target)
    sizes = np.bincount(owner)
    quota = np.minimum(np.floor(mass * problem.budget).astype(int), sizes)
    remainder = mass * problem.budget - quota
    while quota.sum() < problem.budget:
        remainder[quota >= sizes] = -np.inf
        best = int(np.argmax(remainder + 1e-9 * problem.rng.random(len(names))))
        quota[best] += 1
        remainder[best] -= 1
    index, weights = [], []
    covered = mass[quota > 0].sum()
    for stratum, count in enumerate(quota):
        if count:
            members = problem.rng.choice(np.flatnonzero(owner == stratum), size=count, replace=False)
            index.append(members)
            weights.append(np.full(count, mass[stratum] / count / covered))
    chosen = np.concatenate(index)
    return Subset(chosen, np.concatenate(weights), np.full(len(chosen), np.nan), problem.losses.shape[1], selector="stratified")


def anchor_points(problem: Problem) -> Subset:
    """Anchor points (Vivek et al. 2024, arXiv 2309.08638): k-medoids on 1 - correlation, weighted by what each medoid stands for.

    Squared distances between standardised trajectories are 2 (1 - r), so medoids are refined from k-means centres at linear cost:
    each cluster's medoid is its member nearest to the centre.
    """
    rows = standardised(problem.losses)
    labels = cluster(rows, problem.budget, seed=int(problem.rng.integers(2**31)))
    index, weights = [], []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        weight = problem.target[members]
        centre = weight @ rows[members] / weight.sum()
        index.append(members[np.argmin(np.linalg.norm(rows[members] - centre, axis=1))])
        weights.append(weight.sum())
    missing = problem.budget - len(index)  # twins leave clusters empty: spend the rest at random, at no weight
    if missing > 0:
        rest = np.setdiff1d(np.arange(len(rows)), index)
        index.extend(problem.rng.choice(rest, size=missing, replace=False))
        weights.extend([0.0] * missing)
    chosen = np.array(index)
    return Subset(chosen, np.array(weights), np.full(len(chosen), np.nan), len(rows), selector="anchor-points")


def kriging(problem: Problem) -> Subset:
    """Take greedily what lessens most the uncertainty of a new checkpoint's mean, by a Gaussian model of the known ones
    (`features.selection.kriging`). With one or two known checkpoints there is nothing to learn from, and it is `stratified`.
    """
    if len(problem.losses) < 3:
        return stratified(problem)
    model = fitted(problem.losses, problem.strata)
    chosen, weights = greedy(model, problem.target, problem.budget)
    offset = float(problem.target @ model.mean - weights @ model.mean[chosen])
    return Subset(chosen, weights, np.full(len(chosen), np.nan), len(problem.target), offset=offset, selector="kriging")


def _drawn(problem: Problem, proposal: np.ndarray, name: str) -> Subset:
    """Draw one after the other without replacement; remember each draw's probability among those left.

    The order of log(proposal) + Gumbel noise is such a sequence of draws (Yellott 1977), all at once. Weights undo the proposal
    (LURE's, made to sum to 1), so that neither a small task nor a hard example counts for more than its share of the target.
    """
    with np.errstate(divide="ignore"):
        keys = np.log(proposal) + problem.rng.gumbel(size=len(proposal))
    index = np.argsort(-keys, kind="stable")[: problem.budget]
    drawn = proposal[index]
    left = drawn[::-1].cumsum()[::-1] + max(proposal.sum() - drawn.sum(), 0.0)
    weights = lure_weights(drawn / left, len(proposal)) * problem.target[index]
    return Subset(index, weights / weights.sum(), drawn / left, len(proposal), selector=name)


SELECTORS: dict[str, Callable[[Problem], Subset]] = {
    "random": uniform,
    "stratified": stratified,
    "anchor-points": anchor_points,
    "high-loss": high_loss,
    "kriging": kriging,
}
