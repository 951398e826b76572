"""All transferability scores of a checkpoint on a task, from one pass over the task's examples.

What is represented depends on the task:

    the same choices for every example    the prompt; its class is the gold label, and its target the label's number where
    labels are numbers
    choices of its own for each example   the prompt with each choice, less the mean over the example's choices; the class
    is right or wrong
    answers that are numbers              the prompt; its target is the answer, and there are regression scores only

The prompt is that of the first template without shots, so that the last token stands where the answer is due.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from features.errors import ForetuneError
from features.registry import Session
from features.representations import Representations, depth, represent
from features.rows import Feature
from features.transferability.hscore import hscore
from features.transferability.jackknife import jackknife
from features.transferability.knn import knn, knn_regression
from features.transferability.leep import leep, nce
from features.transferability.logme import logme, logme_regression
from features.transferability.parc import parc
from features.transferability.transrate import transrate

if TYPE_CHECKING:
    from features.corpora import Corpora
    from features.tasks import Example, Task

Score = Callable[[NDArray, NDArray], float]
_NEIGHBOURS = 5
_PAIRED = 500  # examples at most for PARC, whose cost is quadratic


@dataclass(frozen=True)
class Frozen:
    """A task's examples under one checkpoint, shared by everything that reads frozen representations.

    Attributes
    ----------
    representations : of N rows: prompts, or prompt and choice
    classes : shape (N,); None where the task has none
    targets : graded labels, shape (N,); None where the task has none
    example : which example each row belongs to, shape (N,)
    own_choices : whether the examples have choices of their own
    """

    representations: Representations
    classes: NDArray[np.int64] | None
    targets: NDArray[np.float64] | None
    example: NDArray[np.int64]
    own_choices: bool

    def of(self, pooling: str, layer: int | str = -1) -> NDArray[np.float64]:
        """Features (N, D) in float64, contrasted within each example where it has choices of its own."""
        values = self.representations.of(pooling, layer).astype(np.float64)
        if not self.own_choices:
            return values
        sizes = np.bincount(self.example)
        sums = np.zeros((len(sizes), values.shape[1]))
        np.add.at(sums, self.example, values)
        return values - (sums / sizes[:, None])[self.example]


def frozen(session: Session, *, answers: int = 1024) -> Frozen:
    """The representations of the session's task, measured once for a checkpoint and kept in the session's cache."""
    task = session.a_task
    key = ("frozen", task.digest, answers)
    if key not in session.cache:
        examples = session.examples("features")
        own_choices = task.kind == "multiple_choice" and not task.labels
        classes = None
        if own_choices:
            requests = task.requests(examples)
            texts = [context + continuation for context, continuation in requests]
            example = np.repeat(np.arange(len(examples)), [span.stop - span.start for span in requests.spans])
            right = [np.arange(s.stop - s.start) == e.gold for s, e in zip(requests.spans, examples, strict=True)]
            classes = np.concatenate(right).astype(np.int64)
        else:
            texts, example = [e.query for e in examples], np.arange(len(examples))
            if task.kind == "multiple_choice":
                classes = np.array([e.gold for e in examples], dtype=np.int64)
        found = represent(
            session.model,
            texts,
            poolings=("mean", beside(session.model.kind)),
            layers=[*range(1, depth(session.model) + 1), "average"],
            answers=0 if own_choices or classes is None or session.model.headless else answers,
            memory_budget_mb=session.memory_budget_mb,
        )
        session.cache[key] = Frozen(found, classes, _targets(task, examples), example, own_choices)
    kept: Frozen = session.cache[key]
    return kept


def _targets(task: Task, examples: Sequence[Example]) -> NDArray[np.float64] | None:
    """Graded labels: the labels' names where they are all numbers, or the answers where they are; None elsewhere."""
    if task.kind == "generate":
        numbers = [e.target for e in examples]
        return np.array(numbers, dtype=np.float64) if numbers and all(n is not None for n in numbers) else None
    try:
        return np.array([float(task.labels[e.gold or 0]) for e in examples]) if task.labels else None
    except ValueError:
        return None


def beside(kind: str) -> Literal["first", "last"]:
    """The pooling measured beside the mean: the first token of a masked checkpoint, the last of the others."""
    return "first" if kind == "masked" else "last"


