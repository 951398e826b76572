"""Pre-training objectives: how a stretch of tokens becomes inputs and labels.

An objective is a weighted mixture of parts, and each row of a batch is made by one part:

    Causal          predict every token from those before it
    Spans(r, m)     span corruption (T5): sentinels stand for a share r of the tokens, in spans of mean length m; write them out
    Prefix          predict a suffix from a prefix of random length

and a model takes them in one of three forms:

    causal decoder      <s> corrupted <sep> <extra_id_0> span <extra_id_1> span ... </s>, with the loss on the target alone
    seq2seq  (T5)       encoder: corrupted </s>; decoder: <extra_id_0> span ... </s>
    masked   (BERT)     each token of a span becomes <mask>; the loss is on those places

Every part fills a row of a given length exactly, or falls short of it by the rounding of its spans (at most a few tokens), so
that no computation goes into padding. Sources: Raffel et al. 2020 (T5: the random segmentation of spans), Tay et al. 2023
(UL2 and its six denoisers), Tay et al. 2022 (UL2R), Zeng et al. 2025 (the seven objectives).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from features.errors import ManifestError

Tokens = NDArray[np.int64]
IGNORE = -100  # the label of a place that has no loss, as torch and transformers have it


@dataclass(frozen=True)
class Specials:
    """Ids of the special tokens that the objectives need, as the shared tokenizer has them."""

    pad: int
    bos: int
    eos: int
    mask: int
    sep: int
    sentinels: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One training example.

    Attributes
    ----------
    inputs : what the model (the encoder, in the seq2seq form) reads
    labels : what is to be predicted; IGNORE where there is no loss. Causal: the same length as `inputs`, and the place t of
        `labels` is
        predicted from the inputs before t. Masked: the same length, predicted in place. Seq2seq: the decoder's target.
    """

    inputs: Tokens
    labels: Tokens


@dataclass(frozen=True)
class Causal:
    """Next-token prediction over the whole row."""


@dataclass(frozen=True)
class Prefix:
    """Prefix language modelling: the cut is uniform over the row, and the loss is on what follows it.

    The decoder form keeps its causal attention over the prefix too.
    """


@dataclass(frozen=True)
class Spans:
    """Span corruption: `noise` is the share of tokens corrupted, `mean` the mean length of a span in tokens."""

    noise: float
    mean: float


Part = Causal | Prefix | Spans
_SC = Spans(0.15, 3)
_UL2 = (Spans(0.15, 3), Spans(0.15, 8), Spans(0.5, 3), Spans(0.5, 8), Spans(0.15, 64), Spans(0.5, 64), Prefix())
_UL2R = (_SC, Spans(0.5, 32), Prefix())

# name -> parts with their weights (which sum to 1). Where a paper leaves the weights open, all parts weigh the same and "+"
# means half and half.
OBJECTIVES: dict[str, tuple[tuple[Part, float], ...]] = {
    "clm": ((Causal(), 1.0),),
    "sc": ((_SC, 1.0),),
    "prefix_lm": ((Prefix(), 1.0),),
    "sc+clm": ((_SC, 0.5), (Causal(), 0.5)),
    "ul2": tuple((part, 1 / 7) for part in _UL2),
    "ul2r": tuple((part, 1 / 3) for part in _UL2R),
    "ul2r+clm": (*((part, 1 / 6) for part in _UL2R), (Causal(), 0.5)),
}


def check(objective: str, kind: str, where: str) -> None:
    """Raise ManifestError unless `objective` exists and a model of `kind` can be trained on it."""
    if objective not in OBJECTIVES:
        raise ManifestError(f"no objective {objective!r}", where=where, remedy=f"use one of {', '.join(OBJECTIVES)}")
    if kind == "masked" and not all(isinstance(part, Spans) for part, _ in OBJECTIVES[objective]):
        raise ManifestError(
            f"a masked model cannot be trained on {objective!r}", where=where, remedy="use sc, or kind: causal or seq2seq"
        )


def draw(objective: str, rng: np.random.Generator) -> Part:
    """The part that makes the next row, drawn by the objective's weights."""
    parts = OBJECTIVES[objective]
    return parts[int(np.searchsorted(np.cumsum([weight for _, weight in parts])[:-1], rng.random(), side="right"))][0]


def noise_counts(length: int, part: Spans) -> tuple[int, int]:
    """How many tokens of `length` are corrupted, and in how many spans: both fixed by the length, as in T5."""
    tokens = min(max(round(length * part.noise), 1), length - 1)
    spans = min(max(round(tokens / part.mean), 1), tokens, length - tokens)
    return tokens, spans


