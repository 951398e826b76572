"""What a checkpoint is fine-tuned on and measured on: a task's training and test examples, and the digest of their texts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from features.errors import UserError
from training.measurement import metric_for
from training.trainable import Recipe

if TYPE_CHECKING:
    from features.tasks import Example, Task


@dataclass
class Exam:
    """A task made ready: which examples are trained on and measured, and the digest of their texts."""

    task: Task
    metric: str
    train: list[Example]
    test: list[Example]
    digest: str

    @classmethod
    def of(cls, task: Task, recipe: Recipe, metric: str) -> Exam:
        """Raises UserError for a metric that the task does not have, and for early stopping with nothing left to train on."""
        train = drawn(task, "train", recipe.max_train_examples)
        if recipe.early_stopping and len(train) < 2:
            raise UserError(
                f"1 example of {task.name} to train on, and early stopping holds one out",
                where="early_stopping",
                remedy="raise max_train_examples, or train without early stopping",
            )
        test = drawn(task, "test", recipe.max_test_examples)
        content = {
            "kind": task.kind,
            "labels": list(task.labels),
            "train": [(task.prompt(e), e.gold) for e in train],
            "test": [(task.prompt(e), e.gold) for e in test],
        }
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        return cls(task, metric_for(task.kind, metric), train, test, f"sha256:{digest}")

    @property
    def classified(self) -> bool:
        """Whether a masked checkpoint gets a classification head: one prompt, and the same labels for every example."""
        return bool(self.task.labels) and not self.train[0].rendered[0].contexts

    def gold(self, example: Example) -> tuple[str, str]:
        """The (prompt, gold continuation) that is trained on: the right choice, or the canonical answer."""
        pairs = self.task.prompt(example)
        return pairs[example.gold or 0] if self.task.kind == "multiple_choice" else pairs[0]


def drawn(task: Task, role: str, most: int | None) -> list[Example]:
    """At most `most` examples of a role, the same for every checkpoint and seed, spread over the labels."""
    from features.splits import spread

    pool = task.examples(role)
    if most is None or most >= len(pool):
        return pool
    return [pool[i] for i in spread(range(len(pool)), most, [e.label for e in pool], f"{task.seed}/{role}/finetune")]
