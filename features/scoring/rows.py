"""Requests of token ids as rows to compute: truncation, the scored positions, one masked copy per token of a masked model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.errors import CheckpointError, DataError
from features.model import Model
from features.scoring.encoding import Encoder
from features.scoring.records import Row


def rows_of(model: Model, encoder: Encoder, place: int, context: Sequence[int], targets: Sequence[int]) -> tuple[list[Row], int]:
    """The rows whose scores, one after the other, are those of `targets` after `context`; and how many tokens were dropped.

    The context is cut from the left to the model's window, as lm-evaluation-harness cuts it: a causal window holds one
    token less than it predicts. Raises CheckpointError for targets longer than the window, DataError for an empty context.
    """
    affixes = encoder.affixes() if model.kind == "masked" else ([], [])
    window = model.max_length - len(affixes[0]) - len(affixes[1])
    if len(targets) > window:
        raise CheckpointError(
            f"a continuation of {len(targets)} tokens is longer than its window of {window}",
            where=f"{model.name}: request {place}",
            remedy="score long texts with rolling",
        )
    if not targets:
        raise DataError("no tokens to score", where=f"request {place}", remedy="every continuation needs text")
    if not len(context) and model.kind != "masked":
        raise DataError("an empty context", where=f"request {place}", remedy="begin with the prefix token")
    if model.kind == "seq2seq":
        dropped = max(0, len(context) - window)
        wanted = np.asarray(targets, dtype=np.int64)
        return [Row(np.asarray(context[dropped:], dtype=np.int64), np.arange(len(targets)), wanted)], dropped
    whole = [*context, *targets]
    if model.kind == "causal":
        dropped = max(0, len(whole) - window - 1)
        ids = np.asarray(whole[dropped:-1], dtype=np.int64)
        return [Row(ids, np.arange(len(ids) - len(targets), len(ids)), np.asarray(targets, dtype=np.int64))], dropped
    dropped = max(0, len(whole) - window)
    ids = np.asarray([*affixes[0], *whole[dropped:], *affixes[1]], dtype=np.int64)
    first = len(ids) - len(affixes[1]) - len(targets)
    return [masked_row(model, ids, np.asarray([first + offset])) for offset in range(len(targets))], dropped


def masked_row(model: Model, ids: np.ndarray, positions: np.ndarray) -> Row:
    """The row that predicts the tokens at `positions` with all of them masked. Raises CheckpointError without a mask token."""
    mask = model.tokenizer.mask_token_id
    if mask is None:
        raise CheckpointError("the tokenizer has no mask token", where=model.name, remedy="add it to tokenizer_config.json")
    corrupted = ids.copy()
    corrupted[positions] = int(mask)
    return Row(corrupted, positions, ids[positions])
