"""Requests are those that lm-evaluation-harness would build from the same task file, character by character."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from features.errors import DataError
from features.scoring import Scorer
from features.tasks import Example, Task

CHOICE = [
    {"id": i, "question": f"What is {i} plus {i}?", "options": [f"{i}", f" {2 * i} of them", f"{3 * i + 1}"], "right": i % 3}
    for i in range(12)
]
QA = [{"id": i, "question": f"Who is number {i}?", "answers": [f"Person {i}", f"P{i}"]} for i in range(12)]
PAIRS = [{"id": i, "good": f"Ann saw {i} cats.", "bad": f"Ann saw {i} cat."} for i in range(12)]

FILES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "choices": (
        CHOICE,
        {
            "output_type": "multiple_choice",
            "doc_to_text": "Question: {{question}}\nAnswer:",
            "doc_to_choice": "{{options}}",
            "doc_to_target": "{{right}}",
        },
    ),
    "fields": (
        CHOICE,
        {"output_type": "multiple_choice", "doc_to_text": "question", "doc_to_choice": "options", "doc_to_target": "right"},
    ),
    "described": (
        CHOICE,
        {
            "output_type": "multiple_choice",
            "doc_to_text": "{{question|upper}} {{question | regex_replace('W', 'V')}}\n",
            "doc_to_choice": ["yes", "no", "maybe"],
            "doc_to_target": "{{['yes', 'no', 'maybe'][right]}}",
            "description": "Some sums follow.\n\n",
            "target_delimiter": " => ",
            "fewshot_delimiter": "\n--\n",
        },
    ),
    "pairs": (
        PAIRS,
        {
            "output_type": "multiple_choice",
            "doc_to_text": "",
            "doc_to_choice": "{{[good, bad]}}",
            "doc_to_target": 0,
        },
    ),
    "answers": (
        QA,
        {"output_type": "generate_until", "doc_to_text": "Q: {{question}}\nA:", "doc_to_target": "{{answers}}"},
    ),
    "continued": (
        QA,
        {"output_type": "loglikelihood", "doc_to_text": "{{question}}", "doc_to_target": "{{' ' + answers[0]}}"},
    ),
}


def read(folder: Path, name: str, shots: int) -> tuple[Task, dict[str, Any]]:
    rows, keys = FILES[name]
    split = ["train"] * 9 + ["test"] * 3
    text = "\n".join(json.dumps({**row, "split": s}) for row, s in zip(rows, split, strict=True))
    (folder / f"{name}.jsonl").write_text(text)
    keys = {**keys, "task": name, "num_fewshot": shots}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({**keys, "data": f"{name}.jsonl"}, sort_keys=False))
    return Task.read(folder / f"{name}.yaml"), keys


def harness(folder: Path, rows: dict[str, list[dict[str, Any]]], keys: dict[str, Any]) -> Any:
    """The harness's own task on the same rows."""
    from lm_eval.api.task import ConfigurableTask

    for split, some in rows.items():
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, some)))
    return ConfigurableTask(
        config={
            **keys,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {split: str(folder / f"{split}.jsonl") for split in rows}, "cache_dir": str(folder)},
            "training_split": "train",
            "test_split": "test",
            "fewshot_split": "train",
            "fewshot_config": {"sampler": "first_n", "split": "train"},
            "metadata": {"version": 1.0},
        }
    )


@pytest.mark.parametrize("name", list(FILES))
def test_requests_equal_the_harness_s(tmp_path: Path, name: str) -> None:
    task, keys = read(tmp_path, name, 3)
    shots = task.examples("shots")[:3]
    test = task.examples("test")
    theirs = harness(tmp_path, {"train": [dict(e.doc) for e in shots], "test": [dict(e.doc) for e in test]}, keys)
    for example in test:
        for count in (0, 3):
            ours = task.prompt(example, shots[:count])
            context = theirs.fewshot_context(dict(example.doc), count)
            built = theirs.construct_requests(dict(example.doc), context)
            if name == "answers":  # the harness generates; the gold continuation is what a shot would show
                assert ours == [(context, f" {answer}") for answer in example.answers]
            else:
                assert ours == [request.arguments for request in (built if isinstance(built, list) else [built])]
        if name != "answers" and name != "continued":
            gold = theirs.doc_to_target(dict(example.doc))
            assert example.gold == (gold if isinstance(gold, int) else example.choices.index(gold))


