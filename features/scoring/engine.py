"""Which engine scores a model's rows: packed where the architecture allows it, padded where not, encoder-decoder for seq2seq."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from features.errors import FailedError
from features.model import Model
from features.scoring.attention import UnpackableError
from features.scoring.memory import Budget
from features.scoring.packed import Packed
from features.scoring.padded import Padded
from features.scoring.records import Row, RowScores
from features.scoring.seq2seq import Seq2Seq

log = logging.getLogger("foretune.scoring")


class Engine:
    """Scores rows of one model, each distinct row once, in the order given.

    `name` is "packed", "padded" or "seq2seq": how the rows are computed. A causal model is packed once a trial pass has shown
    that its architecture gives the same scores so; otherwise it is padded, which is said once in the log.
    """

    def __init__(self, model: Model, budget: Budget) -> None:
        self.model, self.budget = model, budget
        self._engine: Packed | Padded | Seq2Seq | None = None

    @property
    def name(self) -> str:
        return type(self._chosen()).__name__.lower()

    def run(self, rows: Sequence[Row]) -> list[RowScores]:
        """Scores of rows, in order. Raises CheckpointError for logits that are not finite."""
        distinct: dict[tuple[bytes, bytes, bytes], int] = {}
        which = [distinct.setdefault(row.key, len(distinct)) for row in rows]
        unique: list[Row] = []
        for row, place in zip(rows, which, strict=True):
            if place == len(unique):
                unique.append(row)
        if not unique:
            return []
        scores = self._run(unique)
        if len(scores) != len(unique):
            raise FailedError(f"{len(scores)} scores for {len(unique)} rows", where=self.model.name)
        return [scores[place] for place in which]

    def _run(self, rows: list[Row]) -> list[RowScores]:
        engine = self._chosen()
        alone = [len(row.ids) > limit for row in rows] if (limit := self._steady_length()) is not None else []
        if any(alone):
            return self._run_apart(rows, alone)
        try:
            return engine.run(rows)
        except UnpackableError as cause:
            self._fall_back(cause)
            return self._chosen().run(rows)

    def _run_apart(self, rows: list[Row], alone: list[bool]) -> list[RowScores]:
        """Rows so long that their length changes the rotary positions are computed by themselves."""
        padded = Padded(self.model, self.budget)
        long = iter(padded.run([row for row, apart in zip(rows, alone, strict=True) if apart], alone=[True] * sum(alone)))
        short = iter(self._run([row for row, apart in zip(rows, alone, strict=True) if not apart]) if not all(alone) else [])
        return [next(long) if apart else next(short) for apart in alone]

    def _steady_length(self) -> int | None:
        """The length beyond which rotary positions depend on the longest row of the batch; None where they never do."""
        config = getattr(self.model.config, "text_config", None) or self.model.config
        rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
        if not isinstance(rope, dict) or rope.get("rope_type") not in ("dynamic", "longrope"):
            return None
        return int(rope.get("original_max_position_embeddings") or getattr(config, "max_position_embeddings", 0) or 1)

    def _chosen(self) -> Packed | Padded | Seq2Seq:
        if self._engine is None:
            if self.model.kind == "seq2seq":
                self._engine = Seq2Seq(self.model, self.budget)
            elif self.model.kind == "masked":
                self._engine = Padded(self.model, self.budget)
            else:
                packed = Packed(self.model, self.budget)
                try:
                    packed.check()
                    self._engine = packed
                except UnpackableError as cause:
                    self._fall_back(cause)
        return self._engine or Padded(self.model, self.budget)

    def _fall_back(self, cause: UnpackableError) -> None:
        log.warning("%s: %s; its rows are padded instead of packed: slower, the same scores", self.model.name, cause)
        self._engine = Padded(self.model, self.budget)
