"""The feature store: what was measured is kept, and can never be mistaken for anything else.

A number is kept under the digest of the checkpoint's weights, the extractor's name, version and settings, and the digest of
the data. Two names for the
same weights share it; two checkpoints never do. SQLite in WAL mode with synchronous=FULL: `put` returns when the rows would
survive a power
cut, readers do not block, and several processes may write at once.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.database import connect, sqlite_file
from features.errors import StoreError
from features.rows import Feature

Arrays = Mapping[str, Mapping[str, np.ndarray]]  # name -> array by name

FORMAT = 1  # of the file; raised when the table changes
_TABLES = (
    """create table if not exists measured (
    key text primary key,
    checkpoint text not null,
    extractor text not null,
    version integer not null,
    settings text not null,
    data text not null,
    rows text not null,
    at real not null
) strict""",
    """create table if not exists arrays (
    key text not null, name text not null, content blob not null, primary key (key, name)
) strict""",
)


@dataclass(frozen=True)
class Key:
    """What a measurement depends on.

    Attributes
    ----------
    checkpoint : digest of the weights, configuration and tokenizer
    extractor, version : whose code
    settings : canonical JSON of everything that the extractor can be told, and the dtype
    data : digest of the task (both splits) or of the corpora
    """

    checkpoint: str
    extractor: str
    version: int
    settings: str
    data: str

    @classmethod
    def of(cls, checkpoint: str, extractor: str, version: int, settings: dict[str, Any], data: str) -> Key:
        """A key, the settings made canonical. Raises TypeError for settings that are not JSON."""
        return cls(checkpoint, extractor, version, json.dumps(settings, sort_keys=True), data)

    @property
    def digest(self) -> str:
        """Digest of all five."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


class FeatureStore:
    """Measured features by key, in one SQLite file, made where there is none.

    Raises StoreError, with the remedy, where the file is corrupt, of another format, or cannot be written. May be used from
    several threads and
    processes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._open(sqlite3.connect) as connection:
            self._check(connection)  # first, so that a file of somebody else's is left as it is
        with self._open() as connection:
            connection.execute("begin immediate")  # another process may be making the same file: tables and format appear at once
            self._check(connection)
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute(f"pragma user_version = {FORMAT}")
            connection.execute("commit")

    def _check(self, connection: sqlite3.Connection) -> None:
        """Raises StoreError for a file of another format. One statement, so that both halves are of the same moment."""
        query = "select user_version, (select count(*) from sqlite_master where type = 'table') from pragma_user_version"
        found, tables = connection.execute(query).fetchone()
        if found not in (0, FORMAT) or (found == 0 and tables):
            raise StoreError(
                f"format {found}, where this version writes {FORMAT}",
                where=str(self.path),
                remedy="name another file with --store, or move this one away",
            )

    @contextmanager
    def _open(self, how: Callable[[Path], sqlite3.Connection] = connect) -> Iterator[sqlite3.Connection]:
        connection = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = how(self.path)
            yield connection
        except sqlite3.DatabaseError as error:
            broken = "malformed" in str(error) or "not a database" in str(error)
            what = "the feature store is corrupt" if broken else "the feature store cannot be used"
            remedy = "move the file away (what it held is measured again) or name another with --store"
            raise StoreError(f"{what}: {error}", where=str(self.path), remedy=remedy) from None
        except OSError as error:
            raise StoreError(
                f"the feature store cannot be made: {error.strerror or error}",
                where=str(self.path),
                remedy="name another file with --store",
            ) from None
        finally:
            if connection is not None:
                connection.close()

    def get(self, key: Key) -> list[Feature] | None:
        """The rows kept under a key, in the order that they were put; None where there are none."""
        with self._open() as connection:
            found = connection.execute("select rows from measured where key = ?", (key.digest,)).fetchone()
        if found is None:
            return None
        try:
            return [Feature(**row) for row in json.loads(found[0])]
        except (json.JSONDecodeError, TypeError) as error:
            raise StoreError(
                f"an entry of {key.extractor} cannot be read: {error}",
                where=str(self.path),
                remedy="move the file away (what it held is measured again) or name another with --store",
            ) from None

    def put(self, key: Key, rows: Sequence[Feature], arrays: Arrays | None = None) -> None:
        """Keep rows (and arrays by name) under a key, in place of what was there: all of it or nothing. Durable when it
        returns.
        """
        text = json.dumps([row.to_dict() for row in rows])
        values = (key.digest, key.checkpoint, key.extractor, key.version, key.settings, key.data, text, time.time())
        blobs = [(key.digest, name, _packed(content)) for name, content in (arrays or {}).items()]
        with self._open() as connection:
            connection.execute("begin immediate")
            connection.execute("insert or replace into measured values (?, ?, ?, ?, ?, ?, ?, ?)", values)
            connection.execute("delete from arrays where key = ?", (key.digest,))
            connection.executemany("insert into arrays values (?, ?, ?)", blobs)
            connection.execute("commit")

    def arrays(self, key: Key) -> dict[str, dict[str, np.ndarray]]:
        """What the extractor kept beside its rows: name -> array by name. Empty where it kept nothing, or was not measured."""
        with self._open() as connection:
            found = connection.execute("select name, content from arrays where key = ?", (key.digest,)).fetchall()
        return {name: _unpacked(content) for name, content in found}

    def keys(self) -> set[str]:
        """Digests of all keys."""
        with self._open() as connection:
            return {row[0] for row in connection.execute("select key from measured")}

    def __len__(self) -> int:
        with self._open() as connection:
            return int(connection.execute("select count(*) from measured").fetchone()[0])


def _packed(content: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(content))  # type: ignore[arg-type]
    return buffer.getvalue()


def _unpacked(blob: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(blob), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """`features.db` beside the MLflow store: its folder where MLFLOW_TRACKING_URI names a SQLite file, else `mlruns/` here."""
    beside = sqlite_file(environ.get("MLFLOW_TRACKING_URI", ""))
    return (beside.parent if beside is not None else Path("mlruns")) / "features.db"
