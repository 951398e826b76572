"""The matrix checkpoints x examples of what each checkpoint makes of each example's gold answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from features.errors import DataError

FIELDS = ("nll", "probability", "correct")


@dataclass(frozen=True)
class Trajectories:
    """What C checkpoints make of N examples of one task under one template.

    Attributes
    ----------
    task, template : what was asked, and how
    checkpoints : C names, in the order of training where there is one
    steps : C training steps (the index, where the manifest gives none)
    examples : N identifiers
    nll : (C, N), negative log-likelihood of the gold answer, nats
    probability : (C, N), probability of the gold answer, normalised over the choices where there are some
    correct : (C, N), 1 where the gold answer is the most likely choice (or is decoded greedily)
    labels : N class labels, or empty
    """

    task: str
    checkpoints: tuple[str, ...]
    steps: np.ndarray
    examples: tuple[str, ...]
    nll: np.ndarray
    probability: np.ndarray
    correct: np.ndarray
    template: str = ""
    labels: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        shape = (len(self.checkpoints), len(self.examples))
        for name in FIELDS:
            value = getattr(self, name)
            if value.shape != shape:
                raise DataError(
                    f"{name} has shape {value.shape}", where=self.task, remedy=f"expected {shape}, checkpoints x examples"
                )
        if len(self.steps) != shape[0]:
            raise DataError(f"{len(self.steps)} steps for {shape[0]} checkpoints", where=self.task)
        if self.labels and len(self.labels) != shape[1]:
            raise DataError(f"{len(self.labels)} labels for {shape[1]} examples", where=self.task)

    def sorted(self) -> Trajectories:
        """The same in the order of the training steps."""
        return self.of_checkpoints(np.argsort(self.steps, kind="stable"))

    def of_checkpoints(self, index: np.ndarray | Sequence[int]) -> Trajectories:
        """The rows of some checkpoints, in the order of `index`."""
        rows = np.asarray(index, dtype=int)
        return Trajectories(
            task=self.task,
            template=self.template,
            checkpoints=tuple(self.checkpoints[i] for i in rows),
            steps=self.steps[rows],
            examples=self.examples,
            labels=self.labels,
            **{name: getattr(self, name)[rows] for name in FIELDS},
        )

    def of_examples(self, index: np.ndarray | Sequence[int]) -> Trajectories:
        """The columns of some examples, in the order of `index`."""
        columns = np.asarray(index, dtype=int)
        return Trajectories(
            task=self.task,
            template=self.template,
            checkpoints=self.checkpoints,
            steps=self.steps,
            examples=tuple(self.examples[i] for i in columns),
            labels=tuple(self.labels[i] for i in columns) if self.labels else (),
            **{name: getattr(self, name)[:, columns] for name in FIELDS},
        )

    def save(self, path: Path | str) -> None:
        """Write a compressed `.npz` (arrays and text only: nothing is pickled)."""
        np.savez_compressed(
            path,
            task=np.array(self.task),
            template=np.array(self.template),
            checkpoints=np.array(self.checkpoints, dtype=str),
            steps=np.asarray(self.steps),
            examples=np.array(self.examples, dtype=str),
            labels=np.array(self.labels, dtype=str),
            **{name: getattr(self, name) for name in FIELDS},
        )

    @classmethod
    def load(cls, path: Path | str) -> Trajectories:
        """Read what `save` wrote. Raises DataError for any other file."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(
                    task=str(file["task"]),
                    template=str(file["template"]),
                    checkpoints=tuple(map(str, file["checkpoints"])),
                    steps=file["steps"],
                    examples=tuple(map(str, file["examples"])),
                    labels=tuple(map(str, file["labels"])),
                    **{name: file[name] for name in FIELDS},
                )
        except (OSError, KeyError, ValueError) as cause:
            raise DataError(
                f"not a file of trajectories: {cause}", where=str(path), remedy="make it with `foretune dynamics`"
            ) from cause


def shared(tasks: Sequence[Trajectories]) -> list[Trajectories]:
    """The tasks on the checkpoints that all of them have, in the order of training. Raises DataError for fewer than two."""
    names = set(tasks[0].checkpoints).intersection(*(task.checkpoints for task in tasks))
    if len(names) < 2:
        raise DataError(
            f"{len(names)} checkpoints have all tasks",
            where=", ".join(task.task for task in tasks),
            remedy="measure two checkpoints or more on each of them",
        )
    return [task.of_checkpoints([i for i, name in enumerate(task.checkpoints) if name in names]).sorted() for task in tasks]
