"""The default ranker kept on disk: it is fitted once in a project, not by every command."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import DataError
from ranker.reference import TABLES, default_ranker

if TYPE_CHECKING:
    from ranker.compare import LearningToCompare

_LIBRARIES = ("lightgbm", "numpy", "pandas", "scikit-learn", "scipy")


def kept_ranker(root: Path) -> LearningToCompare:
    """`default_ranker`, read from ``mlruns/default-ranker`` under `root` where the same code, tables and libraries have kept it;
    else fitted, and kept for the next time if there is an ``mlruns``.

    What is kept is what `LearningToCompare.save` writes: it is checked as it is read, and what is damaged is fitted anew. A
    folder that cannot be written to costs nothing but the time.
    """
    from ranker.compare import LearningToCompare

    if not (root / "mlruns").is_dir():
        return default_ranker()
    place = root / "mlruns" / "default-ranker"
    target = place / made_of()
    try:
        return LearningToCompare.load(target)
    except DataError:
        ranker = default_ranker()
    try:
        place.mkdir(parents=True, exist_ok=True)
        before = set(place.iterdir()) - {target}
        aside = Path(tempfile.mkdtemp(prefix=".keeping-", dir=place))
        try:
            ranker.save(aside)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        for other in before:  # of versions that are gone, or killed while they were written
            shutil.rmtree(other, ignore_errors=True)
    except OSError:
        pass  # nowhere to keep it, or another process was first
    return ranker


def made_of() -> str:
    """Digest of all that the default ranker is made of: the tables, our code, and the libraries that fit it."""
    root = Path(__file__).parents[2]
    tables = [Path(__file__).parent / f"{name}.csv" for name in TABLES]
    digest = hashlib.sha256()
    for file in (*sorted(root.glob("ranker/**/*.py")), *sorted(root.glob("features/**/*.py")), *tables):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    digest.update("\0".join(f"{name} {version(name)}" for name in _LIBRARIES).encode())
    return digest.hexdigest()[:32]
