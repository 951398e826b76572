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


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's folder of small checkpoints: `llama`, `gpt2`, `mistral` (causal), `t5` (seq2seq), `bert` (masked)."""
    root = tmp_path_factory.mktemp("models")
    for build in (checkpoints.llama, checkpoints.gpt2, checkpoints.mistral, checkpoints.t5, checkpoints.bert):
        build(root / build.__name__)
    return root
