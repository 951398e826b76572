"""Tasks made from what every installation has, for the demo: labelled lines of the standard library, its documentation, and
licences.

    packages    which package of the standard library three lines of code are from
    docstrings  which package a sentence of documentation is from
    kinds       what a line is: code, documentation, a licence, or a distribution's description

The text itself was seen in pre-training by the variants trained on its corpus, the labels by none; train and test never share
a document.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from training import installation

Labelled = tuple[str, str, str]  # document, text, label

PACKAGES = ("asyncio", "distutils", "email", "tkinter", "unittest", "xml")


def packages() -> list[Labelled]:
    """Three consecutive lines of code, by the package that they are from; lines that name the package are left out."""
    found = []
    for name, text in installation.source():
        package = name.split("/")[0]
        if package in PACKAGES:
            lines = [line for line in text.splitlines() if line.strip() and not re.search(package, line, re.IGNORECASE)]
            found += [(name, " ".join(" ".join(lines[i : i + 3]).split())[:160], package) for i in range(0, len(lines) - 2, 3)]
    return found


def docstrings() -> list[Labelled]:
    """Sentences of docstrings, by the package that they document; those that name it are left out."""
    found = []
    for name, text in installation.documentation():
        package = name.split("/")[0]
        if package in PACKAGES:
            sentences = re.split(r"(?<=[.;:])\s+", " ".join(text.split()))
            found += [
                (name.split(" ")[0], s[:160], package)
                for s in sentences
                if len(s) >= 40 and not re.search(package, s, re.IGNORECASE)
            ]
    return found


def kinds() -> list[Labelled]:
    """Single lines by the kind of text that they are from."""
    names = {"source": "code", "documentation": "manual", "licences": "licence", "readmes": "readme"}
    found = []
    for corpus, label in names.items():
        for name, text in installation.TEXTS[corpus]():
            lines = [" ".join(line.split()) for line in text.splitlines()]
            found += [(name, line[:100], label) for line in lines if len(line) >= 30]
    return found


TASKS: dict[str, tuple[Callable[[], list[Labelled]], str]] = {
    "packages": (packages, "{{text}}\n# package:"),
    "docstrings": (docstrings, "{{text}}\nPackage:"),
    "kinds": (kinds, "{{text}}\nKind of text:"),
}


def write(
    folder: str | Path,
    names: Sequence[str] = tuple(TASKS),
    *,
    train: int = 800,
    test: int = 400,
    features: int = 200,
    seed: int = 0,
) -> list[Path]:
    """Write the named tasks into `folder` as NAME.yaml and NAME.jsonl; returns the YAML files.

    The classes are balanced, and a label of which there is too little text in this installation is left out. A document's
    examples are all in one split: `train`, `test` (outcomes) or `features` (what is measured before fine-tuning).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name in names:
        source, prompt = TASKS[name]
        rows = _split(source(), {"train": train, "test": test, "features": features}, seed)
        labels = sorted({row["label"] for row in rows})
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
        task = {
            "task": name,
            "data": f"{name}.jsonl",
            "output_type": "multiple_choice",
            "training_split": "train",
            "test_split": "test",
            "features_split": "features",
            "doc_to_text": prompt,
            "doc_to_choice": labels,
            "doc_to_target": "label",
            "num_fewshot": 1,
        }
        made.append(folder / f"{name}.yaml")
        made[-1].write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")
    return made


def _split(labelled: list[Labelled], sizes: dict[str, int], seed: int) -> list[dict[str, str]]:
    """Balanced examples for each split, distinct in text, with no document on two sides."""
    rng = random.Random(seed)
    known: dict[str, set[str]] = {}
    for _, text, label in labelled:
        known.setdefault(text, set()).add(label)
    by_text = {text: (document, label) for document, text, label in labelled if text and len(known[text]) == 1}
    documents = sorted({document for document, _ in by_text.values()})
    rng.shuffle(documents)
    total, bounds, reached = sum(sizes.values()), {}, 0.0
    for split, size in sizes.items():
        reached += size / total
        bounds[split] = reached
    place = {
        document: next(s for s, b in bounds.items() if (i + 0.5) / len(documents) <= b + 1e-9)
        for i, document in enumerate(documents)
    }
    pools: dict[tuple[str, str], list[str]] = {}
    for text, (document, label) in sorted(by_text.items()):
        pools.setdefault((place[document], label), []).append(text)
    labels = sorted({label for _, label in by_text.values()})
    enough = [
        label
        for label in labels
        if all(len(pools.get((split, label), [])) >= size / len(labels) / 2 for split, size in sizes.items())
    ]
    rows = []
    for split, size in sizes.items():
        for label in enough:
            pool = pools[split, label]
            rng.shuffle(pool)
            rows += [{"text": text, "label": label, "split": split} for text in pool[: size // len(enough)]]
    rng.shuffle(rows)
    return rows
