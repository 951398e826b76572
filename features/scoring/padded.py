"""Rows side by side, padded on the right: masked models, and causal ones whose attention cannot be packed.

A causal model is given no padding mask: what stands right of a token cannot reach it, in any architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from features.errors import FailedError
from features.model import Model
from features.scoring.memory import Budget
from features.scoring.pairs import Pairs, checked
from features.scoring.records import Row, RowScores
from features.scoring.transfer import Arriving, send
from features.scoring.trunk import Trunk


def in_batches(
    sizes: Sequence[int], budget: Budget, score: Callable[[list[int]], list[RowScores]], name: str, *, alone: Sequence[bool] = ()
) -> list[RowScores]:
    """Score items in batches of at most `budget.tokens` padded tokens, longest first; the results stand in the items' order.

    `sizes` are the tokens of each item, `score` scores the items at some places; a batch that does not fit in memory is halved.
    `alone` marks items that take a batch each. Raises FailedError if an item was left out.
    """
    waiting = sorted(range(len(sizes)), key=lambda place: -sizes[place])
    found: list[RowScores | None] = [None] * len(sizes)
    while waiting:
        count = max(1, budget.tokens // max(1, sizes[waiting[0]]))
        if alone:
            count = next((i for i, place in enumerate(waiting[:count]) if alone[place]), count) or 1
        batch = waiting[:count]
        try:
            scores = score(batch)
        except (RuntimeError, MemoryError) as cause:
            budget.halve(cause, len(batch) * sizes[batch[0]], name, smallest=len(batch) == 1)
            continue
        for place, given in zip(batch, scores, strict=True):
            found[place] = given
        waiting = waiting[count:]
    return complete(found, name)


def complete(found: Sequence[RowScores | None], name: str) -> list[RowScores]:
    """The scores, if there is one for each row. Raises FailedError if one was left out."""
    given = [scores for scores in found if scores is not None]
    if len(given) != len(found):
        raise FailedError(f"{len(found) - len(given)} of {len(found)} rows were left unscored", where=name)
    return given


class Padded:
    """Padded rows of a causal or masked model."""

    def __init__(self, model: Model, budget: Budget) -> None:
        self.model, self.budget = model, budget
        self.trunk = Trunk(model.module)

    def run(self, rows: Sequence[Row], *, alone: Sequence[bool] = ()) -> list[RowScores]:
        """Scores of distinct rows, in order."""
        sizes = [len(row.ids) for row in rows]
        return in_batches(sizes, self.budget, lambda places: self._score([rows[i] for i in places]), self.model.name, alone=alone)

    def _score(self, rows: list[Row]) -> list[RowScores]:
        import torch

        masked = self.model.kind == "masked"
        table, seen = padded([row.ids for row in rows], pad_id(self.model) if masked else 0)
        lines = np.concatenate([place * table.shape[1] + row.positions for place, row in enumerate(rows)])
        pairs = Pairs(lines, np.concatenate([row.targets for row in rows]))
        ids, mask, *sent = send([table, seen, *pairs.arrays], self.model.device)
        inputs = {"input_ids": ids, "attention_mask": mask} if masked else {"input_ids": ids, "use_cache": False}
        with torch.inference_mode():
            if self.trunk.whole:
                logits = self.trunk.module(**inputs).logits.flatten(0, 1)
                found = pairs.score(lambda chosen: chosen, logits, sent, self.budget)
            else:
                found = pairs.score(self.trunk.logits, self.trunk.states(**inputs).flatten(0, 1), sent, self.budget)
            scores = pairs.restored(Arriving(found).numpy())
        return checked(scores, [len(row.targets) for row in rows], self.model)


def plain(model: Model, row: Row) -> RowScores:
    """One causal row through the module's own forward, with nothing shared or left out: what every other way must equal."""
    import torch

    with torch.inference_mode():
        logits = model.module(input_ids=torch.from_numpy(row.ids)[None].to(model.device), use_cache=False).logits[0]
    chosen = logits[torch.from_numpy(row.positions).to(model.device)].float()
    targets = torch.from_numpy(row.targets).to(model.device)
    logprobs = chosen.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    both = torch.stack([logprobs, (chosen.argmax(-1) == targets).float()]).cpu().numpy()
    return checked(both, [len(row.targets)], model)[0]


def pad(sequences: Sequence[np.ndarray], value: int, device: Any) -> tuple[Any, Any]:
    """`padded` on the device: (ids, mask), (B, T) int64 tensors, in one transfer."""
    ids, mask = send(padded(sequences, value), device)
    return ids, mask


def padded(sequences: Sequence[np.ndarray], value: int) -> tuple[np.ndarray, np.ndarray]:
    """(ids, mask): (B, T) int64 each, padded on the right."""
    width = max(len(ids) for ids in sequences)
    table, mask = np.full((len(sequences), width), value, dtype=np.int64), np.zeros((len(sequences), width), dtype=np.int64)
    for place, ids in enumerate(sequences):
        table[place, : len(ids)] = ids
        mask[place, : len(ids)] = 1
    return table, mask


def pad_id(model: Model) -> int:
    """The tokenizer's padding token, or 0: padding is masked, so any token will do."""
    found = model.tokenizer.pad_token_id
    return 0 if found is None else int(found)
