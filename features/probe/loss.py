"""The loss that a probe trains and measures: mean NLL per token of the gold continuation, in the engine's own tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import CheckpointError
from features.model import Model
from features.scoring.encoding import Encoder
from features.scoring.padded import pad, pad_id

_LOGITS = 2**25  # logits held at once


@dataclass(frozen=True)
class Row:
    """Token ids and where the gold continuation lies in them; for seq2seq the continuation is the decoder's."""

    ids: list[int]
    targets: list[int]
    begin: int


def rows_of(model: Model, requests: Sequence[tuple[str, str]]) -> list[Row]:
    """Tokens of (context, continuation), cut at the context's beginning to what the checkpoint takes."""
    encoder = Encoder(model)
    before, after = encoder.affixes() if model.kind == "masked" else ([], [])
    room = model.max_length - len(before) - len(after) + (1 if model.kind == "causal" else 0)
    rows: list[Row] = []
    for context, targets in encoder.pairs(requests):
        if model.kind == "seq2seq":
            rows.append(Row(list(context[-room:]), list(targets[:room]), 0))
            continue
        targets = list(targets[: room - 1])
        context = list(context[-(room - len(targets)) :])
        read = targets[:-1] if model.kind == "causal" else targets  # nothing follows a causal continuation's last token
        rows.append(Row([*before, *context, *read, *after], targets, len(before) + len(context)))
    return rows


def losses_of(module: Any, model: Model, rows: Sequence[Row], device: Any, generator: Any = None) -> Any:
    """Mean NLL per continuation token of each row, shape (rows,). Masked: all continuation tokens masked at once; while
    training, each with
    probability 1/2 (at least one), the loss over those."""
    import torch

    sequences = [np.array(row.ids) for row in rows]
    ids, mask = pad(sequences, pad_id(model), device)
    length = max(len(row.targets) for row in rows)
    targets = torch.zeros((len(rows), length), dtype=torch.long, device=device)
    counted = torch.zeros((len(rows), length), device=device)
    place = torch.zeros((len(rows), length), dtype=torch.long, device=device)
    for i, row in enumerate(rows):
        n = len(row.targets)
        targets[i, :n] = torch.tensor(row.targets, device=device)
        counted[i, :n] = 1
        offset = row.begin - 1 if model.kind == "causal" else row.begin
        place[i, :n] = torch.arange(offset, offset + n, device=device)
    if model.kind == "masked":
        hidden = counted.clone()
        if generator is not None:
            drawn = torch.rand(counted.shape, generator=generator).to(device) * counted
            hidden = ((drawn > 0.5) | (drawn == drawn.max(dim=1, keepdim=True).values)).float() * counted
        counted = hidden
        ids[torch.arange(len(rows), device=device)[:, None].expand_as(place)[hidden > 0], place[hidden > 0]] = (
            model.tokenizer.mask_token_id
        )
        logits = module(input_ids=ids, attention_mask=mask).logits
    elif model.kind == "seq2seq":
        start = torch.full((len(rows), 1), int(model.config.decoder_start_token_id), device=device)
        decoder = torch.cat([start, targets[:, :-1]], dim=1)
        logits = module(input_ids=ids, attention_mask=mask, decoder_input_ids=decoder, use_cache=False).logits
    else:
        logits = module(input_ids=ids, use_cache=False).logits
    chosen = logits.gather(1, place[..., None].expand(-1, -1, logits.shape[-1])).float()
    nll = torch.nn.functional.cross_entropy(chosen.flatten(0, 1), targets.flatten(), reduction="none").view_as(counted)
    return (nll * counted).sum(dim=1) / counted.sum(dim=1)


def parts_of(rows: Sequence[Row], module: Any) -> list[list[Row]]:
    """Rows, longest first, in parts whose logits fit in memory."""
    vocabulary = int(module.get_output_embeddings().weight.shape[0])
    parts: list[list[Row]] = []
    for row in sorted(rows, key=lambda r: -len(r.ids)):
        if parts and (len(parts[-1]) + 1) * len(parts[-1][0].ids) * vocabulary <= _LOGITS:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts


def measured(module: Any, model: Model, rows: Sequence[Row]) -> NDArray[np.float64]:
    """Loss of each row, in their order. Raises CheckpointError where one is not finite."""
    import torch

    order = {id(row): place for place, row in enumerate(rows)}
    found = np.empty(len(rows))
    with torch.inference_mode():
        for part in parts_of(rows, module):
            found[[order[id(row)] for row in part]] = losses_of(module, model, part, model.device).double().cpu().numpy()
    if not np.isfinite(found).all():
        raise CheckpointError("the probe's loss is not finite", where=model.name, remedy="lower its learning rate")
    return found
