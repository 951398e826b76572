"""Trajectories that other tools wrote are read as they wrote them, and what cannot be read is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from features.dynamics.imports import from_cartography, from_lm_eval, read
from features.dynamics.report import write, write_history
from features.errors import DataError
from features.rows import FEATURE_COLUMNS


def harness(folder: Path, revision: str, date: str, scores: list[list[float]], gold: list[int], task: str = "arc") -> None:
    """What `lm-eval --log_samples --output_path` leaves of one checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = {"pretrained": "EleutherAI/pythia-70m", "revision": revision}
    results = {"results": {task: {"acc,none": 0.5}}, "model_name": "EleutherAI/pythia-70m", "config": {"model_args": arguments}}
    (folder / f"results_{date}.json").write_text(json.dumps(results))
    lines = [
        {
            "doc_id": i,
            "target": str(target),
            "arguments": {f"gen_args_{j}": {"arg_0": "q", "arg_1": f" {j}"} for j in range(len(row))},
            "filtered_resps": [[str(score), "False"] for score in row],
        }
        for i, (row, target) in enumerate(zip(scores, gold, strict=True))
    ]
    (folder / f"samples_{task}_{date}.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_samples_of_several_revisions_are_a_trajectory(tmp_path: Path) -> None:
    folder = tmp_path / "EleutherAI__pythia-70m"
    harness(folder, "step1000", "2026-01-02T00-00-01.5", [[-1.0, -2.0], [-3.0, -1.0]], [0, 0])
    harness(folder, "step512", "2026-01-02T00-00-02.5", [[-2.0, -2.5], [-4.0, -1.0]], [0, 0])
    harness(folder, "step512", "2026-01-01T00-00-00.5", [[-9.0, -9.5], [-9.0, -9.0]], [0, 0])  # an earlier evaluation
    found = from_lm_eval(tmp_path)["arc"]
    assert found.checkpoints == ("pythia-70m@step512", "pythia-70m@step1000")
    assert found.steps.tolist() == [512, 1000]
    assert found.nll.tolist() == [[2, 4], [1, 3]]
    assert found.correct.tolist() == [[1, 0], [1, 0]]
    assert found.probability[1, 0] == pytest.approx(1 / (1 + np.exp(-1)))
    assert read(tmp_path)["arc"].labels == ("0", "0")
    harness(folder, "step2000", "2026-01-02T00-00-03.5", [[-2.0, -2.5]], [0])
    with pytest.raises(DataError, match="pythia-70m@step2000: 1 examples that not all have"):
        from_lm_eval(tmp_path)


def test_a_final_checkpoint_without_a_step_is_not_taken_for_the_first(tmp_path: Path) -> None:
    for revision, date in (
        ("step1", "2026-01-02T00-00-01.5"),
        ("step2", "2026-01-02T00-00-02.5"),
        ("main", "2026-01-02T00-00-03.5"),
    ):
        harness(tmp_path, revision, date, [[-1.0, -2.0]], [0])
    results = tmp_path / "results_2026-01-02T00-00-03.5.json"
    results.write_text(results.read_text().replace("pythia-70m", "pythia-small"))
    with pytest.raises(DataError, match="pythia-small has no step, where pythia-70m@step1 has one"):
        from_lm_eval(tmp_path)


def test_a_results_file_that_is_missing_is_named(tmp_path: Path) -> None:
    harness(tmp_path, "step1", "2026-01-02T00-00-01.5", [[-1.0, -2.0]], [0])
    with pytest.raises(DataError, match="two checkpoints"):
        from_lm_eval(tmp_path)
    (tmp_path / "results_2026-01-02T00-00-01.5.json").unlink()
    with pytest.raises(DataError, match=r"results_2026-01-02T00-00-01\.5\.json: cannot tell which checkpoint"):
        from_lm_eval(tmp_path)
    with pytest.raises(DataError, match="neither dynamics_epoch"):
        read(tmp_path / "nothing")


def test_epochs_of_dataset_cartography_make_a_report(tmp_path: Path) -> None:
    source = tmp_path / "training_dynamics"
    source.mkdir()
    rng = np.random.default_rng(0)
    for epoch in range(4):
        lines = [{"guid": i, f"logits_epoch_{epoch}": rng.normal(size=2).tolist(), "gold": i % 2} for i in range(20)]
        (source / f"dynamics_epoch_{epoch}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = from_cartography(source)
    assert (found.task, found.nll.shape) == ("training_dynamics", (4, 20))
    assert np.exp(-found.nll) == pytest.approx(found.probability)
    names = {p.name for p in write([found], tmp_path / "out")}
    assert {"report.md", "report.html", "cartography-training_dynamics.png", "cartography.csv"} <= names
    page = (tmp_path / "out" / "report.html").read_text()
    assert (
        page.count("data:image/png;base64,") == page.count("<figure>") == (tmp_path / "out" / "report.md").read_text().count("![")
    )


def test_a_trainer_state_becomes_feature_rows_and_a_picture(tmp_path: Path) -> None:
    import pandas as pd

    folder = tmp_path / "checkpoint-50"
    folder.mkdir()
    rows = [{"step": 5 * i, "loss": 4 - 0.3 * i} for i in range(1, 11)]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": rows}))
    names = {p.name for p in write_history(folder / "trainer_state.json", tmp_path / "out")}
    assert names == {"report.md", "report.html", "loss.png", "features.csv"}
    table = pd.read_csv(tmp_path / "out" / "features.csv")
    assert list(table.columns) == FEATURE_COLUMNS
    assert set(table.checkpoint) == {"checkpoint-50"}
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": rows[:4]}))
    with pytest.raises(DataError, match="4 logged losses"):
        write_history(folder / "trainer_state.json", tmp_path / "out")
