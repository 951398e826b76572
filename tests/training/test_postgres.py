"""The loop on PostgreSQL, spoken to directly and through a tracking server; skipped where no server can be started."""

from __future__ import annotations

import multiprocessing
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

pytestmark = pytest.mark.skipif(bool(databases.why_not()), reason=databases.why_not())

SMALL = {"bags": 4, "rounds": 10}
PRELOAD = ["mlflow", "mlflow.lightgbm", "lightgbm", "sklearn.base", "ranker", "training.retrain"]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with databases.postgres() as address:
        yield address


@pytest.fixture
def root(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgres)
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
        context.Process(target=_retrain, args=(there, arguments)).start()
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
