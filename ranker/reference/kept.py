"""The default ranker kept on disk: it is fitted once in a project, not by every command."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import DataError
from features.writing import whole_folder
from ranker.reference import TABLES, default_ranker

if TYPE_CHECKING:
    from ranker.compare import LearningToCompare

_LIBRARIES = ("lightgbm", "numpy", "pandas", "scikit-learn", "scipy")


def kept_ranker(root: Path | str | None = None) -> LearningToCompare:
    """`default_ranker`, read from ``mlruns/default-ranker`` under `root` (the current folder) where the same code, tables and
    libraries have kept it; else fitted, and kept for the next time if there is an ``mlruns``.

    What is kept is what `LearningToCompare.save` writes: it is checked as it is read, and what is damaged is fitted anew. A
    folder that cannot be written to costs nothing but the time.
    """
    mlruns = Path(root or ".") / "mlruns"
    if not mlruns.is_dir():
        return default_ranker()
    place = mlruns / "default-ranker" / made_of()
    if (kept := _read(place)) is not None:
        return kept
    ranker = default_ranker()
    with suppress(OSError):
        for old in place.parent.glob("[!.]*"):  # of another version, or damaged; what was kept by another meanwhile stays
            if old != place or _read(place) is None:
                shutil.rmtree(old)
        with whole_folder(place) as draft:
            ranker.save(draft)
    return ranker


def _read(place: Path) -> LearningToCompare | None:
    from ranker.compare import LearningToCompare

    try:
        return LearningToCompare.load(place)
    except DataError:
        return None


def made_of() -> str:
    """Digest of all that the default ranker is made of: the tables, our code, and the libraries that fit it."""
    root = Path(__file__).parents[2]
    tables = [Path(__file__).parent / f"{name}.csv" for name in TABLES]
    digest = hashlib.sha256()
    for file in (*sorted(root.glob("ranker/**/*.py")), *sorted(root.glob("features/**/*.py")), *tables):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    digest.update("\0".join(f"{name} {version(name)}" for name in _LIBRARIES).encode())
    return digest.hexdigest()[:32]
