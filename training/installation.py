"""Text that every installation has: what the demo pre-trains on, and where its tasks come from.

    source          the standard library's modules
    documentation   the language reference's topics, and the standard library's docstrings
    licences        the licence files of the installed distributions and of Python
    readmes         the descriptions of the installed distributions

Each is a list of (name, text), sorted and free of duplicates, so that one installation always gives the same text.
"""

from __future__ import annotations

import inspect
import re
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

Document = tuple[str, str]  # name, text
# A docstring opens a module or follows a line that ends in a colon. Parsing every module would find a few more, in ten times
# the time.
_DOCSTRING = re.compile(r'(?:\A(?:#[^\n]*\n|\s)*|:[ \t]*\n[ \t]+)[rRuU]?"""(.+?)"""', re.DOTALL)
_LARGEST = 200_000  # characters: what is longer is a table (character sets, packed data), not text


@cache
def _modules() -> tuple[Document, ...]:
    root = Path(sysconfig.get_paths()["stdlib"])
    skipped = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "pydoc_data", "encodings", "__pycache__"}
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if skipped.isdisjoint(parts) and not parts[0].startswith(("config-", "lib-")):
            text = path.read_text(encoding="utf-8", errors="replace")
            if 500 <= len(text) <= _LARGEST:
                found.append(("/".join(parts), text))
    return tuple(found)


def source() -> list[Document]:
    """The standard library's modules."""
    return list(_modules())


def documentation() -> list[Document]:
    """The language reference by topic, and every docstring of the standard library of 200 characters or more."""
    found = []
    with suppress(ImportError):  # some distributions of Python pack it apart; the docstrings remain
        from pydoc_data.topics import topics

        found = [(f"topic {name}", text) for name, text in sorted(topics.items())]
    for module, text in _modules():
        for match in _DOCSTRING.finditer(text):
            docstring = inspect.cleandoc(match[1])
            if len(docstring) >= 200:
                found.append((f"{module} {match.start()}", docstring))
    return _distinct(found)


def _distributions() -> list[metadata.Distribution]:
    named = {(d.metadata["Name"] or "").lower(): d for d in metadata.distributions()}
    return [named[name] for name in sorted(named) if name]


def licences() -> list[Document]:
    """The licence of Python and those of the installed distributions, each text once."""
    found = []
    for place in (Path(sysconfig.get_paths()["stdlib"]) / "LICENSE.txt", Path(sysconfig.get_paths()["data"]) / "LICENSE.txt"):
        if place.is_file():
            found.append(("python", place.read_text(encoding="utf-8", errors="replace")))
    for distribution in _distributions():
        for file in sorted(distribution.files or [], key=str):
            if re.search(r"licen[cs]e|copying|notice", file.name, re.IGNORECASE) and file.suffix in {
                "",
                ".txt",
                ".md",
                ".rst",
                ".APACHE",
                ".BSD",
                ".MIT",
            }:
                path = Path(str(distribution.locate_file(file)))
                if path.is_file():
                    found.append(
                        (
                            f"{distribution.metadata['Name']} {file.name}",
                            path.read_text(encoding="utf-8", errors="replace")[:_LARGEST],
                        )
                    )
    return _distinct(found)


def readmes() -> list[Document]:
    """What the installed distributions say of themselves."""
    found = []
    for distribution in _distributions():
        text = distribution.metadata.json.get("description", "")
        text = text if isinstance(text, str) else ""
        if len(text) >= 500:
            found.append((str(distribution.metadata["Name"]), text[:_LARGEST]))
    return _distinct(found)


def _distinct(documents: list[Document]) -> list[Document]:
    seen: set[str] = set()

    def new() -> Iterator[Document]:
        for name, text in documents:
            key = " ".join(text.split())
            if key and key not in seen:
                seen.add(key)
                yield name, text

    return list(new())


TEXTS: dict[str, Callable[[], list[Document]]] = {
    "source": source,
    "documentation": documentation,
    "licences": licences,
    "readmes": readmes,
}
