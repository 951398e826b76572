"""Rows side by side, padded on the right: right for every architecture, and the fallback where rows cannot share a prefix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from features.errors import CheckpointError
from features.model import Model
from features.scoring.records import Row, RowScores


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Places of `lengths`, longest first, in batches of at most `budget` padded tokens (one row where that is too long)."""
    found: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if found and lengths[found[-1][0]] * (len(found[-1]) + 1) <= budget:
            found[-1].append(place)
        else:
            found.append([place])
    return found


def run(
    model: Model, rows: Sequence[Row], forward: Callable[[Model, list[Row]], list[RowScores]], budget: int
) -> list[RowScores]:
    """Score rows in token-budget batches, in the order given."""
    found: list[RowScores | None] = [None] * len(rows)
    for batch in batches([len(row.ids) + (0 if row.decoder is None else len(row.decoder)) for row in rows], budget):
        for place, scores in zip(batch, forward(model, [rows[i] for i in batch]), strict=True):
            found[place] = scores
    return [scores for scores in found if scores is not None]


def causal(model: Model, rows: list[Row]) -> list[RowScores]:
    import torch

    ids, _ = pad([row.ids for row in rows], 0, model.device)
    with torch.inference_mode():
        return _score(model, rows, model.module(input_ids=ids, use_cache=False).logits)


def masked(model: Model, rows: list[Row]) -> list[RowScores]:
    import torch

    ids, mask = pad([row.ids for row in rows], _pad_id(model), model.device)
    with torch.inference_mode():
        return _score(model, rows, model.module(input_ids=ids, attention_mask=mask).logits)


def seq2seq(model: Model, rows: list[Row]) -> list[RowScores]:
    import torch

    ids, mask = pad([row.ids for row in rows], _pad_id(model), model.device)
    start = model.config.decoder_start_token_id
    targets = [np.concatenate([[start], row.decoder[:-1]]) for row in rows if row.decoder is not None]
    decoder, _ = pad(targets, _pad_id(model), model.device)
    with torch.inference_mode():
        logits = model.module(input_ids=ids, attention_mask=mask, decoder_input_ids=decoder, use_cache=False).logits
        return _score(model, rows, logits)


def pad(sequences: Sequence[np.ndarray], value: int, device: Any) -> tuple[Any, Any]:
    """(ids, mask): (B, T) int64 tensors, padded on the right."""
    import torch

    width = max(len(ids) for ids in sequences)
    table = np.full((2, len(sequences), width), value, dtype=np.int64)
    table[1] = 0
    for place, ids in enumerate(sequences):
        table[0, place, : len(ids)] = ids
        table[1, place, : len(ids)] = 1
    both = torch.from_numpy(table).to(device)
    return both[0], both[1]


def _pad_id(model: Model) -> int:
    pad_id = model.tokenizer.pad_token_id
    return 0 if pad_id is None else int(pad_id)


def _score(model: Model, rows: Sequence[Row], logits: Any) -> list[RowScores]:
    import torch

    batch = np.concatenate([np.full(len(row.positions), place) for place, row in enumerate(rows)])
    positions = np.concatenate([row.positions for row in rows])
    targets = torch.from_numpy(np.concatenate([row.targets for row in rows])).to(logits.device)
    chosen = logits[torch.from_numpy(batch).to(logits.device), torch.from_numpy(positions).to(logits.device)].float()
    best = chosen.argmax(-1) == targets
    logprobs = chosen.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    both = torch.stack([logprobs, best.float()]).cpu().numpy()
    if not np.isfinite(both).all():
        raise CheckpointError(
            "its logits are not finite", where=model.name, remedy="the weights are damaged or overflow in this dtype"
        )
    ends = np.cumsum([len(row.positions) for row in rows])[:-1]
    return [RowScores(lp, g > 0.5) for lp, g in zip(np.split(both[0], ends), np.split(both[1], ends), strict=True)]
