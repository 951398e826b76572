"""Linear layers by oneDNN, where the CPU's default matrix product is the slower one.

PyTorch multiplies float32 matrices on the CPU through MKL, which keeps its AVX-512 kernels to Intel's processors; oneDNN, which
PyTorch carries as well, has them for any. Both compute in float32; their results differ by rounding.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from features.model import Model

_SMALL = 2**21  # multiplications below which a call costs more than it saves


def faster(model: Model) -> AbstractContextManager[Any]:
    """Within it, the linear layers that this thread runs without gradients take the faster library. Changes nothing on other
    devices, in other dtypes, on other processors, or where `torch.backends.mkldnn` is switched off."""
    import torch

    wanted = model.device.type == "cpu" and model.dtype == torch.float32 and torch.backends.mkldnn.enabled and _slow_default()
    return _mode() if wanted else nullcontext()


@cache
def _slow_default() -> bool:
    """Whether this is a processor with AVX-512 that is not Intel's, and PyTorch has both libraries."""
    import torch

    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    if not (torch.backends.mkl.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            vendor = next((line for line in lines if line.startswith("vendor_id")), "")
    except OSError:
        return False
    return bool(vendor) and "GenuineIntel" not in vendor


def _mode() -> AbstractContextManager[Any]:
    import torch
    from torch.overrides import TorchFunctionMode

    linear, addmm, product = torch.nn.functional.linear, torch.addmm, torch.ops.mkldnn._linear_pointwise

    def worth(inputs: Any, weight: Any, bias: Any) -> bool:
        parts = [part for part in (inputs, weight, bias) if part is not None]
        plain = all(part.dtype == torch.float32 and part.layout == torch.strided for part in parts)
        return plain and inputs.numel() * weight.numel() >= _SMALL * inputs.shape[-1]

    class OneDnn(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if not kwargs and not torch.is_grad_enabled():
                if function is linear:
                    inputs, weight, bias = (*args, None)[:3]
                    if worth(inputs, weight, bias):
                        return product(inputs, weight, bias, "none", [], "")
                elif function is addmm:  # bias + inputs @ weight: GPT-2's linear layers
                    bias, inputs, weight = args
                    if bias.dim() == 1 and worth(inputs, weight, bias):
                        return product(inputs, weight.t(), bias, "none", [], "")
            return function(*args, **(kwargs or {}))

    return OneDnn()
