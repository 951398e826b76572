"""What goes into the engine (rows of token ids) and what comes out of it (scores)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Score(NamedTuple):
    """One (context, continuation) request.

    Attributes
    ----------
    logprob : summed log-probability (nats) of the continuation's tokens
    greedy : whether greedy decoding would have produced them
    tokens : how many tokens the continuation has
    truncated : how many tokens of the context were dropped from the left, for want of window
    """

    logprob: float
    greedy: bool
    tokens: int
    truncated: int


@dataclass(frozen=True, slots=True)
class TokenScores:
    """One document of rolling perplexity: sums over its tokens.

    Attributes
    ----------
    logprob : summed log-probability (nats) of all its tokens
    tokens, words, bytes : its length; words are split at white space and bytes are UTF-8, as in lm-evaluation-harness
    windows : how many windows it took
    """

    logprob: float
    tokens: int
    words: int
    bytes: int
    windows: int


@dataclass(frozen=True, slots=True)
class Row:
    """A sequence to compute and the positions of it that are scored.

    Attributes
    ----------
    ids : token ids that the model reads: (T,) int64. For a seq2seq model the encoder's; its decoder reads the targets.
    positions : whose outputs are scored: (S,) int64, rising
    targets : the token scored at each of them: (S,) int64
    """

    ids: np.ndarray
    positions: np.ndarray
    targets: np.ndarray

    @property
    def key(self) -> tuple[bytes, bytes, bytes]:
        """Equal for rows that are scored alike."""
        return self.ids.tobytes(), self.positions.tobytes(), self.targets.tobytes()


class RowScores(NamedTuple):
    """The outcome of a Row.

    logprobs : (S,) float32 log-probability of each target; greedy : (S,) bool, whether the target was the likeliest token
    """

    logprobs: np.ndarray
    greedy: np.ndarray