def test_the_harness_s_own_blimp_scores_as_an_empty_template_does(models: Path, tmp_path: Path) -> None:
    import lm_eval

    whole = (Path(lm_eval.__file__).parent / "tasks" / "blimp" / "_template_yaml").read_text()
    assert 'doc_to_text: ""\n' in whole
    rows = [{"sentence_good": row["good"], "sentence_bad": row["bad"]} for row in PAIRS]
    (tmp_path / "blimp.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = whole.replace("dataset_path: nyu-mll/blimp", "data: {train: blimp.jsonl}")
    (tmp_path / "blimp.yaml").write_text(text)
    (tmp_path / "empty.yaml").write_text(text.replace('doc_to_text: ""', "doc_to_text: \"{{''}}\""))
    (tmp_path / "listed.yaml").write_text(
        text.replace('doc_to_text: ""', "").replace("doc_to_choice: ", 'templates:\n  - text: ""\n    choices: ')
    )
    scorer = Scorer.load(models / "llama", device="cpu")
    found = []
    for name in ("blimp", "empty", "listed"):
        task = Task.read(tmp_path / f"{name}.yaml")
        examples = task.examples("features")
        assert [example.choices for example in examples] == [(e.doc["sentence_good"], e.doc["sentence_bad"]) for e in examples]
        found.append(scorer.loglikelihood(task.requests(examples, shots=0)))
    assert found[0] == found[1] == found[2]


def test_contexts_to_choose_from_share_their_continuation(tmp_path: Path) -> None:
    rows = [{"context_options": [f"The cat {i}", f"The dog {i}"], "continuation": "barked.", "gold": 1} for i in range(8)]
    (tmp_path / "w.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = Task.read(tmp_path / "w.jsonl")
    example, shot = task.examples("test")[0], task.examples("shots")[0]
    i, j = example.rendered[0].contexts[0][-1], shot.rendered[0].contexts[0][-1]
    assert task.prompt(example, [shot]) == [
        (f"The dog {j} barked.\n\nThe cat {i}", " barked."),
        (f"The dog {j} barked.\n\nThe dog {i}", " barked."),
    ]


def test_shots_are_the_same_whoever_asks_and_differ_between_examples(tmp_path: Path) -> None:
    task, _ = read(tmp_path, "choices", 3)
    again, _ = read(tmp_path, "choices", 3)

    def drawn(task: Task, seed: int = 0) -> list[list[str]]:
        return [[shot.id for shot in task.shots_for(example, 3, seed)] for example in task.examples("features")]

    assert drawn(task) == drawn(again) != drawn(task, seed=1)
    assert len({tuple(ids) for ids in drawn(task)}) > 1
    with pytest.raises(DataError, match="99 shots, but the pool has 7; lower num_fewshot"):
        task.shots_for(task.examples("test")[0], 99)


def test_what_is_scored_goes_back_to_its_example(tmp_path: Path) -> None:
    task, _ = read(tmp_path, "choices", 3)
    examples: list[Example] = task.examples("features")
    requests = task.requests(examples, shots=2)
    assert requests.grouped([text for _, text in requests]) == [[f" {choice}" for choice in e.choices] for e in examples]
    with pytest.raises(ValueError, match="1 values for"):
        requests.grouped([0])
    answers, _ = read(tmp_path, "answers", 3)
    assert [len(group) for group in answers.requests(answers.examples("test"), max_answers=1).grouped(range(3))] == [1, 1, 1]
