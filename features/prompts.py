"""Zero-shot prompts: accuracy and gold likelihood of a task under each of its templates, and over them all.

One template may go with the fine-tuned accuracy and the next against it ("This is good/bad" r = .502, "It was
positive/negative" r = -.184, over the checkpoints of one run on SST-2): measured apart, the ranker can tell; the mean over
templates
is the safer single number.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from features.answers import KINDS, MOST_ANSWERS, Answers, answer
from features.corpora import Corpora
from features.estimate import mean
from features.registry import Session
from features.rows import Feature
from features.tasks import Task


class ZeroShotPrompts:
    """`prompt_acc`, `prompt_nll`, ...: means over examples and templates; with several templates also one of each, as
    `prompt_acc_NAME`, and `prompt_acc_ensemble`: the accuracy of the choice with the highest likelihood averaged over templates.

    The standard error of a mean over templates is over examples, each example's values averaged over templates first.
    """

    name: ClassVar[str] = "prompt"
    version: ClassVar[int] = 1
    scope: ClassVar[Literal["checkpoint", "task"]] = "task"
    produces: ClassVar[tuple[str, ...]] = tuple(f"prompt_{name}{suffix}" for name in KINDS for suffix in ("", "_*"))

    def settings(self) -> dict[str, Any]:
        return {"most_answers": MOST_ANSWERS}

    def data_digest(self, task: Task | None, corpora: Corpora) -> str:
        return task.digest if task is not None else ""

    def applies(self, kind: str, task: Task | None) -> bool:
        return task is not None

    def measure(self, session: Session) -> list[Feature]:
        task, examples = session.a_task, session.examples("features")
        weights = task.weights_of(examples)
        each = [answer(session.scorer, task, examples, template=i) for i in range(len(task.templates))]
        for name, found in zip(task.templates, each, strict=True):
            session.keep(name, **found.arrays(examples))
        rows = _averaged(each).features("prompt", weights)
        if len(each) > 1:
            for name, found in zip(task.templates, each, strict=True):
                rows += found.features("prompt", weights, suffix=f"_{name}")
            if task.kind == "multiple_choice":
                golds = [example.gold for example in examples]
                sums = [np.sum(group, axis=0) for group in zip(*(found.logprobs for found in each), strict=True)]
                value, stderr = mean([float(np.argmax(total) == gold) for total, gold in zip(sums, golds, strict=True)], weights)
                rows.append(Feature("prompt_acc_ensemble", value, stderr=stderr, count=len(examples), direction=1))
        return rows


def _averaged(each: list[Answers]) -> Answers:
    """Every example's values averaged over the templates."""

    def over(name: str) -> np.ndarray | None:
        values = [getattr(found, name) for found in each]
        return None if values[0] is None else np.mean(values, axis=0)

    first = each[0]
    return Answers(
        nll=np.mean([found.nll for found in each], axis=0),
        correct=np.mean([found.correct for found in each], axis=0),
        correct_norm=over("correct_norm"),
        margin=over("margin"),
        prob=over("prob"),
        logprobs=first.logprobs,
        shots=first.shots,
    )
