"""What a fitted ranker says of itself: held-out figures, from which confidence it may call a pair, ranges, signs, importances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from features.errors import DataError
from ranker.blend import calibration_error, too_close_below
from ranker.ensemble import Sample
from ranker.held import SCORERS, Held
from ranker.pairs import Floats, Ints, far_out, within
from ranker.table import digest

if TYPE_CHECKING:
    from ranker.compare import LearningToCompare

SIGNS = ("proven", "strict", "free")


def check_parameters(ranker: LearningToCompare) -> None:
    """Raises
    ------
    DataError : a parameter of the ranker that cannot be
    """
    problems = {
        "error_rate": (not 0 < float(ranker.error_rate) < 0.5, "between 0 and 0.5"),
        "bags": (int(ranker.bags) < 2, "at least 2"),
        "rounds": (int(ranker.rounds) < 1, "at least 1"),
        "signs": (ranker.signs not in SIGNS, f"one of {', '.join(SIGNS)}"),
        "max_pairs": (int(ranker.max_pairs) < 100, "at least 100"),
        "strata": (isinstance(ranker.strata, str), "a list of columns"),
    }
    for name, (wrong, remedy) in problems.items():
        if wrong:
            raise DataError(f"{name} = {getattr(ranker, name)!r}", where="LearningToCompare", remedy=f"give {remedy}")


def allowed_signs(signs: str, known: Ints, sample: Sample) -> Ints:
    """(d,) the direction that a matrix column may only count in; `known` are the directions of the first columns, the numbers."""
    out = np.zeros(sample.Z.shape[1], np.int64)
    if signs == "free":
        return out
    m = len(known)
    if signs == "strict":
        out[:m] = known
        return out
    filled = np.nan_to_num(sample.Z[:, :m])
    for k in np.flatnonzero(known):
        x = filled[:, k]
        size = float(np.sqrt((x @ x) * (sample.t @ sample.t)))
        agreement = known[k] * float(x @ sample.t) / size if size > 0 else 0.0
        # Evidence in units of its standard error, rows of one group counted once.
        if agreement * np.sqrt(len(np.unique(sample.group))) > 2.0:
            out[k] = known[k]
    return out


def holdout(held: Held, p: Floats, error_rate: float) -> tuple[float, dict[str, Any]]:
    """The confidence from which a pair may be called, and figures of held-out pairs; `p` is P of each pair."""
    nothing = np.zeros(0)
    figures: dict[str, Any] = {"pairs": len(held.better), "accuracy": None, "ece": None, "brier": None, "called": None}
    if not len(held.better):
        return too_close_below(nothing, nothing, nothing, error_rate, held.size), figures
    favoured = np.where(held.better > 0, p, 1 - p)
    right = np.where(favoured == 0.5, 0.5, (favoured > 0.5).astype(float))
    w = held.weight
    call_from = too_close_below(p, right, w, error_rate, held.size)
    called = np.maximum(p, 1 - p) >= call_from
    return call_from, {
        "pairs": len(p),
        "accuracy": float(np.average(right, weights=w)),
        "brier": float(np.average((1 - favoured) ** 2, weights=w)),
        "ece": calibration_error(p, right, w),
        "called": float(np.average(called, weights=w)),
        "called_accuracy": float(np.average(right[called], weights=w[called])) if called.any() else None,
    }


def describe(
    ranker: LearningToCompare, X: pd.DataFrame, y: Floats, sample: Sample, tasks: list[str], zoos: list[str], sd: Floats | None
) -> dict[str, Any]:
    """The card of a ranker whose scorers, hold-out and importances are there."""
    values = X[list(ranker.standardiser_.numbers)].astype(float).replace([np.inf, -np.inf], np.nan)
    return {
        "rows": len(X),
        "groups": len(np.unique(sample.group)),
        "tasks": ranker.tasks_,
        "zoos": sorted(set(zoos)),
        "digest": digest(X.assign(**{" task": tasks, " zoo": zoos, " outcome": y})),
        "holdout": ranker.holdout_,
        "error_rate": float(ranker.error_rate),
        "call_from": float(ranker.call_from_),
        "strata": None if ranker.strata_ is None else ranker.strata_.to_json(),
        "weights": dict(zip(SCORERS, map(float, ranker.ensemble_.weights[-1]), strict=True)),
        "steepness": {ranker.tasks_[k]: factor for k, factor in sorted(ranker.ensemble_.steep.items())},
        "importance": ranker.importance_,
        "limits": {str(name): [float(values[name].min()), float(values[name].max())] for name in values},
        "signs": {ranker.standardiser_.names[k]: int(s) for k, s in enumerate(sample.sign) if s},
        "far_out": [{"row": int(i), "task": tasks[i], "outcome": float(y[i])} for i in np.flatnonzero(far_out(y, sample.unit))],
        "noise_known": sd is not None,
    }


def importances(ranker: LearningToCompare, sample: Sample, most: int = 60) -> dict[str, float]:
    """Root mean square of each feature's contribution to the log-odds of training pairs: what its measurement is worth."""
    columns = ranker.standardiser_.columns
    out = np.zeros(len(columns))
    i, j = within(sample.unit, limit=20 * most, seed=ranker.random_state)
    chosen = np.random.default_rng(ranker.random_state).permutation(len(i))[:most]
    for k in chosen:
        task = int(sample.task[i[k]])
        parts = ranker.ensemble_.shares(sample.Z[[i[k], j[k]]], task)
        shares = ranker.ensemble_.between(sample.Z[i[k]], sample.Z[j[k]], task, parts[0] - parts[1])
        out += np.bincount(ranker.standardiser_.feature, shares, minlength=len(out)) ** 2
    spread = np.sqrt(out / max(len(chosen), 1))
    return {c.name: float(spread[k]) for k, c in enumerate(columns)}
