"""Stores that several processes make at the same moment."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from features.database import connect
from features.errors import StoreError
from features.store import FeatureStore
from serving.jobs import Jobs
from serving.ledger import Ledger
from training.outcomes import OutcomeStore

WORKERS, ROUNDS = 6, 20


def _make(store: Callable[[Path], Any], folder: Path, together: Any) -> None:
    for i in range(ROUNDS):
        together.wait(60)
        store(folder / f"{i}.db")


@pytest.mark.parametrize("store", [FeatureStore, OutcomeStore, Jobs, Ledger])
def test_processes_that_make_the_same_file_at_once_all_get_it(store: Callable[[Path], Any], tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    together = context.Barrier(WORKERS)
    makers = [context.Process(target=_make, args=(store, tmp_path, together)) for _ in range(WORKERS)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert [maker.exitcode for maker in makers] == [0] * WORKERS


def test_a_connection_is_in_wal_mode_with_full_synchronisation(tmp_path: Path) -> None:
    connection = connect(tmp_path / "a.db")
    assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    assert connection.execute("pragma synchronous").fetchone() == (2,)
    connection.close()


def test_a_database_of_somebody_else_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    theirs = sqlite3.connect(path)
    theirs.execute("create table notes (text)")
    theirs.commit()
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="format 0"):
        FeatureStore(path)
    assert path.read_bytes() == before
