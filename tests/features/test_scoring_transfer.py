"""A batch costs one copy to the device and one back, and nothing in between waits for a value.

Shown on the meta device, which has shapes and no values: what would wait for a value on an accelerator has to ask for it there.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from features.model import load
from features.scoring import encode, packed, padded, seq2seq
from features.scoring.memory import Budget
from features.scoring.packed import Packed
from features.scoring.padded import Padded
from features.scoring.rows import rows_of
from features.scoring.seq2seq import Seq2Seq
from features.scoring.transfer import send

META = torch.device("meta")
SHOTS = "def f(x):\n    return x\n\n" * 4
REQUESTS = [(f"{SHOTS}def f_{i}(x):", f" return {word}") for i in range(5) for word in ("x", "text", "x + 1")]


class Watch(TorchDispatchMode):
    """Counts the copies from the CPU to the device, and the values that were read from it (the answer to each is False)."""

    sent = read = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        if function in (aten._local_scalar_dense.default, aten.item.default, aten.is_nonzero.default):
            self.read += 1
            return False
        made = function(*args, **(kwargs or {}))
        apart = any(isinstance(given, torch.Tensor) and given.device != META for given in args)
        if apart and isinstance(made, torch.Tensor) and made.device == META:
            self.sent += 1
        return made


# Padded rows are masked by transformers, which looks at the padding mask itself: so many times a batch.
ENGINES = [
    ("llama", Packed, 0),
    ("gpt2", Packed, 0),
    ("mistral", Packed, 0),
    ("llama", Padded, 1),
    ("bert", Padded, 1),
    ("t5", Seq2Seq, 2),
]


@pytest.mark.parametrize(("name", "engine", "looks"), ENGINES)
def test_batch_takes_one_copy_each_way_and_reads_no_value(
    models: Path, name: str, engine: type, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(models / name, device="cpu")
    rows = [row for encoded in encode(model, REQUESTS) for row in rows_of(model, encoded)]
    there = replace(model, module=copy.deepcopy(model.module).to(META), device=META)
    made = engine(there, Budget(there, 512, 30 if engine is Packed else 200))
    batches: list[int] = []
    fetched: list[tuple[int, ...]] = []

    class Arriving:
        """Takes the place of the copy back, of which the meta device has nothing to give."""

        def __init__(self, tensor: torch.Tensor) -> None:
            assert tensor.device == META
            self.shape = tuple(tensor.shape)
            fetched.append(self.shape)

        def numpy(self) -> np.ndarray:
            return np.zeros(self.shape, dtype=np.float32)

    for module in (packed, padded, seq2seq):
        monkeypatch.setattr(module, "Arriving", Arriving)

    def hook(module: Any, args: Any, kwargs: Any) -> None:
        if kwargs.get("use_cache") is False or kwargs.get("attention_mask") is not None:  # else it is the head that asks
            batches.append(kwargs["input_ids"].numel())

    trunk = there.module.get_encoder() if name == "t5" else there.module.base_model
    trunk.register_forward_pre_hook(hook, with_kwargs=True)
    with Watch() as watch:
        scores = made.run(rows)
    assert len(scores) == len(rows)
    assert len(batches) > 2, "the test is to need several batches"
    assert watch.sent == len(batches)
    assert watch.read == looks * len(batches)
    assert len(fetched) <= len(batches)
    # nothing but two numbers for each scored token comes back
    assert sum(np.prod(shape) for shape in fetched) == 2 * sum(len(row.targets) for row in rows)


def test_arrays_sent_together_arrive_as_they_were() -> None:
    arrays = [np.arange(6).reshape(2, 3), np.zeros(0, dtype=np.int64), np.array([7])]
    for array, tensor in zip(arrays, send(arrays, torch.device("cpu")), strict=True):
        assert tensor.dtype == torch.int64
        assert tensor.shape == array.shape
        assert tensor.tolist() == array.tolist()
