"""Frozen representations: one pass gives what a plain forward pass of each text alone would."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from features.errors import CheckpointError, DataError
from features.model import load
from features.representations import represent

KINDS = {"llama": "causal", "gpt2": "causal", "mistral": "causal", "t5": "seq2seq", "bert": "masked"}
TEXTS = [
    "return self.heap",
    "x",
    "a longer line of text, with words, for the mean: " * 3,
    "def insort(a, x):",
    "def insort(a, x):",
]


@pytest.fixture(scope="module")
def loaded(models):
    found = {}

    def get(name):
        if name not in found:
            found[name] = load(models / name, device="cpu")
        return found[name]

    return get


def alone(model, text):
    """Hidden states of one text by itself: a list over layers of (tokens, D)."""
    import torch

    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    trunk = model.module.get_encoder() if model.kind == "seq2seq" else model.module.base_model
    with torch.no_grad():
        return [state[0].numpy() for state in trunk(input_ids=ids, output_hidden_states=True).hidden_states]


@pytest.mark.parametrize("name", KINDS)
def test_every_pooling_and_layer_is_that_of_the_text_alone(loaded, name):
    model = loaded(name)
    found = represent(model, TEXTS, poolings=("mean", "last", "first"), layers=[0, 1, 2, "average"], token_budget=64)
    assert found.depth == 2
    for place, text in enumerate(TEXTS):
        states = alone(model, text)
        for layer in (0, 1, 2):
            np.testing.assert_allclose(found.of("mean", layer)[place], states[layer].mean(axis=0), atol=1e-4)
            np.testing.assert_allclose(found.of("last", layer)[place], states[layer][-1], atol=1e-4)
            np.testing.assert_allclose(found.of("first", layer)[place], states[layer][0], atol=1e-4)
        np.testing.assert_allclose(found.of("mean", "average")[place], (states[1] + states[2]).mean(axis=0) / 2, atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "t5", "bert"])
def test_batching_changes_nothing_and_order_is_kept(loaded, name):
    model = loaded(name)
    whole = represent(model, TEXTS, poolings=("mean", "last"), layers="all")
    single = represent(model, TEXTS, poolings=("mean", "last"), layers="all", token_budget=1)
    assert set(whole.spool) == {(p, n) for p in ("mean", "last") for n in (1, 2)}
    for key in whole.spool:
        assert whole.of(*key).dtype == np.float32
        np.testing.assert_allclose(whole.of(*key), single.of(*key), atol=1e-4)
    np.testing.assert_allclose(whole.of("mean")[3], whole.of("mean")[4], atol=1e-5)


def test_the_last_layer_alone_is_the_same_as_among_all(loaded):
    model = loaded("llama")
    np.testing.assert_allclose(represent(model, TEXTS).of(), represent(model, TEXTS, layers="all").of("mean", 2), atol=1e-5)


def test_words_are_the_mean_of_the_words_means_without_special_tokens(loaded):
    model = loaded("bert")
    text = TEXTS[2]
    encoded = model.tokenizer(text)
    states = alone(model, text)[-1]
    words = {}
    for word, state in zip(encoded.word_ids(0), states, strict=True):
        if word is not None:
            words.setdefault(word, []).append(state)
    expected = np.mean([np.mean(parts, axis=0) for parts in words.values()], axis=0)
    np.testing.assert_allclose(represent(model, TEXTS, poolings=["words"]).of("words")[2], expected, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_answers_are_the_heads_probabilities_at_the_answers_place(loaded, name):
    import torch

    model = loaded(name)
    found = represent(model, TEXTS, answers=10_000, token_budget=64)
    assert found.answers.shape[0] == len(TEXTS)
    np.testing.assert_allclose(found.answers.sum(axis=1), 1, atol=1e-5)
    tokenizer = model.tokenizer
    for place, text in enumerate(TEXTS):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            if model.kind == "causal":
                logits = model.module(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1]
            elif model.kind == "masked":
                row = [tokenizer.bos_token_id, *ids, tokenizer.mask_token_id, tokenizer.eos_token_id]
                logits = model.module(input_ids=torch.tensor([row])).logits[0, -2]
            else:
                sentinel = tokenizer.convert_tokens_to_ids("<extra_id_0>")
                start = torch.tensor([[model.config.decoder_start_token_id, sentinel]])
                row = torch.tensor([[*ids, sentinel, tokenizer.eos_token_id]])
                logits = model.module(input_ids=row, decoder_input_ids=start).logits[0, -1]
        top = logits.softmax(-1).topk(20).values.numpy()
        np.testing.assert_allclose(np.sort(found.answers[place, :-1])[::-1][:20], top, atol=1e-4)


def test_few_answers_keep_the_likeliest_tokens_and_the_rest_in_one(loaded):
    wide, narrow = (represent(loaded("llama"), TEXTS, answers=n).answers for n in (10_000, 3))
    assert narrow.shape == (len(TEXTS), 4)
    np.testing.assert_allclose(narrow[:, :3], wide[:, :3], atol=1e-6)


def test_long_texts_lose_their_beginning_or_end_and_are_counted(loaded):
    for name, kept in (("gpt2", "first"), ("bert", "last")):
        model = loaded(name)
        long = "word " * 400
        found = represent(model, [long, "x"], poolings=[kept])
        assert found.truncated == 1
        assert found.tokens <= 256 + 4
    ids = model.tokenizer(long)["input_ids"]
    assert len(ids) > 256


def test_what_cannot_be_represented_is_a_named_error(loaded, models):
    model = loaded("llama")
    with pytest.raises(DataError, match="no texts"):
        represent(model, [])
    with pytest.raises(DataError, match="text 1: the text has no tokens"):
        represent(model, ["x", ""])
    with pytest.raises(DataError, match="no pooling named 'max'"):
        represent(model, TEXTS, poolings=["max"])
    with pytest.raises(DataError, match="no layer 3"):
        represent(model, TEXTS, layers=[3])


def test_activations_that_are_not_finite_name_the_checkpoint(models):
    import torch

    model = load(models / "llama", device="cpu")
    with torch.no_grad():
        model.module.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"llama: hidden states of 5 of 5 texts are not finite"):
        represent(model, TEXTS)


@contextmanager
def watched(module, look):
    """Call look(ids) before each forward pass of a module."""
    hook = module.register_forward_pre_hook(
        lambda _, args, given: look(args[0] if args else given["input_ids"]), with_kwargs=True
    )
    try:
        yield
    finally:
        hook.remove()


def test_a_batch_that_does_not_fit_is_halved_and_changes_nothing(loaded):
    import torch

    def small(ids):
        if len(ids) > 2:
            raise torch.OutOfMemoryError("out of memory")

    model = loaded("bert")
    whole = represent(model, TEXTS, layers="all", answers=20)
    with watched(model.module.bert, small):
        halved = represent(model, TEXTS, layers="all", answers=20)
    for key in whole.spool:
        np.testing.assert_allclose(halved.of(*key), whole.of(*key), atol=1e-4)
    np.testing.assert_allclose(halved.answers, whole.answers, atol=1e-5)


def test_a_memory_budget_makes_batches_smaller(loaded):
    model, rows = loaded("bert"), {None: [], 0.2: []}
    for budget, seen in rows.items():
        with watched(model.module.bert, lambda ids, seen=seen: seen.append(len(ids))):
            represent(model, TEXTS, memory_budget_mb=budget)
    assert max(rows[0.2]) < max(rows[None])
