"""The zoo that ships with the product: real checkpoints for a newcomer's first run, trained only on freely redistributable text.

    python -m training.shipped DIR      pack the finished variants of `foretune zoo build free -o DIR` into training/free_zoo/

`training/free_zoo/zoo.yaml` is a manifest like any other: `foretune rank`, `extract` and `finetune` take its path, which `path()`
gives.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import yaml

from features.errors import ManifestError

FOLDER = Path(__file__).parent / "free_zoo"
LARGEST = 12_000_000  # bytes, all files together
KEPT = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)


def path() -> Path:
    """The manifest of the shipped zoo."""
    return FOLDER / "zoo.yaml"


def copy(folder: Path) -> Path:
    """Copy the shipped zoo into `folder`, where a newcomer may look at it and change it; its manifest."""
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    return folder / "zoo.yaml"


def pack(built: Path, folder: Path = FOLDER) -> int:
    """Copy the finished variants of a build into `folder`, one folder each, with manifest and held-out text; returns the bytes.

    Raises
    ------
    ManifestError : `built` holds no finished variant, or what it holds is larger than `LARGEST`
    """
    manifest = built / "zoo.yaml"
    if not manifest.is_file():
        raise ManifestError("no finished variant", where=str(manifest), remedy="run `foretune zoo build free -o DIR` first")
    content = yaml.safe_load(manifest.read_text(encoding="utf-8"))
    files = {Path("reference.jsonl"): built / content["corpora"]["reference"]}
    for checkpoint in content["checkpoints"]:
        source = built / checkpoint["model"]
        checkpoint["model"] = f"./{checkpoint['name']}"
        files |= {Path(checkpoint["name"]) / name: source / name for name in KEPT if (source / name).is_file()}
    content["corpora"] = {"reference": "reference.jsonl"}
    total = sum(file.stat().st_size for file in files.values())
    if total > LARGEST:
        raise ManifestError(
            f"{total:,} bytes are more than {LARGEST:,}", where=str(built), remedy="pack fewer or smaller variants"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source, folder / name)
    (folder / "zoo.yaml").write_text(yaml.safe_dump(content, sort_keys=False, width=140), encoding="utf-8")
    return total


if __name__ == "__main__":
    print(f"{pack(Path(sys.argv[1])):,} bytes in {FOLDER}")
