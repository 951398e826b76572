"""Which variants a zoo holds, and in which order: a sequential fractional factorial.

A full factorial of seven objectives, six mixes, four learning rates, two tags and three filters has 1,008 runs. `plan` takes
a fraction of it, one run at a time, each time the combination that leaves the design most balanced, so that the zoo can be
stopped after any variant:

1. in every prefix the levels of each factor have been used equally often, to within one;
2. among those, the pairs of levels of any two factors are used as equally as can be, objective with learning rate before
   all others, so that neither can stand in for the other;
3. among those, the triples likewise, then a seeded draw.

The runs of one learning rate are then themselves spread over the objectives and mixes: an equal-learning-rate block, in which
what a proxy detects cannot be the learning rate.

Balance is greedy, not optimal; `confounding` says how much is left, as Cramér's V between each two factors (0: crossed; 1:
confounded).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

Level = str | int | float
Run = dict[str, Level]


def plan(
    factors: Mapping[str, Sequence[Level]], runs: int, seed: int = 0, *, crossed: tuple[str, str] = ("objective", "learning_rate")
) -> list[Run]:
    """The first `runs` runs of the design over `factors` (name -> levels); no run twice.

    Raises
    ------
    ValueError : more runs than there are combinations, a factor without levels, or a level given twice
    """
    if any(not levels or len(set(levels)) < len(levels) for levels in factors.values()):
        raise ValueError("each factor needs at least one level, and each level once")
    names = list(factors)
    grid = np.array(list(itertools.product(*(range(len(levels)) for levels in factors.values()))), dtype=np.int64)
    if runs > len(grid):
        raise ValueError(f"{runs} runs asked for, but the factors have {len(grid)} combinations")
    draw = np.random.default_rng(seed).random(len(grid))
    groups = [
        *((i,) for i in range(len(names))),
        *itertools.combinations(range(len(names)), 2),
        *itertools.combinations(range(len(names)), 3),
    ]
    cells = [_cells(grid[:, list(group)], [len(factors[names[i]]) for i in group]) for group in groups]
    counts = [np.zeros(int(c.max()) + 1, dtype=np.int64) for c in cells]
    first = {tuple(sorted((names.index(a), names.index(b)))) for a, b in [crossed] if a in names and b in names}
    chosen: list[int] = []
    free = np.ones(len(grid), dtype=bool)
    for _ in range(runs):
        used = [count[cell] for count, cell in zip(counts, cells, strict=True)]
        above = np.max([used[i] - counts[i].min() for i in range(len(names))], axis=0)  # a level already ahead of another
        pairs = sum(used[i] * counts[i].size for i, g in enumerate(groups) if len(g) == 2)
        main = sum((used[i] for i, g in enumerate(groups) if g in first), start=np.zeros(len(grid)))
        triples = sum((used[i] * counts[i].size for i, g in enumerate(groups) if len(g) == 3), start=np.zeros(len(grid)))
        best = int(np.lexsort((draw, triples, pairs, main, above, ~free))[0])
        chosen.append(best)
        free[best] = False
        for count, cell in zip(counts, cells, strict=True):
            count[cell[best]] += 1
    return [{name: factors[name][grid[i, column]] for column, name in enumerate(names)} for i in chosen]


def _cells(columns: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """One number for each combination of levels."""
    return np.ravel_multi_index(tuple(columns.T), tuple(sizes))


def imbalance(runs: Sequence[Run], factor: str, levels: Sequence[Level]) -> int:
    """The most used level's count less the least used one's."""
    counts = Counter(run[factor] for run in runs)
    return max(counts[level] for level in levels) - min(counts[level] for level in levels)


def confounding(runs: Sequence[Run]) -> dict[tuple[str, str], float]:
    """Cramér's V between each two factors that vary: sqrt(chi2 / (n * (min(levels) - 1)))."""
    found = {}
    for a, b in itertools.combinations(runs[0] if runs else {}, 2):
        table = np.array(
            [[sum(r[a] == x and r[b] == y for r in runs) for y in {r[b] for r in runs}] for x in {r[a] for r in runs}],
            dtype=float,
        )
        if min(table.shape) > 1:
            expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
            found[a, b] = float(np.sqrt(((table - expected) ** 2 / expected).sum() / table.sum() / (min(table.shape) - 1)))
    return found
