"""A subset of a benchmark: which examples to score, and how to weigh them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import DataError
from features.writing import write_text

FORMAT = "foretune-subset-1"


@dataclass(frozen=True)
class Subset:
    """B of the N examples of a benchmark.

    Attributes
    ----------
    index : (B,) positions in the benchmark, in the order in which they were drawn
    weights : (B,) weights of the examples in an estimate of the benchmark's mean; they sum to 1, except a kriging subset's
    probabilities : (B,) probability of each draw given those before it; NaN for a subset that was not drawn at random
    size : N
    offset : added to the weighted sum (kriging: what the examples left out are expected to add)
    selector : the name of what chose it
    """

    index: np.ndarray
    weights: np.ndarray
    probabilities: np.ndarray
    size: int
    offset: float = 0.0
    selector: str = ""


@dataclass(frozen=True)
class TaskSubset:
    """The part of a subset that falls on one task: what `--examples` reads."""

    task: str
    examples: tuple[str, ...]
    weights: tuple[float, ...]
    probabilities: tuple[float | None, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def save(path: Path | str, subsets: Sequence[TaskSubset], *, selector: str, budget: int, made_from: Sequence[str]) -> None:
    """Write subsets of one or several tasks as JSON, with how they were chosen."""
    document = {
        "format": FORMAT,
        "selector": selector,
        "budget": budget,
        "checkpoints": list(made_from),
        "tasks": [s.to_dict() for s in subsets],
    }
    write_text(Path(path), json.dumps(document, indent=1) + "\n")


def load(path: Path | str) -> list[TaskSubset]:
    """Read what `save` wrote. Raises DataError naming what is wrong with the file."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        if document.get("format") != FORMAT:
            raise DataError(f"format is {document.get('format')!r}", where=str(path), remedy="make it with `foretune select`")
        subsets = [
            TaskSubset(
                t["task"], tuple(map(str, t["examples"])), tuple(map(float, t["weights"])), tuple(t.get("probabilities", ()))
            )
            for t in document["tasks"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as cause:
        raise DataError(f"not a subset file: {cause!r}", where=str(path), remedy="make it with `foretune select`") from cause
    for subset in subsets:
        if len(subset.examples) != len(subset.weights) or not np.isfinite(subset.weights).all():
            raise DataError(f"task {subset.task}: weights do not fit the examples", where=str(path))
        if len(set(subset.examples)) != len(subset.examples):
            raise DataError(f"task {subset.task}: an example is named twice", where=str(path))
    return subsets