def noise_mask(length: int, part: Spans, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A random mask, True where a token is corrupted; starts uncorrupted, and spans never touch. Needs length >= 2."""
    noisy, spans = noise_counts(length, part)
    kept, gone = _segments(length - noisy, spans, rng), _segments(noisy, spans, rng)
    lengths = np.stack([kept, gone], axis=1).ravel()
    return np.repeat(np.tile([False, True], spans), lengths)


def _segments(total: int, parts: int, rng: np.random.Generator) -> Tokens:
    """`total` cut at random into `parts` positive lengths, each composition as likely as any other."""
    cuts = np.sort(rng.permutation(total - 1)[: parts - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))


def corrupt(tokens: Tokens, mask: NDArray[np.bool_], sentinels: Sequence[int]) -> tuple[Tokens, Tokens]:
    """Replace each run of True by a sentinel; the target lists each sentinel followed by what it stands for.

    >>> text, target = corrupt(np.array([1, 2, 3, 4, 5]), np.array([False, True, True, False, True]), [90, 91])
    >>> text.tolist(), target.tolist()
    ([1, 90, 4, 91], [90, 2, 3, 91, 5])
    """
    starts = mask & ~np.concatenate([[False], mask[:-1]])
    if (count := int(starts.sum())) > len(sentinels):
        raise ManifestError(
            f"{count} spans in a row, but the tokenizer has {len(sentinels)} sentinels", remedy="raise tokenizer.sentinels"
        )
    names = np.asarray(sentinels, dtype=np.int64)[np.cumsum(starts) - 1]
    text = np.where(starts, names, tokens)[~mask | starts]
    target = np.insert(tokens[mask], np.flatnonzero(starts[mask]), np.asarray(sentinels[:count], dtype=np.int64))
    return text.astype(np.int64), target.astype(np.int64)


@cache
def raw_length(part: Part, kind: str, length: int) -> int:
    """How many tokens of text fill a row of `length` places, what the form itself adds taken off. Seq2seq: encoder and
    decoder together.
    """
    if kind == "masked":
        return length - 2  # <s> and </s>
    if not isinstance(part, Spans):
        return length - (1 if kind == "causal" else 2)  # <s>; or two </s>
    for raw in range(length - 3, 1, -1):
        if raw + 2 * noise_counts(raw, part)[1] + (3 if kind == "causal" else 2) <= length:
            return raw
    raise ManifestError(f"a row of {length} tokens is too short for {part}", remedy="raise architecture.context")


def row(text: Tokens, part: Part, kind: str, specials: Specials, rng: np.random.Generator) -> Row:
    """One training example from `text` (raw_length tokens), made by `part` in the form that a model of `kind` reads."""
    if kind == "masked":
        assert isinstance(part, Spans)  # `check` saw to it
        mask = noise_mask(len(text), part, rng)
        inputs = np.concatenate([[specials.bos], np.where(mask, specials.mask, text), [specials.eos]])
        return Row(inputs, np.concatenate([[IGNORE], np.where(mask, text, IGNORE), [IGNORE]]))
    if isinstance(part, Spans):
        source, target = corrupt(text, noise_mask(len(text), part, rng), specials.sentinels)
        target = np.append(target, specials.eos)
    else:
        cut = 0 if isinstance(part, Causal) else int(rng.integers(1, len(text)))
        source, target = text[:cut], text[cut:]
    if kind == "seq2seq":
        return Row(np.append(source, specials.eos), target if isinstance(part, Spans) else np.append(target, specials.eos))
    head = np.concatenate([[specials.bos], source, [specials.sep] if isinstance(part, Spans) else []]).astype(np.int64)
    return Row(np.concatenate([head, target]), np.concatenate([np.full(len(head), IGNORE), target]))


def batch(rows: Sequence[Row], kind: str, specials: Specials) -> tuple[Tokens, Tokens]:
    """Stack rows, the short ones padded at their ends: (inputs, labels), each (rows, longest)."""

    def stack(arrays: list[Tokens], fill: int) -> Tokens:
        out = np.full((len(arrays), max(map(len, arrays))), fill, dtype=np.int64)
        for place, array in zip(out, arrays, strict=True):
            place[: len(array)] = array
        return out

    return stack([r.inputs for r in rows], specials.pad), stack([r.labels for r in rows], IGNORE)
