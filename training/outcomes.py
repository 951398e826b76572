"""Outcomes: kept as they are made, and brought in from elsewhere.

`OutcomeStore` keeps each finished fine-tuning on disk before the next begins, so that a killed run repeats nothing.
`import_outcomes` checks rows that somebody else measured, leaves out those that MLflow already holds, and records the rest for
the next retraining.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.database import connect
from features.errors import DataError, StoreError
from features.rows import OUTCOME_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

# What a row may leave out, and what that means.
_DEFAULTS: dict[str, Any] = {
    "zoo": "",
    "digest": "",
    "recipe": "full",
    "seed": 0,
    "metric": "",
    "count": 0,
    "seconds": 0.0,
    "error": "",
}
_REQUIRED = ("checkpoint", "task", "outcome")


class OutcomeStore:
    """Finished fine-tunings in a SQLite file: key -> a JSON object, durable when `put` returns.

    Raises
    ------
    StoreError : the file cannot be opened, or is not such a store
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._open() as connection:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS outcomes (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
                )
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from None

    def _open(self) -> Any:
        return closing(connect(self.path))

    def _failed(self, error: Exception) -> StoreError:
        return StoreError(
            str(error), where=str(self.path), remedy="is the disk full or the file not an outcome store? --store names another"
        )

    def get(self, key: str) -> dict[str, Any] | None:
        """What was kept under `key`; None if nothing was."""
        try:
            with self._open() as connection:
                row = connection.execute("SELECT value FROM outcomes WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from None
        return None if row is None else json.loads(row[0])

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep `value`; on disk when this returns."""
        try:
            with self._open() as connection:
                connection.execute("INSERT OR REPLACE INTO outcomes VALUES (?, ?)", (key, json.dumps(dict(value))))
        except sqlite3.Error as error:
            raise self._failed(error) from None


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes
    ----------
    added : rows recorded that were not there
    duplicates : rows left out because the same outcome is already recorded, or stands twice in the source
    replaced : rows recorded whose fine-tuning had another outcome before: the new one counts from now on
    run_id : the MLflow run that holds the recorded rows; "" if there were none
    """

    added: int
    duplicates: int
    replaced: int
    run_id: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_outcomes(source: Path | str | pd.DataFrame | Sequence[Mapping[str, Any]], *, where: str | None = None) -> pd.DataFrame:
    """Checked outcome rows with all OUTCOME_COLUMNS, from a CSV, Parquet or JSONL file, a data frame or a list of objects.

    `checkpoint`, `task` and `outcome` must be there; the rest has defaults (recipe `full`, seed 0). Rows of failed fine-tunings
    (no outcome, an error) are left out.

    Raises
    ------
    DataError : unreadable, a column missing or unknown, or a cell that cannot be what it should; names the row and the column
    """
    import pandas as pd

    if isinstance(source, str | Path):
        where = where or str(source)
        table = _table(Path(source))
    else:
        where = where or "outcomes"
        table = pd.DataFrame(source) if isinstance(source, pd.DataFrame) else pd.DataFrame(list(source))
    unknown = [c for c in table.columns if c not in OUTCOME_COLUMNS]
    if unknown:
        raise DataError(f"unknown column {unknown[0]!r}", where=where, remedy=f"the columns are {', '.join(OUTCOME_COLUMNS)}")
    missing = [c for c in _REQUIRED if c not in table.columns]
    if missing:
        raise DataError(f"no column {missing[0]!r}", where=where, remedy=f"each row needs {', '.join(_REQUIRED)}")
    if not len(table):
        raise DataError("no rows", where=where, remedy="give at least one outcome")
    rows = [
        row
        for number, record in enumerate(table.to_dict("records"), start=1)
        if (row := _row({str(k): v for k, v in record.items()}, f"{where}: row {number}")) is not None
    ]
    if not rows:
        raise DataError("every row is a failed fine-tuning", where=where, remedy="give at least one outcome")
    return pd.DataFrame(rows, columns=OUTCOME_COLUMNS)


def _table(path: Path) -> pd.DataFrame:
    import pandas as pd

    from ranker.files import load_frame

    readers: dict[str, Any] = {
        ".csv": lambda p: load_frame(p, _TEXTS),
        ".parquet": pd.read_parquet,
        ".jsonl": lambda p: pd.DataFrame(
            [json.loads(line) for line in p.read_text(encoding="utf-8").splitlines() if line.strip()]
        ),
    }
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise DataError(
            f"cannot read {path.suffix or 'a file without suffix'!r}", where=str(path), remedy="use .csv, .parquet or .jsonl"
        )
    try:
        table: pd.DataFrame = readers[suffix](path)
    except FileNotFoundError:
        raise DataError("no such file", where=str(path), remedy="check the path") from None
    except DataError:
        raise
    except (ValueError, OSError, UnicodeDecodeError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"cannot be read: {line}", where=str(path), remedy="is it what its suffix says?") from None
    return table


_TEXTS = ("zoo", "checkpoint", "digest", "task", "recipe", "metric", "error")


def _row(record: dict[str, Any], where: str) -> dict[str, Any] | None:
    """The checked row; None for a failed fine-tuning."""
    from ranker.table import LARGEST

    row = {**_DEFAULTS, **{k: v for k, v in record.items() if not _missing(v) and v != ""}}
    for column in _TEXTS:
        if not isinstance(row.get(column, ""), str) or len(row.get(column, "")) > 1000:
            raise DataError(f"expected text, found {row.get(column)!r}"[:200], where=f"{where}: {column}", remedy="give text")
    if row["error"] and "outcome" not in row:
        return None
    for column in _REQUIRED:
        if column not in row:
            raise DataError("it is empty", where=f"{where}: {column}", remedy="every row needs it")
    for column, least in (("outcome", -math.inf), ("seconds", 0.0)):
        row[column] = _number(row[column], least, f"{where}: {column}")
    if abs(row["outcome"]) > LARGEST:
        raise DataError(f"is beyond {LARGEST:g}", where=f"{where}: outcome", remedy="give it in a larger unit")
    for column in ("seed", "count"):
        value = _number(row[column], 0, f"{where}: {column}")
        if value != int(value) or value >= 2**53:
            raise DataError(f"expected a whole number, found {row[column]!r}", where=f"{where}: {column}", remedy="give a count")
        row[column] = int(value)
    return {column: row[column] for column in OUTCOME_COLUMNS}


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _number(value: Any, least: float, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number < least:
        floor = "" if least == -math.inf else f" of {least:g} or more"
        raise DataError(f"expected a finite number{floor}, found {str(value)[:80]!r}", where=where, remedy="correct the cell")
    return number


def import_outcomes(
    source: Path | str | pd.DataFrame | Sequence[Mapping[str, Any]], *, where: str | None = None, root: Path | str | None = None
) -> ImportReport:
    """Record outcomes in MLflow, ready for the next retraining; see `read_outcomes` for what is taken.

    A fine-tuning is known by its zoo, checkpoint, digest, task, recipe, seed and metric. One that is recorded with the same
    outcome is left out; with another outcome the new one is recorded and counts from now on.

    Raises
    ------
    DataError : a row cannot be used; nothing is recorded
    StoreError : MLflow cannot be reached
    """
    from training.tracking import log_outcomes, recorded_outcomes
    from training.tracking.history import OUTCOME_KEY

    rows = read_outcomes(source, where=where)
    held = recorded_outcomes(root=root)
    known = {tuple(key): float(value) for *key, value in held[[*OUTCOME_KEY, "outcome"]].itertuples(index=False)}
    wanted: dict[tuple[Any, ...], int] = {}
    duplicates = replaced = 0
    for index, (*key, value) in enumerate(rows[[*OUTCOME_KEY, "outcome"]].itertuples(index=False)):
        identity = tuple(key)
        if identity in wanted:
            if float(rows["outcome"].iloc[wanted[identity]]) != float(value):
                raise DataError(
                    f"{_named(key)} has two outcomes, {rows['outcome'].iloc[wanted[identity]]:g} and {value:g}",
                    where=f"{where or (source if isinstance(source, str | Path) else 'outcomes')}: row {index + 1}",
                    remedy="keep one of them, or give each its seed",
                )
            duplicates += 1
        elif known.get(identity) == float(value):
            duplicates += 1
        else:
            wanted[identity] = index
            replaced += identity in known
    if not wanted:
        return ImportReport(0, duplicates, 0, "")
    run_id = log_outcomes(
        rows.iloc[sorted(wanted.values())].reset_index(drop=True), kind="outcomes", params={"rows": len(wanted)}, root=root
    )
    return ImportReport(len(wanted) - replaced, duplicates, replaced, run_id)


def _named(key: Sequence[Any]) -> str:
    zoo, checkpoint, _, task, recipe, seed, _ = key
    return f"{checkpoint!r}{f' of {zoo!r}' if zoo else ''} on {task!r} ({recipe}, seed {seed})"


def summary(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Per (zoo, task, checkpoint, recipe, metric): `outcome` (mean), `outcome_sd` (over seeds; missing for one seed), `seeds`,
    `seconds`.
    """
    good = outcomes[outcomes["outcome"].notna()]
    groups = good.groupby(["zoo", "task", "checkpoint", "recipe", "metric"], sort=True)
    return groups.agg(
        outcome=("outcome", "mean"), outcome_sd=("outcome", "std"), seeds=("seed", "nunique"), seconds=("seconds", "sum")
    ).reset_index()
