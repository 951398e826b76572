"""How steep the log-odds are on each task: a factor of each task's own, drawn towards one by what tasks have in common.

Scorers are weighed on the pairs of all tasks together, so that their odds are right on average over tasks: too shy where features
say much of the outcome, too bold where they say little. A factor per task mends it and changes no order. How far tasks lie apart
is learnt from them; few or small tasks tell little, and keep their factors near one. A Bayes model of few numbers, summed on a
grid: log factor of a task ~ N(m, spread^2), m flat, spread half-normal.

References: D. Rubin, Estimation in parallel randomized experiments, 1981; A. Gelman, Prior distributions for variance parameters
in hierarchical models, 2006.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranker.pairs import Floats

if TYPE_CHECKING:
    from ranker.held import Held

# Deviation of the spread's prior: of 0, .3, .6 and the spread that fits best, .3 and .6 had the lowest log loss over the tables
# of docs/studies/choices.md; .3 lost hardly anything on any.
_SPREAD = 0.3
_SLOPES = np.linspace(-2.0, 2.0, 65)
_CENTRES = np.linspace(-1.0, 1.0, 33)
_SPREADS = np.concatenate([[1e-3], np.linspace(0.05, 1.5, 30)])


def steepness(held: Held, weights: Floats) -> dict[int, float]:
    """Code of each task that has held-out pairs -> factor of its log-odds (> 0); 1 where there is one task.

    Parameters
    ----------
    held : held-out pairs
    weights : (2, M) of the scorers, of `ranker.held.weigh_both`
    """
    tasks, at = np.unique(held.task, return_inverse=True)
    mass = np.bincount(at, held.weight)
    right, share = held.log_odds(weights) * held.better, held.weight / np.maximum(mass, 1e-300)[at]
    loss = np.array([np.bincount(at, share * np.logaddexp(0, -np.exp(s) * right), len(tasks)) for s in _SLOPES])
    there = mass > 0
    worth = np.array([held.worth[int(k)] for k in tasks])
    if there.sum() < 2:
        return dict.fromkeys(tasks[there].tolist(), 1.0)
    return dict(zip(tasks[there].tolist(), np.exp(_shrunk(-(worth * loss)[:, there])).tolist(), strict=True))


def _shrunk(log_likelihood: Floats) -> Floats:
    """(K,) expected log factor of each task, less the expected centre; `log_likelihood` is (G, K) over `_SLOPES`.

    The centre is what all tasks have in common: the scorers' weights have that already.
    """
    found = np.exp(log_likelihood - log_likelihood.max(0))
    spread, centre = (grid.ravel()[:, None] for grid in np.meshgrid(_SPREADS, _CENTRES))
    density = np.exp(-((_SLOPES - centre) ** 2) / (2 * spread**2))
    density /= density.sum(1, keepdims=True)
    mass = np.maximum(density @ found, 1e-300)
    evidence = np.log(mass).sum(1) - 0.5 * (spread[:, 0] / _SPREAD) ** 2
    weight = np.exp(evidence - evidence.max())
    weight /= weight.sum()
    return weight @ ((density * _SLOPES) @ found / mass - centre)
