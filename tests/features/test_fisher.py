"""Fisher embeddings: the formula on a real checkpoint, the distance's laws, and weights left as they were."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from features.corpora import Corpora
from features.errors import CheckpointError, DataError
from features.fisher import Fisher, TaskFisher, distance, fisher_of_head, fisher_of_labels, fit_probe
from features.model import load
from features.registry import Session
from features.tasks import Task
from features.zoo import Checkpoint

TEXTS = ["def insort(a, x):", "return self.heap", "import statistics", "while len(heap) > 1:", "raise ValueError"]
CODE = ["for name in names:", "def lex(self):", "if not chars:", "token = self.read_token()"]
NUMBERS = ["1 2 3 4 5 6", "7 8 9 10 11", "12 13 14 15", "16 17 18 19 20"]


@pytest.fixture(scope="module")
def loaded(models):
    return {name: load(models / name, device="cpu") for name in ("llama", "gpt2", "t5", "bert")}


embeddings = st.lists(st.floats(1e-6, 1e3), min_size=4, max_size=4)


@given(a=embeddings, b=embeddings)
@settings(max_examples=50, deadline=None)
def test_the_distance_is_symmetric_zero_for_equals_and_at_most_one(a, b):
    assert distance(a, a) == pytest.approx(0, abs=1e-12)
    assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-12)
    assert 0 <= distance(a, b) <= 1


def test_the_distance_by_hand():
    assert distance([1, 3], [3, 1]) == pytest.approx(1 - (2 * 0.25 * 0.75) / (0.25**2 + 0.75**2))
    assert distance([1, 0, 0], [0, 1, 0]) == 1.0


def test_distances_without_meaning_are_named_errors():
    with pytest.raises(DataError, match="compare tasks under one checkpoint"):
        distance([1, 2], [1, 2, 3])
    with pytest.raises(DataError, match="no unit carries"):
        distance([0, 0], [1, 2])
    with pytest.raises(DataError, match="finite and not negative"):
        distance([1, np.nan], [1, 2])


def test_it_is_the_mean_squared_gradient_of_a_sampled_label(loaded):
    """A unit's entry is the mean over its inputs of the squared gradient, for one of the vocabulary's tokens."""
    import torch

    model = loaded["llama"]
    found = fisher_of_head(model, TEXTS[:1]).embedding
    layer = model.module.model.layers[0].self_attn.q_proj.weight
    logprobs = model.module(input_ids=torch.tensor([model.tokenizer(TEXTS[0])["input_ids"]])).logits[0, -1].log_softmax(-1)
    likely = logprobs.exp().topk(50).indices
    candidates = [torch.autograd.grad(logprobs[t], layer, retain_graph=True)[0].square().mean(dim=1).numpy() for t in likely]
    assert min(np.abs(c - found[: len(c)]).max() / c.max() for c in candidates) < 1e-3


def test_the_expectation_over_sampled_labels_is_that_of_the_exact_fisher(loaded):
    """A probe of two classes: sum_y p(y) (d log p(y))^2 against the mean over many sampled labels."""
    import torch

    model = loaded["gpt2"]
    rng = np.random.default_rng(0)
    probe = (rng.normal(size=(64, 2)) * 0.3, np.zeros(2))
    sampled = fisher_of_labels(model, TEXTS[:1] * 100, probe).embedding
    weight = model.module.transformer.h[0].attn.c_attn.weight
    state = (
        model.module.base_model(input_ids=torch.tensor([model.tokenizer(TEXTS[0])["input_ids"]])).last_hidden_state[0].mean(dim=0)
    )
    logprobs = (state @ torch.tensor(probe[0], dtype=torch.float32)).log_softmax(-1)
    exact = sum(
        float(logprobs[y].detach().exp())
        * torch.autograd.grad(logprobs[y], weight, retain_graph=True)[0].square().mean(dim=0).numpy()
        for y in range(2)
    )
    np.testing.assert_allclose(sampled[: len(exact)].sum(), exact.sum(), rtol=0.3)


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bert"])
def test_weights_and_what_they_ask_for_stay_and_seeds_repeat(loaded, name):
    model = loaded[name]
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    asks = [p.requires_grad for p in model.module.parameters()]
    first, second = fisher_of_head(model, TEXTS), fisher_of_head(model, TEXTS)
    np.testing.assert_array_equal(first.groups, second.groups)
    assert (first.embedding >= 0).all()
    assert first.embedding.any()
    assert all(bool((value == before[key]).all()) for key, value in model.module.state_dict().items())
    assert [p.requires_grad for p in model.module.parameters()] == asks
    assert all(p.grad is None for p in model.module.parameters())


def test_texts_of_one_kind_are_nearer_than_of_another(loaded):
    model = loaded["llama"]
    code, more, numbers = (fisher_of_head(model, texts * 4).embedding for texts in (TEXTS, CODE, NUMBERS))
    assert distance(code, more) < distance(code, numbers)


def test_the_probe_is_the_logistic_regression_that_it_says():
    rng = np.random.default_rng(0)
    for classes in (2, 3):
        labels = np.arange(60) % classes
        features = rng.normal(size=(60, 5)) * 3 + 2 + labels[:, None]
        weights, biases = fit_probe(features, labels)
        scores = features @ weights + biases
        standardised = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-8)
        expected = LogisticRegression(C=0.1, max_iter=200).fit(standardised, labels).predict_proba(standardised)
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        np.testing.assert_allclose(shares / shares.sum(axis=1, keepdims=True), expected, atol=1e-6)


def test_leaving_a_group_out_is_the_embedding_of_the_others():
    of = Fisher(np.array([[2.0, 4.0], [6.0, 0.0]]), np.array([2, 1]))
    np.testing.assert_allclose(of.embedding, [8 / 3, 4 / 3])
    np.testing.assert_allclose(of.without(1), [1, 2])


@pytest.mark.parametrize("name", ["llama", "t5", "bert"])
def test_the_features_of_a_task(loaded, tmp_path, name):
    rows = [{"text": f"{'sun' if i % 2 else 'rain'} {i}", "label": i % 2} for i in range(60)]
    (tmp_path / "sky.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "sky.yaml").write_text(
        "task: sky\ndata: sky.jsonl\noutput_type: multiple_choice\ndoc_to_text: '{{text}} so'\n"
        "doc_to_choice: [wet, dry]\ndoc_to_target: label\n"
    )
    session = Session(Checkpoint(name=name, model=name), loaded[name], Corpora(), Task.read(tmp_path / "sky.yaml"))
    started = time.perf_counter()
    found = {row.name: row for row in TaskFisher(texts=10, tokens=32).measure(session)}
    wall = time.perf_counter() - started
    assert 0.8 * wall < sum(row.seconds for row in found.values()) <= wall
    assert set(found) == {"fisher_log_trace", "fisher_reference_distance", "fisher_labels_log_trace", "fisher_labels_distance"}
    for row in found.values():
        assert row.error == ""
        assert np.isfinite(row.value)
        assert row.stderr > 0
        assert row.count == 10
    assert 0 < found["fisher_reference_distance"].value < 1
    assert TaskFisher().settings() != TaskFisher(texts=10).settings()


def test_what_has_no_fisher_information_is_a_named_error(loaded, models):
    import torch

    with pytest.raises(DataError, match="no texts"):
        fisher_of_head(loaded["llama"], [])
    model = load(models / "llama", device="cpu")
    with torch.no_grad():
        model.module.lm_head.weight.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="llama: its logits are not finite"):
        fisher_of_head(model, TEXTS)
    model.headless = True
    with pytest.raises(CheckpointError, match="no output layer"):
        fisher_of_head(model, TEXTS)
