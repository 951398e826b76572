"""Files that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what shall stand at `path`: it is put there at the end, on disk, and thrown away where something fails.

    The folder is made if need be. What stood at `path` before stays until then; a link goes on pointing where it did. A device
    or a pipe is written to as it is.
    """
    if path.exists() and (not path.is_file() or path.absolute().is_relative_to("/dev")):
        yield path
        return
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield draft
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text."""
    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8")
