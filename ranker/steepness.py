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
    right = held.log_odds(weights) * held.better
    tasks, likelihood = [], []
    for task in np.unique(held.task):
        rows = held.task == task
        share = held.weight[rows]
        if share.sum() <= 0:
            continue
        z, share = right[rows], share / share.sum()
        tasks.append(int(task))
        likelihood.append([-held.worth[int(task)] * float(share @ np.logaddexp(0, -np.exp(s) * z)) for s in _SLOPES])
    if len(tasks) < 2:
        return dict.fromkeys(tasks, 1.0)
    return dict(zip(tasks, np.exp(_shrunk(np.array(likelihood))).tolist(), strict=True))


def _shrunk(log_likelihood: Floats) -> Floats:
    """(K,) expected log factor of each task, less the expected centre; `log_likelihood` is (K, G) over `_SLOPES`.

    The centre is what all tasks have in common: the scorers' weights have that already.
    """
    found = np.exp(log_likelihood - log_likelihood.max(1, keepdims=True))
    evidence = np.empty((len(_SPREADS), len(_CENTRES)))
    offset = np.empty((len(_SPREADS), len(_CENTRES), len(found)))
    for n, spread in enumerate(_SPREADS):
        density = np.exp(-((_SLOPES - _CENTRES[:, None]) ** 2) / (2 * spread**2))
        density /= density.sum(1, keepdims=True)
        mass = np.maximum(density @ found.T, 1e-300)
        evidence[n] = np.log(mass).sum(1) - 0.5 * (spread / _SPREAD) ** 2
        offset[n] = (density * _SLOPES) @ found.T / mass - _CENTRES[:, None]
    weight = np.exp(evidence - evidence.max())
    return np.tensordot(weight / weight.sum(), offset, 2)
