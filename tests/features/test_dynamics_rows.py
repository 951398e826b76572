"""Dynamics as rows of FEATURES: from the history beside a checkpoint and from the checkpoints before it, and nothing later."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import checkpoints
from features.dynamics.curves import smoothed
from features.dynamics.history import history_of, read_history
from features.dynamics.rows import runs, table
from features.errors import DataError
from features.extract import extract, resolve_tasks, stored
from features.registry import DERIVED, NEEDED, select
from features.rows import FEATURE_COLUMNS
from features.studies.material import material
from features.zoo import Checkpoint, Zoo
from ranker.table import join, widen
from ranker.vocabulary import meaning

TASK = "data: words.csv\ndoc_to_text: '{{text}} is'\ndoc_to_choice: [a, b]\ndoc_to_target: label\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five checkpoints of one run and one of another, a task of 40 rows, and a history of the run."""
    root = tmp_path_factory.mktemp("run")
    for step in range(1, 6):
        checkpoints.llama(root / f"step-{step}", seed=step, layers=1, width=32)
    (root / "words.csv").write_text("\n".join(["text,label", *(f"word {i} {i % 7},{i % 2}" for i in range(40))]))
    (root / "words.yaml").write_text(TASK)
    (root / "trainer_state.json").write_text(json.dumps(history(100)))
    manifest(root / "along.yaml", "along", [(f"a@{i}", i) for i in range(1, 6)])
    manifest(root / "zoo.yaml", "zoo", [("a", 5), ("b", 4)])
    return root


def manifest(path: Path, zoo: str, entries: list[tuple[str, int]]) -> None:
    listed = [{"name": name, "model": f"./step-{step}", "family": zoo, "step": step} for name, step in entries]
    path.write_text(yaml.safe_dump({"zoo": zoo, "checkpoints": listed, "tasks": ["words.yaml"]}))


def history(n: int, after: float = 0.0) -> dict[str, object]:
    """Losses that fall as a line in log step; `after` is added past step 5."""
    losses = [5 - np.log1p(0.1 * i) + (after if i > 50 else 0) for i in range(1, n + 1)]
    rows = [{"step": 0.1 * i, "loss": loss} for i, loss in enumerate(losses, 1)]
    return {
        "global_step": 10,
        "log_history": [{**row, "step": i} for i, row in enumerate(rows, 1)] + [{"step": n, "train_loss": 1}],
    }


def values(rows) -> dict[str, float]:
    return {row["name"]: row["value"] for row in rows.to_dict("records") if not np.isnan(row["value"])}


def test_a_line_in_log_step_gives_its_level_and_slope_and_no_curvature() -> None:
    steps = np.arange(1, 201)
    found, errors = smoothed(steps, 5 - 0.7 * np.log1p(steps))
    assert found["level"] == pytest.approx(5 - 0.7 * np.log(201))
    assert found["slope"] == pytest.approx(-0.7)
    assert found["curvature"] == pytest.approx(0, abs=1e-6)
    assert found["poly_2"] == pytest.approx(0, abs=1e-9)
    assert found["noise"] == pytest.approx(0, abs=1e-9)
    assert found["forecast"] < found["level"]
    assert set(errors) == {"level", "slope", "curvature"}


def test_standard_errors_of_a_noisy_history_cover_the_truth() -> None:
    steps, rng = np.arange(1, 201), np.random.default_rng(0)
    truth = 5 - 0.7 * np.log1p(steps)
    inside = 0
    for _ in range(60):
        found, errors = smoothed(steps, truth + 0.2 * rng.normal(size=200))
        inside += abs(found["level"] - truth[-1]) < 1.96 * errors["level"]
        assert found["noise"] == pytest.approx(0.2, rel=0.3)
    assert 50 <= inside <= 60


def test_a_history_is_read_up_to_the_checkpoint_s_own_step(run: Path) -> None:
    steps, losses = read_history(run / "trainer_state.json")
    assert (len(steps), steps[-1]) == (100, 100)
    early = history_of(Checkpoint("a", "./step-3", step=40, root=run))
    assert early is not None
    assert early[0].tolist() == list(range(1, 41))
    assert early[1] == pytest.approx(losses[:40])
    by_folder = history_of(Checkpoint("a", "./step-3", root=run))
    assert by_folder is not None
    assert by_folder[0].tolist() == [1, 2, 3]
    assert (
        history_of(Checkpoint("a", str(run / "gone" / "weights"))) is None
    )  # no step is known: a run's history may go on after it


