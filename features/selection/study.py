"""How well a few selected examples rank checkpoints that the selection never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.errors import DataError
from features.selection.selectors import SELECTORS, select


@dataclass(frozen=True)
class Study:
    """Result of `against_random`.

    Attributes
    ----------
    table : one row per (share, selector): `budget`, `accuracy` (share of pairs of held-out checkpoints in the order that the full
        benchmark gives them; a tied estimate counts a half) and `over_random`, each with `_low` and `_high`
    checkpoints, examples, repetitions : what it was measured on
    """

    table: pd.DataFrame
    checkpoints: int
    examples: int
    repetitions: int


def against_random(
    losses: np.ndarray,
    *,
    tasks: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    groups: Sequence[str] | None = None,
    shares: Sequence[float] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3),
    selectors: Sequence[str] = tuple(SELECTORS),
    repetitions: int = 50,
    seed: int = 0,
) -> Study:
    """Hold out half of the checkpoints, select on the other half, rank the held-out ones from the selected examples only.

    Parameters
    ----------
    losses : (C, N) gold negative log-likelihoods
    tasks, strata : (N,), as for `select`
    groups : (C,) the run that each checkpoint is from; runs, not checkpoints, are held out (all of one run: by checkpoint)
    shares : budgets as shares of N

    Each pair of checkpoints is judged only when both are held out, and its verdicts are averaged over the repetitions (random
    halves, random draws); the intervals are a bootstrap over checkpoints (or runs), 95 %, the differences to random paired.
    """
    count, size = losses.shape
    names = np.arange(count) if groups is None or len(set(groups)) == 1 else np.unique(np.asarray(groups), return_inverse=True)[1]
    units = np.unique(names)
    if len(units) < 4:
        raise DataError(f"{len(units)} checkpoints or runs", remedy="holding out half of them needs at least four")
    owner = np.zeros(size, dtype=int) if tasks is None else np.unique(np.asarray(tasks), return_inverse=True)[1]
    sizes = np.bincount(owner)
    target = 1 / (len(sizes) * sizes[owner])
    budgets = [max(1, round(share * size)) for share in shares]
    right = [[np.zeros((count, count)) for _ in selectors] for _ in budgets]
    judged = np.zeros((count, count))
    for repetition in range(repetitions):
        order = np.random.default_rng([seed, repetition]).permutation(units)
        known = np.isin(names, order[: len(units) // 2])
        fresh = losses[~known]
        block = np.ix_(~known, ~known)
        real = np.sign(np.subtract.outer(fresh @ target, fresh @ target))
        judged[block] += real != 0
        for b, budget in enumerate(budgets):
            for s, name in enumerate(selectors):
                subset = select(name, losses[known], budget, tasks=tasks, strata=strata, seed=seed + repetition)
                estimate = fresh[:, subset.index] @ subset.weights
                told = np.sign(np.subtract.outer(estimate, estimate))
                right[b][s][block] += np.where(real != 0, (1 + real * told) / 2, 0)
    weights = _resampled(names, np.random.default_rng(seed))
    rows = []
    for b, (share, budget) in enumerate(zip(shares, budgets, strict=True)):
        drawn = [_means(right[b][s], judged, weights) for s in range(len(selectors))]
        for s, name in enumerate(selectors):
            row = {"share": share, "budget": budget, "selector": name, **_interval(drawn[s], "accuracy")}
            if "random" in selectors:
                row |= _interval(drawn[s] - drawn[list(selectors).index("random")], "over_random")
            rows.append(row)
    return Study(pd.DataFrame(rows), count, size, repetitions)


def _resampled(names: np.ndarray, rng: np.random.Generator, draws: int = 1000) -> np.ndarray:
    """(draws + 1, C) bootstrap weights of checkpoints, whole runs at a time; the first row is the sample itself."""
    units, owner = np.unique(names, return_inverse=True)
    counts = rng.multinomial(len(units), np.full(len(units), 1 / len(units)), size=draws)
    return np.concatenate([np.ones((1, len(names))), counts[:, owner]])


def _means(right: np.ndarray, judged: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(draws + 1,) weighted share of right verdicts over pairs, each pair once however often it was judged."""
    seen = judged > 0
    mean = np.divide(right, judged, out=np.zeros_like(right), where=seen)
    numerator = np.einsum("di,ij,dj->d", weights, mean, weights, optimize=True)
    denominator = np.einsum("di,ij,dj->d", weights, seen.astype(float), weights, optimize=True)
    return np.divide(numerator, denominator, out=np.full(len(weights), np.nan), where=denominator > 0)


def _interval(values: np.ndarray, name: str) -> dict[str, float]:
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return {name: float(values[0]), f"{name}_low": float(low), f"{name}_high": float(high)}
