"""Between host and device: what a batch needs goes over in one copy, its scores come back in one, and the host goes on.

On the CPU both are views and cost nothing. On an accelerator the host plans and launches the next batch while the device
still computes: pinned memory both ways, and a wait only when the scores are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def send(arrays: Sequence[np.ndarray], device: Any) -> list[Any]:
    """The int64 arrays as tensors on `device`, of the same shapes: one copy for all of them."""
    import torch

    flat = torch.from_numpy(np.concatenate([array.reshape(-1) for array in arrays]))
    if device.type == "cuda":
        flat = flat.pin_memory()
    flat = flat.to(device, non_blocking=True)
    parts = flat.split([array.size for array in arrays])
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


class Arriving:
    """A tensor on its way to the host: the copy begins at once, `numpy` waits for it."""

    def __init__(self, tensor: Any) -> None:
        import torch

        self._host = tensor.to("cpu", non_blocking=True)
        self._event = None
        if tensor.device.type == "cuda":
            self._event = torch.cuda.Event()
            self._event.record()
        elif tensor.device.type != "cpu":
            self._host = tensor.cpu()  # other devices know no event to wait for

    def numpy(self) -> np.ndarray:
        """The values, once they are here."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.numpy()
