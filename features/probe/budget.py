"""What a probe may spend: a stated share of the full fine-tuning that it predicts."""

from __future__ import annotations

from dataclasses import dataclass

from features.errors import DataError

TRAINING_COST = 3  # forward passes that a training step is worth


@dataclass(frozen=True)
class Budget:
    """What a probe may spend, in examples passed forward.

    Attributes
    ----------
    batch : examples of a step; steps : after how many steps the loss is measured, beginning with 0
    measured : examples that the loss is measured on at each of these; chosen : examples whose choices are scored at the end
    share : what this costs, as a share of the full fine-tuning
    """

    batch: int
    steps: tuple[int, ...]
    measured: int
    chosen: int
    share: float

    @classmethod
    def plan(cls, train: int, features: int, choices: float, *, share: float, epochs: int) -> Budget:
        """Spend at most `share` of fine-tuning `train` examples for `epochs`, with up to `features` examples to measure on.

        Raises
        ------
        DataError : the share does not pay for two steps of two examples, each measured on eight
        """
        full = TRAINING_COST * epochs * train
        total = share * full
        batch = 8
        while batch > 2 and total / 2 < TRAINING_COST * batch * 8:
            batch //= 2
        last = min(int(total / 2 // (TRAINING_COST * batch)), train // batch)
        steps = tuple(sorted({0, last} | {round(last * part) for part in (0.125, 0.25, 0.5)}))
        chosen = min(features, int(total / 4 // max(choices, 1)))
        measured = min(features, int((total / 2 - chosen * choices) // len(steps)))
        if last < 2 or measured < 8:
            raise DataError(
                f"{share:.0%} of fine-tuning {train} examples for {epochs} epochs does not pay for a probe",
                remedy="raise the share, or leave the probe out",
            )
        spent = TRAINING_COST * batch * last + measured * len(steps) + chosen * choices
        return cls(batch, steps, measured, chosen, spent / full)
