"""The outcome of one fine-tuned checkpoint: its figures on the task's test examples. Each is higher for better.

    accuracy            share of examples whose gold choice has the highest log-likelihood (of lm-evaluation-harness, `acc`)
    accuracy_norm       the same by log-likelihood per byte of the choice (`acc_bytes`)
    gold_probability    mean probability of the gold choice among the choices
    exact_match         generation: share of examples where greedy decoding would produce one of the accepted answers, token for
                        token
    gold_loglikelihood  mean log-likelihood of the gold continuation, nats per byte; in generation of the likeliest accepted
                        answer

A choice task has all but exact_match, generation the last two. Where accuracies of tiny checkpoints stay at chance, the two
continuous ones still tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import CheckpointError, UserError

if TYPE_CHECKING:
    from features.model import Model
    from features.tasks import Example, Task

METRICS = ("accuracy", "accuracy_norm", "gold_probability", "exact_match", "gold_loglikelihood")


def metric_for(kind: str, wanted: str = "auto") -> str:
    """The metric that serves as outcome: `wanted`, or accuracy for a choice task and exact_match for generation.

    Raises
    ------
    UserError : no such metric, or the task has none of it
    """
    if wanted == "auto":
        return "accuracy" if kind == "multiple_choice" else "exact_match"
    having = [
        m for m in METRICS if (m != "exact_match" if kind == "multiple_choice" else m in ("exact_match", "gold_loglikelihood"))
    ]
    if wanted not in having:
        raise UserError(f"a {kind} task has no metric {wanted!r}", where="metric", remedy=f"use auto, {', '.join(having)}")
    return wanted


def by_likelihood(model: Model, task: Task, examples: Sequence[Example]) -> dict[str, float]:
    """Figures by scoring every choice, or every accepted answer, given the prompt (no shots).

    Raises
    ------
    CheckpointError : the fine-tuned checkpoint gives numbers that are not finite
    """
    from features.scoring import Scorer

    requests = task.requests(examples)
    scores = Scorer(model).loglikelihood(requests)
    sizes = [max(len(continuation.lstrip().encode()), 1) for _, continuation in requests]
    per_example = requests.grouped(list(zip(scores, sizes, strict=True)))
    if task.kind == "generate":
        return {
            "exact_match": float(np.mean([any(score[1] for score, _ in found) for found in per_example])),
            "gold_loglikelihood": float(np.mean([max(score[0] / size for score, size in found) for found in per_example])),
        }
    logprobs = [np.array([score[0] for score, _ in found]) for found in per_example]
    bytes_ = [np.array([size for _, size in found], dtype=float) for found in per_example]
    return _choice_figures(logprobs, [example.gold or 0 for example in examples], bytes_)


def by_classifier(
    module: Any, model: Model, rows: Sequence[dict[str, Any]], label_bytes: Sequence[int], batch_size: int = 64
) -> dict[str, float]:
    """Figures of a classification head: `rows` are prompts and gold labels (`training.supervision.prompts`)."""
    import torch

    from training.supervision import collator

    pad = model.tokenizer.pad_token_id
    collate = collator("classifier", pad=pad if pad is not None else 0)
    device = next(module.parameters()).device
    logprobs: list[Any] = [None] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]["input_ids"]))
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        batch = {key: value.to(device) for key, value in collate([rows[i] for i in places]).items() if key != "labels"}
        with torch.inference_mode():
            found = torch.log_softmax(module(**batch).logits.float(), dim=-1).cpu().numpy().astype(float)
        if not np.isfinite(found).all():
            raise CheckpointError("its classification head gives numbers that are not finite", where=model.name)
        for place, row in zip(places, found, strict=True):
            logprobs[place] = row
    sizes = np.array(label_bytes, dtype=float)
    figures = _choice_figures(logprobs, [row["labels"] for row in rows], [sizes] * len(rows))
    return {**figures, "accuracy_norm": figures["accuracy"]}  # a head's logits have no length to be divided by


def _choice_figures(logprobs: Sequence[np.ndarray], golds: Sequence[int], sizes: Sequence[np.ndarray]) -> dict[str, float]:
    gold = [row[g] for row, g in zip(logprobs, golds, strict=True)]
    return {
        "accuracy": float(np.mean([int(np.argmax(row)) == g for row, g in zip(logprobs, golds, strict=True)])),
        "accuracy_norm": float(np.mean([int(np.argmax(row / n)) == g for row, n, g in zip(logprobs, sizes, golds, strict=True)])),
        "gold_probability": float(np.mean([_softmax(row)[g] for row, g in zip(logprobs, golds, strict=True)])),
        "gold_loglikelihood": float(np.mean([x / n[g] for x, n, g in zip(gold, sizes, golds, strict=True)])),
    }


def _softmax(logprobs: np.ndarray) -> np.ndarray:
    odds = np.exp(logprobs - logprobs.max())
    return odds / odds.sum()
