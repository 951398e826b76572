"""Training dynamics as rows of FEATURES: what the course up to a checkpoint says of that checkpoint.

Unlike an extractor, which sees one loaded checkpoint, these are derived from what lies beside the weights (its training history)
or from what was measured on the earlier checkpoints of its run. They are not of the weights, so the store never keeps them: they
are derived anew each time, at no cost. Nothing later than the checkpoint's own step is ever read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.corpora import Corpora
from features.dynamics.cartography import coordinates
from features.dynamics.curves import course, smoothed
from features.dynamics.history import history_of
from features.errors import CheckpointError, DataError
from features.estimate import mean
from features.measuring import digest_of, key_of
from features.registry import DERIVED, Selection
from features.registry import load as load_extractor
from features.rows import FEATURE_COLUMNS, Feature
from features.store import FeatureStore
from features.tasks import Task
from features.zoo import Checkpoint, Zoo

if TYPE_CHECKING:
    import pandas as pd

Place = tuple[str, str | None, str | None]
DIRECTIONS = {"level": -1, "forecast": -1, "confidence": 1}  # of the rest nothing is claimed
SOURCE = "prompt"  # the extractor whose answers a task's course is made of
LEAST_HISTORY, LEAST_COURSE = 8, 3


@dataclass(frozen=True)
class Known:
    """What a course can be made of.

    Attributes
    ----------
    store, corpora, tasks : where answers are kept, and under which keys
    digests : digest of the weights of each checkpoint that could be read, by `place`
    """

    store: FeatureStore
    corpora: Corpora
    tasks: tuple[Task, ...]
    digests: Mapping[Place, str]


def place(checkpoint: Checkpoint) -> Place:
    """Where a checkpoint's weights lie: equal for two entries that name the same files."""
    return checkpoint.location, checkpoint.revision, checkpoint.gguf_file


def history_rows(checkpoint: Checkpoint) -> list[Feature]:
    """`curve_level`, `_slope`, `_curvature`, `_noise`, `_drop`, `_mean`, `_poly_1` to `_poly_3` and `_forecast` of the training
    loss up to the checkpoint (`features.dynamics.curves.smoothed`); none for a checkpoint without a history of eight rows.

    Raises DataError for a history that cannot be read.
    """
    found = history_of(checkpoint)
    return [] if found is None else history_features(*found, horizon=_horizon(checkpoint))


def history_features(steps: np.ndarray, losses: np.ndarray, *, horizon: float | None = None) -> list[Feature]:
    """The rows of `history_rows` from (n,) steps and (n,) losses; none for fewer than eight."""
    if len(steps) < LEAST_HISTORY:
        return []
    values, errors = smoothed(steps, losses, horizon=horizon)
    return _features("curve", values, errors, len(steps))


def course_rows(checkpoint: Checkpoint, run: Sequence[Checkpoint], known: Known) -> list[Feature]:
    """`dynamics_level`, `_slope`, `_curvature`, `_poly_1` to `_poly_3`, `_peak_step`, `_fallback`, `_residual`, `_variability`,
    `_confidence` and `_forecast` of a checkpoint on each task.

    Parameters
    ----------
    run : other checkpoints of the run, in any order; those past the checkpoint's own step are left out

    They are those of `features.dynamics.curves.course` on the gold answer's mean negative log-likelihood, over all templates;
    `confidence` and `variability` are the means over examples of dataset cartography's coordinates. None for a task on which
    fewer than three checkpoints of the run were measured up to here.
    """
    # By step, which no two of a run share: the checkpoint may lie elsewhere than the member of the run that it is.
    members = {_step(c): c for c in (*run, checkpoint) if c.step is not None and c.step <= _step(checkpoint)}
    until = [members[step] for step in sorted(members)]
    rows: list[Feature] = []
    for task in known.tasks:
        steps, nll, probability = [], [], []
        for one in until:
            answers = _answers(one, task, known)
            if answers is not None:
                steps.append(_step(one))
                nll.append(answers[0])
                probability.append(answers[1])
        if len(steps) < LEAST_COURSE or steps[-1] != checkpoint.step:
            continue
        weights = task.weights_of(task.examples("features"))
        values = course(np.array(steps), np.average(nll, axis=1, weights=weights), horizon=_horizon(checkpoint))
        values["residual"] = values.pop("variability")
        points = coordinates(np.array(probability), np.zeros_like(probability))
        over = {"level": nll[-1], "confidence": points["confidence"], "variability": points["variability"]}
        averaged = {name: mean(found, weights) for name, found in over.items()}
        values |= {name: value for name, (value, _) in averaged.items()}
        errors = {name: error for name, (_, error) in averaged.items() if error is not None}
        rows += _features("dynamics", values, errors, len(nll[-1]), task.name)
    return rows


