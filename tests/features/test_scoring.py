"""Scores mean what lm-evaluation-harness's mean, and are those of a batch of one, whatever they are batched with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import CheckpointError, DataError, FailedError
from features.model import Model, load
from features.scoring import Scorer, encode
from features.scoring.encoding import rolling_windows

CAUSAL = ("llama", "gpt2", "mistral")
ALL = (*CAUSAL, "t5", "bert")
REQUESTS = [
    ("def wrap(text, width):", " return text"),
    ("def wrap(text, width):", " return width"),
    ("def wrap(text, width):", " pass"),
    ("def wrap(text, width):\n    return", " text"),
    ("", "import json"),
    ("", "\n"),
    ("a context that ends in spaces   ", "and goes on"),
    ("   ", "only spaces before"),
    ("<s>import sys", "\nimport os"),
    ("import sys", "\nimport os\nimport re\nimport sys"),
    ("x", "y"),
    ("def wrap(text, width):", " return text"),
]
LONG = "".join(f"value_{i} = compute({i}) + value_{i // 2}\n" for i in range(120))

_loaded: dict[tuple[Path, str], Model] = {}


def get(models: Path, name: str) -> Model:
    key = models, name
    if key not in _loaded:
        _loaded[key] = load(models / name, device="cpu")
    return _loaded[key]


def naive(model: Model, request: tuple[str, str]) -> tuple[list[float], list[bool]]:
    """One request by itself, one plain forward of the whole sequence (one for each masked token), nothing shared."""
    context, targets, suffix, _ = encode(model, [request])[0]
    logits = []
    with torch.inference_mode():
        if model.kind == "causal":
            ids = torch.tensor([(context + targets)[:-1]])
            logits = list(model.module(ids).logits[0, len(context) - 1 :])
        elif model.kind == "seq2seq":
            decoder = torch.tensor([[model.config.decoder_start_token_id, *targets[:-1]]])
            logits = list(model.module(input_ids=torch.tensor([context]), decoder_input_ids=decoder).logits[0])
        else:
            for offset in range(len(targets)):
                ids = torch.tensor([context + targets + suffix])
                ids[0, len(context) + offset] = model.tokenizer.mask_token_id
                logits.append(model.module(ids).logits[0, len(context) + offset])
    table = torch.stack(logits).log_softmax(-1)
    chosen = table[torch.arange(len(targets)), torch.tensor(targets)]
    return chosen.tolist(), (table.argmax(-1) == torch.tensor(targets)).tolist()


def assert_naive(model: Model, requests: list[tuple[str, str]], scores: list[tuple[float, bool]]) -> None:
    assert len(scores) == len(requests)
    for request, (logprob, greedy) in zip(requests, scores, strict=True):
        expected, flags = naive(model, request)
        assert logprob == pytest.approx(sum(expected), abs=1e-4), request
        assert greedy == all(flags), request


@pytest.mark.parametrize("name", ALL)
def test_score_is_that_of_a_batch_of_one(models: Path, name: str) -> None:
    model = get(models, name)
    assert_naive(model, REQUESTS, Scorer(model).loglikelihood(REQUESTS))


# Few pieces, so that contexts are prefixes of one another, continuations repeat, and greedy ones occur.
PIECES = st.sampled_from(["def", " f", "(x)", ":", "\n    ", "return", " x", " + 1", "import", " os", "  ", "é", "<s>"])
TEXTS = st.lists(PIECES, max_size=12).map("".join)
CONTINUATIONS = st.lists(PIECES, min_size=1, max_size=4).map("".join).filter(lambda text: text != "<s>")
SETS = st.lists(st.tuples(TEXTS, CONTINUATIONS), min_size=1, max_size=14)


@pytest.mark.parametrize("name", ALL)
def test_any_request_set_in_batches_of_any_size_scores_as_batches_of_one(models: Path, name: str) -> None:
    model = get(models, name)

    @settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(requests=SETS, token_budget=st.integers(1, 120), chunk=st.integers(1, 40))
    def law(requests: list[tuple[str, str]], token_budget: int, chunk: int) -> None:
        scorer = Scorer(model, token_budget=token_budget)
        if model.kind == "causal":
            assert scorer.engine.name == "packed"
            scorer.engine._engine.chunk = chunk  # type: ignore[union-attr]
        # an empty context and a continuation that is nothing but the prefix token leave nothing to score
        requests = [pair for pair in requests if pair[0] or pair[1] != "<s>"]
        assert_naive(model, requests, scorer.loglikelihood(requests))

    law()


@pytest.mark.parametrize("name", ALL)
def test_bfloat16_is_packed_too_and_near_float32(models: Path, name: str) -> None:
    exact = Scorer(get(models, name)).loglikelihood(REQUESTS)
    scorer = Scorer(load(models / name, device="cpu", dtype="bfloat16"))
    assert scorer.engine.name == ("packed" if name in CAUSAL else {"t5": "seq2seq", "bert": "padded"}[name])
    for (rounded, _), (expected, _) in zip(scorer.loglikelihood(REQUESTS), exact, strict=True):
        assert rounded == pytest.approx(expected, rel=0.02, abs=0.05)


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
def test_scores_and_greedy_flags_equal_the_harness(models: Path, name: str) -> None:
    model = get(models, name)
    greedy = _greedy(model) if model.kind == "causal" else []
    long = [(LONG, " tail"), (LONG[:900], " of the document")]
    # the harness gives up on a context that is nothing but spaces
    requests = [pair for pair in REQUESTS if pair[0] != "   "] + greedy + (long if model.kind == "causal" else [])
    expected = _harness(models / name, model.kind).loglikelihood([_instance("loglikelihood", pair) for pair in requests], True)
    scores = Scorer(model).loglikelihood(requests)
    for request, (logprob, flag), (theirs, their_flag) in zip(requests, scores, expected, strict=True):
        assert logprob == pytest.approx(theirs, abs=1e-4), request
        assert flag == their_flag, request
    assert [flag for _, flag in scores].count(True) >= len(greedy)


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
def test_rolling_equals_the_harness(models: Path, name: str) -> None:
    model = get(models, name)
    texts = ["short", LONG[:500] if model.kind == "seq2seq" else LONG, LONG[300:900], "", "words  and\nlines"]
    harness = _harness(models / name, model.kind)
    expected = harness.loglikelihood_rolling([_instance("loglikelihood_rolling", (text,)) for text in texts], True)
    scores = Scorer(model).rolling(texts)
    for text, found, theirs in zip(texts, scores, expected, strict=True):
        assert found.logprob == pytest.approx(theirs, rel=1e-6, abs=1e-3), text[:20]
        assert found.bytes == len(text.encode())
    assert scores[1].windows == -(-scores[1].tokens // model.max_length) > (model.kind == "causal")


def test_rolling_sum_of_thousands_of_nats_is_that_of_float64(models: Path) -> None:
    model = get(models, "llama")
    [found] = Scorer(model).rolling([LONG])
    exact = load(models / "llama", device="cpu", dtype="float64").module
    encoder = Scorer(model).encoder
    total = 0.0
    for context, targets in rolling_windows(encoder.encode([LONG])[0], [encoder.prefix_id], model.max_length, None):
        with torch.inference_mode():
            table = exact(torch.tensor([(context + targets)[:-1]])).logits[0, -len(targets) :].log_softmax(-1)
        total += float(table[torch.arange(len(targets)), torch.tensor(targets)].sum())
    assert abs(found.logprob - total) < np.spacing(np.float32(-total)) / 4, "nearer than a sum in float32 could say"


def test_rolling_stride_gives_each_token_more_context_and_predicts_it_once(models: Path) -> None:
    model = get(models, "gpt2")
    scorer = Scorer(model)
    ids = scorer.encoder.encode([LONG])[0]
    stride, window = 50, model.max_length
    expected = 0.0
    done = min(window, len(ids))
    expected += scorer.token_logprobs([([scorer.encoder.prefix_id], ids[:done])])[0].sum()
    while done < len(ids):
        end = min(done + stride, len(ids))
        expected += scorer.token_logprobs([(ids[max(0, end - window - 1) : done], ids[done:end])])[0].sum()
        done = end
    [found] = scorer.rolling([LONG], stride=stride)
    assert found.tokens == len(ids)
    assert found.logprob == pytest.approx(float(expected), abs=1e-2)
    assert found.windows > scorer.rolling([LONG])[0].windows
    with pytest.raises(DataError, match=r"stride 0 is outside 1\.\.256"):
        scorer.rolling([LONG], stride=0)


def test_masked_rolling_is_the_pseudo_likelihood_of_every_token(models: Path) -> None:
    model = get(models, "bert")
    scorer = Scorer(model)
    text = "def wrap(text): return text"
    [found] = scorer.rolling([text])
    expected, _ = naive(model, ("", text))
    assert found.logprob == pytest.approx(sum(expected), abs=1e-4)
    assert found.tokens == len(expected)


@pytest.mark.parametrize("name", ALL)
def test_order_of_requests_is_the_order_of_scores(models: Path, name: str) -> None:
    model = get(models, name)
    scores = Scorer(model, token_budget=40).loglikelihood(REQUESTS)
    order = np.random.default_rng(0).permutation(len(REQUESTS))
    shuffled = Scorer(model, token_budget=40).loglikelihood([REQUESTS[i] for i in order])
    for place, (logprob, greedy) in zip(order, shuffled, strict=True):
        assert logprob == pytest.approx(scores[place][0], abs=1e-5)
        assert greedy == scores[place][1]


def test_context_beyond_the_window_is_cut_from_the_left_and_counted(models: Path) -> None:
    model = get(models, "gpt2")
    scorer = Scorer(model)
    long, short = scorer.loglikelihood_detail([(LONG, " tail end"), ("import", " os")])
    context = scorer.encoder.pairs([(LONG, " tail end")])[0][0]
    assert long.truncated == len(context) + long.tokens - model.max_length - 1 > 0
    assert short.truncated == 0
    assert scorer.truncations == 1
    assert_naive(model, [(LONG, " tail end")], [(long.logprob, long.greedy)])


@pytest.mark.parametrize("name", ALL)
def test_continuation_longer_than_the_window_is_the_checkpoints_error(models: Path, name: str) -> None:
    model = replace(get(models, name), max_length=20)
    with pytest.raises(CheckpointError, match=r"request 1: a continuation of \d+ tokens is longer than its window"):
        Scorer(model).loglikelihood([("import", " os"), ("import", LONG)])


@pytest.mark.parametrize("name", ["llama", "t5", "bert"])
def test_continuation_without_tokens_is_refused(models: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"request 1: the continuation has no tokens; every continuation needs text"):
        Scorer(get(models, name)).loglikelihood([("import", " os"), ("import", "")])


def test_continuation_that_melts_into_the_context_is_refused_with_a_remedy(models: Path) -> None:
    scorer = Scorer(get(models, "llama"))
    assert len(scorer.encoder.encode(["ab"])[0]) == 1
    with pytest.raises(DataError, match=r"request 0: .*'b' has no tokens of its own: .* begin it with a space"):
        scorer.loglikelihood([("a", "b")])


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft's own
@pytest.mark.parametrize("name", ["llama", "t5", "bert"])
def test_lora_adapter_is_scored_with_its_adapter(models: Path, name: str) -> None:
    from peft import LoraConfig, get_peft_model

    model = load(models / name, device="cpu")
    plain = Scorer(model).loglikelihood(REQUESTS[:4])
    targets = {"llama": ["q_proj", "down_proj"], "t5": ["q", "wo"], "bert": ["query", "value"]}[name]
    tuned = get_peft_model(model.module, LoraConfig(target_modules=targets, init_lora_weights=False)).eval()
    adapted = replace(model, module=tuned)
    scores = Scorer(adapted).loglikelihood(REQUESTS[:4])
    assert_naive(adapted, REQUESTS[:4], scores)
    assert all(abs(a - b) > 1e-3 for (a, _), (b, _) in zip(scores, plain, strict=True))


def test_no_requests_give_no_scores(models: Path) -> None:
    scorer = Scorer(get(models, "llama"))
    assert scorer.loglikelihood([]) == []
    assert scorer.rolling([]) == []


@pytest.mark.parametrize("name", ALL)
def test_logits_that_are_not_finite_are_the_checkpoints_error(models: Path, name: str) -> None:
    model = load(models / name, device="cpu")
    with torch.no_grad():
        model.module.get_input_embeddings().weight[:, 0] = float("nan")
    with pytest.raises(CheckpointError, match=rf"{name}: its logits are not finite"):
        Scorer(model).loglikelihood([("import", " os")])


@pytest.mark.parametrize("name", ALL)
def test_batch_that_does_not_fit_is_halved_until_it_does(models: Path, name: str) -> None:
    model = load(models / name, device="cpu")
    refused, allowed = [], 64

    def refuse(module: Any, args: Any, kwargs: Any) -> None:
        given = kwargs.get("input_ids", args[0] if args else None)
        if given is not None and given.numel() > allowed:
            refused.append(given.numel())
            raise torch.OutOfMemoryError(f"no room for {given.numel()} tokens")

    trunk = model.module.get_encoder() if model.kind == "seq2seq" else model.module.base_model
    handle = trunk.register_forward_pre_hook(refuse, with_kwargs=True)
    requests = [(f"def f_{i}(x):", " return x") for i in range(24)]
    scores = Scorer(model).loglikelihood(requests)
    assert refused, "the test is to run out of memory"
    handle.remove()
    assert_naive(model, requests[:6], scores[:6])
    assert len(scores) == len(requests)


def test_single_row_that_does_not_fit_is_a_failure_that_says_so(models: Path) -> None:
    model = load(models / "bert", device="cpu")

    def refuse(*_: Any) -> None:
        raise torch.OutOfMemoryError("never")

    scorer = Scorer(model)
    assert scorer.engine.name == "padded"
    model.module.base_model.register_forward_pre_hook(refuse)
    with pytest.raises(FailedError, match="not enough memory for a batch of"):
        scorer.loglikelihood([("import", " os")])


def test_errors_other_than_lack_of_memory_are_not_retried(models: Path) -> None:
    model = load(models / "bert", device="cpu")
    calls = []

    def fail(*_: Any) -> None:
        calls.append(1)
        raise RuntimeError("something else")

    model.module.base_model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="something else"):
        Scorer(model).loglikelihood([("import", " os")])
    assert len(calls) == 1


def test_memory_budget_bounds_the_batches(models: Path) -> None:
    model = load(models / "llama", device="cpu")
    seen: list[int] = []
    model.module.base_model.register_forward_pre_hook(lambda m, a, k: seen.append(k["input_ids"].numel()), with_kwargs=True)
    requests = [(f"def f_{i}(x):", " return x") for i in range(60)]
    small = Scorer(model, memory_budget_mb=0.5)
    first = small.loglikelihood(requests)
    assert max(seen) <= small.engine.budget.tokens < 200
    assert [s for s, _ in first] == pytest.approx([s for s, _ in Scorer(model).loglikelihood(requests)], abs=1e-5)
    with pytest.raises(DataError, match="memory_budget_mb is 0"):
        Scorer(model, memory_budget_mb=0)


def test_equal_requests_and_shared_prefixes_are_computed_once(models: Path) -> None:
    model = load(models / "llama", device="cpu")
    seen: list[int] = []
    scorer = Scorer(model)
    assert scorer.engine.name == "packed"
    model.module.base_model.register_forward_pre_hook(lambda m, a, k: seen.append(k["input_ids"].numel()), with_kwargs=True)
    shots = LONG[:400]
    requests = [(f"{shots}question {i}?", choice) for i in range(5) for choice in (" a", " b", " c", " d")] * 3
    scorer.loglikelihood(requests)
    shared = len(scorer.encoder.encode([shots])[0])
    each = [len(a.context) + len(a.targets) - 1 for a in encode(model, requests)]
    assert sum(seen) < shared + 5 * (max(each) - shared + 4) < sum(each) / 20


def test_tokens_given_as_ids_score_alike(models: Path) -> None:
    for name in ALL:
        model = get(models, name)
        [logprobs] = Scorer(model).token_logprobs([([50, 60, 70], [80, 90, 100])])
        assert logprobs.dtype == np.float32
        assert logprobs.shape == (3,)
    with pytest.raises(DataError, match="an empty context"):
        Scorer(get(models, "llama")).token_logprobs([([], [80])])


def test_masked_positions_are_masked_together(models: Path) -> None:
    model = get(models, "bert")
    ids, positions = [1, 50, 60, 70, 80, 2], [2, 3]
    [found] = Scorer(model).masked_logprobs([(ids, positions)])
    corrupted = torch.tensor([ids])
    corrupted[0, positions] = model.tokenizer.mask_token_id
    with torch.inference_mode():
        table = model.module(corrupted).logits[0].log_softmax(-1)
    assert found == pytest.approx([float(table[2, 60]), float(table[3, 70])], abs=1e-5)
    with pytest.raises(DataError, match="llama is a causal model"):
        Scorer(get(models, "llama")).masked_logprobs([(ids, positions)])
    with pytest.raises(DataError, match="request 0: no positions"):
        Scorer(model).masked_logprobs([(ids, [])])


def test_checkpoint_without_a_head_gives_no_likelihood(models: Path) -> None:
    with pytest.raises(CheckpointError, match="no output layer"):
        Scorer(replace(get(models, "bert"), headless=True))


def _greedy(model: Model) -> list[tuple[str, str]]:
    """Requests whose continuation is the model's likeliest next token: those of a few that encode back to that token."""
    found = []
    for context in (
        "import os",
        "def f(x):",
        "return",
        "x = y",
        "class A",
        "for i in",
        "text",
        "a b c d",
        "while True",
        "(1, 2)",
    ):
        ids = model.tokenizer(context)["input_ids"]
        with torch.inference_mode():
            likeliest = int(model.module(torch.tensor([ids])).logits[0, -1].argmax())
        text = model.tokenizer.decode([likeliest])
        if text and encode(model, [(context, text)])[0].targets == [likeliest]:
            found.append((context, text))
    assert found, "no likeliest token survives a round trip through text: choose other contexts"
    return found


def _harness(folder: Path, kind: str) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=4, backend=kind)


def _instance(kind: str, arguments: tuple[str, ...]) -> Any:
    from lm_eval.api.instance import Instance

    return Instance(kind, {}, arguments, 0)  # type: ignore[arg-type]
