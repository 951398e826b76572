"""What a cell of a comparison table may hold: a name, a number, a configuration; and the row to blame where it holds another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from features.errors import DataError
from ranker.files import numbers_in

LARGEST = 1e100  # of an outcome: the square of a larger one is no number


def first_row(mask: np.ndarray) -> str:
    """The first marked row, counted as a person counts the lines below the header."""
    return f"row {int(np.flatnonzero(mask)[0]) + 1}"


def check_names(columns: pd.Index, where: str) -> None:
    """Raises DataError where a column stands there twice."""
    if not columns.is_unique:
        twice = str(columns[columns.duplicated()][0])
        raise DataError(f"column {twice!r} stands there twice", where=where, remedy="rename or remove one of them")


def is_empty(value: Any) -> bool:
    """Whether a cell has no value: None, NaN, NaT or NA."""
    return value is None or value is pd.NA or bool(value != value)


def as_text(value: Any) -> str:
    """A name or a value as text: "" where there is none, a whole number without its point."""
    if is_empty(value):
        return ""
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return repr(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
    return str(value).strip()


def as_names(values: pd.Series) -> pd.Series:
    """A column of names as text, "" where empty."""
    return pd.Series([as_text(v) for v in values], index=values.index, dtype=object)


def as_numbers(values: pd.Series, where: str, column: str, *, empty: bool) -> np.ndarray:
    """A column of outcomes or spreads as float; NaN where empty, if it may be.

    Raises
    ------
    DataError : a cell that is no number, infinite, beyond `LARGEST`, or empty where it may not be
    """
    written = numbers_in(values)
    numbers = pd.to_numeric(values if written is None else written, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    given: np.ndarray = values.notna().to_numpy()
    bad = given & np.isnan(numbers) if empty else np.isnan(numbers)
    if bad.any():
        found = values.iloc[int(np.flatnonzero(bad)[0])]
        raise DataError(
            f"{as_text(found)!r} is not a number" if given[np.flatnonzero(bad)[0]] else "is empty",
            where=f"{where}: {first_row(bad)}, column {column!r}",
            remedy="give a number, higher is better, or remove the row"
            if column == "outcome"
            else "give a number or leave it empty",
        )
    infinite = np.isinf(numbers)
    if infinite.any():
        raise DataError("is infinite", where=f"{where}: {first_row(infinite)}, column {column!r}", remedy="give a finite number")
    large = np.abs(numbers) > LARGEST
    if large.any():
        raise DataError(
            f"is beyond {LARGEST:g}", where=f"{where}: {first_row(large)}, column {column!r}", remedy="give it in a larger unit"
        )
    return numbers


def as_feature(values: pd.Series, where: str, column: str) -> pd.Series:
    """Numbers and truth values as float, anything else as text with None where empty; the index is kept.

    Decimals, integers of any size and a column whose every text is a number are numbers.

    Raises
    ------
    DataError : an infinite number, a cell that holds several values
    """
    several = np.array([not pd.api.types.is_scalar(v) for v in values], bool) if values.dtype == object else np.zeros(0, bool)
    if several.any():
        raise DataError(
            "holds several values",
            where=f"{where}: {first_row(several)}, column {column!r}",
            remedy="give one value a cell",
        )
    written = numbers_in(values)
    if written is not None:
        values = written
    if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
        numbers = pd.Series(values.to_numpy(dtype=float, na_value=np.nan), index=values.index)
        infinite = np.isinf(numbers.to_numpy())
        if infinite.any():
            raise DataError(
                "is infinite",
                where=f"{where}: {first_row(infinite)}, column {column!r}",
                remedy="give a finite number or leave it empty",
            )
        return numbers
    given = values.dropna()
    if len(given) and all(isinstance(v, (bool, np.bool_)) for v in given):
        return pd.Series([np.nan if pd.isna(v) else float(bool(v)) for v in values], index=values.index)
    if not len(given):
        return pd.Series(np.nan, index=values.index)
    words = [None if pd.isna(v) else str(v).strip() for v in values]
    return pd.Series([w or None for w in words], index=values.index, dtype=object)
