"""Text for perplexity: the corpora that a zoo names, or a sample of what every Python installation has.

A corpus is a JSONL, CSV or Parquet file with a field `text` (one document a row) or a plain text file (documents parted by
blank lines are
joined up to about 2,000 characters); each may be .gz. The built-in sample is Python's licence, the documentation topics of
`pydoc` and the
docstrings of some standard modules: English prose about programming. It is there so that a new installation can measure at
once; a held-out sample
of text like your task's is better, and a zoo pre-trained on such text must not be measured on it.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import inspect
import re
import sysconfig
import zlib
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path

from features.errors import DataError, UnknownNameError
from features.manifest import closest
from features.taskdata import format_of, read_rows

BUILT_IN = "built_in"
_DOCSTRING = re.compile(r'^[ \t]*"""(.+?)"""', re.MULTILINE | re.DOTALL)  # by sight: parsing whole modules takes 20 times as long
_MODULES = (
    "argparse",
    "collections",
    "datetime",
    "decimal",
    "difflib",
    "doctest",
    "inspect",
    "optparse",
    "pickle",
    "random",
    "shutil",
    "statistics",
    "string",
    "subprocess",
    "textwrap",
    "threading",
    "typing",
    "zipfile",
)


class Corpora:
    """Corpora by name, read when they are first needed.

    Parameters
    ----------
    paths : name -> file; empty means the built-in sample
    """

    def __init__(self, paths: Mapping[str, Path] | None = None) -> None:
        self.paths = dict(paths or {})

    @property
    def names(self) -> list[str]:
        """Names, in the order of the manifest."""
        return list(self.paths) or [BUILT_IN]

    @cached_property
    def _documents(self) -> dict[str, tuple[str, ...]]:
        return {name: read_corpus(path) for name, path in self.paths.items()} or {BUILT_IN: built_in()}

    def documents(self, name: str) -> tuple[str, ...]:
        """The documents of a corpus. Raises UnknownNameError, and DataError for a file that cannot be read."""
        if name not in self.names:
            raise UnknownNameError(f"no corpus named {name!r}", where="corpora", remedy=closest(name, self.names))
        return self._documents[name]

    @cached_property
    def digest(self) -> str:
        """Digest of all names and documents."""
        hasher = hashlib.sha256()
        for name, documents in self._documents.items():
            hasher.update(f"{name}\0{len(documents)}\0".encode())
            for document in documents:
                hasher.update(document.encode() + b"\0")
        return f"sha256:{hasher.hexdigest()}"


def read_corpus(path: Path) -> tuple[str, ...]:
    """The documents of a file. Raises DataError: no such file, no field `text`, nothing in it."""
    if path.name.lower().removesuffix(".gz").endswith((".txt", ".md", ".rst")):
        documents = _plain(path)
    else:
        format_of(path)
        documents = []
        for row in read_rows(path):
            text = row.fields.get("text")
            if not isinstance(text, str):
                raise DataError("no field `text`", where=row.at, remedy="name the field that holds the document `text`")
            documents.append(text)
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise DataError("the corpus is empty", where=str(path), remedy="give it some documents")
    return tuple(documents)


def _plain(path: Path) -> list[str]:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return _joined(raw.decode("utf-8-sig").split("\n\n"))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"cannot be read: {error}", where=str(path), remedy="check the file; it must be UTF-8 text") from None


def _joined(paragraphs: list[str], size: int = 2000) -> list[str]:
    documents, current = [], ""
    for paragraph in paragraphs:
        current = f"{current}\n\n{paragraph}" if current else paragraph
        if len(current) >= size:
            documents.append(current)
            current = ""
    return [*documents, current] if current.strip() else documents


@cache
def built_in() -> tuple[str, ...]:
    """The built-in sample: up to 16 documents of each source, of up to 2,000 characters, evenly spread over it."""
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    licence = [text for name in ("LICENSE.txt", "LICENSE") if (text := _read(stdlib / name))]
    topics: list[str] = []
    if importlib.util.find_spec("pydoc_data.topics"):
        from pydoc_data.topics import topics as found

        topics = [text for _, text in sorted(found.items()) if len(text) > 800]
    docstrings = []
    for module in _MODULES:
        source = _read(stdlib / f"{module}.py") or _read(stdlib / module / "__init__.py")
        docstrings += [inspect.cleandoc(text) for text in _DOCSTRING.findall(source) if len(text) > 800]
    sources = [_joined("\n".join(licence).split("\n\n")), topics, docstrings]
    chosen = [source[int(i * len(source) / 16)][:2000] for source in sources if source for i in range(min(16, len(source)))]
    if not chosen:
        raise DataError(
            "this Python installation has no text to sample", where="corpora", remedy="name a corpus in the zoo's `corpora`"
        )
    return tuple(dict.fromkeys(chosen))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
