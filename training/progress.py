"""The bar of a fine-tuning: optimiser steps done and the time left, on stderr."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from features.zoo import Zoo
from training.exam import Exam
from training.trainable import Recipe


class Bar:
    """Steps done and time left, on stderr; stored fine-tunings count as done at once and not as fast ones."""

    def __init__(self, zoo: Zoo, exams: Sequence[Exam], recipe: Recipe, seeds: int, shown: bool) -> None:
        share = 0.9 if recipe.early_stopping else 1.0
        per_exam = [math.ceil(max(round(share * len(e.train)), 1) / recipe.batch_size) * recipe.epochs for e in exams]
        self._units = [steps for _ in zoo.checkpoints for steps in per_exam for _ in range(seeds)]
        self._total, self._shown = sum(self._units), shown
        self._unit = self._in_unit = 0

    def __enter__(self) -> Bar:
        from tqdm import tqdm

        self._bar = tqdm(
            total=self._total, disable=not self._shown, file=sys.stderr, unit="step", desc="fine-tuning", dynamic_ncols=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def says(self, what: str) -> None:
        self._bar.set_description(what, refresh=False)

    def write(self, line: str) -> None:
        """A line on stderr that leaves the bar whole."""
        self._bar.write(line, file=sys.stderr)

    def step(self) -> None:
        self._in_unit += 1
        self._bar.update()

    def unit_done(self) -> None:
        """Whatever is left of this fine-tuning (stored, failed or stopped early) is no longer ahead."""
        rest = self._units[self._unit] - self._in_unit
        self._unit, self._in_unit = self._unit + 1, 0
        if rest:
            self._bar.total -= rest
            self._bar.refresh()