class Transferability:
    """LogME, H-score, TransRate, PARC, k-NN, LEEP and NCE as features of (checkpoint, task).

    Names: ``logme_mean`` is LogME of the mean over tokens of the last layer; ``_last`` (``_first`` for masked
    checkpoints) of that one
    token; ``_mean_layeravg`` of the average over layers; ``_mean_bestlayer`` the best of all layers, whose relative depth is
    ``logme_mean_bestlayer_depth``; ``logme_graded_mean`` and ``knn_graded_mean`` are the regression scores of graded
    labels. ``leep`` and
    ``nce`` read the head's 1,024 likeliest tokens at the answer's place, as source labels; they need the same choices
    for every example.
    """

    name: ClassVar[str] = "transferability"
    version: ClassVar[int] = 1
    scope: ClassVar[Literal["checkpoint", "task"]] = "task"
    produces: ClassVar[tuple[str, ...]] = ("logme_*", "hscore_*", "transrate_*", "parc_*", "knn_*", "leep", "nce")

    def __init__(self, *, answers: int = 1024, groups: int = 10) -> None:
        self.answers = answers
        self.groups = groups

    def settings(self) -> dict[str, Any]:
        """Everything that changes the numbers."""
        return {"answers": self.answers, "groups": self.groups, "k": _NEIGHBOURS, "paired": _PAIRED}

    def data_digest(self, task: Task | None, corpora: Corpora) -> str:
        """The task's digest, all its roles included."""
        return "" if task is None else task.digest

    def applies(self, kind: str, task: Task | None) -> bool:
        """Choice tasks, and tasks whose answers are numbers, of any checkpoint."""
        return task is not None and (task.kind == "multiple_choice" or _targets(task, task.examples("features")) is not None)

    def measure(self, session: Session) -> list[Feature]:
        """The features. One that cannot be computed is a row with its error; raises CheckpointError where the pass
        itself fails."""
        data = frozen(session, answers=self.answers)
        rows = [] if data.classes is None else self._of_classes(data, data.classes, beside(session.model.kind))
        if data.targets is not None:
            features = data.of("mean")
            rows.append(self._feature("logme_graded_mean", logme_regression, features, data.targets, data.example))
            rows.append(
                self._feature("knn_graded_mean", partial(knn_regression, k=_NEIGHBOURS), features, data.targets, data.example)
            )
        return [_dearer(row, data.representations.seconds / len(rows)) for row in rows]

    def _of_classes(self, data: Frozen, classes: NDArray, other: str) -> list[Feature]:
        """The scores that need classes, one matrix of features at a time."""
        units, rows = data.example, []
        three: list[tuple[str, Score]] = [("logme", logme), ("hscore", hscore), ("knn", partial(knn, k=_NEIGHBOURS))]
        for pooling in ("mean", other):
            features = data.of(pooling)
            rows += [self._feature(f"{name}_{pooling}", score, features, classes, units) for name, score in three]
            if pooling == "mean":
                few = _sample(len(classes), _PAIRED)
                rows.append(self._feature("transrate_mean", _scaled_transrate, features, classes, units))
                rows.append(self._feature("parc_mean", parc, features[few], classes[few], units[few]))
        average = data.of("mean", "average")
        rows += [self._feature(f"{name}_mean_layeravg", score, average, classes, units) for name, score in three[:2]]
        answers = data.representations.answers
        if answers is not None:
            rows.append(self._feature("leep", leep, answers, classes, units))
            rows.append(self._feature("nce", nce, named(answers), classes, units))
        return rows + self._best_layers(data, classes)

    def _feature(self, name: str, score: Score, features: NDArray, labels: NDArray, units: NDArray) -> Feature:
        started = time.perf_counter()
        value, stderr, error = None, None, ""
        try:
            value = score(features, labels)
            stderr = jackknife(score, features, labels, units=units, groups=self.groups)
        except ForetuneError as failure:
            error = str(failure)
        seconds = time.perf_counter() - started
        return Feature(name, value, stderr=stderr, count=len(np.unique(units)), seconds=seconds, direction=1, error=error)

    def _best_layers(self, data: Frozen, classes: NDArray) -> list[Feature]:
        """LogME and H-score of the best layer, each with the standard error that this layer has, and LogME's depth."""
        layers = data.representations.depth
        scores: dict[str, Score] = {"logme": logme, "hscore": hscore}
        values = {name: np.full(layers, -np.inf) for name in scores}
        spent = dict.fromkeys(scores, 0.0)
        for layer in range(layers):
            features = data.of("mean", layer + 1)  # read once, whatever scores it
            for name, score in scores.items():
                started = time.perf_counter()
                with suppress(ForetuneError):  # a layer that says nothing is never the best
                    values[name][layer] = score(features, classes)
                spent[name] += time.perf_counter() - started
        found = []
        for name, score in scores.items():
            best = int(np.argmax(values[name]))
            measured = self._feature(f"{name}_mean_bestlayer", score, data.of("mean", best + 1), classes, data.example)
            found.append(_dearer(measured, spent[name]))
            if name == "logme" and not measured.error:
                found.append(Feature("logme_mean_bestlayer_depth", (best + 1) / layers, count=measured.count))
        return found


def named(answers: NDArray) -> NDArray:
    """The head's probabilities without the column of all other tokens (the last), so that a source label is always a token."""
    kept = answers.copy()
    kept[answers[:, :-1].any(axis=1), -1] = 0
    return kept / kept.sum(axis=1, keepdims=True)


def _scaled_transrate(features: NDArray, labels: NDArray) -> float:
    """TransRate of features scaled to unit mean square about their mean, so that checkpoints of different scales compare."""
    centred = features - features.mean(axis=0)
    scale = np.sqrt((centred**2).mean())
    return transrate(centred / scale if scale > 0 else features, labels)


def _sample(count: int, limit: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(0).permutation(count)[:limit])


def _dearer(row: Feature, seconds: float) -> Feature:
    return replace(row, seconds=row.seconds + seconds)
