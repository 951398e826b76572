"""The real service as a process, and what it answers from: a zoo of small checkpoints, a table with outcomes, an MLflow store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from served import TOKEN, Server, table


@pytest.fixture(scope="session")
def zoo_folder(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo of two checkpoints with a task and a corpus of its own, and a table with outcomes."""
    root = tmp_path_factory.mktemp("served")
    words = {"great": ["good", "fine", "lovely", "superb"], "awful": ["bad", "poor", "dull", "grim"]}
    rows = ["text,label"]
    rows += [f"the film was {w} and {v} {i},{label}" for label, ws in words.items() for i, w in enumerate(ws) for v in ws]
    (root / "films.csv").write_text("\n".join(rows) + "\n")
    (root / "films.yaml").write_text(
        'task: films\ndata: films.csv\noutput_type: multiple_choice\ndoc_to_text: "{{text}}. It was"\n'
        'doc_to_choice: ["great", "awful"]\ndoc_to_target: label\nnum_fewshot: 1\n'
    )
    (root / "held_out.jsonl").write_text(
        "\n".join(json.dumps({"text": f"def f{i}(x):\n    return x + {i}\n" * 4}) for i in range(6))
    )
    (root / "zoo.yaml").write_text(
        "zoo: tiny\ncheckpoints:\n"
        f"  - {{name: llama, model: {models / 'llama'}, meta: {{objective: clm}}}}\n"
        f"  - {{name: gpt2, model: {models / 'gpt2'}, meta: {{objective: clm}}}}\n"
        "tasks: [films.yaml]\ncorpora: {reference: held_out.jsonl}\n"
    )
    table().to_csv(root / "table.csv", index=False)
    return root


@pytest.fixture(scope="session")
def service(zoo_folder: Path, _migrated: Path, kept_default: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The session's service: with a token, a zoo, a table, an empty MLflow store; limits are small so that tests reach them."""
    root = tmp_path_factory.mktemp("service")
    (root / "mlruns").mkdir()
    shutil.copy(_migrated, root / "mlruns" / "mlflow.db")
    shutil.copytree(kept_default, root / "mlruns" / "default-ranker")
    limits = {
        "FORETUNE_MAX_BODY": "1000000",
        "FORETUNE_MAX_CANDIDATES": "1200",
        "FORETUNE_POLL_SECONDS": "0.3",
        "FORETUNE_LIMIT": "8",
        "AUDITED": str(root / "audited.log"),
        "PYTHONPATH": f"{Path(__file__).parent / 'audited'}:{Path(__file__).parents[2]}",
    }
    server = Server(root, token=TOKEN, environment=limits)
    try:
        yield server.start("--zoo", str(zoo_folder / "zoo.yaml"), "--table", str(zoo_folder / "table.csv"))
    finally:
        server.stop()
