"""How well a few selected examples rank checkpoints that the selection never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.errors import DataError
from features.selection.selectors import SELECTORS, select
from features.verdicts import Verdicts, interval, resampled

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)


@dataclass(frozen=True)
class Study:
    """Result of `against_random`.

    Attributes
    ----------
    table : one row per (share, selector): `budget`, `accuracy` (share of pairs of held-out checkpoints in the order that the full
        benchmark gives them; a tied estimate counts a half) and `over_random`, each with `_low` and `_high`
    checkpoints, runs, examples, repetitions : what it was measured on; checkpoints are those ranked
    """

    table: pd.DataFrame
    checkpoints: int
    runs: int
    examples: int
    repetitions: int


def against_random(
    losses: np.ndarray,
    *,
    tasks: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    groups: Sequence[str] | None = None,
    ranked: np.ndarray | None = None,
    shares: Sequence[float] = SHARES,
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
    ranked : (C,) which checkpoints are ranked when they are held out; the others only ever serve to select (default: all ranked)
    shares : budgets as shares of N

    Each pair of checkpoints is judged only when both are held out, and its verdicts are averaged over the repetitions (random
    halves, random draws); the intervals are a bootstrap over checkpoints (or runs), 95 %, the differences to random paired.
    """
    count, size = losses.shape
    names = np.arange(count) if groups is None or len(set(groups)) == 1 else np.unique(np.asarray(groups), return_inverse=True)[1]
    judged = np.ones(count, dtype=bool) if ranked is None else np.asarray(ranked, dtype=bool)
    units = np.unique(names)
    if len(np.unique(names[judged])) < 4:
        raise DataError(
            f"{len(np.unique(names[judged]))} checkpoints or runs", remedy="holding out half of them needs at least four"
        )
    owner = np.zeros(size, dtype=int) if tasks is None else np.unique(np.asarray(tasks), return_inverse=True)[1]
    sizes = np.bincount(owner)
    target = 1 / (len(sizes) * sizes[owner])
    truth = losses @ target
    budgets = [max(1, round(share * size)) for share in shares]
    verdicts = {(b, name): Verdicts(count) for b in budgets for name in selectors}
    for repetition in range(repetitions):
        order = np.random.default_rng([seed, repetition]).permutation(units)
        known = np.isin(names, order[: len(units) // 2])
        held = np.flatnonzero(~known & judged)
        for (budget, name), told in verdicts.items():
            subset = select(name, losses[known], budget, tasks=tasks, strata=strata, seed=seed + repetition)
            told.add(held, losses[held][:, subset.index] @ subset.weights, truth[held])
    weights = resampled(names, seed)
    rows = []
    for share, budget in zip(shares, budgets, strict=True):
        drawn = {name: verdicts[budget, name].accuracy(weights) for name in selectors}
        for name, values in drawn.items():
            row = {"share": share, "budget": budget, "selector": name, **interval(values, "accuracy")}
            if "random" in drawn:
                row |= interval(values - drawn["random"], "over_random")
            rows.append(row)
    return Study(pd.DataFrame(rows), int(judged.sum()), len(np.unique(names[judged])), size, repetitions)
