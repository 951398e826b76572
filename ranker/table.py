"""The comparison table: one row per (task, checkpoint), read and checked, joined from features and outcomes, described.

Columns ``task``, ``checkpoint``, ``outcome`` and, optional, ``zoo``, ``group``, ``outcome_sd``; every other column is a feature
(numbers) or a configuration (text).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.errors import DataError
from ranker.cells import LARGEST as LARGEST  # part of the table's contract, for those who make outcomes
from ranker.cells import as_feature, as_names, as_numbers, as_text, check_names, first_row
from ranker.files import load_frame, numbers_in

KEYS = ("task", "checkpoint", "outcome")
OPTIONAL = ("zoo", "group", "outcome_sd")
RESERVED = (*KEYS, *OPTIONAL)


def read(path: str | Path) -> pd.DataFrame:
    """A comparison table from a CSV or Parquet file, checked by `check`.

    Raises
    ------
    DataError : naming the file, the column and the row
    """
    return check(load_frame(path), where=str(path))


def check(df: pd.DataFrame, where: str = "table") -> pd.DataFrame:
    """A checked copy of a comparison table: names as text, numbers as float, configurations as text, row order kept.

    A column of numbers with missing cells stays a feature; booleans become 0 and 1; a column of numbers written as text is one of
    numbers, a column with any other text is a configuration.

    Raises
    ------
    DataError : a column that must be there is not, an outcome that is not a finite number, an infinite feature, a (zoo, task,
        checkpoint) that stands there twice, an empty table, no pair to compare in any task
    """
    missing = [c for c in KEYS if c not in df.columns]
    if missing:
        raise DataError(
            f"no column {missing[0]!r}; found {', '.join(map(str, df.columns[:12]))}",
            where=where,
            remedy="a comparison table has the columns task, checkpoint, outcome and one per feature",
        )
    check_names(df.columns, where)
    if not len(df):
        raise DataError("no rows", where=where, remedy="give one row per (task, checkpoint)")
    made: dict[str, Any] = {}
    for column in ("task", "checkpoint", "zoo", "group"):
        if column in df.columns:
            made[column] = [as_text(v) for v in df[column]]
            empty = np.array([not v for v in made[column]])
            if column in ("task", "checkpoint") and empty.any():
                raise DataError("is empty", where=f"{where}: {first_row(empty)}, column {column!r}", remedy="name it")
    made["outcome"] = as_numbers(df["outcome"], where, "outcome", empty=False)
    if "outcome_sd" in df.columns:
        made["outcome_sd"] = as_numbers(df["outcome_sd"], where, "outcome_sd", empty=True)
        bad = made["outcome_sd"] < 0
        if bad.any():
            raise DataError(
                "is negative", where=f"{where}: {first_row(bad)}, column 'outcome_sd'", remedy="a spread is zero or more"
            )
    for column in df.columns:
        if column not in RESERVED:
            made[str(column)] = as_feature(df[column], where, str(column)).reset_index(drop=True)
    order = [c for c in (*RESERVED, *map(str, df.columns)) if c in made]
    out = pd.DataFrame({c: made[c] for c in dict.fromkeys(order)})
    keys = [c for c in ("zoo", "task", "checkpoint") if c in out.columns]
    twice = out.duplicated(keys).to_numpy()
    if twice.any():
        first = out.loc[int(np.flatnonzero(twice)[0])]
        raise DataError(
            f"checkpoint {first['checkpoint']!r} stands there twice for task {first['task']!r}",
            where=f"{where}: {first_row(twice)}",
            remedy="keep one row per (task, checkpoint); average seeds into outcome and outcome_sd",
        )
    units = out.groupby([c for c in ("zoo", "task") if c in out.columns], dropna=False)["outcome"]
    if int(units.size().max()) < 2:
        raise DataError("no task has two checkpoints to compare", where=where, remedy="give at least two checkpoints per task")
    if int(units.nunique().max()) < 2:
        raise DataError("every outcome is the same", where=where, remedy="a comparison needs outcomes that differ")
    return out


def features_of(df: pd.DataFrame, chosen: Sequence[str] | None = None, where: str = "table") -> list[str]:
    """Names of the feature and configuration columns, in order; only `chosen` where given.

    Raises
    ------
    DataError : a chosen column is not there, or none is left
    """
    columns = [str(c) for c in df.columns if c not in RESERVED]
    if chosen is not None:
        for name in chosen:
            if name not in columns:
                raise DataError(f"no feature column {name!r}", where=where, remedy=f"columns: {', '.join(columns) or '(none)'}")
        columns = list(dict.fromkeys(chosen))
    usable = [c for c in columns if df[c].notna().any()]
    if not usable:
        raise DataError("no feature column with a value", where=where, remedy="add at least one feature known before fine-tuning")
    return usable


def is_number(values: pd.Series) -> bool:
    """Whether a checked column is a feature (numbers), rather than a configuration (text)."""
    return bool(pd.api.types.is_numeric_dtype(values))


def configurations_of(df: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Those of `columns` that are known without a forward pass: text, or named as part of a recipe or an architecture."""
    from ranker.vocabulary import meaning

    return [c for c in columns if not is_number(df[c]) or meaning(c).configuration]


