"""Dataset cartography: what a run makes of each example (Swayamdipta et al. 2020, arXiv 2009.10795)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from features.errors import DataError

EASY, AMBIGUOUS, HARD = "easy-to-learn", "ambiguous", "hard-to-learn"


def coordinates(probability: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """Coordinates of N examples over E epochs or checkpoints.

    Parameters
    ----------
    probability : (E, N), probability of the gold label
    correct : (E, N), whether the gold label was the most likely one

    Returns
    -------
    frame of N rows: `confidence` (mean of probability), `variability` (its population standard deviation over epochs) and
    `correctness` (how many epochs were right, 0 to E), as published
    """
    probability = np.asarray(probability, dtype=float)
    return pd.DataFrame(
        {
            "confidence": probability.mean(axis=0),
            "variability": probability.std(axis=0),
            "correctness": np.asarray(correct, dtype=int).sum(axis=0),
        }
    )


def regions(frame: pd.DataFrame, share: float = 0.33) -> pd.Series:
    """The region of each example: the `share` of highest variability is ambiguous, as published; of the rest, the more confident
    half is easy to learn and the other hard to learn.
    """
    if not 0 < share < 1:
        raise DataError(f"a share of {share}", remedy="use a number between 0 and 1")
    ambiguous = frame["variability"].rank(method="first", ascending=False) <= share * len(frame)
    middle = frame.loc[~ambiguous, "confidence"].median()
    rest = np.where(frame["confidence"] >= middle, EASY, HARD)
    return pd.Series(np.where(ambiguous, AMBIGUOUS, rest), index=frame.index, name="region")


def read_dynamics(folder: Path | str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read `dynamics_epoch_*.jsonl` as dataset-cartography writes it: one `{"guid", "logits_epoch_E", "gold"}` a line.

    Returns
    -------
    N guids, (E, N) probability of the gold label, (E, N) whether it was the most likely one; epochs in order. Raises DataError,
    with the file and line, where an epoch misses an example, a key is missing or a logit is not a finite number.
    """
    found = {
        int(m[1]): p
        for p in Path(folder).glob("dynamics_epoch_*.jsonl")
        if (m := re.fullmatch(r"dynamics_epoch_(\d+)\.jsonl", p.name))
    }
    if not found:
        raise DataError(
            "no dynamics_epoch_*.jsonl", where=str(folder), remedy="name the folder that holds them (training_dynamics/)"
        )
    guids: list[str] = []
    probability, correct = [], []
    for epoch, path in sorted(found.items()):
        rows: dict[str, tuple[float, bool]] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                record = json.loads(line)
                logits = np.asarray(record[f"logits_epoch_{epoch}"], dtype=float)
                gold = int(record["gold"])
                guid = str(record["guid"])
            except (ValueError, KeyError, TypeError) as cause:
                raise DataError(
                    f"not a training dynamic: {cause!r}",
                    where=f"{path}:{number}",
                    remedy=f"needs guid, logits_epoch_{epoch} and gold",
                ) from cause
            if logits.ndim != 1 or not np.isfinite(logits).all() or not 0 <= gold < len(logits):
                raise DataError("logits are not finite, or gold is not one of them", where=f"{path}:{number}")
            p = np.exp(logits - logits.max())
            rows[guid] = (float(p[gold] / p.sum()), bool(logits.argmax() == gold))
        guids = guids or list(rows)
        if set(rows) != set(guids):
            raise DataError(
                f"{len(set(rows) ^ set(guids))} examples are not in every epoch",
                where=str(path),
                remedy="remove the interrupted epoch",
            )
        probability.append([rows[g][0] for g in guids])
        correct.append([rows[g][1] for g in guids])
    return guids, np.array(probability), np.array(correct)


def read_trainer_state(path: Path | str) -> pd.DataFrame:
    """The history in a Hugging Face `trainer_state.json`: one row per logged step, a column per quantity (`loss`, ...)."""
    try:
        history = json.loads(Path(path).read_text(encoding="utf-8"))["log_history"]
        frame = pd.DataFrame(history)
        return frame.groupby("step").first().reset_index()
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise DataError(
            f"not a trainer_state.json: {cause!r}", where=str(path), remedy="name the file that Trainer saved"
        ) from cause
