"""Frozen representations of texts: hidden states pooled over tokens while the forward pass runs, in float32.

One pass serves every pooling, every layer and, for a causal checkpoint, what its head would write next. Batches hold a
fixed number of padded tokens, the longest texts first. A batch's hidden states are pooled, written to a spool (on disk, once
they are many) and dropped; a score reads the spool back one layer at a time. So memory grows with texts and with layers, never
with texts x layers. Padding changes nothing: rows are padded on the right and padding has no weight.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from features.errors import CheckpointError, DataError
from features.linear import faster
from features.model import Model
from features.pooling import POOLINGS, pooled, tokenise
from features.scoring.encoding import Encoder
from features.scoring.memory import Budget
from features.scoring.padded import pad, pad_id
from features.scoring.trunk import Trunk
from features.spool import Spool

_STATES = 256 * 2**20  # bytes of hidden states of all layers that a batch may hold


@dataclass
class Representations:
    """Pooled hidden states of N texts.

    Attributes
    ----------
    depth : layers of the trunk (of the encoder, for seq2seq); layer 0 is the embeddings, `depth` the last, as its
    final norm leaves it
    spool : float32 (N, D) for each (pooling, layer) asked for, rows in the order in which they were measured; the layer
    "average" is the mean over layers 1 to `depth`
    order : the text of each of the spool's rows, shape (N,)
    answers : float32 (N, Z), what the head predicts at the answer's place (see `represent`); None where it was not asked for
    tokens : tokens read; truncated : texts longer than the window; seconds : wall time of the passes
    """

    depth: int
    spool: Spool
    order: NDArray[np.int64]
    answers: NDArray[np.float32] | None = None
    tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0

    def of(self, pooling: str = "mean", layer: int | str = -1) -> NDArray[np.float32]:
        """Representations (N, D) of one pooling and layer, in the texts' order; negative layers count from the last. Raises
        KeyError for what was not asked."""
        rows = self.spool.read((pooling, layer if isinstance(layer, str) else layer % (self.depth + 1)))
        found = np.empty_like(rows)
        found[self.order] = rows
        return found


def represent(
    model: Model,
    texts: Sequence[str],
    *,
    poolings: Sequence[str] = ("mean",),
    layers: Sequence[int | str] | Literal["all"] = (-1,),
    answers: int = 0,
    token_budget: int | None = None,
    memory_budget_mb: float | None = None,
) -> Representations:
    """Pooled hidden states of texts under a checkpoint of any kind (for seq2seq: of its encoder).

    Parameters
    ----------
    poolings : "mean" over all tokens, "last" token, "first" token, or "words": the mean over words of the mean over
    each word's tokens,
        special tokens left out (needs a fast tokenizer)
    layers : layers to keep, "average" for the mean of layers 1 to the last, or "all" for layers 1 to the last
    answers : above 0, also what the head predicts at the answer's place, as probabilities over the so many tokens that
    are likeliest over
        all texts and, last, all others together. The place is the next token (causal), a mask put after the text
        (masked), or the decoder's
        first token after the first sentinel (seq2seq)
    token_budget : padded tokens of one batch; None is what the scoring engine takes, or fewer where the hidden states of all
    layers would need more than 256 MB; halved where memory runs out
    memory_budget_mb : working memory of a batch beyond the weights; None chooses by device

    A text longer than the window loses its beginning (causal: the prompt's end matters) or its end (others).

    Raises
    ------
    DataError : no texts, an empty text, an unknown pooling or layer
    CheckpointError : an activation that is not finite; a head asked of a checkpoint that has none
    """
    import torch

    if not texts:
        raise DataError("there are no texts to represent")
    for pooling in poolings:
        if pooling not in POOLINGS:
            raise DataError(f"no pooling named {pooling!r}", remedy=f"use {', '.join(POOLINGS)}")
    if answers and model.headless:
        raise CheckpointError("has no output layer, so its answers are unknown", where=model.name)
    started = time.perf_counter()
    tokens = tokenise(model, texts, words="words" in poolings)
    trunk = Trunk(model.module.get_encoder() if model.kind == "seq2seq" else model.module)
    deepest = depth(model)
    kept = _layers(layers, deepest)
    with_head = bool(answers) and model.kind == "causal"
    whole = any(layer != deepest for layer in kept)
    spool = Spool(len(texts))
    order = np.array(sorted(range(len(texts)), key=lambda i: -len(tokens.ids[i])), dtype=np.int64)
    bad: dict[tuple[str, int | str], set[int]] = {}
    heads = _Answers(len(texts), model.name)

    def measure(first: int, last: int) -> None:
        places = [int(i) for i in order[first:last]]
        ids, mask = pad([np.asarray(tokens.ids[i]) for i in places], pad_id(model), model.device)
        weights = torch.from_numpy(np.stack([tokens.weights(places, pooling, ids.shape[1]) for pooling in poolings], axis=1))
        weights = weights.to(model.device)
        inputs: dict[str, Any] = {"input_ids": ids}
        if model.kind == "causal":
            inputs["use_cache"] = False  # right-padded: no real token looks at a padded one
        else:
            inputs["attention_mask"] = mask
        with torch.inference_mode(), faster(model):
            output = trunk.run(**inputs, output_hidden_states=whole or trunk.whole)
            if with_head:
                ends = torch.tensor([len(tokens.ids[i]) - 1 for i in places], device=model.device)
                heads.add(places, _logits_at(trunk, output, ends))
            for layer, part in pooled(output, weights, kept, deepest, whole=trunk.whole):
                values = part.cpu().numpy()
                for column, pooling in enumerate(poolings):
                    rows = values[:, column]
                    spool.write((pooling, layer), first, rows)
                    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
                    if len(broken):
                        bad.setdefault((pooling, layer), set()).update(places[i] for i in broken)

    layered = deepest if whole else 0
    _in_batches([len(tokens.ids[i]) for i in order], _budget(model, layered, token_budget, memory_budget_mb), measure, model.name)
    for (_, kept_layer), of in bad.items():
        raise CheckpointError(
            f"hidden states of {len(of)} of {len(texts)} texts are not finite (layer {kept_layer}, first: text {min(of)})",
            where=model.name,
            remedy="the weights are damaged or overflow in this dtype",
        )
    if answers and not with_head:
        _ask_head(model, texts, heads, _budget(model, 0, token_budget, memory_budget_mb))
    return Representations(
        depth=deepest,
        spool=spool,
        order=order,
        answers=heads.table(answers) if answers else None,
        tokens=sum(len(ids) for ids in tokens.ids),
        truncated=tokens.truncated,
        seconds=time.perf_counter() - started,
    )


def _logits_at(trunk: Trunk, output: Any, place: Any) -> Any:
    """Logits (rows, vocabulary) at one position of each row; the head never sees the others."""
    import torch

    rows = torch.arange(len(place), device=place.device)
    return output.logits[rows, place] if trunk.whole else trunk.logits(output[0][rows, place])


def _budget(model: Model, layers: int, tokens: int | None, memory_mb: float | None) -> Budget:
    """The scoring engine's, but fewer tokens where the states of so many layers need more than they may; or as given."""
    budget = Budget(model, memory_mb, tokens)
    if tokens is None:
        width = int(model.module.get_input_embeddings().weight.shape[1])
        budget.tokens = min(budget.tokens, max(64, _STATES // (4 * width * (layers + 1))))
    return budget


def _in_batches(sizes: Sequence[int], budget: Budget, work: Callable[[int, int], None], name: str) -> None:
    """Call ``work(first, last)`` on all rows, at most `budget.tokens` padded tokens (or one row) at a time; sizes descend."""
    first = 0
    while first < len(sizes):
        last = min(len(sizes), first + max(1, budget.tokens // sizes[first]))
        try:
            work(first, last)
        except (RuntimeError, MemoryError) as cause:  # not enough memory, or raised again
            budget.halve(cause, (last - first) * sizes[first], name, smallest=last - first == 1)
            continue
        first = last


def depth(model: Model) -> int:
    """Layers of the trunk (of the encoder, for seq2seq), embeddings not counted."""
    config = getattr(model.config, "text_config", None) or model.config
    for name in ("num_hidden_layers", "n_layer", "num_layers"):
        if getattr(config, name, None) is not None:
            return int(getattr(config, name))
    raise CheckpointError("its configuration does not tell the number of layers", where=model.name)


def _layers(layers: Sequence[int | str] | str, deepest: int) -> set[int | str]:
    if layers == "all":
        return set(range(1, deepest + 1))
    kept: set[int | str] = set()
    for layer in layers:
        if layer != "average" and not (isinstance(layer, int) and -deepest - 1 <= layer <= deepest):
            raise DataError(
                f"no layer {layer!r}", remedy=f"layers are 0 (embeddings) to {deepest}, negative from the last, or average"
            )
        kept.add(layer if isinstance(layer, str) else layer % (deepest + 1))
    return kept


class _Answers:
    """The head's likeliest tokens of each text, kept as they come, made a table over common tokens at the end."""

    WIDTH = 256  # tokens kept of each text

    def __init__(self, count: int, name: str) -> None:
        self.name = name
        self.tokens: list[NDArray] = [np.empty(0, dtype=np.int64)] * count
        self.masses: list[NDArray] = [np.empty(0)] * count

    def add(self, batch: Sequence[int], logits: Any) -> None:
        """Logits (rows, vocabulary) of the texts of a batch."""
        top = logits.float().softmax(-1).topk(min(self.WIDTH, logits.shape[-1]), dim=-1)
        masses, tokens = top.values.cpu().numpy(), top.indices.cpu().numpy()
        if not np.isfinite(masses).all():
            raise CheckpointError(
                "its logits are not finite", where=self.name, remedy="the weights are damaged or overflow in this dtype"
            )
        for row, i in enumerate(batch):
            self.tokens[i], self.masses[i] = tokens[row], masses[row]

    def table(self, width: int) -> NDArray[np.float32]:
        """(texts, <= width + 1) probabilities; rows sum to 1."""
        known, index = np.unique(np.concatenate(self.tokens), return_inverse=True)
        total = np.bincount(index, weights=np.concatenate(self.masses))
        chosen = known[np.argsort(-total, kind="stable")[:width]]
        column = {int(token): place for place, token in enumerate(chosen)}
        table = np.zeros((len(self.tokens), len(chosen) + 1), dtype=np.float32)
        for row, (tokens, masses) in enumerate(zip(self.tokens, self.masses, strict=True)):
            places = [column.get(int(token), -1) for token in tokens]
            here = np.array(places) >= 0
            table[row, np.array(places)[here]] = masses[here]
        table[:, -1] = np.maximum(1 - table[:, :-1].sum(axis=1), 0)
        return table / table.sum(axis=1, keepdims=True)


def _ask_head(model: Model, texts: Sequence[str], heads: _Answers, budget: Budget) -> None:
    """A second pass for checkpoints whose answer has a place of its own: a mask after the text, or the decoder."""
    import torch

    encoder = Encoder(model)
    before, after = encoder.affixes()
    tokenizer = model.tokenizer
    slot = tokenizer.mask_token_id if model.kind == "masked" else tokenizer.get_vocab().get("<extra_id_0>")
    if slot is None and model.kind == "masked":
        raise CheckpointError("its tokenizer has no mask token, so the head cannot be asked", where=model.name)
    room = model.max_length - len(before) - len(after) - 1
    rows = [
        [*before, *ids[-room:], *([] if slot is None else [slot]), *after] for ids in encoder.encode(list(texts), special=False)
    ]
    trunk = Trunk(model.module) if model.kind == "masked" else None
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))

    def ask(first: int, last: int) -> None:
        batch = order[first:last]
        ids, mask = pad([np.asarray(rows[i]) for i in batch], pad_id(model), model.device)
        with torch.inference_mode(), faster(model):
            if trunk is not None:
                place = torch.tensor([len(rows[i]) - len(after) - 1 for i in batch], device=model.device)
                logits = _logits_at(trunk, trunk.run(input_ids=ids, attention_mask=mask), place)
            else:
                start = [int(model.config.decoder_start_token_id)] + ([] if slot is None else [slot])
                decoder = torch.tensor([start] * len(batch), device=model.device)
                output = model.module(input_ids=ids, attention_mask=mask, decoder_input_ids=decoder, use_cache=False)
                logits = output.logits[:, -1]
        heads.add(batch, logits)

    _in_batches([len(rows[i]) for i in order], budget, ask, model.name)
