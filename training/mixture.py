"""Text for pre-training: corpora, length filters, domain tags, mixes, and the rows of a batch.

A corpus becomes one long stream of tokens, its documents parted by </s>; a row is a window of that stream, so nothing is
padded. Which window of which corpus fills row i of a run is fixed before the run begins: the batch of a step is a pure
function of (seed, step), which is what lets a killed run go on as if nothing had happened.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import DataError
from features.taskdata import json_value
from training import installation, objectives
from training.objectives import Specials, Tokens

BUILTIN = "builtin:"
HELD_OUT = 0.05  # share of each corpus's documents that no variant trains on


def read_corpus(source: str, root: Path, where: str = "") -> list[str]:
    """The documents of a corpus.

    Parameters
    ----------
    source : `builtin:NAME` (see `training.installation`), or a file: .jsonl(.gz) with a `text` field a line, or .txt(.gz), one
        document
    root : the folder that a relative file name starts from
    where : what the error names, e.g. ``recipe.yaml: corpora.films``

    Raises
    ------
    DataError : no such file, a line that is not an object with a text (or holds half of a surrogate pair), or no text at all
    """
    if source.startswith(BUILTIN):
        name = source.removeprefix(BUILTIN)
        if name not in installation.TEXTS:
            raise DataError(f"no built-in corpus {name!r}", where=where, remedy=f"use one of {', '.join(installation.TEXTS)}")
        return [text for _, text in installation.TEXTS[name]()]
    path = root / source
    if not path.is_file():
        raise DataError(
            f"no corpus file {path}", where=where, remedy="correct the name, or say where the corpora are with --corpora"
        )
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({error})", where=where, remedy="give UTF-8 text, gzip where the name ends in .gz"
        ) from error
    if ".jsonl" not in path.suffixes:
        documents = [text]
    else:
        documents = []
        place = f"{where}: {path}" if where else str(path)
        for number, line in enumerate(text.rstrip("\n").split("\n"), start=1):
            try:
                documents.append(json_value(line, f"{place} line {number}")["text"])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{path} line {number} is not an object with a text", where=where, remedy='give {"text": ...} a line'
                ) from error
            if not isinstance(documents[-1], str):
                raise DataError(f"{path} line {number}: text is not a string", where=where, remedy='give {"text": "..."} a line')
    documents = [d for d in documents if d.strip()]
    if not documents:
        raise DataError(f"{path} holds no text", where=where, remedy="give at least one document")
    return documents


def hold_out(documents: Sequence[str]) -> tuple[list[str], list[str]]:
    """(training, held out): a document's own digest decides, so the split survives a change of order. Neither is empty for
    two documents or more.
    """
    ranks = [int.from_bytes(hashlib.sha256(d.encode()).digest()[:8], "big") for d in documents]
    if len(documents) < 2:
        return list(documents), []
    count = max(1, round(HELD_OUT * len(documents)))
    limit = sorted(ranks)[count - 1]
    return [d for d, r in zip(documents, ranks, strict=True) if r > limit], [
        d for d, r in zip(documents, ranks, strict=True) if r <= limit
    ]


def length_bounds(name: str) -> tuple[float, float]:
    """The percentiles that a length filter keeps: "all" -> (0, 100), "25-75" -> (25, 75). Raises ValueError."""
    if name == "all":
        return 0.0, 100.0
    low, high = (float(part) for part in name.split("-"))
    if not 0 <= low < high <= 100:
        raise ValueError(name)
    return low, high


def filter_length(documents: Sequence[str], name: str) -> list[str]:
    """The documents whose length in characters lies between two percentiles of the corpus's lengths, ends included."""
    low, high = length_bounds(name)
    lengths = np.array([len(d) for d in documents])
    bounds = np.percentile(lengths, [low, high])
    return [d for d, n in zip(documents, lengths, strict=True) if bounds[0] <= n <= bounds[1]]


def tagged(document: str, tag: str) -> str:
    """A document that says in its first line which domain it is of."""
    return f"[{tag}]\n{document}"


def tokenize(documents: Sequence[str], raw: Any, eos: int, seed: int) -> NDArray[np.uint16]:
    """The documents in a seeded order, as one stream of tokens, each followed by </s>."""
    order = np.random.default_rng(seed).permutation(len(documents))
    parts = []
    for start in range(0, len(order), 256):
        for encoding in raw.encode_batch_fast([documents[i] for i in order[start : start + 256]], add_special_tokens=False):
            parts.append(np.array([*encoding.ids, eos], dtype=np.uint16))
    return np.concatenate(parts)


@dataclass(frozen=True)
class Loader:
    """The batches of one run.

    Attributes
    ----------
    streams : corpus -> its tokens
    weights : corpus -> its share of the rows; sums to 1
    objective, kind, specials : how text becomes a row (training.objectives)
    context : places in a row
    rows : rows in a batch
    steps : steps of the run
    seed : with the step, decides everything
    """

    streams: Mapping[str, NDArray[np.uint16]]
    weights: Mapping[str, float]
    objective: str
    kind: str
    specials: Specials
    context: int
    rows: int
    steps: int
    seed: int

    def __post_init__(self) -> None:
        which, start = _plan([len(self.streams[name]) for name in self.weights], list(self.weights.values()), self)
        object.__setattr__(self, "_plan", (which, start))

    def batch(self, step: int) -> tuple[Tokens, Tokens]:
        """Inputs and labels of step `step` (from 0), each (rows, places): a pure function of the step.

        A decoder's rows each draw their own part of the objective; the other forms draw one part a step, so that all rows are
        of one length.
        """
        which, start = self._plan  # type: ignore[attr-defined]
        names, made = list(self.weights), []
        shared = objectives.draw(self.objective, np.random.default_rng([self.seed, step]))
        for i in range(step * self.rows, (step + 1) * self.rows):
            rng = np.random.default_rng([self.seed, 1, i])
            part = objectives.draw(self.objective, rng) if self.kind == "causal" else shared
            length = objectives.raw_length(part, self.kind, self.context)
            stream = self.streams[names[which[i]]]
            text = stream[start[i] : start[i] + length].astype(np.int64)
            made.append(objectives.row(text, part, self.kind, self.specials, rng))
        return objectives.batch(made, self.kind, self.specials)


def _plan(lengths: Sequence[int], weights: Sequence[float], run: Loader) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each row of the run: which corpus, and where in its stream. A corpus is read through before any of it is read
    again, from another offset.
    """
    rng = np.random.default_rng([run.seed, 2])
    total = run.steps * run.rows
    which = rng.choice(len(lengths), size=total, p=np.array(weights) / sum(weights))
    start = np.zeros(total, dtype=np.int64)
    for corpus, length in enumerate(lengths):
        places = np.flatnonzero(which == corpus)
        taken = 0
        while taken < len(places):
            offset = int(rng.integers(0, min(run.context, length - run.context + 1)))
            windows = rng.permutation((length - offset) // run.context)[: len(places) - taken]
            start[places[taken : taken + len(windows)]] = offset + windows * run.context
            taken += len(windows)
    return which, start
