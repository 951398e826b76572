"""A recipe's text made ready: corpora read and split, the tokenizer trained, each corpus turned into a stream of tokens, and
all of it kept.

A stream is one (corpus, length filter, domain tag). It is tokenised when first asked for and kept as `tokens/*.npy`, named
for the digest of its text and of the tokenizer, so that a changed corpus can never be read from an old file.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import DataError
from features.writing import whole, write_text
from training import mixture, tokenizer
from training.mixture import Loader
from training.recipe import Recipe, Variant


@dataclass(frozen=True)
class Streams:
    """Where the text of a build is: its folder, the folder of corpus files, and a digest of each corpus and of the tokenizer."""

    folder: Path
    root: Path
    digests: dict[str, str]
    tokenizer_digest: str

    @classmethod
    def prepare(cls, plan: Recipe, folder: Path, root: Path) -> Streams:
        """Read every corpus of the recipe; train the tokenizer and write the held-out text unless they are there.

        Raises
        ------
        DataError : a corpus is missing or unreadable
        """
        digests, training = {}, {}
        reference = []
        for name, corpus in plan.corpora.items():
            documents = mixture.read_corpus(corpus.source, root, f"{plan.path}: corpora.{name}")
            digests[name] = hashlib.sha256(json.dumps(documents).encode()).hexdigest()
            training[name], held = mixture.hold_out(documents)
            held.sort(key=lambda d: hashlib.sha256(d.encode()).digest())
            reference += [{"text": d[: plan.reference.characters], "corpus": name} for d in held[: plan.reference.documents]]
        text = folder / "text" / "reference.jsonl"
        if not text.exists():
            write_text(text, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in reference))
        saved = folder / "tokenizer.json"
        if not saved.exists():
            share = (piece for documents in training.values() for piece in _head(documents, plan.tokenizer.characters))
            write_text(saved, tokenizer.train(share, plan.tokenizer.vocabulary, plan.tokenizer.sentinels).to_str())
        return cls(folder, root, digests, hashlib.sha256(saved.read_bytes()).hexdigest())

    def tokenizer(self) -> Any:
        """The shared tokenizer."""
        return tokenizer.load(self.folder / "tokenizer.json")

    def loader(self, plan: Recipe, run: Variant) -> Loader:
        """The batches of one variant.

        Raises
        ------
        DataError : the length filter leaves too little text of a corpus
        """
        raw = self.tokenizer()
        specials = tokenizer.specials(raw)
        mix = plan.mixes[run.data_mix]
        streams = {name: self._stream(plan, name, run, raw, specials.eos) for name in mix}
        for name, stream in streams.items():
            if len(stream) < plan.architecture.context:
                found = f"{len(stream)} tokens are left after the length filter {run.length_filter}"
                raise DataError(found, where=f"{plan.path}: corpora.{name}", remedy="give more text, or a wider filter")
        shape, schedule = plan.architecture, plan.training
        return Loader(streams, mix, run.objective, shape.kind, specials, shape.context, schedule.rows, plan.steps, plan.seed)

    def _stream(self, plan: Recipe, name: str, run: Variant, raw: Any, eos: int) -> NDArray[np.uint16]:
        tag = (plan.corpora[name].tag or name) if run.domain_tag else ""
        key = hashlib.sha256(
            json.dumps([self.digests[name], self.tokenizer_digest, run.length_filter, tag, plan.seed]).encode()
        ).hexdigest()[:20]
        path = self.folder / "tokens" / f"{name}-{key}.npy"
        if not path.exists():
            documents, _ = mixture.hold_out(mixture.read_corpus(plan.corpora[name].source, self.root))
            documents = mixture.filter_length(documents, run.length_filter)
            if not documents:
                found = f"no document is left after the length filter {run.length_filter}"
                raise DataError(found, where=f"{plan.path}: corpora.{name}", remedy="give more text, or a wider filter")
            tokens = mixture.tokenize([mixture.tagged(d, tag) if tag else d for d in documents], raw, eos, plan.seed)
            with whole(path) as draft, draft.open("wb") as file:
                np.save(file, tokens)
        return np.load(path, mmap_mode="r")


def _head(documents: list[str], characters: int) -> list[str]:
    """Documents from the start, to so many characters in all."""
    taken, total = [], 0
    for document in documents:
        if total >= characters:
            break
        taken.append(document[: characters - total])
        total += len(document)
    return taken
