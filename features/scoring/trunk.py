"""A language model taken in two: the trunk that computes hidden states, and the head that turns chosen ones into logits.

The head is the module's own forward, run with the trunk's answer put in its mouth: whatever it does to the states or to the
logits (transforms, scaling, soft-capping) is done, and only at the positions that are scored.
"""

from __future__ import annotations

from typing import Any


class Trunk:
    """Attributes: `whole` is True where the module cannot be taken in two (its base model is itself)."""

    def __init__(self, module: Any) -> None:
        # a LoRA adapter stands inside the layers of the model that it wraps
        self.module = module.get_base_model() if hasattr(module, "get_base_model") else module
        self.base = self.module.base_model
        self.whole = self.base is self.module
        self._output: Any = None

    def run(self, **inputs: Any) -> Any:
        """The base model's whole answer."""
        output = self.base(**inputs)
        self._output = type(output)
        return output

    def states(self, **inputs: Any) -> Any:
        """Last hidden states, (B, T, W)."""
        return self.run(**inputs)[0]

    def logits(self, states: Any) -> Any:
        """(S, V) logits of (S, W) hidden states, as the module itself would compute them."""
        import torch

        if self._output is None:
            raise RuntimeError("states() comes before logits()")

        def answer(*_: Any, **__: Any) -> Any:
            return self._output(last_hidden_state=states[None])

        dummy = torch.zeros(1, states.shape[0], dtype=torch.long, device=states.device)
        self.base.forward = answer
        try:
            return self.module(input_ids=dummy).logits[0]
        finally:
            del self.base.forward