def test_the_record_of_a_zoo_build_is_a_history(tmp_path: Path) -> None:
    (tmp_path / "step-000009").mkdir()
    (tmp_path / "record.json").write_text(json.dumps({"history": [{"step": i, "loss": 3.0, "tokens": i} for i in range(1, 20)]}))
    found = history_of(Checkpoint("a", "step-000009", root=tmp_path))
    assert found is not None
    assert found[0].tolist() == list(range(1, 10))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ('{"best_metric": 1}', "no log_history"),
        ('{"log_history": [{"step": 1, "eval_loss": 2}]}', "no row has step and loss"),
        ('{"log_history": [{"step": 1, "loss": NaN}]}', r"log_history\[0\].loss: nan is not a finite number"),
        ('{"log_history": [{"step": null, "loss": 1.0}]}', r"log_history\[0\].step: None is not a finite number"),
        ('{"log_history": [{"step": [1], "loss": 1.0}]}', r"log_history\[0\].step: \[1\] is not a finite number"),
        ('{"log_history": [{"step": NaN, "loss": 1.0}]}', r"log_history\[0\].step: nan is not a finite number"),
        ('{"log_history": [{"step": -1, "loss": 1.0}]}', r"log_history\[0\].step: -1 is not a number of steps"),
        ('{"log_history": [{"step": 1e300, "loss": 1.0}]}', r"log_history\[0\].step: 1e\+300 is not a number of steps"),
        ('{"log_history": [{"step": 1, "loss": 1' + "0" * 400 + "}]}", r"log_history\[0\].loss: 10+ is not a finite number"),
    ],
)
def test_a_broken_history_names_file_and_row(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "trainer_state.json").write_text(text)
    with pytest.raises(DataError, match=said):
        read_history(tmp_path / "trainer_state.json")


@pytest.mark.parametrize("content", [{"mine": 1}, {"history": "of the house"}, {"log_history": []}, [1, 2]])
def test_a_record_that_is_not_a_build_s_is_no_history(tmp_path: Path, content: object) -> None:
    (tmp_path / "step-000009").mkdir()
    for place in (tmp_path, tmp_path / "step-000009"):
        (place / "record.json").write_text(json.dumps(content))
    assert history_of(Checkpoint("a", "step-000009", root=tmp_path)) is None
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": [{"step": 3, "loss": 1.0}]}))
    found = history_of(Checkpoint("a", "step-000009", root=tmp_path))
    assert found is not None
    assert found[0].tolist() == [3]


def test_extraction_has_the_course_of_each_checkpoint_from_the_past_alone(run: Path, tmp_path: Path) -> None:
    report = extract(run / "along.yaml", features="dynamics,curve", store=tmp_path / "f.db", device="cpu", progress=False)
    assert not report.failed
    names = {name: values(rows) for name, rows in report.rows.groupby("checkpoint")}
    assert not any(n.startswith("prompt") for n in names["a@5"])  # measured, but not asked for
    assert "dynamics_level" not in names["a@2"]  # two checkpoints are no course
    for name in ("slope", "curvature", "poly_1", "peak_step", "variability", "confidence", "fallback"):
        assert f"dynamics_{name}" in names["a@3"]
    assert "dynamics_forecast" in names["a@4"]
    manifest(tmp_path / "short.yaml", "along", [(f"a@{i}", i) for i in range(1, 4)])
    short = yaml.safe_load((tmp_path / "short.yaml").read_text())
    for entry in short["checkpoints"]:
        entry["model"] = str(run / entry["model"])
    (tmp_path / "short.yaml").write_text(yaml.safe_dump({**short, "tasks": [str(run / "words.yaml")]}))
    again = stored(tmp_path / "short.yaml", features="dynamics,curve", store=tmp_path / "f.db")
    early = {name: values(rows) for name, rows in again.groupby("checkpoint")}
    assert early["a@3"] == names["a@3"]  # the later checkpoints say nothing of it
    level = extract(run / "along.yaml", features="prompt_nll", store=tmp_path / "f.db", device="cpu", progress=False).rows
    measured = values(level[level.checkpoint == "a@5"])["prompt_nll"]
    assert names["a@5"]["dynamics_level"] == pytest.approx(measured, abs=1e-6)
    courses = report.rows[report.rows.name.str.startswith("dynamics_")]
    assert {"dynamics_level", "dynamics_confidence", "dynamics_slope"} <= set(courses.name)
    assert [meaning(name).column_direction for name in courses.name] == courses.direction.tolist()  # the ranker knows it too
    assert (meaning("curve_level").column_direction, meaning("curve_slope").column_direction) == (-1, 0)


