"""From the hidden states of a text's tokens to one vector: which tokens there are, what each weighs, which layers count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from features.errors import CheckpointError, DataError
from features.model import Model
from features.scoring.encoding import Encoder

Pooling = Literal["mean", "last", "first", "words"]
POOLINGS: tuple[Pooling, ...] = ("mean", "last", "first", "words")


@dataclass
class Tokens:
    """Token ids of each text, cut to the window, and the word of each token where words are pooled."""

    ids: list[list[int]]
    words: list[list[int | None]] = field(default_factory=list)
    truncated: int = 0

    def weights(self, batch: Sequence[int], pooling: str, width: int) -> NDArray[np.float32]:
        """Weight of each token of each row, shape (rows, width); rows sum to 1."""
        table = np.zeros((len(batch), width), dtype=np.float32)
        for row, i in enumerate(batch):
            size = len(self.ids[i])
            if pooling == "mean":
                table[row, :size] = 1 / size
            elif pooling == "last":
                table[row, size - 1] = 1
            elif pooling == "first":
                table[row, 0] = 1
            else:
                word = np.array([-1 if w is None else w for w in self.words[i]])
                _, index, sizes = np.unique(word, return_inverse=True, return_counts=True)
                inside = word >= 0
                table[row, :size][inside] = 1 / sizes[index[inside]]
                table[row] /= max(table[row].sum(), 1e-30)
        return table


def tokenise(model: Model, texts: Sequence[str], words: bool) -> Tokens:
    """Token ids of texts under a model.

    Raises
    ------
    DataError : a text without tokens
    CheckpointError : a tokenizer that cannot tell words, where they are asked for
    """
    if words:
        encoded = model.tokenizer(list(texts), verbose=False)
        if not getattr(encoded, "is_fast", False):
            raise CheckpointError("its tokenizer cannot tell words", where=model.name, remedy="use another pooling")
        ids = [list(row) for row in encoded["input_ids"]]
        found = [encoded.word_ids(i) for i in range(len(ids))]
    else:
        ids, found = [list(row) for row in Encoder(model).encode(texts)], []
    for place, row in enumerate(ids):
        if not row:
            raise DataError("the text has no tokens", where=f"text {place}", remedy="leave empty texts out")
    limit, truncated = model.max_length, sum(len(row) > model.max_length for row in ids)
    cut = _tail if model.kind == "causal" else _head
    return Tokens([cut(row, limit) for row in ids], [cut(row, limit) for row in found], truncated)


def _tail(row: list, limit: int) -> list:
    return row[-limit:]


def _head(row: list, limit: int) -> list:
    return row if len(row) <= limit else row[: limit - 1] + row[-1:]  # the closing special token stays


def pooled(output: Any, weights: Any, kept: set[int | str], deepest: int, *, whole: bool) -> Iterator[tuple[int | str, Any]]:
    """(layer, (rows, poolings, D)) of each layer kept, the average last; weights have the shape (rows, poolings, T)."""
    import torch

    average: Any = 0.0
    for layer in range(deepest + 1):
        averaged = layer > 0 and "average" in kept
        if layer not in kept and not averaged:
            continue
        state = output[0] if layer == deepest and not whole else output.hidden_states[layer]
        part = torch.bmm(weights, state.float())
        if layer in kept:
            yield layer, part
        if averaged:
            average = average + part / deepest
    if "average" in kept:
        yield "average", average
