"""SQLite files that several processes make, write and read at once."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from urllib.parse import unquote


def connect(path: Path | str, *, timeout: float = 60.0) -> sqlite3.Connection:
    """A connection in autocommit mode to a file in WAL mode, with synchronous=FULL; the file is made if it is not there.

    SQLite's own waiting does not cover the first switch to WAL: of two processes that make the same file one is told that it
    is locked, at once. So that switch is tried again until `timeout` (seconds) is over.

    Raises
    ------
    sqlite3.Error : the file cannot be opened, is no database, or stays locked
    """
    connection = sqlite3.connect(path, timeout=timeout, isolation_level=None)
    try:
        deadline = time.monotonic() + timeout
        while True:
            try:
                connection.execute("pragma journal_mode = wal")
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        connection.execute("pragma synchronous = full")
    except BaseException:
        connection.close()
        raise
    return connection


def sqlite_uri(file: Path) -> str:
    """The URI of a SQLite file; what would end its path or be read otherwise, ? and %, is written as SQLAlchemy reads it back."""
    return "sqlite:///" + str(file).replace("%", "%25").replace("?", "%3F")


def sqlite_file(uri: str) -> Path | None:
    """The file that a tracking URI names; None for another kind of store."""
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0])) if uri.startswith("sqlite:///") else None
