"""The transferability features of real checkpoints on small tasks: complete, equal to the scores, honest about failures."""

from __future__ import annotations

import json

import numpy as np
import pytest

from features.errors import CheckpointError
from features.model import load
from features.registry import Session
from features.representations import represent
from features.tasks import Task
from features.transferability import hscore, leep, logme, nce
from features.transferability.extractor import Transferability, frozen, named
from features.zoo import Checkpoint

WORDS = {"good": ["great", "lovely", "fine"], "bad": ["awful", "poor", "dull"], "meh": ["plain", "middling", "so-so"]}


def write(folder, name, rows, **settings):
    (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    lines = [f"task: {name}", f"data: {name}.jsonl", *(f"{key}: {json.dumps(value)}" for key, value in settings.items())]
    (folder / f"{name}.yaml").write_text("\n".join(lines))
    return Task.read(folder / f"{name}.yaml")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    names = sorted(WORDS)
    films = [
        {"text": f"film {i} was {WORDS[names[i % 3]][i // 3 % 3]} and {WORDS[names[i % 3]][i // 9 % 3]}", "label": i % 3}
        for i in range(120)
    ]
    sums = [{"query": f"{i} plus one is", "choices": [str(i + 1), str(i + 2), str(i)], "gold": 0} for i in range(60)]
    stars = [{"text": "so " * (i % 5) + f"good {i}", "label": i % 5} for i in range(80)]
    lengths = [{"question": f"how many letters in {'a' * (i % 7 + 1)} {i}", "answer": str(i % 7 + 1)} for i in range(60)]
    capitals = [{"question": f"question {i}", "answer": f"word{i}"} for i in range(20)]
    choice = {"output_type": "multiple_choice", "doc_to_text": "{{text}} It was", "doc_to_target": "label"}
    return {
        "films": write(folder, "films", films, doc_to_choice=names, **choice),
        "sums": write(folder, "sums", sums),
        "stars": write(folder, "stars", stars, doc_to_choice=["1", "2", "3", "4", "5"], **choice),
        "lengths": write(folder, "lengths", lengths),
        "capitals": write(folder, "capitals", capitals),
    }


@pytest.fixture(scope="module")
def session(models):
    found = {}

    def get(name, task):
        if name not in found:
            model = load(models / name, device="cpu")
            found[name] = Session(checkpoint=Checkpoint(name=name, model=str(models / name)), model=model, corpora=None)
        return found[name].on(task)

    return get


def measured(session):
    rows = Transferability().measure(session)
    assert len({row.name for row in rows}) == len(rows)
    return {row.name: row for row in rows}


@pytest.mark.parametrize(("name", "other"), [("llama", "last"), ("t5", "last"), ("bert", "first")])
def test_every_score_is_measured_with_error_count_and_cost(session, tasks, name, other):
    rows = measured(session(name, tasks["films"]))
    scores = {f"{score}_{pooling}" for score in ("logme", "hscore", "knn") for pooling in ("mean", other)}
    scores |= {"transrate_mean", "parc_mean", "leep", "nce"}
    scores |= {f"{score}_mean_{layer}" for score in ("logme", "hscore") for layer in ("layeravg", "bestlayer")}
    assert set(rows) == scores | {"logme_mean_bestlayer_depth"}
    for score in scores:
        row = rows[score]
        assert row.error == ""
        assert np.isfinite(row.value)
        assert row.stderr > 0 or score.startswith(("knn", "nce"))  # a step function of the examples
        assert row.count == len(tasks["films"].examples("features"))
        assert row.seconds > 0
        assert row.direction == 1
    assert 0 < rows["logme_mean_bestlayer_depth"].value <= 1
    assert rows["logme_mean_bestlayer"].value >= rows["logme_mean"].value


def test_the_features_are_the_scores_of_the_prompts(session, tasks):
    task = tasks["films"]
    of = session("gpt2", task)
    rows, examples = measured(of), task.examples("features")
    labels = [e.gold for e in examples]
    found = represent(of.model, [e.query for e in examples], poolings=("mean", "last"), answers=1024)
    assert rows["logme_mean"].value == pytest.approx(logme(found.of("mean"), labels), abs=1e-4)
    assert rows["hscore_last"].value == pytest.approx(hscore(found.of("last"), labels), rel=1e-3)
    assert rows["leep"].value == pytest.approx(leep(found.answers, labels), abs=1e-4)
    assert rows["nce"].value == pytest.approx(nce(named(found.answers), labels), abs=1e-4)


def test_source_labels_of_nce_are_tokens_never_the_rest():
    answers = np.array([[0.3, 0.1, 0.6], [0.1, 0.2, 0.7], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(named(answers), [[0.75, 0.25, 0], [1 / 3, 2 / 3, 0], [0, 0, 1]])


def test_one_pass_serves_a_task_and_another_task_has_its_own(session, tasks):
    of = session("llama", tasks["films"])
    assert frozen(of) is frozen(of)
    assert frozen(of) is not frozen(of.on(tasks["stars"]))


def test_choices_of_their_own_are_contrasted_within_their_example(session, tasks):
    of = session("llama", tasks["sums"])
    rows, data = measured(of), frozen(of)
    assert "leep" not in rows
    assert rows["logme_mean"].count == len(tasks["sums"].examples("features"))
    assert len(data.classes) == 3 * rows["logme_mean"].count
    assert data.classes.mean() == pytest.approx(1 / 3)
    sums = np.stack([data.of("mean")[data.example == i].sum(axis=0) for i in range(rows["logme_mean"].count)])
    np.testing.assert_allclose(sums, 0, atol=1e-4)


def test_graded_labels_have_regression_scores(session, tasks):
    rows = measured(session("llama", tasks["stars"]))
    assert np.isfinite(rows["logme_graded_mean"].value)
    assert -1 <= rows["knn_graded_mean"].value <= 1
    assert "logme_mean" in rows
    assert set(measured(session("llama", tasks["lengths"]))) == {"logme_graded_mean", "knn_graded_mean"}


def test_it_applies_to_choices_and_numbers_only(tasks):
    extractor = Transferability()
    assert {name: extractor.applies("causal", task) for name, task in tasks.items()} == {
        "films": True, "sums": True, "stars": True, "lengths": True, "capitals": False,
    }  # fmt: skip
    assert not extractor.applies("causal", None)


def test_a_score_that_cannot_be_computed_is_a_row_with_its_error(session, tasks):
    import torch

    of = session("mistral", tasks["films"])
    with torch.no_grad():
        of.model.module.model.norm.weight.zero_()  # the last layer now says nothing; the others still do
    rows = measured(of)
    assert rows["logme_mean"].value is None
    assert "are the same: no score is defined" in rows["logme_mean"].error
    assert rows["logme_mean_bestlayer"].value is not None
    assert rows["logme_mean_bestlayer_depth"].value == 0.5


def test_activations_that_are_not_finite_fail_the_extractor_by_name(models, tasks):
    import torch

    model = load(models / "llama", device="cpu")
    with torch.no_grad():
        model.module.model.embed_tokens.weight.fill_(float("nan"))
    broken = Session(checkpoint=Checkpoint(name="llama", model="llama"), model=model, corpora=None, task=tasks["films"])
    with pytest.raises(CheckpointError, match="not finite"):
        Transferability().measure(broken)


def test_settings_and_digest_tell_what_the_numbers_depend_on(tasks):
    assert Transferability().settings() != Transferability(groups=5).settings()
    assert Transferability().data_digest(tasks["films"], None) != Transferability().data_digest(tasks["stars"], None)
