"""Short probes: within their budget, repeatable, leaving the checkpoint as it was, learning what can be learnt."""

from __future__ import annotations

import json

import numpy as np
import pytest

from features.errors import CheckpointError, DataError
from features.model import load
from features.probe.budget import Budget
from features.probe.extractor import LongProbe, Probe, of_curve
from features.probe.loss import measured, rows_of
from features.probe.run import Curve, gold, short_run
from features.registry import Session, select
from features.registry import load as load_extractor
from features.scoring import Scorer
from features.tasks import Task
from features.zoo import Checkpoint


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Which of two words is in the text: learnt within a few steps."""
    folder = tmp_path_factory.mktemp("probe")
    rows = [
        {"text": f"{'sun' if i % 2 else 'rain'} and {i} clouds", "label": i % 2, "split": ["train", "test"][i % 6 == 5]}
        for i in range(480)
    ]
    (folder / "sky.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "sky.yaml").write_text(
        "task: sky\ndata: sky.jsonl\noutput_type: multiple_choice\ndoc_to_text: '{{text}} so'\n"
        "doc_to_choice: [wet, dry]\ndoc_to_target: label\n"
    )
    return Task.read(folder / "sky.yaml")


@pytest.fixture(scope="module")
def loaded(models):
    return {name: load(models / name, device="cpu") for name in ("llama", "gpt2", "t5", "bert")}


BUDGET = Budget(batch=8, steps=(0, 2, 4, 8, 16), measured=24, chosen=24, share=0.1)


def run(model, task, budget=BUDGET, **settings):
    return short_run(
        model, task, task.examples("train"), task.examples("features"), budget, **{"learning_rate": 3e-3, **settings}
    )


@pytest.mark.parametrize("name", ["llama", "t5", "bert"])
@pytest.mark.parametrize("recipe", ["full", "last-layer", "lora"])
def test_the_checkpoint_stays_as_it_was_and_the_copy_learns(loaded, task, name, recipe):
    model = loaded[name]
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    asks = [p.requires_grad for p in model.module.parameters()]
    curve = run(model, task, recipe=recipe)
    after = model.module.state_dict()
    assert set(after) == set(before)
    assert all(bool((after[key] == before[key]).all()) for key in before)
    assert [p.requires_grad for p in model.module.parameters()] == asks
    assert curve.losses.shape == (5, 24)
    assert curve.losses[-1].mean() < curve.losses[0].mean()
    assert list(curve.examples) == [0, 16, 32, 64, 128]
    assert len(curve.gradients) == 16
    assert len(curve.right) == 24


def test_the_same_seed_gives_the_same_curve(loaded, task):
    first, second = run(loaded["llama"], task), run(loaded["llama"], task)
    np.testing.assert_array_equal(first.losses, second.losses)
    np.testing.assert_array_equal(first.gradients, second.gradients)


def test_what_can_be_learnt_is_learnt(loaded, task):
    curve = run(loaded["llama"], task, replace_steps(BUDGET, (0, 4, 8, 16, 40)))
    assert curve.right.mean() > 0.9


def replace_steps(budget, steps):
    return Budget(budget.batch, steps, budget.measured, budget.chosen, budget.share)


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
def test_the_loss_is_what_the_scoring_engine_says(loaded, task, name):
    model = loaded[name]
    requests = [gold(task, example) for example in task.examples("features")[:10]] + [
        ("", "sun and rain"),
        ("word " * 600, "dry"),
    ]
    requests = requests if name != "t5" else requests[:10]
    scores = Scorer(model).loglikelihood_detail(requests)
    expected = [-score.logprob / score.tokens for score in scores]
    np.testing.assert_allclose(measured(model.module, model, rows_of(model, requests)), expected, atol=1e-3)


def test_the_masked_loss_hides_every_token_of_the_continuation(loaded, task):
    import torch

    model = loaded["bert"]
    row = rows_of(model, [("the sky is", " wet and dry")])[0]
    assert row.ids[row.begin : row.begin + len(row.targets)] == row.targets
    ids = list(row.ids)
    ids[row.begin : row.begin + len(row.targets)] = [model.tokenizer.mask_token_id] * len(row.targets)
    with torch.no_grad():
        logprobs = model.module(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = -np.mean([float(logprobs[row.begin + i, token]) for i, token in enumerate(row.targets)])
    assert measured(model.module, model, [row])[0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("train", "share"), [(400, 0.05), (4000, 0.05), (100_000, 0.01), (400, 0.5)])
def test_a_budget_is_kept_and_mostly_used(train, share):
    budget = Budget.plan(train, 300, 2, share=share, epochs=3)
    spent = 3 * budget.batch * budget.steps[-1] + budget.measured * len(budget.steps) + 2 * budget.chosen
    assert spent / (9 * train) == pytest.approx(budget.share)
    assert budget.share <= share
    assert budget.steps[0] == 0
    assert budget.steps[-1] * budget.batch <= train


def test_too_small_a_budget_is_a_named_error_and_a_row(loaded, task):
    with pytest.raises(DataError, match="5% of fine-tuning 20 examples for 3 epochs does not pay for a probe"):
        Budget.plan(20, 300, 2, share=0.05, epochs=3)
    session = Session(checkpoint=Checkpoint(name="llama", model="llama"), model=loaded["llama"], corpora=None, task=task)
    (row,) = Probe(share=0.001).measure(session)
    assert (row.name, row.value) == ("probe_full_loss", None)
    assert "does not pay for a probe" in row.error


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_the_features_of_a_probe(loaded, task, name):
    session = Session(checkpoint=Checkpoint(name=name, model=name), model=loaded[name], corpora=None, task=task)
    rows = {row.name: row for row in Probe(share=0.1, recipes=("full", "last-layer")).measure(session)}
    for recipe in ("full", "last_layer"):
        kept = session.kept[f"probe_{recipe}"]
        assert kept["losses"].shape == (len(kept["examples"]), rows[f"probe_{recipe}_loss"].count)
        assert kept["losses"][-1].mean() == pytest.approx(rows[f"probe_{recipe}_loss"].value)
    parts = ("loss", "gain", "gradient", "slope", "acc", "law_loss", "share")
    assert set(rows) == {f"probe_{recipe}_{part}" for recipe in ("full", "last_layer") for part in parts}
    for feature, row in rows.items():
        assert np.isfinite(row.value), feature
        assert row.seconds > 0
        assert row.stderr is not None or feature.endswith("share")
    assert rows["probe_full_share"].value <= 0.1
    assert rows["probe_full_loss"].direction == -1
    assert rows["probe_full_acc"].direction == 1
    assert rows["probe_full_gain"].direction == rows["probe_full_slope"].direction == 0  # a bad start gains most


def test_a_long_probe_may_spend_a_fifth(loaded, task):
    session = Session(checkpoint=Checkpoint(name="llama", model="llama"), model=loaded["llama"], corpora=None, task=task)
    rows = {row.name: row.value for row in LongProbe().measure(session)}
    assert {name.removeprefix("probe_long_") for name in rows} >= {"loss", "acc", "share"}
    assert 0.1 < rows["probe_long_share"] <= 0.2


@pytest.mark.parametrize(
    ("asked", "extractor", "recipe"),
    [
        ("probe_full_acc", "probe", "full"),
        ("probe_lora_loss", "probe_lora", "lora"),
        ("probe_last_layer", "probe_last_layer", "last-layer"),
        ("probe_long_loss", "probe_long", "full"),
    ],
)
def test_each_recipe_can_be_asked_for_by_a_features_name(asked, extractor, recipe):
    assert select([asked]).extractors == (extractor,)
    assert load_extractor(extractor).settings()["recipes"] == [recipe]
    assert load_extractor(extractor).name == extractor


def test_the_features_are_those_of_the_curve():
    examples = np.array([0, 8, 16, 32, 64])
    curve = Curve(examples, np.stack([np.full(10, v) for v in (3.0, 2.5, 2.0, 1.5, 1.0)]), np.ones(8), np.array([True, False]))
    rows = {row.name: row for row in of_curve(curve, "p", 1000)}
    assert rows["p_loss"].value == 1.0
    assert rows["p_gain"].value == 2.0
    assert rows["p_slope"].value == pytest.approx(-0.5)
    assert rows["p_acc"].value == 0.5
    assert rows["p_law_loss"].value < 1.0


def test_never_the_test_split(loaded, task, monkeypatch):
    asked = []
    original = Task.examples
    monkeypatch.setattr(Task, "examples", lambda self, split="features": (asked.append(split), original(self, split))[1])
    Probe().measure(Session(checkpoint=Checkpoint(name="llama", model="llama"), model=loaded["llama"], corpora=None, task=task))
    assert set(asked) == {"train", "features"}


def test_weights_that_overflow_are_a_named_error(models, task):
    import torch

    model = load(models / "gpt2", device="cpu")
    with torch.no_grad():
        model.module.transformer.h[0].mlp.c_fc.weight.fill_(float("inf"))
    with pytest.raises(CheckpointError, match="gpt2: the probe's loss is not finite"):
        run(model, task)
    model.headless = True
    with pytest.raises(CheckpointError, match="no output layer to fine-tune"):
        run(model, task)