def proxies_of(df: pd.DataFrame) -> list[str]:
    """The features that were measured on the checkpoint and differ between checkpoints: numbers that are no configurations."""
    columns = [str(c) for c in df.columns if c not in RESERVED]
    known = set(configurations_of(df, columns))
    return [c for c in columns if c not in known and is_number(df[c]) and df.groupby("task")[c].nunique().max() > 1]


def widen(features_long: pd.DataFrame, tasks: Sequence[str] | None = None, where: str = "features") -> pd.DataFrame:
    """Long feature rows to one row per (zoo, task, checkpoint), one column per feature; the half of `join` that needs no outcome.

    A checkpoint's own features (task "") are repeated for each of `tasks` (default: the tasks that the rows name; where they name
    none, one task called "any"). Rows with an error are left out.

    Raises
    ------
    DataError : columns missing, or the same feature twice with different values
    """
    need = ["checkpoint", "task", "name", "value"]
    for column in need:
        if column not in features_long.columns:
            raise DataError(f"no column {column!r}", where=where, remedy="give a FEATURES file written by foretune extract")
    rows = features_long.copy()
    rows["zoo"] = as_names(rows["zoo"]) if "zoo" in rows else ""
    rows["task"] = as_names(rows["task"])
    rows["checkpoint"] = as_names(rows["checkpoint"])
    text = rows["text"] if "text" in rows else pd.Series([None] * len(rows), index=rows.index)
    everyone = rows[["zoo", "checkpoint"]].drop_duplicates()
    named = list(tasks) if tasks is not None else [t for t in dict.fromkeys(rows["task"]) if t] or ["any"]
    cells: dict[tuple[str, str, str], dict[str, Any]] = {
        (z, t, c): {} for t in named for z, c in everyone.itertuples(index=False, name=None)
    }
    for zoo, task, checkpoint, name, value, words in zip(
        rows["zoo"], rows["task"], rows["checkpoint"], rows["name"], rows["value"], text, strict=True
    ):
        number = pd.to_numeric(value, errors="coerce")
        cell: Any = (
            float(number)
            if pd.notna(number) and np.isfinite(number)
            else (str(words) if pd.notna(words) and str(words) != "" else None)
        )
        if cell is None:
            continue
        for one in [task] if task else named:
            target = cells.get((zoo, one, checkpoint))
            if target is None:
                continue
            if name in target and target[name] != cell:
                raise DataError(
                    f"feature {name!r} of checkpoint {checkpoint!r} has two values ({target[name]} and {cell})",
                    where=where,
                    remedy="keep one of them",
                )
            target[name] = cell
    wide = pd.DataFrame(
        [{"zoo": z, "task": t, "checkpoint": c, **values} for (z, t, c), values in cells.items()],
    )
    if len(wide) and (wide["zoo"] == "").all():
        wide = wide.drop(columns="zoo")
    for column in wide.columns.difference(RESERVED, sort=False):
        numbers = numbers_in(wide[column])
        if numbers is not None:
            wide[column] = numbers
    return wide


def join(features_long: pd.DataFrame, outcomes_long: pd.DataFrame) -> pd.DataFrame:
    """Features and outcomes as one comparison table: `merge`, checked.

    Raises
    ------
    DataError : as `merge` and `check` raise it
    """
    return check(merge(features_long, outcomes_long), where="features joined with outcomes")


