"""`Scorer`: requests in, scores out, in order; what happens between is the engine's business."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from features.errors import CheckpointError, DataError
from features.model import Model, load
from features.scoring.encoding import Encoder, rolling_windows
from features.scoring.engine import Engine
from features.scoring.memory import Budget
from features.scoring.records import RowScores, Score, TokenScores
from features.scoring.rows import cut_to_window, masked_row, rows_of


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

    Attributes
    ----------
    truncations : how many requests so far had their context cut to the window

    Every method raises CheckpointError where a logit is not finite or a continuation is longer than the window, and
    DataError for a continuation without tokens.
    """

    def __init__(self, model: Model, *, memory_budget_mb: float | None = None, token_budget: int | None = None) -> None:
        if model.headless:
            raise CheckpointError(
                "no output layer, so no likelihood", where=model.name, remedy="use features of its representations instead"
            )
        for name, given in (("memory_budget_mb", memory_budget_mb), ("token_budget", token_budget)):
            if given is not None and given <= 0:
                raise DataError(f"{name} is {given}", where="Scorer", remedy="give a number above 0")
        self.model = model
        self.encoder = Encoder(model)
        self.engine = Engine(model, Budget(model, memory_budget_mb, token_budget))
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
        scored = self._score(self.encoder.pairs(requests))
        self.truncations += sum(1 for _, dropped in scored if dropped)
        return [
            Score(_total(scores.logprobs), bool(scores.greedy.all()), len(scores.logprobs), dropped) for scores, dropped in scored
        ]

    def rolling(self, texts: Sequence[str], *, stride: int | None = None, max_length: int | None = None) -> list[TokenScores]:
        """Log-likelihood of whole documents, in windows, the windows of all documents together.

        Parameters
        ----------
        stride : tokens that each window after the first predicts; None is lm-evaluation-harness's disjoint windows. A smaller
            stride gives each token more context and costs more.
        max_length : window in tokens, at most the model's (the default)
        """
        masked = self.model.kind == "masked"
        widest = self.model.max_length - (sum(map(len, self.encoder.affixes())) if masked else 0)
        window = widest if max_length is None else max_length
        if not 1 <= window <= widest:
            raise DataError(
                f"max_length {window} is outside 1..{widest}", where="rolling", remedy="give at most the model's window"
            )
        prefix = [] if masked else [self.encoder.prefix_id]
        documents = self.encoder.encode(texts, special=False if masked else None)
        cut = [rolling_windows(ids, prefix, window, stride) for ids in documents]
        scores = iter(self.token_logprobs([pair for windows in cut for pair in windows]))
        found = []
        for text, ids, windows in zip(texts, documents, cut, strict=True):
            logprob = sum(_total(next(scores)) for _ in windows)
            words = len(re.split(r"\s+", text))
            found.append(TokenScores(logprob, len(ids), words, len(text.encode("utf-8")), len(windows)))
        return found

    def token_logprobs(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[np.ndarray]:
        """Log-probability of each target token, for (context ids, target ids) requests: float32 arrays, in order.

        causal: each target given the context and the targets before it. seq2seq: the context goes to the encoder, the targets
        to the decoder. masked: each target masked in its turn, given context and all other targets, the tokenizer's special
        tokens around the whole. The context may be empty for masked models only.
        """
        return [scores.logprobs for scores, _ in self._score(requests)]

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
        for place, (ids, positions) in enumerate(requests):
            places = np.asarray(positions, dtype=np.int64)
            if not len(places) or len(ids) > self.model.max_length:
                found = "no positions" if not len(places) else f"{len(ids)} tokens in a window of {self.model.max_length}"
                raise DataError(found, where=f"masked_logprobs: request {place}", remedy="score at least one, within the window")
            rows.append(masked_row(self.model, np.asarray(ids, dtype=np.int64), places))
        return [scores.logprobs for scores in self.engine.run(rows)]

    def _score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[RowScores, int]]:
        """Scores of the targets of each (context, targets) pair, and how many tokens of its context were dropped."""
        built = [cut_to_window(self.model, self.encoder, place, *pair) for place, pair in enumerate(pairs)]
        rows = [rows_of(self.model, encoded) for encoded in built]
        scores = iter(self.engine.run([row for group in rows for row in group]))
        found = []
        for group, encoded in zip(rows, built, strict=True):
            parts = [next(scores) for _ in group]
            whole = parts[0] if len(parts) == 1 else RowScores(*(np.concatenate(column) for column in zip(*parts, strict=True)))
            found.append((whole, encoded.dropped))
        return found


def _total(logprobs: np.ndarray) -> float:
    """The sum in float64: a float32 sum of a document's thousands of nats resolves only 1e-3."""
    return float(logprobs.sum(dtype=np.float64))