def test_a_final_checkpoint_finds_its_run_in_another_manifest_and_joins_with_outcomes(run: Path, tmp_path: Path) -> None:
    for name in ("along", "zoo"):
        extract(run / f"{name}.yaml", features="prompt", store=tmp_path / "f.db", device="cpu", progress=False)
    zoo, along = Zoo.read(run / "zoo.yaml"), Zoo.read(run / "along.yaml")
    rows = table(zoo, resolve_tasks(zoo), store=tmp_path / "f.db", along=[along])
    assert list(rows.columns) == FEATURE_COLUMNS
    wide = widen(rows).set_index("checkpoint")
    assert set(wide.index) == {"a", "b"}
    assert wide["dynamics_slope"].notna().all()
    # A final checkpoint that was copied out of the run is the same member of it.
    content = yaml.safe_load((run / "zoo.yaml").read_text())
    for entry in content["checkpoints"]:
        shutil.copytree(run / entry["model"], tmp_path / entry["name"])
        entry["model"] = str(tmp_path / entry["name"])
    (tmp_path / "copied.yaml").write_text(yaml.safe_dump({**content, "tasks": [str(run / "words.yaml")]}))
    copied = Zoo.read(tmp_path / "copied.yaml")
    pd.testing.assert_frame_equal(table(copied, resolve_tasks(copied), store=tmp_path / "f.db", along=[along]), rows)
    outcomes = [{"zoo": "zoo", "checkpoint": c, "task": "words", "outcome": o} for c, o in (("a", 0.5), ("b", 0.7))]
    joined = join(rows, pd.DataFrame(outcomes))
    assert {"dynamics_level", "dynamics_peak_step"} <= set(joined.columns)


def test_a_family_whose_checkpoints_share_a_step_is_no_run() -> None:
    made = [
        Checkpoint(f"c{i}", f"c{i}", family=f, step=s)
        for i, (f, s) in enumerate([("a", 1), ("a", 2), ("b", 5), ("b", 5), ("c", 1)])
    ]
    assert {f: [c.step for c in found] for f, found in runs(made).items()} == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ('{"log_history": [{"step": null, "loss": 1.0}]}', "log_history[0].step: None is not a finite number"),
    ],
)
def test_a_broken_history_is_a_row_and_the_rest_goes_on(run: Path, tmp_path: Path, text: str, said: str) -> None:
    checkpoints.llama(tmp_path / "broken", layers=1, width=32)
    (tmp_path / "broken" / "trainer_state.json").write_text(text)
    listed = [{"name": "broken", "model": "./broken"}, {"name": "good", "model": str(run / "step-5"), "step": 50}]
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump({"zoo": "z", "checkpoints": listed}))
    report = extract(tmp_path / "zoo.yaml", [], features="curve", store=tmp_path / "f.db", device="cpu", progress=False)
    assert [(f.checkpoint, f.extractor) for f in report.failed] == [("broken", "curve")]
    assert said in report.failed[0].error
    assert report.rows[report.rows.checkpoint == "good"].name.str.startswith("curve_").sum() >= 10


def test_a_zoo_and_its_runs_side_by_side_have_each_checkpoint_once(run: Path, tmp_path: Path) -> None:
    zoo, along = Zoo.read(run / "zoo.yaml"), Zoo.read(run / "along.yaml")
    found = material(zoo, [along], [run / "words.yaml"], tmp_path / "f.db", most=8)
    assert found.tasks[0].checkpoints == ("b", "a", "a@1", "a@2", "a@3")  # b is a@4, a is a@5
    assert found.runs.tolist() == ["along"] * 5
    assert found.final.tolist() == [True, True, False, False, False]
    assert found.tasks[0].nll.shape == (5, 8)


def test_derived_families_are_named_like_extractors() -> None:
    assert select(None).derived == tuple(DERIVED)
    assert set(NEEDED) <= set(DERIVED)
    chosen = select(["dynamics_slope"])
    assert (chosen.derived, chosen.extractors) == (("dynamics",), ("prompt",))
    assert select(["curve"]).extractors == ()