def runs(checkpoints: Iterable[Checkpoint]) -> dict[str, list[Checkpoint]]:
    """Runs by family: at least two checkpoints, each with a step of its own. A family in which two checkpoints share a step is
    not one run but several, and left out: which checkpoint followed which is not known.
    """
    families: dict[str, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        if checkpoint.family is not None and checkpoint.step is not None:
            families.setdefault(checkpoint.family, []).append(checkpoint)
    return {f: found for f, found in families.items() if len({c.step for c in found}) == len(found) > 1}


def derive(
    checkpoints: Sequence[Checkpoint], selection: Selection, known: Known, along: Sequence[Checkpoint] = ()
) -> dict[str, list[Feature]]:
    """Derived rows of each checkpoint, by its name; what cannot be read is a row with an `error`.

    Parameters
    ----------
    along : checkpoints of other manifests that tell the course of some of these: a run whose member has a checkpoint's weights
        is the run of that checkpoint, whatever both are called
    """
    families = runs(checkpoints)
    elsewhere: dict[tuple[str, int], list[Checkpoint]] = {}
    for members in runs(along).values():
        for member in members:
            elsewhere[known.digests.get(place(member), ""), _step(member)] = members
    rows: dict[str, list[Feature]] = {}
    for checkpoint in checkpoints:
        made: list[Feature] = []
        if "curve" in selection.derived:
            try:
                made += [row for row in history_rows(checkpoint) if selection.keeps("curve", row)]
            except DataError as error:
                made.append(Feature("curve", error=str(error)))
        digest = known.digests.get(place(checkpoint), "")
        if "dynamics" in selection.derived and checkpoint.step is not None and digest:
            run = elsewhere.get((digest, checkpoint.step)) or families.get(checkpoint.family or "", [])
            made += [row for row in course_rows(checkpoint, run, known) if selection.keeps("dynamics", row)]
        rows[checkpoint.name] = made
    return rows


def table(
    zoo: Zoo, tasks: Sequence[Task], *, store: FeatureStore | str | Path, along: Sequence[Zoo] = (), limit: int | None = None
) -> pd.DataFrame:
    """Every derived row of a zoo, as FEATURE_COLUMNS, to be joined with outcomes by `foretune table`.

    Parameters
    ----------
    tasks : on which `prompt` was measured, on the checkpoints of the zoo and of `along`
    along : zoos of earlier checkpoints of the same runs, as `derive` matches them
    limit : as given to `extract`
    """
    import pandas as pd

    limited = tuple(task if limit is None else task.limited(limit) for task in tasks)
    others = [checkpoint for one in along for checkpoint in one.checkpoints]
    kept = store if isinstance(store, FeatureStore) else FeatureStore(store)
    digests = digests_of([*zoo.checkpoints, *others])
    found = derive(
        zoo.checkpoints, Selection((), derived=tuple(DERIVED)), Known(kept, Corpora(zoo.corpora), limited, digests), others
    )
    rows = [
        [zoo.name, checkpoint.name, digests.get(place(checkpoint), ""), *(row.to_dict()[c] for c in FEATURE_COLUMNS[3:])]
        for checkpoint in zoo.checkpoints
        for row in found[checkpoint.name]
    ]
    return pd.DataFrame(rows, columns=pd.Index(FEATURE_COLUMNS))


def digests_of(checkpoints: Iterable[Checkpoint]) -> dict[Place, str]:
    """The digest of the weights of each checkpoint that can be read."""
    found = {}
    for checkpoint in checkpoints:
        try:
            found[place(checkpoint)] = digest_of(checkpoint)
        except CheckpointError:
            continue
    return found


def _answers(checkpoint: Checkpoint, task: Task, known: Known) -> tuple[np.ndarray, np.ndarray] | None:
    """(N,) losses and (N,) probabilities of the gold, averaged over templates; None where they were not measured."""
    digest = known.digests.get(place(checkpoint))
    if digest is None:
        return None
    extractor = load_extractor(SOURCE)
    for dtype in ("float32", "bfloat16", "float16"):
        kept = known.store.arrays(key_of(extractor, task, digest, known.corpora, dtype))
        if kept:
            each = list(kept.values())
            return np.mean([a["nll"] for a in each], axis=0), np.mean([a["probability"] for a in each], axis=0)
    return None


def _step(checkpoint: Checkpoint) -> int:
    return checkpoint.step or 0


def _horizon(checkpoint: Checkpoint) -> float | None:
    """The end of training, where the manifest says it (`meta: {total_steps: ...}`)."""
    total = checkpoint.meta.get("total_steps")
    return float(total) if isinstance(total, int | float) and not isinstance(total, bool) else None


def _features(prefix: str, values: Mapping[str, float], errors: Mapping[str, float], count: int, task: str = "") -> list[Feature]:
    rows = []
    for name, value in values.items():
        if np.isfinite(value):
            error = errors.get(name, float("nan"))
            stderr = float(error) if np.isfinite(error) else None
            rows.append(
                Feature(
                    f"{prefix}_{name}", float(value), stderr=stderr, count=count, direction=DIRECTIONS.get(name, 0), task=task
                )
            )
    return rows
