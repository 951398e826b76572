"""PPL-SC: how well a checkpoint fills in spans that were taken out of a text, whatever its architecture.

Zeng et al. (2025, arXiv 2504.12491) find it a better proxy than PPL-CLM, and leave the formulation open. Ours, one for each
architecture, named in
the feature, over the same passages and the same spans for every checkpoint:

    ppl_sc_seq2seq_t5        T5's format (Raffel et al. 2020): the corrupted text with the tokenizer's sentinels goes to the
    encoder, and the
                             decoder writes out sentinel and span in turn
    ppl_sc_causal_sentinel   the same in one sequence, corrupted text, separator, target, with the tokenizer's own sentinels
    ppl_sc_causal_plain      the same with sentinels written as plain text, where the tokenizer has none
    ppl_sc_masked_span       the tokens of all spans are masked at once and predicted from both sides

Only the spans' own tokens are scored. Spans are drawn over words (white space), so that they are the same whatever the
tokenizer: 15 % of the
words, in spans of 3 on average, as T5's are of tokens. `bpb_sc_*` divides by the spans' bytes instead of their tokens.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np

from features.corpora import Corpora
from features.errors import CheckpointError
from features.perplexity import bits_per_byte, perplexity
from features.registry import Session
from features.rows import Feature
from features.tasks import Task

_SENTINEL = re.compile(r"^<extra_id_(\d+)>$")


@dataclass(frozen=True)
class Masking:
    """A passage cut into pieces: what stays and what is taken out, in turn: kept[0], spans[0], kept[1], ..., kept[n].

    Each span begins with the white space before its first word, as tokenizers that mark word starts need it.
    """

    kept: tuple[str, ...]
    spans: tuple[str, ...]


def passages(documents: Sequence[str], characters: int, count: int) -> list[str]:
    """The head of each of `count` documents, evenly spread: up to `characters`, cut at a word; documents too short for a span
    fall out.
    """
    step = max(1, len(documents) // count)
    heads = []
    for document in documents[::step][:count]:
        text = document.strip()
        found = re.match(rf".{{1,{characters}}}(?=\s|$)", text, re.DOTALL)
        if found and len(found[0].split()) >= 8:
            heads.append(found[0].rstrip())
    return heads


def corrupt(text: str, rng: random.Random, noise: float = 0.15, mean: float = 3.0) -> Masking:
    """Take a share `noise` of the words out of a text, in spans of `mean` words on average (T5's random segmentation, over
    words).

    Spans never touch, and the first and the last word stay. Joining the pieces gives the text again.
    """
    words = re.findall(r"\s*\S+", text)
    tail = text[sum(map(len, words)) :]
    masked = min(max(round(noise * len(words)), 1), len(words) - 2)
    count = min(max(round(masked / mean), 1), masked, len(words) - masked - 1)
    spans = _parts(masked, count, rng)
    gaps = _parts(len(words) - masked, count + 1, rng)
    kept, taken, at = [], [], 0
    for gap, span in zip(gaps, [*spans, 0], strict=True):
        kept.append("".join(words[at : at + gap]))
        taken.append("".join(words[at + gap : at + gap + span]))
        at += gap + span
    kept[-1] += tail
    return Masking(tuple(kept), tuple(taken[:-1]))


def _parts(total: int, count: int, rng: random.Random) -> list[int]:
    """`total` cut into `count` positive parts, each composition as likely as any other."""
    cuts = [0, *sorted(rng.sample(range(1, total), count - 1)), total]
    return [after - before for before, after in pairwise(cuts)]


def sentinels(tokenizer: Any) -> list[str]:
    """The tokenizer's own sentinels, `<extra_id_0>` first; [] where it has none that are single tokens."""
    own = [token for token in tokenizer.get_vocab() if _SENTINEL.match(token)]
    return sorted(own, key=lambda token: int(_SENTINEL.match(token)[1]))  # type: ignore[index]


class PerplexitySC:
    """`ppl_sc_*` and `bpb_sc_*`: perplexity and bits per byte of spans that were taken out, by the formulation for the
    architecture.

    Parameters
    ----------
    documents, characters : how many passages, and how long each is at most
    maskings : seeded maskings of each passage
    noise, mean_span : share of words taken out, mean words of a span
    seed : of the maskings

    The standard error is over documents. Passages are of the first corpus (or the one named `reference`).
    """

    name: ClassVar[str] = "ppl_sc"
    version: ClassVar[int] = 1
    scope: ClassVar[Literal["checkpoint", "task"]] = "checkpoint"
    produces: ClassVar[tuple[str, ...]] = ("ppl_sc", "ppl_sc_*", "bpb_sc_*")

    def __init__(
        self,
        *,
        documents: int = 48,
        characters: int = 320,
        maskings: int = 2,
        noise: float = 0.15,
        mean_span: float = 3.0,
        seed: int = 0,
    ) -> None:
        self.documents, self.characters, self.maskings = documents, characters, maskings
        self.noise, self.mean_span, self.seed = noise, mean_span, seed

    def settings(self) -> dict[str, Any]:
        return {
            "documents": self.documents,
            "characters": self.characters,
            "maskings": self.maskings,
            "noise": self.noise,
            "mean_span": self.mean_span,
            "seed": self.seed,
        }

    def data_digest(self, task: Task | None, corpora: Corpora) -> str:
        return corpora.digest

    def applies(self, kind: str, task: Task | None) -> bool:
        return kind in ("causal", "seq2seq", "masked")

    def measure(self, session: Session) -> list[Feature]:
        corpora = session.corpora
        main = "reference" if "reference" in corpora.names else corpora.names[0]
        texts = passages(corpora.documents(main), self.characters, self.documents)
        if not texts:
            raise CheckpointError("no document of the corpus has 8 words", where=f"corpora.{main}", remedy="name another corpus")
        cut = [
            (i, corrupt(text, random.Random(f"{self.seed}/{m}/{text}"), self.noise, self.mean_span))
            for i, text in enumerate(texts)
            for m in range(self.maskings)
        ]
        name, scored = _SCORERS[session.model.kind](session, [masking for _, masking in cut])
        nll, tokens, sizes = [0.0] * len(texts), [0] * len(texts), [0] * len(texts)
        for (document, masking), logprobs in zip(cut, scored, strict=True):
            nll[document] -= float(logprobs.sum())
            tokens[document] += len(logprobs)
            sizes[document] += sum(len(span.encode()) for span in masking.spans)
        return [perplexity(f"ppl_{name}", nll, tokens), bits_per_byte(f"bpb_{name}", nll, sizes)]


