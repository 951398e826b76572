"""The demo's tasks: made of this installation's text, readable as tasks, with no document on two sides."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from features.tasks import Task
from training import demo_tasks, installation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    demo_tasks.write(folder, train=240, test=120, features=60)
    return folder


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", demo_tasks.TASKS)
def test_each_is_a_balanced_choice_task_with_its_own_splits(folder: Path, name: str):
    task = Task.read(folder / f"{name}.yaml")
    assert task.kind == "multiple_choice"
    labels = Counter(row["label"] for row in rows(folder, name) if row["split"] == "train")
    assert len(labels) >= 3
    assert max(labels.values()) <= 1.5 * min(labels.values())
    assert len(task.examples("train")) >= 200
    assert len(task.examples("test")) >= 100
    assert len(task.examples("features")) >= 50


@pytest.mark.parametrize("name", demo_tasks.TASKS)
def test_no_text_stands_on_two_sides_and_none_names_its_label(folder: Path, name: str):
    made = rows(folder, name)
    assert len({row["text"] for row in made}) == len(made)
    if name != "kinds":
        assert not any(row["label"] in row["text"].lower() for row in made)


def test_no_document_stands_on_two_sides(folder: Path):
    origin = {text: document for document, text, _ in demo_tasks.packages()}
    sides = {(origin[row["text"]], row["split"]) for row in rows(folder, "packages")}
    assert len({document for document, _ in sides}) == len(sides)


def test_the_same_seed_writes_the_same_task(folder: Path, tmp_path: Path):
    demo_tasks.write(tmp_path, ["packages"], train=240, test=120, features=60)
    assert (tmp_path / "packages.jsonl").read_bytes() == (folder / "packages.jsonl").read_bytes()
    demo_tasks.write(tmp_path, ["packages"], train=240, test=120, features=60, seed=1)
    assert (tmp_path / "packages.jsonl").read_bytes() != (folder / "packages.jsonl").read_bytes()


@pytest.mark.parametrize(("name", "least"), [("source", 2e6), ("documentation", 2e5), ("licences", 1e5), ("readmes", 1e5)])
def test_every_installation_has_text_of_each_kind(name: str, least: float):
    documents = installation.TEXTS[name]()
    assert sum(len(text) for _, text in documents) > least
    assert len({" ".join(text.split()) for _, text in documents}) == len(documents)
