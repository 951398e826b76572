"""Requests of token ids as rows to compute: cut to the window, with the scored positions; a masked copy per masked token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from features.errors import CheckpointError, DataError
from features.model import Model
from features.scoring.encoding import Encoder
from features.scoring.records import Row


class Encoded(NamedTuple):
    """A (context, continuation) request as a model reads it, cut to its window.

    Attributes
    ----------
    context : token ids before the continuation (with BOS or [CLS], where the tokenizer gives one); a seq2seq model's encoder ids
    targets : token ids of the continuation; a seq2seq model's decoder targets
    suffix : what follows them: the closing special tokens of a masked model, empty for others
    dropped : how many tokens of the context were cut from its left
    """

    context: list[int]
    targets: list[int]
    suffix: list[int]
    dropped: int


def encode(model: Model, requests: Sequence[tuple[str, str]]) -> list[Encoded]:
    """Each (context, continuation) in exactly the tokens that `Scorer` scores, e.g. to train on them."""
    encoder = Encoder(model)
    return [cut_to_window(model, encoder, place, *pair) for place, pair in enumerate(encoder.pairs(requests))]


def cut_to_window(model: Model, encoder: Encoder, place: int, context: Sequence[int], targets: Sequence[int]) -> Encoded:
    """The request at `place`, its context cut from the left as lm-evaluation-harness cuts it.

    A causal model reads one token less than it predicts. Raises CheckpointError for targets longer than the window, DataError
    for no targets, or no context where the model needs one.
    """
    head, tail = encoder.affixes() if model.kind == "masked" else ([], [])
    window = model.max_length - len(head) - len(tail)
    if len(targets) > window:
        raise CheckpointError(
            f"a continuation of {len(targets)} tokens is longer than its window of {window}",
            where=f"{model.name}: request {place}",
            remedy="score long texts with rolling",
        )
    if not len(targets):
        raise DataError("no tokens to score", where=f"request {place}", remedy="every continuation needs text")
    if not len(context) and model.kind != "masked":
        raise DataError("an empty context", where=f"request {place}", remedy="begin with the prefix token")
    room = {"causal": window + 1 - len(targets), "masked": window - len(targets), "seq2seq": window}[model.kind]
    dropped = max(0, len(context) - room)
    return Encoded([*head, *context[dropped:]], list(targets), tail, dropped)


def rows_of(model: Model, encoded: Encoded) -> list[Row]:
    """The rows whose scores, one after the other, are those of the targets."""
    size = len(encoded.targets)
    targets = np.asarray(encoded.targets, dtype=np.int64)
    if model.kind == "seq2seq":
        return [Row(np.asarray(encoded.context, dtype=np.int64), np.arange(size), targets)]
    if model.kind == "causal":
        ids = np.asarray(encoded.context + encoded.targets[:-1], dtype=np.int64)
        return [Row(ids, np.arange(len(ids) - size, len(ids)), targets)]
    ids = np.asarray(encoded.context + encoded.targets + encoded.suffix, dtype=np.int64)
    first = len(encoded.context)
    return [masked_row(model, ids, np.asarray([first + offset])) for offset in range(size)]


def masked_row(model: Model, ids: np.ndarray, positions: np.ndarray) -> Row:
    """The row that predicts the tokens at `positions` with all of them masked. Raises CheckpointError without a mask token."""
    mask = model.tokenizer.mask_token_id
    if mask is None:
        raise CheckpointError("the tokenizer has no mask token", where=model.name, remedy="add it to tokenizer_config.json")
    corrupted = ids.copy()
    corrupted[positions] = int(mask)
    return Row(corrupted, positions, ids[positions])
