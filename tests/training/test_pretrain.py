"""One variant: its loss falls, it beats a random model, and nothing that stops it changes a weight."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from features.errors import CheckpointError
from training import installation, mixture, pretrain, tokenizer
from training.mixture import Loader
from training.objectives import IGNORE, OBJECTIVES
from training.recipe import Architecture, Schedule

CONTEXT, ROWS, STEPS = 64, 16, 40
SCHEDULE = Schedule(tokens=CONTEXT * ROWS * STEPS, rows=ROWS, state_every=10)


@pytest.fixture(scope="module")
def text() -> list[str]:
    return [
        text
        for name, text in installation.source()
        if name.split("/")[0] in ("argparse.py", "ast.py", "cgi.py", "cmd.py", "heapq.py")
    ]


@pytest.fixture(scope="module")
def raw(text: list[str]):
    return tokenizer.train(text, 400, 16)


@pytest.fixture(scope="module")
def stream(text: list[str], raw) -> np.ndarray:
    return mixture.tokenize(text, raw, tokenizer.specials(raw).eos, 0)


def shape(kind: str = "causal") -> Architecture:
    return Architecture(kind=kind, layers=1, width=32, heads=2, feed_forward=64, context=CONTEXT)


def loader(stream, raw, objective: str = "clm", kind: str = "causal") -> Loader:
    return Loader({"code": stream}, {"code": 1.0}, objective, kind, tokenizer.specials(raw), CONTEXT, ROWS, STEPS, 0)


def train(folder: Path, stream, raw, objective: str = "clm", kind: str = "causal", **options):
    own = tokenizer.for_kind(raw, kind)
    return pretrain.pretrain(
        loader(stream, raw, objective, kind), shape(kind), SCHEDULE, 5e-3, folder, own, device="cpu", **options
    )


def weights(folder: Path) -> bytes:
    return (folder / f"step-{STEPS:06d}" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("objective", "kind"), [*((name, "causal") for name in OBJECTIVES), ("sc", "seq2seq"), ("clm", "seq2seq"), ("sc", "masked")]
)
def test_the_loss_on_its_own_objective_falls(tmp_path, stream, raw, objective, kind):
    done = train(tmp_path, stream, raw, objective, kind)
    assert done.finished
    assert done.losses[0] == pytest.approx(math.log(400), rel=0.15)
    assert np.mean(done.losses[-5:]) < 0.92 * np.mean(done.losses[:3])


def test_a_trained_variant_beats_a_random_model_on_held_out_text_of_its_domain(tmp_path, stream, raw):
    train(tmp_path, stream, raw)
    held_out = mixture.tokenize(
        [(Path(math.__file__).parents[0] / "x").name, *(t for n, t in installation.source() if n == "enum.py")], raw, 2, 0
    )
    windows = torch.from_numpy(held_out[: 20 * CONTEXT].astype(np.int64)).reshape(20, CONTEXT)
    own = tokenizer.specials(raw)
    losses = {}
    from transformers import AutoModelForCausalLM

    trained = AutoModelForCausalLM.from_pretrained(tmp_path / f"step-{STEPS:06d}", dtype=torch.float32)
    for name, model in {"trained": trained, "random": pretrain.build_model(shape(), 400, own, 1)}.items():
        with torch.no_grad():
            losses[name] = float(model(windows, labels=windows).loss)
    assert losses["trained"] < losses["random"] - 0.5


def test_stopping_and_going_on_changes_no_weight(tmp_path, stream, raw):
    train(tmp_path / "whole", stream, raw, "ul2r+clm", keep_at=[10, 25, STEPS])
    for _ in range(200):  # a deadline that is past stops after each single step
        done = train(tmp_path / "halting", stream, raw, "ul2r+clm", keep_at=[10, 25, STEPS], deadline=0.0)
        if done.finished:
            break
    assert len(done.losses) == STEPS
    for step in (10, 25, STEPS):
        name = f"step-{step:06d}/model.safetensors"
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "halting" / name).read_bytes()


def test_a_checkpoint_is_a_16_bit_folder_with_its_tokenizer(tmp_path, stream, raw):
    train(tmp_path, stream, raw)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / f"step-{STEPS:06d}"
    model, own = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.float16
    assert (own.pad_token, own.bos_token, own.eos_token, own.mask_token, own.sep_token) == (
        "<pad>",
        "<s>",
        "</s>",
        "<mask>",
        "<sep>",
    )
    assert own.convert_tokens_to_ids("<extra_id_15>") == own.convert_tokens_to_ids("<extra_id_0>") + 15
    text = "def f(x):\n    return [é, 'naïve']"
    assert own.decode(own(text).input_ids) == text
    assert not list(tmp_path.glob("*.draft"))


def test_the_learning_rate_warms_up_and_then_holds_or_falls_to_a_tenth():
    cosine, constant = Schedule(tokens=1, warmup=0.1), Schedule(tokens=1, warmup=0.1, schedule="constant")
    rates = [pretrain.learning_rate(step, 100, 1.0, cosine) for step in range(100)]
    assert all(a < b for a, b in pairwise(rates[:11]))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert {pretrain.learning_rate(step, 100, 1.0, constant) for step in range(10, 100)} == {1.0}


def test_the_loss_of_a_row_does_not_depend_on_its_padding(stream, raw):
    own = tokenizer.specials(raw)
    for kind in ("causal", "seq2seq", "masked"):
        trainee = pretrain.Trainee(pretrain.build_model(shape(kind), 400, own, 0), kind, own.pad).eval()
        inputs, labels = (torch.from_numpy(part[:1]) for part in loader(stream, raw, "sc", kind).batch(0))
        pad = torch.full((1, 7), own.pad)
        with torch.no_grad():
            alone = trainee(inputs, labels)
            longer = trainee(torch.cat([inputs, pad], 1), torch.cat([labels, torch.full((1, 7), IGNORE)], 1))
        assert float(alone) == pytest.approx(float(longer), abs=1e-5), kind


def test_a_diverging_run_is_a_named_error(tmp_path, stream, raw, monkeypatch):
    monkeypatch.setattr(pretrain.Trainee, "forward", lambda self, inputs, labels: self.model.lm_head.weight.sum() * float("nan"))
    with pytest.raises(CheckpointError, match="the loss is nan at step 0; lower this variant's learning rate"):
        train(tmp_path, stream, raw)


def test_a_state_that_is_cut_short_or_of_another_run_is_a_named_error(tmp_path, stream, raw):
    train(tmp_path, stream, raw, deadline=0.0)
    state = tmp_path / pretrain.STATE
    good = state.read_bytes()
    state.write_bytes(good[: len(good) // 2])
    with pytest.raises(CheckpointError, match=r"state\.safetensors: the state cannot be read .*delete this variant's folder"):
        train(tmp_path, stream, raw)
    state.write_bytes(good.replace(b'\\"steps\\": 40', b'\\"steps\\": 41'))
    with pytest.raises(CheckpointError, match="it is of a run of 41 steps, this one has 40"):
        train(tmp_path, stream, raw)
