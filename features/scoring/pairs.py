"""From hidden states to scores: the output layer at the scored positions only, in float32, a slice of the logits at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from features.errors import CheckpointError
from features.model import Model
from features.scoring.memory import Budget
from features.scoring.records import RowScores


def score_pairs(head: Callable[[Any], Any], states: Any, lines: np.ndarray, targets: np.ndarray, budget: Budget) -> np.ndarray:
    """(2, P) float32: log-probability of each target at its line, and 1 where it is the line's likeliest token.

    `states` is (S, W), `head` gives the logits (L, V) of L states; `lines` (P,) may repeat (several targets of one position:
    its logits are computed once). One transfer from the device.
    """
    import torch

    if not len(lines):
        return np.zeros((2, 0), dtype=np.float32)
    order = np.argsort(lines, kind="stable")
    places, inverse = np.unique(lines[order], return_inverse=True)
    wanted, which = (torch.from_numpy(np.ascontiguousarray(values)).to(states.device) for values in (targets[order], inverse))
    chosen = states if len(places) == states.shape[0] else states[torch.from_numpy(places).to(states.device)]
    found = []
    for first in range(0, len(places), budget.head_rows):
        low, high = np.searchsorted(inverse, (first, first + budget.head_rows))
        logits = head(chosen[first : first + budget.head_rows]).float()
        line, target = which[low:high] - first, wanted[low:high]
        logprobs = logits[line, target] - logits.logsumexp(-1)[line]
        found.append(torch.stack([logprobs, (logits.argmax(-1)[line] == target).float()]))
    scores = np.empty((2, len(lines)), dtype=np.float32)
    scores[:, order] = torch.cat(found, dim=1).cpu().numpy()
    return scores


def checked(scores: np.ndarray, counts: Sequence[int], model: Model) -> list[RowScores]:
    """(2, P) scores cut into rows of `counts` pairs. Raises CheckpointError where one is not finite."""
    if not np.isfinite(scores).all():
        raise CheckpointError(
            "its logits are not finite", where=model.name, remedy=f"the weights are damaged, or overflow in {model.dtype}"
        )
    ends = np.cumsum(counts)[:-1]
    return [RowScores(lp, g > 0.5) for lp, g in zip(np.split(scores[0], ends), np.split(scores[1], ends), strict=True)]
