"""Files and folders that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import os
import shutil
import uuid
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


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which is put at `path` at the end, and thrown away where something fails.

    Where another process was first, what it put there stays: whoever makes the folder must make the same.
    """
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    draft.mkdir(parents=True)
    try:
        yield draft
        try:
            os.replace(draft, path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text."""
    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8")
