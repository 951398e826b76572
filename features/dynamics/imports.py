"""Trajectories that other tools have written: dataset-cartography's training dynamics and lm-evaluation-harness's samples."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from features.dynamics.cartography import read_dynamics
from features.dynamics.trajectories import Trajectories
from features.errors import DataError
from features.imports import Sample, checkpoint_name, model_and_revision, read_samples

_SAMPLES = re.compile(r"samples_(.+)_(\d{4}-\d{2}-\d{2}T[\d.:-]+)\.jsonl")


def read(folder: Path | str) -> dict[str, Trajectories]:
    """The trajectories in a folder of `dynamics_epoch_*.jsonl` or of lm-evaluation-harness, by task.

    Raises DataError where the folder holds neither, or what it holds cannot be read.
    """
    folder = Path(folder)
    if any(folder.glob("dynamics_epoch_*.jsonl")):
        found = from_cartography(folder)
        return {found.task: found}
    if any(folder.rglob("samples_*.jsonl")):
        return from_lm_eval(folder)
    raise DataError(
        "neither dynamics_epoch_*.jsonl nor samples_*.jsonl",
        where=str(folder),
        remedy="name a zoo, a folder of dataset-cartography's training dynamics or an --output_path of lm-eval --log_samples",
    )


def from_cartography(folder: Path | str, task: str | None = None) -> Trajectories:
    """The epochs of `dynamics_epoch_*.jsonl` as checkpoints; the task is named after the folder unless `task` names it."""
    guids, probability, correct = read_dynamics(folder)
    epochs = len(probability)
    return Trajectories(
        task=task or Path(folder).resolve().name,
        checkpoints=tuple(f"epoch-{i}" for i in range(epochs)),
        steps=np.arange(epochs),
        examples=tuple(guids),
        nll=-np.log(np.maximum(probability, np.finfo(float).tiny)),
        probability=probability,
        correct=np.asarray(correct, dtype=float),
    )


def from_lm_eval(folder: Path | str) -> dict[str, Trajectories]:
    """The multiple-choice samples of several checkpoints, one `Trajectories` for each task.

    A checkpoint is a model with its revision, as the `results_*.json` beside the samples says; its step is the number that the
    revision (step1000), else the model's name (checkpoint-500), ends with; where none has a number, its place in the order of
    names. Where a checkpoint was evaluated on a task several times the latest counts. Raises DataError where fewer than two
    checkpoints are left, where some of a task have a step and others have none (a final `main`), or not the same examples.
    """
    latest: dict[str, dict[str, tuple[str, Path]]] = {}
    for file in sorted(Path(folder).rglob("samples_*.jsonl")):
        match = _SAMPLES.fullmatch(file.name)
        if match is not None:
            held = latest.setdefault(match[1], {})
            name = _checkpoint(file.with_name(f"results_{match[2]}.json"))
            if name not in held or match[2] > held[name][0]:
                held[name] = match[2], file
    found = {}
    for task, files in latest.items():
        samples = {name: read_samples(file) for name, (_, file) in files.items()}
        kept = {name: {s.id: s for s in own} for name, own in samples.items() if own}
        if len(kept) >= 2:
            found[task] = _joined(task, kept, str(folder))
    if not found:
        raise DataError(
            "no multiple-choice task with the samples of two checkpoints",
            where=str(folder),
            remedy="evaluate each checkpoint with --log_samples into the same --output_path",
        )
    return found


def _joined(task: str, kept: Mapping[str, Mapping[str, Sample]], where: str) -> Trajectories:
    numbers = {name: re.search(r"(\d+)$", name) for name in kept}
    without = [name for name, number in numbers.items() if number is None]
    if 0 < len(without) < len(kept):
        raise DataError(
            f"{without[0]} has no step, where {next(name for name in kept if numbers[name])} has one",
            where=f"{where}: {task}",
            remedy="evaluate it as revision=stepN, or move its files away",
        )
    names = sorted(kept, key=lambda name: (int(m[1]) if (m := numbers[name]) else 0, name))
    steps = [int(m[1]) if (m := numbers[name]) else place for place, name in enumerate(names)]
    examples = list(kept[names[0]])
    for name in names:
        if set(kept[name]) != set(examples):
            differ = len(set(kept[name]) ^ set(examples))
            raise DataError(
                f"{name}: {differ} examples that not all have", where=f"{where}: {task}", remedy="use the same --limit"
            )
    rows = [[kept[name][i] for i in examples] for name in names]
    return Trajectories(
        task=task,
        checkpoints=tuple(names),
        steps=np.array(steps),
        examples=tuple(examples),
        labels=tuple(str(s.gold) for s in rows[0]),
        nll=np.array([[s.nll for s in row] for row in rows]),
        probability=np.array([[s.probability for s in row] for row in rows]),
        correct=np.array([[float(s.scores.argmax() == s.gold) for s in row] for row in rows]),
    )


def _checkpoint(results: Path) -> str:
    """What the checkpoint that a results file is of is called."""
    try:
        return checkpoint_name(*model_and_revision(json.loads(results.read_text(encoding="utf-8"))))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"cannot tell which checkpoint the samples are of: {error!r}",
            where=str(results),
            remedy="keep each results_*.json beside its samples_*.jsonl",
        ) from None
