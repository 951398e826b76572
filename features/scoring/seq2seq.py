"""Encoder-decoder rows: each distinct context is encoded once, and its targets are decoded side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.errors import CheckpointError
from features.model import Model
from features.scoring.memory import Budget
from features.scoring.padded import complete, in_batches, pad_id, padded
from features.scoring.pairs import Pairs, checked
from features.scoring.records import Row, RowScores
from features.scoring.transfer import Arriving, send


class Seq2Seq:
    """Rows of a seq2seq model. Raises CheckpointError where the configuration does not say how decoding starts."""

    def __init__(self, model: Model, budget: Budget) -> None:
        self.model, self.budget = model, budget
        start = getattr(model.config, "decoder_start_token_id", None)
        if start is None:
            raise CheckpointError(
                "its configuration has no decoder_start_token_id", where=model.name, remedy="set it and save again"
            )
        self.start = int(start)

    def run(self, rows: Sequence[Row]) -> list[RowScores]:
        """Scores of distinct rows, in order."""
        contexts: dict[bytes, list[int]] = {}
        for place, row in enumerate(rows):
            contexts.setdefault(row.ids.tobytes(), []).append(place)
        groups: list[list[int]] = []
        for places in contexts.values():
            # a context with very many targets is encoded again for each budget of them
            longest = max(len(rows[place].targets) for place in places) + len(rows[places[0]].ids)
            step = max(1, self.budget.tokens // longest)
            groups += [places[first : first + step] for first in range(0, len(places), step)]
        found: list[RowScores | None] = [None] * len(rows)
        sizes = [sum(len(rows[place].ids) + len(rows[place].targets) for place in places) for places in groups]

        def score(batch: list[int]) -> list[RowScores]:
            places = [place for group in batch for place in groups[group]]
            for place, scores in zip(
                places, self._score([[rows[place] for place in groups[group]] for group in batch]), strict=True
            ):
                found[place] = scores
            return [RowScores(np.zeros(0, np.float32), np.zeros(0, bool))] * len(batch)

        in_batches(sizes, self.budget, score, self.model.name)
        return complete(found, self.model.name)

    def _score(self, groups: list[list[Row]]) -> list[RowScores]:
        """Scores of groups of rows, each group of one context."""
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        padding = pad_id(self.model)
        rows = [row for group in groups for row in group]
        table, seen = padded([group[0].ids for group in groups], padding)
        shifted, _ = padded([np.concatenate([[self.start], row.targets[:-1]]) for row in rows], padding)
        lines = np.concatenate([place * shifted.shape[1] + row.positions for place, row in enumerate(rows)])
        pairs = Pairs(lines, np.concatenate([row.targets for row in rows]))
        owners = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        ids, mask, decoder, owner, *sent = send([table, seen, shifted, owners, *pairs.arrays], self.model.device)
        with torch.inference_mode():
            encoded = self.model.module.get_encoder()(input_ids=ids, attention_mask=mask)[0]
            logits = self.model.module(
                encoder_outputs=BaseModelOutput(last_hidden_state=encoded[owner]),
                attention_mask=mask[owner],
                decoder_input_ids=decoder,
                use_cache=False,
            ).logits.flatten(0, 1)
            found = Arriving(pairs.score(lambda chosen: chosen, logits, sent, self.budget))
        return checked(pairs.restored(found.numpy()), [len(row.targets) for row in rows], self.model)
