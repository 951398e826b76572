"""CORRELATE and SELECT of Algorithm 1 over a benchmark of several tasks that share one budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.dynamics.trajectories import Trajectories
from features.errors import DataError
from features.selection.selectors import select
from features.selection.subset import TaskSubset, save


@dataclass(frozen=True)
class Selection:
    """Chosen examples of each task, what chose them, and the checkpoints that it learnt from."""

    subsets: tuple[TaskSubset, ...]
    selector: str
    budget: int
    checkpoints: tuple[str, ...]

    def save(self, path: Path | str) -> None:
        """Write the subset file that `--examples` reads."""
        save(path, self.subsets, selector=self.selector, budget=self.budget, made_from=self.checkpoints)


def side_by_side(tasks: Sequence[Trajectories]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses (C, N) of all tasks' examples, each example's task (N,) and its class within the task (N,).

    Raises DataError where the tasks were measured on different checkpoints.
    """
    first = tasks[0]
    for task in tasks[1:]:
        if task.checkpoints != first.checkpoints:
            missing = sorted(set(first.checkpoints) ^ set(task.checkpoints))
            raise DataError(f"not every checkpoint is measured on every task: {', '.join(missing[:5])}", where=task.task)
    losses = np.concatenate([t.nll for t in tasks], axis=1)
    owner = np.concatenate([np.full(len(t.examples), t.task) for t in tasks])
    strata = np.concatenate([np.array(t.labels or ("",) * len(t.examples), dtype=str) for t in tasks])
    return losses, owner, strata


def choose(tasks: Sequence[Trajectories], budget: int, *, selector: str = "kriging", seed: int = 0) -> Selection:
    """Choose `budget` examples over all tasks, by what each adds to the mean over tasks.

    Weights are within a task and sum to 1 there, so that a feature measured on the subset is a weighted mean. A task that the
    budget leaves without an example is left out of the file, and its features are then measured in full. Probabilities are known
    of one task alone: a draw over several says nothing of the order within each.
    """
    losses, owner, strata = side_by_side(tasks)
    subset = select(selector, losses, budget, tasks=owner, strata=strata, seed=seed)
    weights = np.maximum(
        subset.weights, 0.0
    )  # a feature is a mean: kriging's negative weights are for predicting, not for averaging
    found, start = [], 0
    for task in tasks:
        inside = np.flatnonzero((subset.index >= start) & (subset.index < start + len(task.examples)))
        if len(inside):
            own = weights[inside] if weights[inside].sum() > 0 else np.ones(len(inside))
            found.append(
                TaskSubset(
                    task.task,
                    tuple(task.examples[i - start] for i in subset.index[inside]),
                    tuple(float(w) for w in own / own.sum()),
                    tuple(None if np.isnan(p) or len(tasks) > 1 else float(p) for p in subset.probabilities[inside]),
                )
            )
        start += len(task.examples)
    return Selection(tuple(found), subset.selector, budget, tasks[0].checkpoints)