def merge(features_long: pd.DataFrame, outcomes_long: pd.DataFrame) -> pd.DataFrame:
    """Features and outcomes as rows of a comparison table, which alone may be too few to compare.

    Seeds of one (task, checkpoint) are averaged; ``outcome_sd`` is the standard error of that average (spread over seeds divided
    by the root of their number), left empty for a single seed. Rows with an error are left out. Checkpoints are matched by zoo
    and name where both files name a zoo, else by name.

    Raises
    ------
    DataError : a column is missing, several recipes or metrics are mixed, or no checkpoint has both features and an outcome
    """
    for column in ("checkpoint", "task", "outcome"):
        if column not in outcomes_long.columns:
            raise DataError(
                f"no column {column!r}", where="outcomes", remedy="give an OUTCOMES file written by foretune finetune"
            )
    runs = outcomes_long.copy()
    for column in ("checkpoint", "task"):
        runs[column] = as_names(runs[column])
    runs["zoo"] = as_names(runs["zoo"]) if "zoo" in runs else ""
    if "error" in runs:
        runs = runs[as_names(runs["error"]) == ""]
    runs["outcome"] = pd.to_numeric(runs["outcome"], errors="coerce")
    runs = runs[np.isfinite(runs["outcome"].to_numpy(float))]
    for column in ("recipe", "metric"):
        if column in runs:
            mixed = runs.groupby("task")[column].nunique()
            if (mixed > 1).any():
                task = str(mixed.index[mixed > 1][0])
                found = ", ".join(sorted(map(str, runs.loc[runs["task"] == task, column].unique())))
                raise DataError(
                    f"task {task!r} has more than one {column} ({found})", where="outcomes", remedy=f"keep one {column} per task"
                )
    wide = widen(features_long, tasks=list(dict.fromkeys(runs["task"])))
    both = "zoo" in wide.columns and (runs["zoo"] != "").any()
    keys = ["zoo", "task", "checkpoint"] if both else ["task", "checkpoint"]
    grouped = runs.groupby(keys, sort=False)["outcome"]
    table = grouped.mean().rename("outcome").reset_index()
    spread = (grouped.std(ddof=1) / np.sqrt(grouped.size())).rename("outcome_sd").reset_index(drop=True)
    if spread.notna().any():
        table["outcome_sd"] = spread
    merged = wide.merge(table, on=keys, how="inner")
    if not len(merged):
        raise DataError(
            "no checkpoint has both features and an outcome",
            where="features and outcomes",
            remedy="check that both files name the same checkpoints, tasks and zoo",
        )
    return merged


def describe(df: pd.DataFrame) -> dict[str, Any]:
    """What is in a checked table: counts, features with their missing share, twins and far-out outcomes."""
    from ranker.pairs import far_out, twins

    columns = features_of(df)
    zoo = df["zoo"].to_numpy() if "zoo" in df else np.array([""] * len(df))
    unit = pd.factorize(pd.Series([f"{z}\0{t}" for z, t in zip(zoo, df["task"], strict=True)]))[0]
    out = far_out(df["outcome"].to_numpy(float), unit)
    names = twins(df)
    groups: dict[int, list[str]] = {}
    for code, name in zip(names, df["checkpoint"], strict=True):
        if name not in groups.setdefault(int(code), []):
            groups[int(code)].append(name)
    return {
        "rows": len(df),
        "checkpoints": int(df["checkpoint"].nunique()),
        "tasks": {str(t): int(n) for t, n in df["task"].value_counts(sort=False).items()},
        "zoos": sorted(set(map(str, zoo))),
        "features": {c: {"missing": float(df[c].isna().mean())} for c in columns if is_number(df[c])},
        "configurations": {c: {"levels": int(df[c].nunique())} for c in columns if not is_number(df[c])},
        "twins": [g for g in groups.values() if len(g) > 1],
        "far_out": [
            f"{df['checkpoint'].iloc[i]} on {df['task'].iloc[i]}: {df['outcome'].iloc[i]:g}" for i in np.flatnonzero(out)
        ],
        "digest": digest(df),
    }


def digest(df: pd.DataFrame) -> str:
    """Digest of a table's content: column names and values; neither row order nor the file format changes it."""
    columns = sorted(map(str, df.columns))
    lines = sorted("\x1f".join(as_text(v) for v in row) for row in df[columns].itertuples(index=False, name=None))
    return "sha256:" + hashlib.sha256("\x1e".join(["\x1f".join(columns), *lines]).encode()).hexdigest()
