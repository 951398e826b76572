"""k-shot features: how a checkpoint does on a task with k worked examples in its prompt.

The three of Zeng et al. (2025, arXiv 2504.12491) are this extractor on three kinds of task: commonsense (multiple choice),
retrieval-augmented QA
(generation, with passages in the prompt) and closed-book QA (generation).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from features.answers import KINDS, MOST_ANSWERS, answer
from features.corpora import Corpora
from features.estimate import mean
from features.registry import Session
from features.rows import Feature
from features.tasks import Task


class KShot:
    """`kshot_acc`, `kshot_nll`, and for tasks with choices `kshot_acc_norm`, `kshot_margin`, `kshot_prob`; `kshot_shots`.

    The number of shots is the task's (`num_fewshot`; 5 where it leaves it open), drawn for each example by its id, so that every
    checkpoint sees the same prompts. Where a checkpoint's window is too small, whole shots are dropped from the front:
    `kshot_shots` is how many were used on average.

    Parameters
    ----------
    seed : of the shots
    """

    name: ClassVar[str] = "kshot"
    version: ClassVar[int] = 1
    scope: ClassVar[Literal["checkpoint", "task"]] = "task"
    produces: ClassVar[tuple[str, ...]] = tuple(f"kshot_{name}" for name in (*KINDS, "shots"))

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def settings(self) -> dict[str, Any]:
        return {"seed": self.seed, "most_answers": MOST_ANSWERS}

    def data_digest(self, task: Task | None, corpora: Corpora) -> str:
        return task.digest if task is not None else ""

    def applies(self, kind: str, task: Task | None) -> bool:
        return task is not None and task.num_fewshot > 0

    def measure(self, session: Session) -> list[Feature]:
        task = session.a_task
        examples = session.examples("features")
        found = answer(session.scorer, task, examples, shots=task.num_fewshot, seed=self.seed)
        session.keep(task.templates[0], **found.arrays(examples))
        rows = found.features("kshot", task.weights_of(examples))
        used, stderr = mean(found.shots)
        return [*rows, Feature("kshot_shots", used, stderr=stderr, count=len(examples))]
