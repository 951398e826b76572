"""What `LearningToCompare.fit` is given, read and checked: one row per (task, checkpoint), coded and weighed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from features.errors import DataError
from ranker.cells import as_feature, check_names, is_empty
from ranker.pairs import Floats, Ints, codes


def frame(X: pd.DataFrame | Floats, names: Sequence[str] | None = None) -> pd.DataFrame:
    """X as a table with one column per name.

    Raises
    ------
    DataError : no table, a column that stands there twice, columns that are not those of `names`
    """
    if isinstance(X, pd.DataFrame):
        check_names(X.columns, "X")
        return X
    values = np.asarray(X)
    if values.ndim != 2:
        raise DataError(f"shape {values.shape}", where="X", remedy="give a table: one row per checkpoint, one column per feature")
    if names is not None and len(names) != values.shape[1]:
        raise DataError(
            f"{values.shape[1]} columns, where the ranker was fitted on {len(names)}",
            where="X",
            remedy="give the same columns in the same order, or a DataFrame that names them",
        )
    return pd.DataFrame(values, columns=list(names) if names is not None else [f"x{i}" for i in range(values.shape[1])])


def features(X: pd.DataFrame) -> pd.DataFrame:
    """What is to be learnt from: columns of objects as numbers, where each cell is one, or as texts."""
    read = {c: as_feature(X[c], "X", str(c)) for c in X.columns if not pd.api.types.is_numeric_dtype(X[c])}
    return pd.DataFrame({c: read.get(c, X[c]) for c in X.columns}) if read else X


def vector(values: Any, n: int, name: str) -> Floats:
    try:
        out = np.asarray(values, dtype=float).ravel()
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"not numbers: {error}", where=name, remedy="give one number per row of X") from error
    if len(out) != n:
        raise DataError(f"{len(out)} values for {n} rows", where=name, remedy="give one per row of X")
    return out


def labels(values: Any, n: int, name: str) -> list[str]:
    if values is None:
        return [""] * n
    out = ["" if is_empty(v) else str(v) for v in np.asarray(values, dtype=object).ravel()]
    if len(out) != n:
        raise DataError(f"{len(out)} values for {n} rows", where=name, remedy="give one per row of X")
    return out


def same_features(X: pd.DataFrame, zoo: list[str]) -> Ints:
    """Rows of a zoo with equal features are one checkpoint."""
    return codes(zoo, *(X[c].astype(object).where(X[c].notna(), "") for c in X.columns))


def same_checkpoint(task: list[str], zoo: list[str], group: Ints, same: Ints) -> Ints:
    """Codes of what are taken to be the same checkpoint on several tasks: the groups where no group has two rows of one task,
    else rows of a group with equal features."""
    by_group = codes(zoo, group)
    if len(np.unique(codes(by_group, task))) == len(task):
        return by_group
    return codes(by_group, same)


def twin_rows(X: pd.DataFrame, y: Floats, zoo: list[str], task: list[str]) -> Ints:
    """Rows of a zoo and task with equal numbers and equal outcome: one checkpoint under two names."""
    numbers = [c for c in X.columns if pd.api.types.is_numeric_dtype(X[c])]
    if not numbers:
        return np.arange(len(X), dtype=np.int64)
    return codes(zoo, task, y, *(X[c].astype(object).where(X[c].notna(), "") for c in numbers))


def row_weights(y: Floats, sd: Floats | None, unit: Ints) -> Floats:
    """(n,) weight of a row: the share of its outcome's variance that is not noise; nothing in a unit without two outcomes."""
    out = np.ones(len(y))
    for u in np.unique(unit):
        rows = unit == u
        if rows.sum() < 2 or np.ptp(y[rows]) == 0:
            out[rows] = 0.0  # nothing to compare in this zoo and task
        elif sd is not None:
            range_ = np.ptp(y[rows])  # in its unit, so that the outcome's own unit does not matter
            total = float(np.var(y[rows] / range_))
            out[rows] = 1 / (1 + np.nan_to_num(sd[rows] / range_) ** 2 / total)
    return np.maximum(out, 1e-3)


def rarity(group: Ints, same: Ints, unit: Ints) -> Floats:
    """(n,) one over the root of how many different checkpoints (`same` codes) stand in a row's group, with mean 1 over the rows:
    a prolific group's checkpoints are variations of few, and repeat what these say."""
    distinct = pd.DataFrame({"group": group, "unit": unit, "same": same}).drop_duplicates()
    members = distinct.groupby(["group", "unit"]).size().groupby("group").max()
    out = members.loc[group].to_numpy(float) ** -0.5
    return out / out.mean()
