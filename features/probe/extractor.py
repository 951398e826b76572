"""Short fine-tuning as features of (checkpoint, task)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from features.datalaw import fit
from features.errors import DataError, ForetuneError
from features.estimate import mean
from features.probe.budget import Budget
from features.probe.run import RECIPES, Curve, short_run
from features.registry import Session
from features.rows import Feature
from features.splits import spread

if TYPE_CHECKING:
    from features.corpora import Corpora
    from features.tasks import Example, Task


class Probe:
    """Short fine-tuning of (checkpoint, task) as features, for each recipe R of `recipes` (the class's own where left out).

    ``probe_R_loss`` and ``probe_R_acc`` at the end; ``probe_R_gain`` the loss that the probe has saved and ``probe_R_slope``
    the change of the loss per doubling of the examples, neither with a direction: a checkpoint that starts badly gains most;
    ``probe_R_law_loss`` the loss that the data law expects at all training examples; ``probe_R_gradient`` the mean norm of the
    gradient; ``probe_R_share`` the cost as a share of full fine-tuning. The curve itself is kept under ``probe_R``: the arrays of
    `Curve`, so that a law can be fitted again without training.
    """

    name: ClassVar[str] = "probe"
    version: ClassVar[int] = 2
    scope: ClassVar[Literal["checkpoint", "task"]] = "task"
    produces: ClassVar[tuple[str, ...]] = ("probe_full_*",)
    default: ClassVar[bool] = False  # it trains: measured when it is asked for by name
    recipe: ClassVar[str] = "full"
    paid: ClassVar[float] = 0.05  # share of the full fine-tuning, unless told otherwise

    def __init__(
        self,
        *,
        recipes: Sequence[str] | None = None,
        share: float | None = None,
        epochs: int = 3,
        learning_rate: float | None = None,
        seed: int = 0,
    ) -> None:
        self.recipes = (self.recipe,) if recipes is None else tuple(recipes)
        self.share = self.paid if share is None else share
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.seed = seed

    def settings(self) -> dict[str, Any]:
        """Everything that changes the numbers."""
        return {
            "recipes": list(self.recipes),
            "share": self.share,
            "epochs": self.epochs,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
        }

    def data_digest(self, task: Task | None, corpora: Corpora) -> str:
        """The task's digest, all its roles included."""
        return "" if task is None else task.digest

    def applies(self, kind: str, task: Task | None) -> bool:
        """Every task, of any checkpoint."""
        return task is not None

    def measure(self, session: Session) -> list[Feature]:
        """The features; a recipe that fails is a row ``probe_R_loss`` with its error."""
        rows: list[Feature] = []
        for recipe in self.recipes:
            if recipe not in RECIPES:
                raise DataError(f"no recipe {recipe!r}", where="probe", remedy=f"use {', '.join(RECIPES)}")
            started = time.perf_counter()
            prefix = self.prefix(recipe)
            try:
                found = self._recipe(session, recipe, prefix)
            except ForetuneError as error:
                found = [Feature(f"{prefix}_loss", direction=-1, error=str(error))]
            seconds = (time.perf_counter() - started) / len(found)
            rows += [replace(row, seconds=seconds) for row in found]
        return rows

    def prefix(self, recipe: str) -> str:
        """What the names of a recipe's features begin with."""
        return f"probe_{recipe.replace('-', '_')}"

    def _recipe(self, session: Session, recipe: str, prefix: str) -> list[Feature]:
        task, train, held_out = session.a_task, session.examples("train"), session.examples("features")
        choices = len(task.requests(held_out)) / max(len(held_out), 1)
        budget = Budget.plan(len(train), len(held_out), choices, share=self.share, epochs=self.epochs)
        drawn = _drawn(train, budget.steps[-1] * budget.batch, self.seed)
        held = _drawn(held_out, max(budget.measured, budget.chosen), self.seed)
        curve = short_run(
            session.model, task, drawn, held, budget, recipe=recipe, learning_rate=self.learning_rate, seed=self.seed
        )
        session.keep(prefix, examples=curve.examples, losses=curve.losses, gradients=curve.gradients, right=curve.right)
        return [
            *of_curve(curve, prefix, len(train)),
            Feature(f"{prefix}_share", budget.share, count=len(curve.gradients)),
        ]


class LastLayerProbe(Probe):
    """The same with only the output layer trained: ``probe_last_layer_...``."""

    name: ClassVar[str] = "probe_last_layer"
    produces: ClassVar[tuple[str, ...]] = ("probe_last_layer_*",)
    recipe: ClassVar[str] = "last-layer"


class LoraProbe(Probe):
    """The same with LoRA adapters of rank 8 on all linear layers: ``probe_lora_...``."""

    name: ClassVar[str] = "probe_lora"
    produces: ClassVar[tuple[str, ...]] = ("probe_lora_*",)
    recipe: ClassVar[str] = "lora"


class LongProbe(Probe):
    """The whole model for a fifth of the full cost, where a fifth is to be had: ``probe_long_...``."""

    name: ClassVar[str] = "probe_long"
    produces: ClassVar[tuple[str, ...]] = ("probe_long_*",)
    paid: ClassVar[float] = 0.2

    def prefix(self, recipe: str) -> str:
        return "probe_long" if recipe == "full" else super().prefix(recipe)


def of_curve(curve: Curve, prefix: str, full: int) -> list[Feature]:
    """The features of a run; `full` is the number of training examples that the data law is asked about."""
    count = curve.losses.shape[1]
    loss, loss_error = mean(curve.losses[-1])
    gain, gain_error = mean(curve.losses[0] - curve.losses[-1])
    doublings = np.log2(curve.examples[1:])
    weights = (doublings - doublings.mean()) / max(((doublings - doublings.mean()) ** 2).sum(), 1e-12)
    slope, slope_error = mean(weights @ curve.losses[1:])
    gradient, gradient_error = mean(curve.gradients)
    rows = [
        Feature(f"{prefix}_loss", loss, stderr=loss_error, count=count, direction=-1),
        Feature(f"{prefix}_gain", gain, stderr=gain_error, count=count),  # a bad start leaves much to gain: no direction
        Feature(f"{prefix}_gradient", gradient, stderr=gradient_error, count=len(curve.gradients)),
    ]
    if len(doublings) > 1:
        rows.append(Feature(f"{prefix}_slope", slope, stderr=slope_error, count=count))
    if len(curve.right):
        right, right_error = mean(curve.right.astype(float))
        rows.append(Feature(f"{prefix}_acc", right, stderr=right_error, count=len(curve.right), direction=1))
    if len(doublings) >= 4:
        expected, error = _expected(curve, full)
        rows.append(Feature(f"{prefix}_law_loss", expected, stderr=error, count=count, direction=-1))
    return rows


def _expected(curve: Curve, full: int, groups: int = 8) -> tuple[float, float | None]:
    """The data law's loss at `full` examples, and its jackknife standard error over the measured examples."""

    def predict(losses: NDArray) -> float:
        return float(fit(curve.examples[1:], np.maximum(losses.mean(axis=1), 1e-9)).predict(full))

    value, count = predict(curve.losses[1:]), curve.losses.shape[1]
    parts = min(groups, count)
    group = np.arange(count) % parts
    left = np.array([predict(curve.losses[1:, group != g]) for g in range(parts)])
    return value, float(np.sqrt((parts - 1) / parts * ((left - left.mean()) ** 2).sum())) if parts > 1 else None


def _drawn(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """`count` examples spread over the labels, in an order drawn by the seed: the same for every checkpoint."""
    chosen = spread(range(len(examples)), count, [example.label for example in examples], f"{seed}/probe")
    order = np.random.default_rng(seed).permutation(len(chosen))
    return [examples[chosen[i]] for i in order]
