"""The training history that lies beside a checkpoint: the losses that its own pre-training logged.

Read are Hugging Face's `trainer_state.json` (`log_history`: rows with `step` and `loss`) and the `record.json` of `foretune zoo
build` (`history`: the same rows), in the checkpoint's folder or in the one above it, the run's. A file of such a name without
its key is somebody else's, and no history.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import DataError
from features.zoo import Checkpoint

FILES = {"trainer_state.json": "log_history", "record.json": "history"}
_MOST_STEPS = 2**53  # whole numbers are exact up to here, also as floats


def read_history(path: Path | str, quantity: str = "loss") -> tuple[np.ndarray, np.ndarray]:
    """(n,) steps and (n,) losses of a history file, in the order of the steps; the last value logged at a step counts.

    Raises DataError for a file that is not JSON, has no rows of `step` and `quantity`, or a step or a value that is no
    finite number.
    """
    path = Path(path)
    document = _document(path)
    for key in FILES.values():
        if key in document:
            return _logged(document[key], f"{path}: {key}", quantity)
    raise DataError("no log_history", where=str(path), remedy="name the trainer_state.json that Trainer saved")


def _document(path: Path) -> dict[str, Any]:
    """The lists of a JSON file by their keys; empty for a file that holds no object."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        raise DataError(f"cannot be read: {cause}", where=str(path), remedy="name a trainer_state.json") from cause
    return {key: rows for key, rows in document.items() if isinstance(rows, list)} if isinstance(document, dict) else {}


def _logged(rows: list[Any], where: str, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the rows that have both."""
    found: dict[int, float] = {}
    for number, row in enumerate(rows):
        if isinstance(row, dict) and quantity in row and "step" in row:
            found[_step(row["step"], f"{where}[{number}].step")] = _number(row[quantity], f"{where}[{number}].{quantity}")
    if not found:
        raise DataError(f"no row has step and {quantity}", where=where, remedy="train with logging switched on")
    steps = np.array(sorted(found))
    return steps, np.array([found[int(s)] for s in steps])


def _step(value: Any, where: str) -> int:
    if not 0 <= _number(value, where) <= _MOST_STEPS:
        raise DataError(f"{value!r} is not a number of steps", where=where, remedy="leave the row out, or train again")
    return int(value)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
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
    for file, key in ((place / name, key) for place in places for name, key in FILES.items()):
        if file.is_file() and key in (document := _document(file)):
            steps, losses = _logged(document[key], f"{file}: {key}", "loss")
            until = len(steps) if step is None else int(np.searchsorted(steps, step, side="right"))
            return (steps[:until], losses[:until]) if until else None
    return None
