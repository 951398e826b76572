"""Make a bento: the service with the ranker that answers now baked in, to run where there is neither this folder nor MLflow.

    python -m serving.bento                    # prints the tag, e.g. foretune:7x3k...
    bentoml serve foretune:latest
    bentoml containerize foretune:latest

The champion is baked in, or the default ranker where there is none. What goes into the bento is copied to a folder of its own,
so that neither tests nor stores nor environments are packed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

from serving.champion import current
from serving.console import root, say
from serving.settings import BAKED

SOURCE = Path(__file__).parents[1]
PACKAGES = ("features", "ranker", "training", "serving")


def build(folder: Path) -> Any:
    """Build the bento for the ranker that answers in `folder`; returns `bentoml.Bento`."""
    import bentoml

    snapshot = current(folder, warn=say)
    with tempfile.TemporaryDirectory(prefix="foretune-bento-") as place:
        stage = Path(place)
        for package in PACKAGES:
            shutil.copytree(SOURCE / package, stage / package, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        baked = stage / "serving" / BAKED.name
        shutil.rmtree(baked, ignore_errors=True)
        snapshot.ranker.save(baked)
        (baked / "identity.json").write_text(json.dumps(snapshot.identity), encoding="utf-8")
        return bentoml.build(
            "serving.service:Foretune",
            version=None,
            labels={"ranker": snapshot.name, "ranker_version": snapshot.version},
            build_ctx=str(stage),
            include=[f"{package}/**" for package in PACKAGES],
            python={"packages": requirements(), "lock_packages": False},
        )


def requirements() -> list[str]:
    """What the service needs, from pyproject.toml, or from the installed distribution where that file is not at hand."""
    project = SOURCE / "pyproject.toml"
    if project.is_file():
        return list(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"])
    try:
        return [r for r in requires("foretune") or [] if "extra ==" not in r]
    except PackageNotFoundError:
        return []


if __name__ == "__main__":
    print(build(root()).tag)
