"""Linear probing of a checkpoint's frozen representations of a task's training examples, as features.

Scores on the few examples of `features` (`features.transferability`) are cheap and noisy; these read up to 1,000 examples of
`train`, which cost a forward pass each and no step of training.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from features.errors import ForetuneError
from features.estimate import mean
from features.registry import Session
from features.representations import represent
from features.rows import Feature
from features.splits import spread
from features.transferability.extractor import beside
from features.transferability.probing import effective_rank, probe

if TYPE_CHECKING:
    from features.corpora import Corpora
    from features.tasks import Task

Floats = NDArray[np.float32]
Estimate = tuple[float, float | None]  # and its standard error


class LinearProbe:
    """``linear_probe_mean_r2`` and ``_acc``: what a ridge regression of the labels on the mean over tokens of the last layer
    explains, and how often it is right, on the example that is left out in turn; ``_last_`` (``_first_`` for masked checkpoints)
    of that one token. ``rankme_mean``, ``rankme_last``: effective rank of the same representations, of any task.

    The prompt is that of the first template without shots. The probes need the same choices for every example.
    """

    name: ClassVar[str] = "linear_probe"
    version: ClassVar[int] = 1
    scope: ClassVar[Literal["checkpoint", "task"]] = "task"
    produces: ClassVar[tuple[str, ...]] = ("linear_probe_*", "rankme_*")
    default: ClassVar[bool] = False  # up to ten times the examples of the other scores: measured when it is asked for by name

    def __init__(self, *, most: int = 1000) -> None:
        self.most = most

    def settings(self) -> dict[str, Any]:
        """Everything that changes the numbers."""
        return {"most": self.most}

    def data_digest(self, task: Task | None, corpora: Corpora) -> str:
        """The task's digest, all its roles included."""
        return "" if task is None else task.digest

    def applies(self, kind: str, task: Task | None) -> bool:
        """Every task, of any checkpoint."""
        return task is not None

    def measure(self, session: Session) -> list[Feature]:
        """The features. A score that is not defined is a row with its error; raises CheckpointError where the pass itself
        fails.
        """
        task, train = session.a_task, session.examples("train")
        chosen = spread(range(len(train)), self.most, [e.label for e in train], f"{task.seed}/linear_probe")
        examples = [train[i] for i in chosen]
        poolings = ("mean", beside(session.model.kind))
        found = represent(
            session.model, [e.query for e in examples], poolings=poolings, memory_budget_mb=session.memory_budget_mb
        )
        rows: list[Feature] = []
        for pooling in poolings:
            features = found.of(pooling)
            rows += _scored([f"rankme_{pooling}"], features, _rank)
            if task.labels:
                labels = [e.gold or 0 for e in examples]
                rows += _scored([f"linear_probe_{pooling}_{s}" for s in ("r2", "acc")], features, partial(_probed, labels=labels))
        return [replace(row, seconds=row.seconds + found.seconds / len(rows)) for row in rows]


def _rank(features: Floats) -> list[Estimate]:
    return [(effective_rank(features), None)]


def _probed(features: Floats, labels: list[int]) -> list[Estimate]:
    found = probe(features, labels)
    return [found.r2, mean(found.right.astype(float))]


def _scored(names: list[str], features: Floats, score: Callable[[Floats], list[Estimate]]) -> list[Feature]:
    """One row a name, or the error of all in the first one's."""
    started, count = time.perf_counter(), len(features)
    try:
        values = score(features)
    except ForetuneError as failure:
        return [Feature(names[0], count=count, seconds=time.perf_counter() - started, direction=1, error=str(failure))]
    seconds = (time.perf_counter() - started) / len(names)
    return [
        Feature(name, value, stderr=stderr, count=count, seconds=seconds, direction=1)
        for name, (value, stderr) in zip(names, values, strict=True)
    ]
