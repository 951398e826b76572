"""The feature store: durable at once, safe for many writers, and never an answer to another question."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import StoreError
from features.rows import Feature
from features.store import FeatureStore, Key, default_path

KEY = Key.of("sha256:aa", "kshot", 1, {"seed": 0, "dtype": "float32"}, "sha256:bb")
ROWS = [Feature("kshot_acc", 0.5, stderr=0.1, count=10, seconds=0.2, direction=1, task="films"), Feature("kind", text="causal")]


def test_what_is_put_comes_back_as_it_was(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "deep" / "features.db")
    assert store.get(KEY) is None
    arrays = {"t0": {"ids": np.asarray(["a", "b"]), "nll": np.asarray([1.5, 2.5])}}
    store.put(KEY, ROWS, arrays)
    again = FeatureStore(store.path)
    assert again.get(KEY) == ROWS
    assert {k: v.tolist() for k, v in again.arrays(KEY)["t0"].items()} == {"ids": ["a", "b"], "nll": [1.5, 2.5]}
    assert (len(again), again.keys()) == (1, {KEY.digest})
    again.put(KEY, [])
    assert (again.get(KEY), again.arrays(KEY)) == ([], {})


PARTS = st.tuples(
    st.sampled_from("ab"), st.sampled_from("ab"), st.integers(1, 2), st.sampled_from([{}, {"x": 1}]), st.sampled_from("ab")
)


@settings(max_examples=60, deadline=None)
@given(PARTS, PARTS)
def test_two_keys_are_one_only_if_all_their_parts_are(first: tuple, second: tuple) -> None:
    assert (Key.of(*first).digest == Key.of(*second).digest) == (first == second)


def test_the_order_of_settings_does_not_matter() -> None:
    assert Key.of("a", "b", 1, {"x": 1, "y": 2}, "c") == Key.of("a", "b", 1, {"y": 2, "x": 1}, "c")


def test_no_checkpoint_answers_for_another(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "features.db")
    store.put(KEY, ROWS)
    for other in (
        Key(**{**KEY.__dict__, "checkpoint": "sha256:ab"}),
        Key(**{**KEY.__dict__, "version": 2}),
        Key(**{**KEY.__dict__, "settings": "{}"}),
        Key(**{**KEY.__dict__, "data": "sha256:bc"}),
        Key(**{**KEY.__dict__, "extractor": "prompt"}),
    ):
        assert store.get(other) is None


def test_a_put_survives_a_kill_the_moment_it_returns(tmp_path: Path) -> None:
    script = (
        "import os, signal; from features.store import *; from features.rows import Feature\n"
        f"FeatureStore({str(tmp_path / 'features.db')!r}).put(Key.of('a', 'b', 1, {{}}, 'c'), [Feature('x', 1.0)])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    assert done.returncode == -9
    assert FeatureStore(tmp_path / "features.db").get(Key.of("a", "b", 1, {}, "c")) == [Feature("x", 1.0)]


def test_it_is_kept_in_wal_mode_with_full_synchronisation(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "features.db")
    with store._open() as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
        assert connection.execute("pragma synchronous").fetchone() == (2,)


def _fill(path: Path, writer: int) -> None:
    store = FeatureStore(path)
    for i in range(25):
        store.put(Key.of(f"{writer}", "x", i, {}, ""), [Feature("x", float(i))])


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_fill, args=(tmp_path / "features.db", i)) for i in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    store = FeatureStore(tmp_path / "features.db")
    assert len(store) == 100
    assert all(store.get(Key.of(f"{w}", "x", i, {}, "")) == [Feature("x", float(i))] for w in range(4) for i in range(25))


def test_a_file_that_is_no_store_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is not a database at all, only some text that is long enough to look at")
    with pytest.raises(StoreError) as caught:
        FeatureStore(tmp_path / "text.db")
    assert str(caught.value) == (
        f"{tmp_path / 'text.db'}: the feature store is corrupt: file is not a database; "
        "move the file away (what it held is measured again) or name another with --store"
    )
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("create table mine (x)")
    other.close()
    with pytest.raises(StoreError, match="format 0, where this version writes 1; name another file with --store"):
        FeatureStore(tmp_path / "other.db")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="the feature store cannot be made"):
        FeatureStore(tmp_path / "file" / "features.db")
    with pytest.raises(StoreError, match="the feature store cannot be used: unable to open database file"):
        FeatureStore(tmp_path)


def test_a_store_damaged_later_is_told_when_it_is_read(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "features.db")
    for i in range(200):
        store.put(Key.of("a", "x", i, {}, ""), ROWS * 20)
    with store._open() as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    content = bytearray(store.path.read_bytes())
    content[4096:-4096] = os.urandom(len(content) - 8192)
    store.path.write_bytes(content)
    with pytest.raises(StoreError, match="move the file away"):
        [store.get(Key.of("a", "x", i, {}, "")) for i in range(200)]


def test_it_lies_beside_the_mlflow_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_path() == Path("mlruns/features.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////data/runs/mlflow.db")
    assert default_path() == Path("/data/runs/features.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert default_path() == Path("mlruns/features.db")
