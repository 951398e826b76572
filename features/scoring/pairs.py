"""From hidden states to scores: the output layer at the scored positions only, in float32, a slice of the logits at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from features.errors import CheckpointError
from features.model import Model
from features.scoring.memory import Budget
from features.scoring.records import RowScores


class Pairs:
    """Which token is scored at which line of a batch's states: P (line, target) pairs.

    Lines may repeat (several targets of one position: its logits are computed once). `arrays` is what the device needs.
    """

    def __init__(self, lines: np.ndarray, targets: np.ndarray) -> None:
        self.order = np.argsort(lines, kind="stable")
        self.places, self.which = np.unique(lines[self.order], return_inverse=True)
        self.arrays = (self.places, self.which, targets[self.order])

    def score(self, head: Callable[[Any], Any], states: Any, sent: Sequence[Any], budget: Budget) -> Any:
        """(2, P) float32 on the device, in rising order of lines: the log-probability of each target, and 1 where it is the
        line's likeliest token.

        `states` is (S, W), `head` gives the logits (L, V) of L states; `sent` is `arrays` on the device.
        """
        import torch

        places, which, wanted = sent
        chosen = states if len(self.places) == states.shape[0] else states[places]
        found = []
        for first in range(0, len(self.places), budget.head_rows):
            low, high = np.searchsorted(self.which, (first, first + budget.head_rows))
            logits = head(chosen[first : first + budget.head_rows]).float()
            line, target = which[low:high] - first, wanted[low:high]
            logprobs = logits[line, target] - logits.logsumexp(-1)[line]
            found.append(torch.stack([logprobs, (logits.argmax(-1)[line] == target).float()]))
        return torch.cat(found, dim=1)

    def restored(self, scores: np.ndarray) -> np.ndarray:
        """Scores in the order that the pairs were given in."""
        found = np.empty_like(scores)
        found[:, self.order] = scores
        return found


def checked(scores: np.ndarray, counts: Sequence[int], model: Model) -> list[RowScores]:
    """(2, P) scores cut into rows of `counts` pairs. Raises CheckpointError where one is not finite."""
    if not np.isfinite(scores).all():
        raise CheckpointError(
            "its logits are not finite", where=model.name, remedy=f"the weights are damaged, or overflow in {model.dtype}"
        )
    ends = np.cumsum(counts)[:-1]
    return [RowScores(lp, g > 0.5) for lp, g in zip(np.split(scores[0], ends), np.split(scores[1], ends), strict=True)]
