"""Zero-shot prompts: each template, all of them together, and the configuration beside them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from features.answers import answer
from features.configuration import Configuration, metadata
from features.corpora import Corpora
from features.model import load
from features.prompts import ZeroShotPrompts
from features.registry import Session
from features.tasks import Task
from features.zoo import Checkpoint

TEMPLATES = """
data: films.jsonl
doc_to_target: label
templates:
  - {name: was, text: "{{text}} It was", choices: [terrible, great]}
  - {name: this, text: "{{text}} This is", choices: [bad, good]}
"""


@pytest.fixture
def films(tmp_path: Path) -> Task:
    rows = [{"text": f"the film number {i} was {'funny' if i % 2 else 'long'}.", "label": i % 2} for i in range(40)]
    (tmp_path / "films.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "films.yaml").write_text(TEMPLATES)
    return Task.read(tmp_path / "films.yaml")


def session(folder: Path, task: Task) -> Session:
    return Session(Checkpoint(folder.name, str(folder)), load(folder, device="cpu"), Corpora(), task)


def test_each_template_has_its_rows_and_the_mean_is_over_both(models: Path, films: Task) -> None:
    ours = session(models / "llama", films)
    rows = {row.name: row for row in ZeroShotPrompts().measure(ours)}
    kinds = ("acc", "acc_norm", "nll", "margin", "prob")
    assert set(rows) == {f"prompt_{k}{s}" for k in kinds for s in ("", "_was", "_this")} | {"prompt_acc_ensemble"}
    for kind in kinds:
        each = [rows[f"prompt_{kind}_{name}"].value for name in ("was", "this")]
        assert rows[f"prompt_{kind}"].value == pytest.approx(np.mean(each), abs=1e-6)
    nll = [ours.kept[name]["nll"] for name in ("was", "this")]
    assert rows["prompt_nll"].stderr == pytest.approx(np.mean(nll, axis=0).std(ddof=1) / np.sqrt(10), abs=1e-6)


def test_the_ensemble_chooses_by_the_likelihood_averaged_over_templates(models: Path, films: Task) -> None:
    ours = session(models / "gpt2", films)
    value = {row.name: row.value for row in ZeroShotPrompts().measure(ours)}["prompt_acc_ensemble"]
    examples = films.examples("features")
    scores = [answer(ours.scorer, films, examples, template=i).logprobs for i in range(2)]
    chosen = [np.argmax(a + b) == e.gold for a, b, e in zip(*scores, examples, strict=True)]
    assert value == pytest.approx(np.mean(chosen))


def test_one_template_has_no_rows_of_its_own(models: Path, tmp_path: Path) -> None:
    rows = [{"query": f"q{i}", "choices": ["a", "b"], "gold": 0} for i in range(8)]
    (tmp_path / "mc.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = ZeroShotPrompts().measure(session(models / "llama", Task.read(tmp_path / "mc.jsonl")))
    assert [row.name for row in found] == [f"prompt_{k}" for k in ("acc", "acc_norm", "nll", "margin", "prob")]


@pytest.mark.parametrize(
    ("name", "kind", "architecture", "window"),
    [("llama", "causal", "llama", 512), ("t5", "seq2seq", "t5", None), ("bert", "masked", "bert", 256)],
)
def test_the_configuration_is_the_checkpoint_s(
    models: Path, films: Task, name: str, kind: str, architecture: str, window: int | None
) -> None:
    ours = session(models / name, films)
    rows = {row.name: row for row in Configuration().measure(ours)}
    assert (rows["kind"].text, rows["architecture"].text) == (kind, architecture)
    assert (rows["layers"].value, rows["width"].value, rows["heads"].value, rows["vocabulary"].value) == (2, 64, 4, 1000)
    assert rows["parameters"].value == sum(p.numel() for p in {id(p): p for p in ours.model.module.parameters()}.values())
    assert window is None or rows["window"].value == window


def test_the_manifest_s_metadata_are_rows_numbers_and_text() -> None:
    checkpoint = Checkpoint("a", "./a", family="mine", step=10, meta={"learning_rate": 1e-3, "objective": "clm", "tagged": True})
    assert {row.name: (row.value, row.text) for row in metadata(checkpoint)} == {
        "family": (None, "mine"),
        "step": (10.0, None),
        "learning_rate": (1e-3, None),
        "objective": (None, "clm"),
        "tagged": (1.0, None),
    }
    assert metadata(Checkpoint("a", "./a")) == []
