"""Fixtures that every test folder shares: the small checkpoints, made once a session, and one thread."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")
sys.path.insert(0, str(Path(__file__).parent))

import pytest

import checkpoints

# The longest first: no worker is left alone with one of them at the end (with --no-loadscope-reorder, which keeps the order).
LONGEST = (
    "test_readme.py",
    "serving/test_smollm.py",
    "training/test_retrain.py",
    "features/test_backends.py",
    "serving/test_jobs.py",
    "training/test_build.py",
    "training/test_stores.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {Path(__file__).parent / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's folder of small checkpoints: `llama`, `gpt2`, `mistral` (causal), `t5` (seq2seq), `bert` (masked)."""
    root = tmp_path_factory.mktemp("models")
    for build in (checkpoints.llama, checkpoints.gpt2, checkpoints.mistral, checkpoints.t5, checkpoints.bert):
        build(root / build.__name__)
    return root


@pytest.fixture(scope="session")
def _migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs. Migrating one takes seconds, so it is done once, by whichever worker comes first."""
    from training.tracking.place import talking

    together = "PYTEST_XDIST_WORKER" in os.environ
    root = tmp_path_factory.getbasetemp().parent / "migrated" if together else tmp_path_factory.mktemp("migrated")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with talking(root) as client:
            client.search_experiments()
    return root / "mlruns" / "mlflow.db"


@pytest.fixture(scope="session")
def kept_default(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default ranker as a project keeps it, for services that start in a project used before; a new one fits it."""
    from ranker.reference.kept import kept_ranker

    together = "PYTEST_XDIST_WORKER" in os.environ
    root = tmp_path_factory.getbasetemp().parent / "fitted" if together else tmp_path_factory.mktemp("fitted")
    (root / "mlruns").mkdir(parents=True, exist_ok=True)
    kept_ranker(root)
    return root / "mlruns" / "default-ranker"


@pytest.fixture
def mlflow_root(_migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder of the test's own with a migrated, empty MLflow store in `mlruns/`; MLFLOW_TRACKING_URI is unset."""
    import shutil

    (tmp_path / "mlruns").mkdir()
    shutil.copy(_migrated, tmp_path / "mlruns" / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path
