"""Causal rows as their prefix tree: each distinct prefix computed once, packed without padding, batch after batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from features.model import Model
from features.scoring import attention
from features.scoring.attention import UnpackableError
from features.scoring.memory import Budget
from features.scoring.padded import plain
from features.scoring.pairs import Pairs, checked
from features.scoring.records import Row, RowScores
from features.scoring.transfer import Arriving, send
from features.scoring.tree import PrefixTree, build
from features.scoring.trunk import Trunk

# What a packed pass may differ from a plain one before the architecture is taken to be one that cannot be packed.
_TOLERANCE = {"float32": 2e-4, "float64": 2e-4}
_REDUCED_TOLERANCE = 0.2
_NO_LIMIT = 1 << 30


class Packed:
    """The packed engine for one causal model. Raises UnpackableError from `check` where the architecture cannot be packed."""

    def __init__(self, model: Model, budget: Budget) -> None:
        self.model, self.budget = model, budget
        self.trunk = Trunk(model.module)
        on_cpu = model.device.type == "cpu"
        self.chunk = 128 if on_cpu else 1024
        self.longest_plain = _NO_LIMIT
        self.windows: set[int | None] = set()

    def run(self, rows: Sequence[Row]) -> list[RowScores]:
        """Scores of distinct rows, in order."""
        import torch

        tree = build([row.ids for row in rows], [row.positions for row in rows])
        sources, targets = np.concatenate(tree.sources), np.concatenate([row.targets for row in rows])
        by_source = np.argsort(sources, kind="stable")
        ranked = sources[by_source]
        scores = np.full((2, len(sources)), np.nan, dtype=np.float32)
        carried: list[tuple[Any, Any]] = []
        begin = 0
        underway: list[tuple[np.ndarray, Pairs, Arriving]] = []
        with torch.inference_mode():
            while begin < len(tree):
                end = self._end(tree, begin)
                low, high = np.searchsorted(ranked, (begin, end))
                asked = by_source[low:high]
                pairs = Pairs(sources[asked] - begin, targets[asked])
                try:
                    piece = attention.cut(tree, begin, end, carried, chunk=self.chunk, longest_plain=self.longest_plain)
                    found = self._score(tree, piece, pairs)
                except (RuntimeError, MemoryError) as cause:
                    self.budget.halve(cause, end - begin, self.model.name, smallest=end - begin == 1)
                    continue
                if found is not None:
                    underway.append((asked, pairs, found))
                # the scores of a batch are read once the next is on its way
                while len(underway) > (end < len(tree)):
                    asked, pairs, found = underway.pop(0)
                    scores[:, asked] = pairs.restored(found.numpy())
                carried, begin = piece.kept, end
                self.windows |= piece.windows
        return checked(scores, [len(row.targets) for row in rows], self.model)

    def check(self) -> None:
        """Compare a packed pass with plain ones on a few made-up rows. Raises UnpackableError where they differ."""
        if not getattr(self.model.module, "_supports_attention_backend", False):
            raise UnpackableError("attention that takes no other implementation")
        if self.trunk.whole:
            raise UnpackableError("no trunk apart from its head")
        rows = self._probe()
        try:
            packed = self.run(rows)
        except (TypeError, AttributeError, ValueError, IndexError) as cause:
            raise UnpackableError(f"{type(cause).__name__} in a packed pass") from cause
        tolerance = _TOLERANCE.get(str(self.model.dtype).removeprefix("torch."), _REDUCED_TOLERANCE)
        for row, scores in zip(rows, packed, strict=True):
            if np.abs(plain(self.model, row).logprobs - scores.logprobs).max() > tolerance:
                raise UnpackableError("a packed pass that differs from a plain one")
        sliding = self._sliding()
        if sliding is not None and sliding < self.model.max_length and sliding not in self.windows:
            raise UnpackableError("a sliding window that its attention does not tell of")
        self.longest_plain = min([window for window in self.windows if window is not None], default=_NO_LIMIT)

    def _score(self, tree: PrefixTree, piece: attention.Piece, pairs: Pairs) -> Arriving | None:
        """The scores of a piece's pairs, on their way; None where it has none and is computed for what follows it."""
        tokens, depths = (values[None, piece.begin : piece.end] for values in (tree.tokens, tree.depths))
        ids, positions, exits, reach, *sent = send([tokens, depths, piece.exits, piece.reach, *pairs.arrays], self.model.device)
        piece.sight = exits, reach
        with attention.packed(self.trunk.module, piece):
            states = self.trunk.states(input_ids=ids, position_ids=positions, use_cache=False)[0]
        return Arriving(pairs.score(self.trunk.logits, states, sent, self.budget)) if len(pairs.places) else None

    def _end(self, tree: PrefixTree, begin: int) -> int:
        """Where the batch from `begin` ends: what remains in equal batches within the budget."""
        left = len(tree) - begin
        batches = -(-left // self.budget.tokens)
        return begin + -(-left // batches)

    def _sliding(self) -> int | None:
        """The sliding window that the configuration asks of some layer."""
        config = getattr(self.model.config, "text_config", None) or self.model.config
        kinds = getattr(config, "layer_types", None)
        slides = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
        return getattr(config, "sliding_window", None) if slides else None

    def _probe(self) -> list[Row]:
        vocabulary = int(self.model.module.get_input_embeddings().weight.shape[0])
        numbers = np.random.default_rng(0).integers(0, vocabulary, 64)
        trunk, rows = numbers[:12], []
        for tail in (numbers[12:16], numbers[16:19], np.concatenate([numbers[16:18], numbers[19:24]])):
            rows.append(np.concatenate([trunk, tail]))
        rows += [numbers[24:33], numbers[33:40]]
        return [Row(ids[:-1], np.arange(len(ids) - 1), ids[1:]) for ids in rows]
