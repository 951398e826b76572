"""`Scorer`: requests in, scores out, in order; what happens between is the engine's business."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from features.errors import CheckpointError, DataError, FailedError
from features.model import Model, load
from features.scoring import padded
from features.scoring.encoding import Encoder, rolling_windows
from features.scoring.records import Row, RowScores, Score, TokenScores


class Scorer:
    """The log-likelihoods that a checkpoint gives to texts: causal, seq2seq or masked.

    A score means what it means in lm-evaluation-harness, and is the same alone, batched, padded or prefix-shared (to 1e-4 in
    float32). For a masked model, which has no left-to-right likelihood, it is the pseudo-likelihood: each scored token is
    masked in its turn and predicted from both sides (Salazar et al. 2020).

    Parameters
    ----------
    model : a loaded checkpoint
    memory_budget_mb : working memory that a batch may take beyond the weights; None chooses by device
    token_budget : tokens in one batch, instead of what the memory allows

    Every method raises CheckpointError where a logit is not finite or a continuation is longer than the window.
    """

    def __init__(self, model: Model, *, memory_budget_mb: float | None = None, token_budget: int | None = None) -> None:
        if model.headless:
            raise CheckpointError(
                "has no output layer, so it can give no likelihood",
                where=model.name,
                remedy="use features of its representations",
            )
        if token_budget is not None and token_budget < 1:
            raise DataError(f"token_budget is {token_budget}", where="Scorer", remedy="give at least 1")
        self.model = model
        self.encoder = Encoder(model)
        self.token_budget = token_budget or 2048
        self.truncations = 0

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        memory_budget_mb: float | None = None,
        token_budget: int | None = None,
        **options: Any,
    ) -> Scorer:
        """A scorer of the checkpoint at `path`; `options` are those of `features.model.load` (device, dtype, revision, ...)."""
        return cls(load(path, **options), memory_budget_mb=memory_budget_mb, token_budget=token_budget)

    def loglikelihood(self, requests: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        """For each (context, continuation), in order: the summed log-probability (nats) of the continuation's tokens given the
        context, and whether greedy decoding would have produced them."""
        return [(score.logprob, score.greedy) for score in self.loglikelihood_detail(requests)]

    def loglikelihood_detail(self, requests: Sequence[tuple[str, str]]) -> list[Score]:
        """As `loglikelihood`, with the count of tokens and of tokens truncated."""
        pairs = self.encoder.pairs(requests)
        rows, truncated = self._rows(pairs)
        self.truncations += sum(1 for count in truncated if count)
        return [
            Score(float(scores.logprobs.sum()), bool(scores.greedy.all()), len(tail), count)
            for scores, (_, tail), count in zip(self._run(rows), pairs, truncated, strict=True)
        ]

    def rolling(self, texts: Sequence[str], *, stride: int | None = None, max_length: int | None = None) -> list[TokenScores]:
        """Log-likelihood of whole documents, in windows, the windows of all documents together.

        Parameters
        ----------
        stride : tokens that each window after the first predicts; None is lm-evaluation-harness's disjoint windows. A smaller
            stride gives each token more context and costs more.
        max_length : window in tokens, at most the model's (the default)
        """
        window = self.model.max_length if max_length is None else max_length
        if not 1 <= window <= self.model.max_length:
            raise DataError(
                f"max_length {window} is outside 1..{self.model.max_length}", where="rolling", remedy="give at most the window"
            )
        if self.model.kind == "masked":
            head, tail = self.encoder.affixes()
            window -= len(head) + len(tail)
        windows: list[tuple[list[int], list[int]]] = []
        counts, sizes = [], []
        for ids in self.encoder.encode(texts, special=False if self.model.kind == "masked" else None):
            found = rolling_windows(ids, self.encoder.prefix_id, window, stride)
            windows += [
                ([], targets) if self.model.kind == "masked" and place == 0 else (context, targets)
                for place, (context, targets) in enumerate(found)
            ]
            counts.append(len(found))
            sizes.append(len(ids))
        scores = self.token_logprobs(windows)
        found_scores, done = [], 0
        for text, count, size in zip(texts, counts, sizes, strict=True):
            total = float(sum(float(logprobs.sum()) for logprobs in scores[done : done + count]))
            done += count
            found_scores.append(TokenScores(total, size, len(re.split(r"\s+", text)), len(text.encode("utf-8")), count))
        return found_scores

    def token_logprobs(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[np.ndarray]:
        """Log-probability of each target token, for (context ids, target ids) requests: float32 arrays, in order.

        causal: each target given the context and the targets before it. seq2seq: the context goes to the encoder, the targets
        to the decoder. masked: each target masked in its turn, given context and all other targets, the tokenizer's special
        tokens around the whole. The context may be empty for masked models only.
        """
        rows, _ = self._rows([(list(context), list(targets)) for context, targets in requests])
        return [scores.logprobs for scores in self._run(rows)]

    def masked_logprobs(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[np.ndarray]:
        """Masked models: the log-probability of the tokens at `positions` with all of them masked at once.

        Each request is (ids, positions): the sequence as the model reads it, special tokens included, and the rising positions
        that are replaced by the mask token and scored: float32 arrays, in order. For a span (PPL-SC): its positions.
        """
        if self.model.kind != "masked":
            raise DataError(
                f"{self.model.name} is a {self.model.kind} model", where="masked_logprobs", remedy="use token_logprobs"
            )
        rows = []
        for ids, positions in requests:
            sequence, places = np.asarray(ids, dtype=np.int64), np.asarray(positions, dtype=np.int64)
            corrupted = sequence.copy()
            corrupted[places] = self._mask_id
            rows.append(Row(corrupted, places, sequence[places]))
        return [scores.logprobs for scores in self._run(rows)]

    @property
    def _mask_id(self) -> int:
        mask = self.model.tokenizer.mask_token_id
        if mask is None:
            raise CheckpointError("the tokenizer has no mask token", where=self.model.name)
        return int(mask)

    def _rows(self, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[list[list[Row]], list[int]]:
        """The rows that each (context, targets) pair needs, and how many tokens of its context were dropped."""
        build = {"causal": self._causal_row, "seq2seq": self._seq2seq_row, "masked": self._masked_rows}[self.model.kind]
        built = [build(place, context, targets) for place, (context, targets) in enumerate(pairs)]
        return [rows for rows, _ in built], [count for _, count in built]

    def _check_length(self, place: int, length: int, limit: int) -> None:
        if length > limit:
            raise CheckpointError(
                f"a continuation of {length} tokens is longer than its window of {limit}",
                where=f"{self.model.name}: request {place}",
                remedy="score long texts with rolling",
            )

    def _causal_row(self, place: int, context: list[int], targets: list[int]) -> tuple[list[Row], int]:
        limit = self.model.max_length
        self._check_length(place, len(targets), limit)
        if not context:
            raise DataError("an empty context", where=f"request {place}", remedy="begin with the prefix token")
        whole = context + targets
        dropped = max(0, len(whole) - limit - 1)
        ids = np.asarray(whole[dropped:-1], dtype=np.int64)
        positions = np.arange(len(ids) - len(targets), len(ids), dtype=np.int64)
        return [Row(ids, positions, np.asarray(targets, dtype=np.int64))], dropped

    def _seq2seq_row(self, place: int, context: list[int], targets: list[int]) -> tuple[list[Row], int]:
        limit = self.model.max_length
        self._check_length(place, len(targets), limit)
        dropped = max(0, len(context) - limit)
        decoder = np.asarray(targets, dtype=np.int64)
        return [Row(np.asarray(context[dropped:], dtype=np.int64), np.arange(len(targets)), decoder, decoder)], dropped

    def _masked_rows(self, place: int, context: list[int], targets: list[int]) -> tuple[list[Row], int]:
        head, tail = self.encoder.affixes()
        limit = self.model.max_length - len(head) - len(tail)
        self._check_length(place, len(targets), limit)
        dropped = max(0, len(context) + len(targets) - limit)
        whole = np.asarray([*head, *context[dropped:], *targets, *tail], dtype=np.int64)
        first = len(whole) - len(tail) - len(targets)
        rows = []
        for offset, target in enumerate(targets):
            corrupted = whole.copy()
            corrupted[first + offset] = self._mask_id
            rows.append(Row(corrupted, np.asarray([first + offset]), np.asarray([target], dtype=np.int64)))
        return rows, dropped

    def _run(self, groups: Sequence[list[Row]] | list[Row]) -> list[RowScores]:
        """Scores of each group of rows, in order; equal rows are computed once."""
        listed = [group if isinstance(group, list) else [group] for group in groups]
        distinct: dict[tuple[bytes, bytes, bytes], int] = {}
        unique: list[Row] = []
        for row in (row for group in listed for row in group):
            if row.key not in distinct:
                distinct[row.key] = len(unique)
                unique.append(row)
        forward = {"causal": padded.causal, "seq2seq": padded.seq2seq, "masked": padded.masked}[self.model.kind]
        scored = padded.run(self.model, unique, forward, self.token_budget)
        if len(scored) != len(unique):
            raise FailedError(f"{len(unique) - len(scored)} rows were not scored", where=self.model.name)
        found = []
        for group in listed:
            parts = [scored[distinct[row.key]] for row in group]
            found.append(
                parts[0]
                if len(parts) == 1
                else RowScores(*(np.concatenate([p[i] for p in parts] or [np.zeros(0, np.float32)]) for i in (0, 1)))
            )
        return found
