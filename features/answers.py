"""How a checkpoint does on each example of a task: the gold's likelihood, its margin over the others, whether it would be chosen.

Accuracy throws away by how much: near chance, where small checkpoints are, the likelihood of the gold answer still tells them
apart, and is the
better proxy (DataDecide, 2025). So both are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.errors import CheckpointError
from features.estimate import mean
from features.rows import Feature
from features.scoring import Score, Scorer
from features.tasks import Example, Requests, Task

KINDS = ("acc", "acc_norm", "nll", "margin", "prob")  # what is known of a task with choices
MOST_ANSWERS = 4  # aliases of an answer that are scored in generation


@dataclass(frozen=True)
class Answers:
    """One entry for each example, in order; arrays of shape (n,).

    Attributes
    ----------
    nll : negative log-likelihood of the gold (nats, summed over its tokens); in generation, of the first answer
    correct : choice: whether the gold has the highest likelihood. Generation: whether greedy decoding would produce one of the
        answers
        (lm-evaluation-harness's `acc` of both types)
    correct_norm : choice: the same with each likelihood divided by its text's length in characters (`acc_norm`); else None
    margin : choice: log-likelihood of the gold minus that of the best other (nats); else None
    prob : choice: likelihood of the gold over the sum of all choices'; else None
    logprobs : the log-likelihood of each choice, one array for each example
    shots : how many shots each prompt has
    """

    nll: np.ndarray
    correct: np.ndarray
    correct_norm: np.ndarray | None
    margin: np.ndarray | None
    prob: np.ndarray | None
    logprobs: list[np.ndarray]
    shots: np.ndarray

    def arrays(self, examples: Sequence[Example]) -> dict[str, np.ndarray]:
        """What is known of each example, for `Session.keep`: ids, labels (text), nll, probability (of the gold among its
        choices; in
        generation its likelihood) and correct.
        """
        return {
            "ids": np.asarray([example.id for example in examples]),
            "labels": np.asarray([example.label or "" for example in examples]),
            "nll": self.nll,
            "probability": np.exp(-self.nll) if self.prob is None else self.prob,
            "correct": self.correct,
        }

    def features(self, prefix: str, weights: Sequence[float] | None = None, suffix: str = "") -> list[Feature]:
        """`PREFIX_acc`, `_acc_norm`, `_nll`, `_margin`, `_prob`: means over the examples."""
        kinds = [
            ("acc", self.correct, 1),
            ("acc_norm", self.correct_norm, 1),
            ("nll", self.nll, -1),
            ("margin", self.margin, 1),
            ("prob", self.prob, 1),
        ]
        rows = []
        for name, values, direction in kinds:
            if values is not None:
                value, stderr = mean(values, weights)
                rows.append(Feature(f"{prefix}_{name}{suffix}", value, stderr=stderr, count=len(values), direction=direction))
        return rows


def answer(
    scorer: Scorer, task: Task, examples: Sequence[Example], *, shots: int = 0, template: int = 0, seed: int = 0
) -> Answers:
    """Score the examples, each with `shots` shots, or with as many of them as its window holds.

    Raises CheckpointError where an example does not fit without any shot: a number measured on a cut question would not compare.
    """
    drawn = [task.shots_for(example, shots, seed) for example in examples]
    requests, drawn = _fitted(scorer, task, examples, drawn, template)
    scores = requests.grouped(scorer.loglikelihood_detail(requests))
    used = np.asarray([len(some) for some in drawn])
    if task.kind == "generate":
        return _generated(scores, used)
    return _chosen(task, examples, scores, used, template)


def _chosen(
    task: Task, examples: Sequence[Example], scores: Sequence[Sequence[Score]], used: np.ndarray, template: int
) -> Answers:
    logprobs = [np.asarray([score.logprob for score in group]) for group in scores]
    golds = [example.gold or 0 for example in examples]
    texts = [example.rendered[template].choices or example.rendered[template].contexts for example in examples]
    return Answers(
        nll=np.asarray([-found[gold] for found, gold in zip(logprobs, golds, strict=True)]),
        correct=np.asarray([float(np.argmax(found) == gold) for found, gold in zip(logprobs, golds, strict=True)]),
        correct_norm=np.asarray(
            [
                float(np.argmax(found / [len(text) for text in own]) == gold)
                for found, own, gold in zip(logprobs, texts, golds, strict=True)
            ]
        ),
        margin=np.asarray([found[gold] - np.delete(found, gold).max() for found, gold in zip(logprobs, golds, strict=True)]),
        prob=np.asarray([_softmax(found)[gold] for found, gold in zip(logprobs, golds, strict=True)]),
        logprobs=logprobs,
        shots=used,
    )


def _generated(scores: Sequence[Sequence[Score]], used: np.ndarray) -> Answers:
    return Answers(
        nll=np.asarray([-group[0].logprob for group in scores]),
        correct=np.asarray([float(any(score.greedy for score in group)) for group in scores]),
        correct_norm=None,
        margin=None,
        prob=None,
        logprobs=[np.asarray([score.logprob for score in group]) for group in scores],
        shots=used,
    )


def _softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max())
    return raised / raised.sum()


def _fitted(
    scorer: Scorer, task: Task, examples: Sequence[Example], drawn: list[list[Example]], template: int
) -> tuple[Requests, list[list[Example]]]:
    """Requests that fit the checkpoint's window, whole shots dropped from the front where they must be."""
    pairs = [_pairs(task, example, some, template) for example, some in zip(examples, drawn, strict=True)]
    open_places = list(range(len(examples)))
    while open_places:
        excess = _excess(scorer, [pairs[i] for i in open_places])
        over = [(i, more) for i, more in zip(open_places, excess, strict=True) if more > 0]
        for i, more in over:
            if not drawn[i]:
                alone = _excess(scorer, [_pairs(task, example, (), template) for example in examples])
                raise CheckpointError(
                    f"{sum(size > 0 for size in alone)} of {len(examples)} questions do not fit its window of "
                    f"{scorer.model.max_length} tokens even without shots; that of example {examples[i].id!r} is {more} over it",
                    where=f"{scorer.model.name} on {task.name}",
                    remedy="cut it in doc_to_text, e.g. {{ text[:1000] }}",
                )
            drawn[i] = drawn[i][1:]
            pairs[i] = _pairs(task, examples[i], drawn[i], template)
        open_places = [i for i, _ in over]
    requests = Requests()
    for own in pairs:
        requests.spans.append(slice(len(requests), len(requests) + len(own)))
        requests.extend(own)
    return requests, drawn


def _pairs(task: Task, example: Example, shots: Sequence[Example], template: int) -> list[tuple[str, str]]:
    pairs = task.prompt(example, shots, template)
    return pairs[:MOST_ANSWERS] if task.kind == "generate" else pairs


def _excess(scorer: Scorer, groups: Sequence[Sequence[tuple[str, str]]]) -> list[int]:
    """For each group of requests, by how many tokens its longest is over the window (0 or less: it fits)."""
    model = scorer.model
    margin = sum(map(len, scorer.encoder.affixes())) + 1
    longest = [max(len(context.encode()) + len(text.encode()) for context, text in group) for group in groups]
    unsure = [i for i, size in enumerate(longest) if size + margin > model.max_length]  # a token is at least a byte
    excess = [0] * len(groups)
    flat = [(i, pair) for i in unsure for pair in groups[i]]
    for (i, _), (context, text) in zip(flat, scorer.encoder.pairs([pair for _, pair in flat]), strict=True):
        if model.kind == "seq2seq":
            over = max(len(context), len(text)) - model.max_length
        elif model.kind == "masked":
            over = len(context) + len(text) + margin - 1 - model.max_length
        else:
            over = len(context) + len(text) - 1 - model.max_length
        excess[i] = max(excess[i], over)
    return excess
