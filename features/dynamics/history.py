"""The training history that lies beside a checkpoint: the losses that its own pre-training logged.

Read are Hugging Face's `trainer_state.json` (`log_history`: rows with `step` and `loss`) and the `record.json` of `foretune zoo
build` (`history`: the same rows), in the checkpoint's folder or in the one above it, the run's.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import DataError
from features.zoo import Checkpoint

FILES = {"trainer_state.json": "log_history", "record.json": "history"}


def read_history(path: Path | str, quantity: str = "loss") -> tuple[np.ndarray, np.ndarray]:
    """(n,) steps and (n,) losses of a history file, in the order of the steps; the last value logged at a step counts.

    Raises DataError for a file that is not JSON, has no rows of `step` and `quantity`, or a value that is not a finite number.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise DataError(f"cannot be read: {cause}", where=str(path), remedy="name a trainer_state.json") from cause
    known = [key for key in FILES.values() if isinstance(document, dict) and isinstance(document.get(key), list)]
    if not known:
        raise DataError("no log_history", where=str(path), remedy="name the trainer_state.json that Trainer saved")
    found: dict[int, float] = {}
    for number, row in enumerate(document[known[0]]):
        if isinstance(row, dict) and quantity in row and "step" in row:
            found[int(row["step"])] = _number(row[quantity], f"{path}: {known[0]}[{number}].{quantity}")
    if not found:
        raise DataError(f"no row has step and {quantity}", where=f"{path}: {known[0]}", remedy="train with logging switched on")
    steps = np.array(sorted(found))
    return steps, np.array([found[int(s)] for s in steps])


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise DataError(f"{value!r} is not a finite number", where=where, remedy="leave the row out, or train again")
    return float(value)


def history_of(checkpoint: Checkpoint) -> tuple[np.ndarray, np.ndarray] | None:
    """Steps and losses up to and including the checkpoint's own step; None where nothing is known.

    The checkpoint's step is the manifest's, else the number that its folder's name ends with (checkpoint-500, step-000500). Where
    there is neither, only a file in the checkpoint's own folder is read, which was written when the checkpoint was; a run's
    history may go on after it. Raises DataError as `read_history` does.
    """
    if not checkpoint.is_local:
        return None
    folder = Path(checkpoint.location)
    named = re.search(r"[-_](\d+)$", folder.name)
    step = checkpoint.step if checkpoint.step is not None else int(named[1]) if named else None
    places = [folder, folder.parent] if step is not None else [folder]
    for file in (place / name for place in places for name in FILES):
        if file.is_file():
            steps, losses = read_history(file)
            until = len(steps) if step is None else int(np.searchsorted(steps, step, side="right"))
            return (steps[:until], losses[:until]) if until else None
    return None
