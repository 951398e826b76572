"""The place of the MLflow store: made whole or not at all, whoever comes first and whatever the folder is called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from features.database import sqlite_file, sqlite_uri
from features.errors import StoreError
from features.store import default_path
from training.tracking.place import experiment, talking, tracking_uri

FIRST_USE = "from training.tracking.place import experiment, talking\nwith talking() as client: print(experiment(client))"


def first_use(folder: Path) -> subprocess.Popen[str]:
    """A process that uses the store of `folder` for the first time."""
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"} | {
        "PYTHONPATH": str(Path(__file__).parents[2])
    }
    return subprocess.Popen(
        [sys.executable, "-c", FIRST_USE], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_store_whose_maker_was_killed_is_made_by_the_next(tmp_path: Path) -> None:
    draft, store = tmp_path / "mlruns" / ".mlflow.db.new", tmp_path / "mlruns" / "mlflow.db"
    process = first_use(tmp_path)
    while not (draft.is_file() and draft.stat().st_size):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    time.sleep(0.3)
    process.kill()
    process.communicate()
    assert not store.exists()
    process = first_use(tmp_path)
    assert process.communicate()[0].strip().isdigit()
    assert store.is_file()
    assert not draft.exists()


def test_two_that_come_first_at_once_make_one_store(tmp_path: Path) -> None:
    both = [first_use(tmp_path) for _ in range(2)]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]


@pytest.mark.parametrize("name", ["a?b=c", "50%25off", "100 % ü #1"])
def test_the_store_is_in_the_folder_whatever_it_is_called(mlflow_root: Path, name: str) -> None:
    folder = mlflow_root / name
    folder.mkdir()
    shutil.move(mlflow_root / "mlruns", folder)
    store = folder / "mlruns" / "mlflow.db"
    before = store.stat().st_mtime_ns
    with talking(folder) as client:
        experiment(client, folder)
    assert store.stat().st_mtime_ns > before
    assert [file for file in mlflow_root.rglob("*") if file.is_file()] == [store]
    assert sqlite_file(tracking_uri(folder)) == store
    assert default_path({"MLFLOW_TRACKING_URI": sqlite_uri(store)}) == store.with_name("features.db")


def test_a_store_that_was_left_half_made_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = tmp_path / "mlruns" / "mlflow.db"
    store.parent.mkdir()
    with sqlite3.connect(store) as db:
        db.execute("CREATE TABLE datasets (name TEXT)")
    db.close()
    with pytest.raises(StoreError) as caught, talking(tmp_path) as client:
        client.search_experiments()
    assert f"move {store} away" in str(caught.value)
