"""k-shot features: the definitions by hand, whole shots dropped where they do not fit, and what cannot be measured said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.answers import answer
from features.corpora import Corpora
from features.errors import CheckpointError
from features.kshot import KShot
from features.model import load
from features.registry import Session
from features.scoring import Scorer
from features.tasks import Task
from features.zoo import Checkpoint


def write(folder: Path, rows: list[dict[str, Any]], yaml: str = "") -> Task:
    (folder / "task.jsonl").write_text("\n".join(map(json.dumps, rows)))
    if not yaml:
        return Task.read(folder / "task.jsonl")
    (folder / "task.yaml").write_text("data: task.jsonl\n" + yaml)
    return Task.read(folder / "task.yaml")


@pytest.fixture
def sums(tmp_path: Path) -> Task:
    rows = [{"query": f"def f{i}(x): return", "choices": ["x", "x + 1", "None"], "gold": i % 3} for i in range(40)]
    return write(tmp_path, rows)


def session(folder: Path, task: Task, **options: Any) -> Session:
    return Session(Checkpoint(folder.name, str(folder)), load(folder, device="cpu", **options), Corpora(), task)


@pytest.mark.parametrize("name", ["llama", "t5", "bert"])
def test_every_feature_is_what_its_definition_says(models: Path, sums: Task, name: str) -> None:
    ours = session(models / name, sums)
    rows = {row.name: row for row in KShot().measure(ours)}
    acc, norm, nll, margin, prob = [], [], [], [], []
    for example in sums.examples("features"):
        shots = sums.shots_for(example, sums.num_fewshot)
        scores = np.asarray([s for s, _ in Scorer(ours.model).loglikelihood(sums.prompt(example, shots))])
        gold = example.gold or 0
        acc.append(scores.argmax() == gold)
        norm.append((scores / [len(choice) for choice in example.choices]).argmax() == gold)
        nll.append(-scores[gold])
        margin.append(scores[gold] - max(np.delete(scores, gold)))
        prob.append(np.exp(scores[gold]) / np.exp(scores).sum())
    for feature, values in (("acc", acc), ("acc_norm", norm), ("nll", nll), ("margin", margin), ("prob", prob)):
        row = rows[f"kshot_{feature}"]
        assert row.value == pytest.approx(np.mean(values), abs=1e-4)
        assert row.stderr == pytest.approx(np.std(values, ddof=1) / np.sqrt(len(values)), abs=1e-4)
        assert (row.count, row.direction) == (10, -1 if feature == "nll" else 1)
    assert rows["kshot_shots"].value == 5


def test_closed_book_answers_count_when_greedy_decoding_gives_any_of_them(models: Path, tmp_path: Path) -> None:
    scorer = Scorer.load(models / "llama", device="cpu")
    greedy = {}
    for i in range(8):  # ask the checkpoint itself what it would say, token by token
        question = f"Question: {i}?\nAnswer:"
        vocabulary = [t for t in scorer.model.tokenizer.get_vocab() if t.isalpha()][:200]
        found = scorer.loglikelihood([(question, f" {word}") for word in vocabulary])
        greedy[i] = next((word for word, (_, would) in zip(vocabulary, found, strict=True) if would), None)
    rows = [{"question": f"{i}?", "answer": "zebra zebra", "answers": ["zebra zebra", greedy[i] or "no"]} for i in range(8)]
    task = write(tmp_path, rows, "num_fewshot: 0\n")
    for role in ("train", "features", "test"):
        examples = task.examples(role)
        found = answer(scorer, task, examples)
        assert found.correct.tolist() == [float(greedy[int(e.id)] is not None) for e in examples]
        first = scorer.loglikelihood([(e.query, " zebra zebra") for e in examples])
        assert found.nll == pytest.approx([-score for score, _ in first], abs=1e-4)
        assert found.margin is None


def test_retrieved_passages_are_in_the_prompt_and_change_the_score(models: Path, tmp_path: Path) -> None:
    rows = [{"question": f"who is {i}?", "passages": [f"{i} is Ann.", "Noise."], "answer": "Ann"} for i in range(8)]
    (tmp_path / "a").mkdir()
    with_passages = write(tmp_path, rows)
    without = write(tmp_path / "a", [{k: v for k, v in row.items() if k != "passages"} for row in rows])
    ours = session(models / "llama", with_passages)
    names = [row.name for row in KShot().measure(ours)]
    assert names == ["kshot_acc", "kshot_nll", "kshot_shots"]
    values = [KShot().measure(ours.on(task))[1].value for task in (with_passages, without)]
    assert values[0] != values[1]


def test_whole_shots_are_dropped_where_the_window_is_small(models: Path, tmp_path: Path) -> None:
    rows = [{"query": f"{i} " + "zqx " * 30, "choices": ["yes", "no"], "gold": i % 2} for i in range(40)]
    task = write(tmp_path, rows)
    ours = session(models / "gpt2", task)
    used = {row.name: row for row in KShot().measure(ours)}["kshot_shots"].value
    assert 0 < (used or 0) < 5
    assert ours.scorer.truncations == 0
    scored = answer(ours.scorer, task, task.examples("features"), shots=5)
    for example, count, logprobs in zip(task.examples("features"), scored.shots, scored.logprobs, strict=True):
        fitting = task.shots_for(example, 5)[5 - count :]
        expected = ours.scorer.loglikelihood(task.prompt(example, fitting))
        assert logprobs == pytest.approx([score for score, _ in expected], abs=1e-4)
        if count < 5:
            one_more = task.prompt(example, task.shots_for(example, 5)[4 - count :])
            assert ours.scorer.loglikelihood_detail(one_more)[0].truncated > 0


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_a_question_that_does_not_fit_is_told_and_not_cut(models: Path, tmp_path: Path, name: str) -> None:
    rows = [{"query": f"{i} " + "word " * (400 if i == 3 else 1), "choices": ["yes", "no"], "gold": 0} for i in range(8)]
    rows = [{**row, "split": "features" if i in (3, 4) else "test" if i == 5 else "train"} for i, row in enumerate(rows)]
    with pytest.raises(CheckpointError) as caught:
        KShot().measure(session(models / name, write(tmp_path, rows)))
    told = str(caught.value)
    assert told.startswith(
        f"{name} on task: 1 of 2 questions do not fit its window of 256 tokens even without shots; that of example '3' is "
    )
    assert told.endswith(" over it; cut it in doc_to_text, e.g. {{ text[:1000] }}")


def test_a_weighted_subset_gives_the_weighted_mean(models: Path, sums: Task) -> None:
    ids = [e.id for e in sums.examples("features")][:4]
    whole = session(models / "llama", sums.restricted(ids))
    KShot().measure(whole)
    nll = whole.kept["t0"]["nll"]
    weighted = KShot().measure(whole.on(sums.restricted(ids, [4, 3, 2, 1])))
    assert {row.name: row.value for row in weighted}["kshot_nll"] == pytest.approx(
        np.average(nll, weights=[4, 3, 2, 1]), abs=1e-4
    )


def test_what_is_found_for_each_example_is_kept(models: Path, sums: Task) -> None:
    ours = session(models / "llama", sums)
    rows = {row.name: row.value for row in KShot().measure(ours)}
    kept = ours.kept["t0"]
    assert kept["ids"].tolist() == [e.id for e in sums.examples("features")]
    assert [kept[k].mean() for k in ("nll", "probability", "correct")] == pytest.approx(
        [rows["kshot_nll"], rows["kshot_prob"], rows["kshot_acc"]]
    )


def test_without_shots_there_is_no_k_shot_feature(tmp_path: Path) -> None:
    task = write(tmp_path, [{"query": f"q{i}", "choices": ["a", "b"], "gold": 0} for i in range(8)], "num_fewshot: 0\n")
    assert not KShot().applies("causal", task)


def test_the_examples_of_the_outcomes_are_out_of_reach(models: Path, sums: Task) -> None:
    with pytest.raises(ValueError, match="never measured on the examples that outcomes are measured on"):
        session(models / "llama", sums).examples("test")