def _ids(session: Session, texts: Sequence[str]) -> list[list[int]]:
    """Token ids without special tokens; the empty text has none.

    A tokenizer that puts a space of its own before every text (SentencePiece) gets each text without its first space.
    """
    if session.model.tokenizer.tokenize("a")[0].startswith("▁"):
        texts = [text.removeprefix(" ") for text in texts]
    found = iter(session.scorer.encoder.encode([text for text in texts if text], special=False))
    return [list(next(found)) if text else [] for text in texts]


def _sequences(
    session: Session, maskings: Sequence[Masking], marks: Sequence[str]
) -> list[tuple[list[int], list[int], np.ndarray]]:
    """For each masking: ids of the corrupted text, ids of the target, and which of the target's are a span's."""
    most = max(len(masking.spans) for masking in maskings)
    if most > len(marks):
        raise CheckpointError(f"{most} spans, but the tokenizer has {len(marks)} sentinels", where=session.model.name)
    marked = _ids(session, marks[: most + 1])
    flat = iter(_ids(session, [piece for masking in maskings for piece in (*masking.kept, *masking.spans)]))
    made = []
    for masking in maskings:
        kept = [next(flat) for _ in masking.kept]
        spans = [next(flat) for _ in masking.spans]
        corrupted, target, is_span = list(kept[0]), [], []
        for i, span in enumerate(spans):
            corrupted += marked[i] + kept[i + 1]
            target += marked[i] + span
            is_span += [False] * len(marked[i]) + [True] * len(span)
        made.append((corrupted, target, np.asarray(is_span)))
    return made


def _causal(session: Session, maskings: Sequence[Masking]) -> tuple[str, list[np.ndarray]]:
    tokenizer = session.model.tokenizer
    own = sentinels(tokenizer)
    most = max(len(masking.spans) for masking in maskings)
    plain = len(own) < most
    marks = [f"<extra_id_{i}>" for i in range(most)] if plain else own
    own_separator = None if plain else tokenizer.sep_token_id
    separator = _ids(session, ["\n"])[0] if own_separator is None else [own_separator]
    prefix = session.scorer.encoder.prefix_id
    requests, masks = [], []
    for corrupted, target, is_span in _sequences(session, maskings, marks):
        requests.append(([prefix, *corrupted, *separator], target))
        masks.append(is_span)
    _fits(session, [len(context) + len(target) for context, target in requests])
    scored = session.scorer.token_logprobs(requests)
    return f"sc_causal_{'plain' if plain else 'sentinel'}", [found[mask] for found, mask in zip(scored, masks, strict=True)]


def _seq2seq(session: Session, maskings: Sequence[Masking]) -> tuple[str, list[np.ndarray]]:
    own = sentinels(session.model.tokenizer)
    if not own:
        raise CheckpointError("the tokenizer has no sentinels <extra_id_0>, ...", where=session.model.name)
    end = session.model.tokenizer.eos_token_id
    made = _sequences(session, maskings, own)
    requests = [([*corrupted, *([end] if end is not None else [])], target) for corrupted, target, _ in made]
    _fits(session, [max(len(context), len(target)) for context, target in requests])
    scored = session.scorer.token_logprobs(requests)
    return "sc_seq2seq_t5", [found[is_span] for found, (_, _, is_span) in zip(scored, made, strict=True)]


def _masked(session: Session, maskings: Sequence[Masking]) -> tuple[str, list[np.ndarray]]:
    head, tail = session.scorer.encoder.affixes()
    flat = iter(_ids(session, [piece for masking in maskings for piece in (*masking.kept, *masking.spans)]))
    requests = []
    for masking in maskings:
        kept = [next(flat) for _ in masking.kept]
        spans = [next(flat) for _ in masking.spans]
        ids, positions = [*head, *kept[0]], list[int]()
        for span, after in zip(spans, kept[1:], strict=True):
            positions += range(len(ids), len(ids) + len(span))
            ids += span + after
        requests.append(([*ids, *tail], positions))
    _fits(session, [len(ids) for ids, _ in requests])
    return "sc_masked_span", session.scorer.masked_logprobs(requests)


_SCORERS = {"causal": _causal, "seq2seq": _seq2seq, "masked": _masked}


def _fits(session: Session, lengths: Sequence[int]) -> None:
    if max(lengths) > session.model.max_length:
        raise CheckpointError(
            f"a passage of {max(lengths)} tokens does not fit its window of {session.model.max_length}",
            where=session.model.name,
            remedy="leave ppl_sc out for this zoo",
        )
