"""`foretune dynamics` and `foretune select` on a run of real checkpoints, through the command line."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import checkpoints
from called import Foretune, foretune_in


@pytest.fixture
def foretune(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Foretune:
    """`foretune ...` in this process, in the run's folder: (exit code, stdout, stderr)."""
    return foretune_in(run, monkeypatch, capsys)


@pytest.fixture(scope="module")
def run(_migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six checkpoints with steps, two tasks of 24 examples, and an empty MLflow store."""
    root = tmp_path_factory.mktemp("run")
    (root / "mlruns").mkdir()
    shutil.copy(_migrated, root / "mlruns" / "mlflow.db")
    for step in range(6):
        checkpoints.llama(root / f"step{step}", seed=step, layers=1, width=32)
    words = {"a": ["import", "class", "def", "return"], "b": ["the", "that", "which", "these"]}
    for name, prompt in (("kinds", "{{text}} is"), ("words", "What is {{text}}?")):
        rows = [{"text": f"{word} {i}", "label": label} for label, list_ in words.items() for word in list_ for i in range(9)]
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        task = {"task": name, "data": f"{name}.jsonl", "output_type": "multiple_choice", "doc_to_text": prompt}
        (root / f"{name}.yaml").write_text(yaml.safe_dump(task | {"doc_to_choice": ["a", "b"], "doc_to_target": "label"}))
    zoo = {
        "zoo": "run",
        "checkpoints": [{"name": f"s{i}", "model": f"./step{i}", "family": "run", "step": i * 100} for i in range(6)],
    }
    (root / "zoo.yaml").write_text(yaml.safe_dump(zoo))
    last = [{"name": f"x{i}", "model": f"./step{i}", "family": "last", "step": i * 100} for i in (4, 5)]
    (root / "last.yaml").write_text(yaml.safe_dump({"zoo": "last", "checkpoints": last}))
    return root


def test_a_run_is_described_with_tables_and_pictures(run: Path, foretune: Foretune) -> None:
    code, said, error = foretune("dynamics", "zoo.yaml", "--task", "kinds.yaml", "--task", "words.yaml", "-o", "out", "--json")
    assert code == 0, error
    files = {Path(f).name for f in json.loads(said)["files"]}
    pictures = {
        "courses.png",
        "accuracy.png",
        "relatedness.png",
        "map-kinds.png",
        "map-all.png",
        "degrees.png",
        "cartography-words.png",
    }
    assert pictures | {"report.md", "report.html", "cartography.csv", "courses.csv", "kinds.npz", "features.csv"} <= files
    text = (run / "out" / "report.md").read_text()
    assert all(f"({name})" in text for name in pictures)


def test_the_courses_of_a_run_join_with_outcomes(run: Path, foretune: Foretune) -> None:
    assert foretune("dynamics", "last.yaml", "--along", "zoo.yaml", "--task", "kinds.yaml", "-o", "late")[0] == 0
    lines = ["zoo,checkpoint,task,outcome", "last,x4,kinds,0.5", "last,x5,kinds,0.6"]
    (run / "outcomes.csv").write_text("\n".join(lines))
    code, _, error = foretune("table", "late/features.csv", "outcomes.csv", "-o", "table.csv")
    assert code == 0, error
    header, *rows = (run / "table.csv").read_text().splitlines()
    assert {"dynamics_level", "dynamics_slope", "dynamics_peak_step", "dynamics_confidence"} <= set(header.split(","))
    assert len(rows) == 2


def test_a_subset_is_selected_and_extraction_measures_only_it(run: Path, foretune: Foretune) -> None:
    arguments = ["kinds.yaml", "words.yaml", "--zoo", "zoo.yaml", "--budget", "8", "-o", "subset.json", "--json"]
    code, said, error = foretune("select", *arguments)
    assert code == 0, error
    assert sum(json.loads(said)["tasks"].values()) == 8
    arguments = ["--task", "kinds.yaml", "--task", "words.yaml", "--features", "prompt", "--examples", "subset.json"]
    code, _, error = foretune("extract", "zoo.yaml", *arguments, "--memory-budget", "64", "-o", "features.csv")
    assert code == 0, error
    rows = list(csv.DictReader((run / "features.csv").read_text().splitlines()))
    assert sum({r["task"]: int(r["count"]) for r in rows if r["name"] == "prompt_nll"}.values()) == 8


def test_templates_are_judged_from_a_comparison_table(run: Path, foretune: Foretune) -> None:
    rng = np.random.default_rng(0)
    columns = {f"prompt_{m}_{t}": rng.normal(size=12) for m in ("acc", "nll") for t in ("it", "this")}
    frame = pd.DataFrame({"task": "kinds", "checkpoint": [f"c{i}" for i in range(12)], "outcome": rng.normal(size=12), **columns})
    frame.to_csv(run / "templates.csv", index=False)
    code, said, error = foretune("prompts", "templates.csv", "-o", "prompts", "--repetitions", "5", "--json")
    assert code == 0, error
    assert {"report.md", "report.html", "correlations.csv"} <= {Path(f).name for f in json.loads(said)["files"]}
    assert foretune("prompts", "templates.csv", "--task", "other", "-o", "prompts")[2].strip().endswith("it has kinds")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["select", "kinds.yaml", "--zoo", "zoo.yaml", "--budget", "2", "-o", "subset.csv"], "a subset is a .json file"),
        (["select", "kinds.yaml", "--zoo", "zoo.yaml", "--budget", "2000", "-o", "subset.json"], "use 1 to"),
        (["select", "kinds.yaml", "--zoo", "zoo.yaml", "--budget", "2", "--selector", "best", "-o", "subset.json"], "kriging"),
        (["dynamics", "nothing.yaml", "-o", "out2"], "nothing.yaml"),
        (["dynamics", "zoo.yaml", "--task", "kinds.yaml", "-o", "out2", "--detrend", "mean"], "none, linear or difference"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(foretune: Foretune, arguments: list[str], said: str) -> None:
    code, _, error = foretune(*arguments)
    assert code == 2
    assert said in error.splitlines()[-1]
