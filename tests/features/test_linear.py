"""The faster matrix product: the same numbers up to rounding, and only where it is one."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from features import linear
from features.model import load
from features.representations import represent

TEXTS = [f"def insort{i}(a, x): return bisect(a, x, {i})" for i in range(24)]


@pytest.fixture
def slow_default(monkeypatch):
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(linear, "_slow_default", lambda: True)
    monkeypatch.setattr(linear, "_SMALL", 1)


@pytest.fixture
def products(monkeypatch):
    """How many matrix products oneDNN is asked for."""
    asked = []
    product = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda *a: asked.append(1) or product(*a))
    return asked


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bert"])
def test_representations_are_the_same_up_to_rounding(models, name, slow_default, products, monkeypatch):
    model = load(models / name, device="cpu")
    found = represent(model, TEXTS, layers=[1, 2, "average"], answers=8)
    assert products
    del products[:]
    monkeypatch.setattr(linear, "_slow_default", lambda: False)
    usual = represent(model, TEXTS, layers=[1, 2, "average"], answers=8)
    assert not products
    for layer in (1, 2, "average"):
        np.testing.assert_allclose(found.of("mean", layer), usual.of("mean", layer), atol=2e-6, rtol=2e-6)
    np.testing.assert_allclose(found.answers, usual.answers, atol=1e-6)


def test_gradients_other_dtypes_and_small_products_take_the_usual_way(models, slow_default, products, monkeypatch):
    layer, inputs = torch.nn.Linear(8, 4), torch.randn(3, 8)
    model = load(models / "llama", device="cpu")
    with linear.faster(model):
        layer(inputs).sum().backward()
        with torch.no_grad():
            layer.to(torch.float64)(inputs.double())
            monkeypatch.setattr(linear, "_SMALL", 3 * 8 * 4 + 1)
            layer.to(torch.float32)(inputs)
            assert not products
            monkeypatch.setattr(linear, "_SMALL", 3 * 8 * 4)
            layer(inputs)
    assert layer.weight.grad is not None
    assert len(products) == 1


def test_other_devices_dtypes_and_processors_are_left_alone(models, slow_default, monkeypatch):
    model = load(models / "llama", device="cpu")
    assert not isinstance(linear.faster(model), nullcontext)
    assert isinstance(linear.faster(load(models / "llama", device="cpu", dtype="bfloat16")), nullcontext)
    monkeypatch.setattr(linear, "_slow_default", lambda: False)
    assert isinstance(linear.faster(model), nullcontext)
