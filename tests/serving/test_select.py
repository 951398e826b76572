"""`foretune dynamics` and `foretune select` on a run of real checkpoints, through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import checkpoints


def foretune(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serving.cli", *arguments]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six checkpoints with steps, and two tasks of 24 examples."""
    root = tmp_path_factory.mktemp("run")
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
    return root


def test_a_run_is_described_with_tables_and_pictures(run: Path) -> None:
    made = foretune("dynamics", "zoo.yaml", "--task", "kinds.yaml", "--task", "words.yaml", "-o", "out", "--json", cwd=run)
    assert made.returncode == 0, made.stderr
    files = {Path(f).name for f in json.loads(made.stdout)["files"]}
    pictures = {
        "courses.png",
        "accuracy.png",
        "relatedness.png",
        "map-kinds.png",
        "map-all.png",
        "degrees.png",
        "cartography-words.png",
    }
    assert pictures | {"report.md", "cartography.csv", "courses.csv", "kinds.npz"} <= files
    text = (run / "out" / "report.md").read_text()
    assert all(f"({name})" in text for name in pictures)


def test_a_subset_is_selected_and_extraction_measures_only_it(run: Path) -> None:
    made = foretune(
        "select", "kinds.yaml", "words.yaml", "--zoo", "zoo.yaml", "--budget", "8", "-o", "subset.json", "--json", cwd=run
    )
    assert made.returncode == 0, made.stderr
    assert sum(json.loads(made.stdout)["tasks"].values()) == 8
    arguments = ["--task", "kinds.yaml", "--task", "words.yaml", "--features", "prompt", "--examples", "subset.json"]
    measured = foretune("extract", "zoo.yaml", *arguments, "-o", "features.csv", cwd=run)
    assert measured.returncode == 0, measured.stderr
    lines = (run / "features.csv").read_text().splitlines()
    header = lines[0].split(",")
    counts = {
        int(float(row[header.index("count")]))
        for row in (x.split(",") for x in lines[1:])
        if row[header.index("name")] == "prompt_nll"
    }
    assert sum(counts) <= 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["select", "kinds.yaml", "--zoo", "zoo.yaml", "--budget", "2", "-o", "subset.csv"], "a subset is a .json file"),
        (["select", "kinds.yaml", "--zoo", "zoo.yaml", "--budget", "2000", "-o", "subset.json"], "use 1 to"),
        (["select", "kinds.yaml", "--zoo", "zoo.yaml", "--budget", "2", "--selector", "best", "-o", "subset.json"], "kriging"),
        (["dynamics", "nothing.yaml", "-o", "out2"], "nothing.yaml"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(run: Path, arguments: list[str], said: str) -> None:
    made = foretune(*arguments, cwd=run)
    assert made.returncode == 2
    assert said in made.stderr.splitlines()[-1]
