"""lm-evaluation-harness results become features: as its own code writes them, and mistakes in them named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.errors import DataError
from features.imports import lm_eval
from features.rows import FEATURE_COLUMNS

RESULTS = {
    "results": {
        "arc": {"alias": "arc", "acc,none": 0.5, "acc_stderr,none": 0.1, "acc_norm,none": 0.25, "acc_norm_stderr,none": 0.05},
        "gsm": {"exact_match,strict-match": 0.1, "exact_match_stderr,strict-match": "N/A"},
        "wiki": {"bits_per_byte,none": 0.9, "bits_per_byte_stderr,none": "N/A"},
    },
    "n-shot": {"arc": 5, "gsm": 0, "wiki": 0},
    "n-samples": {"arc": {"original": 100, "effective": 25}},
    "higher_is_better": {"arc": {"acc": True, "acc_norm": True}, "gsm": {"exact_match": True}, "wiki": {"bits_per_byte": False}},
    "config": {"model": "hf"},
    "model_name": "EleutherAI/pythia-70m",
}


def write(folder: Path, content: Any = RESULTS, date: str = "2026-01-02T03-04-05.678") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"results_{date}.json"
    file.write_text(json.dumps(content))
    return file


def samples(folder: Path, scores: list[list[float]], targets: list[str], date: str = "2026-01-02T03-04-05.678") -> None:
    lines = [
        {
            "doc_id": i,
            "doc": {},
            "target": target,
            "arguments": {f"gen_args_{j}": {"arg_0": "q", "arg_1": f" choice {j}"} for j in range(len(row))},
            "filtered_resps": [[str(score), "False"] for score in row],
            "filter": "none",
        }
        for i, (row, target) in enumerate(zip(scores, targets, strict=True))
    ]
    (folder / f"samples_arc_{date}.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_metrics_take_our_names_where_they_mean_the_same(tmp_path: Path) -> None:
    rows = lm_eval(write(tmp_path), zoo="pythia")
    assert list(rows.columns) == FEATURE_COLUMNS
    assert set(rows.zoo) == {"pythia"}
    assert set(rows.checkpoint) == {"pythia-70m"}
    found = rows.set_index(["task", "name"])
    assert found.loc[("arc", "kshot_acc"), ["value", "stderr", "count", "direction"]].tolist() == [0.5, 0.1, 25, 1]
    assert found.loc[("arc", "kshot_acc_norm"), "value"] == 0.25
    assert found.loc[("gsm", "lm_eval_exact_match_strict_match"), "value"] == 0.1
    assert np.isnan(found.loc[("gsm", "lm_eval_exact_match_strict_match"), "stderr"])
    assert found.loc[("wiki", "lm_eval_bits_per_byte"), "direction"] == -1


def test_what_was_asked_for_mutual_information_is_no_choice(tmp_path: Path) -> None:
    file = write(tmp_path)
    samples(tmp_path, [[-1.0, -3.0, -0.5, -4.0]], ["0"])
    (written,) = tmp_path.glob("samples_*.jsonl")
    sample = json.loads(written.read_text())
    for j in (2, 3):
        sample["arguments"][f"gen_args_{j}"] = {"arg_0": "", "arg_1": f"choice {j - 2}"}
    written.write_text(json.dumps(sample))
    found = lm_eval(file).set_index(["task", "name"]).value
    assert found["arc", "kshot_margin"] == pytest.approx(2.0)
    assert found["arc", "kshot_prob"] == pytest.approx(1 / (1 + np.exp(-2)))


@pytest.mark.parametrize("targets", [["0", "1"], ["choice 0", " choice 1"]])
def test_samples_give_likelihood_margin_and_probability(tmp_path: Path, targets: list[str]) -> None:
    file = write(tmp_path)
    samples(tmp_path, [[-1.0, -3.0], [-2.0, -1.0]], targets)
    found = lm_eval(file).set_index(["task", "name"]).value
    assert found["arc", "kshot_nll"] == pytest.approx(1.0)
    assert found["arc", "kshot_margin"] == pytest.approx((2 + 1) / 2)
    assert found["arc", "kshot_prob"] == pytest.approx((1 / (1 + np.exp(-2)) + 1 / (1 + np.exp(-1))) / 2)


def test_the_latest_result_counts_and_a_task_without_shots_is_a_prompt(tmp_path: Path) -> None:
    write(tmp_path / "a", date="2026-01-02T00-00-00.0")
    newer = json.loads(json.dumps(RESULTS))
    newer["results"] = {"arc": {"acc,none": 0.75}}
    newer["n-shot"] = {"arc": 0}
    write(tmp_path / "a", newer, date="2026-01-03T00-00-00.0")
    rows = lm_eval(tmp_path)
    assert rows[rows.task == "arc"].set_index("name").value.to_dict() == {"prompt_acc": 0.75}
    assert "gsm" in set(rows.task)


def test_models_get_the_names_that_are_given(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b", {**RESULTS, "model_name": "mine/pythia-70m"})
    with pytest.raises(DataError, match="would both be 'pythia-70m'"):
        lm_eval(tmp_path)
    rows = lm_eval(tmp_path, names={"mine/pythia-70m": "mine"})
    assert set(rows.checkpoint) == {"mine", "pythia-70m"}


@pytest.mark.parametrize("as_text", [True, False])
def test_each_revision_of_a_model_is_a_checkpoint_and_main_is_the_model(tmp_path: Path, as_text: bool) -> None:
    for day, revision in enumerate(("step1000", "refs/pr/2", "main", "")):
        arguments = {"pretrained": "EleutherAI/pythia-70m", "revision": revision, "dtype": "float32"}
        given = ",".join(f"{key}={value}" for key, value in arguments.items()) if as_text else arguments
        results = {"arc": {"acc,none": day / 10}}
        content = {**RESULTS, "config": {"model": "hf", "model_args": given}, "results": results}
        write(tmp_path, content, date=f"2026-01-0{day + 1}T00-00-00.0")
    rows = lm_eval(tmp_path).set_index("checkpoint").value
    assert rows.to_dict() == {"pythia-70m@step1000": 0.0, "pythia-70m@refs/pr/2": 0.1, "pythia-70m": 0.3}
    renamed = lm_eval(tmp_path, names={"EleutherAI/pythia-70m": "our/small"})
    assert set(renamed.checkpoint) == {"our/small@step1000", "our/small@refs/pr/2", "our/small"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a results file"),
        ("{}", "not a results file: KeyError('results'); name a results_*.json"),
        ('{"results": ' + "9" * 5000 + "}", "not a results file: ValueError"),
        ("[" * 100_000, "not a results file: RecursionError"),
    ],
)
def test_what_is_no_result_is_told(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "results_1.json").write_text(content)
    with pytest.raises(DataError, match=re.escape(message)):
        lm_eval(tmp_path)


def test_nothing_to_import_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no results of lm-evaluation-harness; name a results_\*\.json or a folder that holds some"
    ):
        lm_eval(tmp_path)
    with pytest.raises(DataError, match="no results"):
        lm_eval(tmp_path / "gone")
    file = write(tmp_path)
    (tmp_path / "samples_arc_2026-01-02T03-04-05.678.jsonl").write_text('{"doc_id": 0}\n')
    with pytest.raises(DataError, match="line 1: not a sample"):
        lm_eval(file)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"doc_id": [1]}, "not a sample: TypeError('doc_id is a list of 1')"),
        ({"doc_id": None}, "not a sample: TypeError('doc_id is nothing')"),
        ({"doc": b"\xff"}, "cannot be read: 'utf-8' codec can't decode byte 0xff"),
        ({"target": b"9" * 5000}, "not a sample: ValueError"),
        ({"target": b"[" * 100_000}, "not a sample: RecursionError"),
    ],
)
def test_a_sample_that_cannot_be_one_is_named(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    file = write(tmp_path)
    samples(tmp_path, [[-1.0, -3.0]], ["0"])
    beside = tmp_path / "samples_arc_2026-01-02T03-04-05.678.jsonl"
    ((key, value),) = change.items()
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    sample = {**json.loads(beside.read_text()), key: "HERE"}
    beside.write_bytes(json.dumps(sample).encode().replace(b'"HERE"', raw))
    with pytest.raises(DataError, match=re.escape(told)) as caught:
        lm_eval(file)
    assert caught.value.where.startswith(str(beside))


def test_a_superscript_is_no_index_of_the_gold(tmp_path: Path) -> None:
    file = write(tmp_path)
    samples(tmp_path, [[-1.0, -3.0]], ["²"])
    assert not any("nll" in name for name in lm_eval(file).name)


def test_what_the_harness_s_own_tracker_writes_is_read(tmp_path: Path) -> None:
    from lm_eval.loggers import EvaluationTracker

    rows = [{"query": f"def f{i}(x): return", "options": ["x", "None"], "gold": i % 2} for i in range(6)]
    tracker = EvaluationTracker(output_path=str(tmp_path))
    tracker.general_config_tracker.model_name = "mine/llama"
    tracker.general_config_tracker.model_name_sanitized = "mine__llama"
    logged = [
        {
            "doc_id": i,
            "doc": row,
            "target": row["gold"],
            "arguments": [(row["query"], f" {option}") for option in row["options"]],
            "resps": [[(-1.0 - i, False)], [(-2.0, True)]],
            "filtered_resps": [(-1.0 - i, False), (-2.0, True)],
            "doc_hash": "a",
            "prompt_hash": "b",
            "target_hash": "c",
        }
        for i, row in enumerate(rows)
    ]
    rolling = [
        {**logged[i], "target": row["query"], "arguments": [(row["query"],)], "resps": [[-9.5]], "filtered_resps": [-9.5]}
        for i, row in enumerate(rows)
    ]
    results = {
        "results": {
            "sums": {"alias": "sums", "acc,none": 0.5, "acc_stderr,none": 0.2},
            "text": {"alias": "text", "word_perplexity,none": 33.0, "byte_perplexity,none": 2.0, "bits_per_byte,none": 1.0},
        },
        "n-shot": {"sums": 2, "text": 0},
        "config": {"model": "hf"},
    }
    tracker.save_results_aggregated(results=results, samples={"sums": logged, "text": rolling})
    tracker.save_results_samples(task_name="sums", samples=logged)
    tracker.save_results_samples(task_name="text", samples=rolling)
    rows = lm_eval(tmp_path)
    assert set(rows.task) == {"sums", "text"}
    found = rows[rows.task == "sums"].set_index("name").value
    gold = [(-1.0 - i if i % 2 == 0 else -2.0) for i in range(6)]
    assert found["kshot_acc"] == 0.5
    assert found["kshot_nll"] == pytest.approx(-np.mean(gold))
