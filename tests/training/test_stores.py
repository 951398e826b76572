"""The loop on other stores than a file at hand: PostgreSQL, and a tracking server in front of it.

Where no PostgreSQL can be started, the first is skipped and the tracking server stands before a SQLite file.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import databases
import steps
from features.errors import ForetuneError
from features.rows import FEATURE_COLUMNS
from training import tracking
from training.fit import train
from training.outcomes import import_outcomes
from training.retrain import retrain

SMALL = {"bags": 4, "rounds": 10}
PRELOAD = ["mlflow", "mlflow.lightgbm", "lightgbm", "sklearn.base", "ranker", "training.retrain"]


@pytest.fixture(scope="module")
def database(_migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """PostgreSQL where it can be had, else a SQLite file."""
    if databases.why_not():
        file = tmp_path_factory.mktemp("store") / "mlflow.db"
        shutil.copy(_migrated, file)
        yield f"sqlite:///{file}"
    else:
        with databases.postgres() as address:
            yield address


@pytest.fixture
def root(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def measured(n: int) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Feature rows and outcomes of `n` checkpoints: the hue tells the order."""
    hue = np.random.default_rng(0).permutation(np.linspace(0, 1, n))
    rows = [("mine", f"m{i}", f"sha256:{i}", "", "hue", float(v), None, None, 1, 0.1, 0, "") for i, v in enumerate(hue)]
    outcomes = [{"checkpoint": f"m{i}", "task": "films", "outcome": float(v), "seed": 0} for i, v in enumerate(hue)]
    return pd.DataFrame(rows, columns=FEATURE_COLUMNS), outcomes


def _retrain(pipe: Any, arguments: dict[str, Any]) -> None:
    try:
        pipe.send(str(retrain(**arguments).action))
    except ForetuneError as error:
        pipe.send(str(error))


@pytest.mark.skipif(bool(databases.why_not()), reason=databases.why_not())
def test_the_whole_loop_runs_on_postgresql_and_two_retrainings_at_once_promote_one_challenger(root: Path) -> None:
    features, outcomes = measured(24)
    names = "old" + features["checkpoint"]
    past = {"zoo": "past", "task": "films", "checkpoint": names, "outcome": -features["value"], "hue": features["value"]}
    train([pd.DataFrame(past).head(8)], splits=1, params=SMALL)
    tracking.log_extract(features)
    assert import_outcomes(outcomes).added == 24
    assert import_outcomes(outcomes).duplicates == 24
    assert len(tracking.comparison_table()) == 32
    arguments = {"splits": 2, "params": SMALL, "root": root}
    assert retrain(**arguments, dry_run=True, say=lambda _: None).action == "promoted"
    assert len(tracking.versions()) == 1

    steps.kill_at("4 register", retrain, PRELOAD, **arguments)
    assert (tracking.alias_version(), len(tracking.versions())) == ("1", 2)

    context = multiprocessing.get_context("forkserver")
    said = []
    for _ in range(2):
        here, there = context.Pipe()
        told = {"pipe": there, "arguments": arguments}
        context.Process(target=steps.run_in, args=(dict(os.environ), _retrain, told)).start()
        said.append(here)
    answers = [pipe.recv() for pipe in said]
    assert answers.count("promoted") == 1, answers
    assert all(a in ("promoted", "unchanged") or "another retraining" in a for a in answers), answers
    assert tracking.champion()[1]["version"] == "2"
    assert tracking.find_version("foretune-ranker", "2").tags["foretune.decision"] == "promoted"
    assert len(tracking.versions()) == 2

    assert retrain(**arguments, rollback=True, say=lambda _: None).champion == "1"
    assert tracking.champion()[1]["version"] == "1"
    assert retrain(**arguments, say=lambda _: None).action == "unchanged"


@pytest.fixture
def server(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real tracking server before the database, with the artifacts behind it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database, "--artifacts-destination", str(tmp_path / "far")]
    settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(tmp_path / "server.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | settings)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            time.sleep(0.1)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(tracking.place, "EXPERIMENT", "far")  # the other test's keeps its artifacts where that client put them
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(timeout=30)


def test_the_loop_works_against_a_tracking_server_and_leaves_the_current_folder_empty(server: str, tmp_path: Path) -> None:
    hue = np.random.default_rng(1).permutation(np.linspace(0, 1, 24))

    def table(n: int, sign: float, zoo: str) -> pd.DataFrame:
        names = [f"{zoo}{i}" for i in range(n)]
        return pd.DataFrame({"zoo": zoo, "task": "sums", "checkpoint": names, "outcome": sign * hue[:n], "hue": hue[:n]})

    name = "far-ranker"
    first = train([table(8, -1.0, "before")], name, splits=1, params=SMALL).version
    tracking.log_table(table(24, 1.0, "after"), name="news")
    decision = retrain(name=name, splits=2, params=SMALL, say=lambda _: None)
    assert decision.action == "promoted"
    assert tracking.champion(name)[1]["version"] == decision.challenger != first
    assert retrain(name=name, rollback=True, say=lambda _: None).champion == first
    assert not list((tmp_path / "here").iterdir())
    assert any((tmp_path / "far").rglob("ranker.json"))
