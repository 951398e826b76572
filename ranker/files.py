"""Rows from a CSV or Parquet file, as people and their spreadsheets write them.

A CSV file may be separated by commas, semicolons or tabs, begin with a byte order mark, and write decimals with a comma where it
is separated by something else. Names are texts to the letter: a checkpoint called ``007`` or ``null`` keeps its name.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from decimal import Decimal
from numbers import Real
from pathlib import Path

import pandas as pd

from features.errors import DataError

NAMES = ("task", "checkpoint", "zoo", "group")
# What pandas takes for an empty cell; said here, since it does not hold for names.
_MISSING = (
    "", " ", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
_SEPARATORS = (",", ";", "\t")
_DECIMAL_COMMA = r"[-+]?\d*,?\d+([eE][-+]?\d+)?"


def load_frame(path: str | Path, texts: Sequence[str] = NAMES) -> pd.DataFrame:
    """The rows of a CSV or Parquet file, by its suffix; in a CSV file the columns `texts` are text, "" where empty.

    Raises
    ------
    DataError : no such file, another suffix, or a file that its format's reader refuses
    """
    file = Path(path)
    if not file.is_file():
        found = "is a folder" if file.is_dir() else "no such file"
        raise DataError(found, where=str(path), remedy="give the path of a .csv or .parquet file")
    suffix = "".join(file.suffixes[-2:] if file.suffix.lower() == ".gz" else file.suffixes[-1:]).lower()
    try:
        if suffix == ".parquet":
            return pd.read_parquet(file)
        if suffix in (".csv", ".csv.gz"):
            return _csv(file, texts)
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text: {error}", where=str(path), remedy="save it as CSV in UTF-8") from error
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"cannot be read: {first}", where=str(path), remedy="write it again as CSV or Parquet") from error
    raise DataError(f"unknown suffix {file.suffix!r}", where=str(path), remedy="use .csv or .parquet")


def numbers_in(values: pd.Series) -> pd.Series | None:
    """A column of objects as numbers, where each is one (a decimal, an integer of any size) or the text of one; else None."""
    if pd.api.types.is_numeric_dtype(values):
        return None
    given = values.dropna()
    if not all(isinstance(v, str | Real | Decimal) and not isinstance(v, bool) for v in given):
        return None
    given = given[[not isinstance(v, str) or v.strip() != "" for v in given]]
    numbers = pd.to_numeric(pd.Series([v if isinstance(v, str) else _number(v) for v in given], dtype=object), errors="coerce")
    return None if numbers.isna().any() or not len(numbers) else numbers.set_axis(given.index).reindex(values.index).astype(float)


def _number(value: Real | Decimal) -> float:
    """As float, infinite where it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _csv(file: Path, texts: Sequence[str]) -> pd.DataFrame:
    separator = _separator(file)
    header = pd.read_csv(file, sep=separator, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
    names = [str(name).strip() for name in header]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DataError(f"column {twice[0]!r} stands there twice", where=str(file), remedy="rename or remove one of them")
    literal = [k for k, name in enumerate(names) if name in texts]
    frame = pd.read_csv(
        file,
        sep=separator,
        dtype=dict.fromkeys(literal, str),
        keep_default_na=False,
        na_values={k: _MISSING for k in range(len(names)) if k not in literal},
    )
    if frame.shape[1] != len(names) or not isinstance(frame.index, pd.RangeIndex):
        raise DataError(
            "the rows have more cells than the header has names",
            where=str(file),
            remedy="name each column, or end no row in a separator",
        )
    frame.columns = pd.Index(names)
    for name in set(texts).intersection(names):
        frame[name] = [str(cell).strip() for cell in frame[name]]
    frame = frame.drop(columns="") if _counts_rows(frame, names) else frame
    if "" in names and "" in frame.columns:
        raise DataError(
            f"column {names.index('') + 1} has no name", where=str(file), remedy="name it in the header, or remove it"
        )
    filled = (frame.notna() & (frame != "")).any(axis=1).to_numpy().nonzero()[0]
    frame = frame.iloc[: filled[-1] + 1 if len(filled) else 0]  # a spreadsheet ends in rows of separators
    return frame if separator == "," else frame.apply(lambda column: column if column.name in texts else _with_points(column))


def _separator(file: Path) -> str:
    """What separates the names of the header: that which stands there most."""
    opened = gzip.open if file.suffix.lower() == ".gz" else open
    with opened(file, "rt", encoding="utf-8-sig") as lines:
        header = next((line for line in lines if line.strip()), None)
    if header is None:
        raise DataError("is empty", where=str(file), remedy="give a header and one row per line")
    return max(_SEPARATORS, key=header.count)


def _counts_rows(frame: pd.DataFrame, names: Sequence[str]) -> bool:
    """Whether the one column without a name is empty, or an index that was written along: 0, 1, 2, ..."""
    if names.count("") != 1:
        return False
    column = frame[""]
    return bool(column.isna().all() or column.astype(object).tolist() == list(range(len(frame))))


def _with_points(column: pd.Series) -> pd.Series:
    given = column.dropna()
    if not len(given) or not all(isinstance(v, str) for v in given):
        return column
    if not given.str.strip().str.fullmatch(_DECIMAL_COMMA).all():
        return column
    return pd.to_numeric(column.str.strip().str.replace(",", "."))
