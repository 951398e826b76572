"""A language model taken in two: the trunk that computes hidden states, and the head that turns chosen ones into logits.

The head is the module's own forward, run with the trunk's answer put in its mouth: whatever it does to the states or to the
logits (transforms, scaling, soft-capping) is done, and only at the positions that are scored.
"""

from __future__ import annotations

from typing import Any

from features.errors import FailedError


class Trunk:
    """A causal or masked module in two.

    Attributes: `module`, the transformers module (of a LoRA adapter, the one that it stands in); `whole` is True where it
    cannot be taken in two, because its forward goes through neither its base model nor its decoder.
    """

    def __init__(self, module: Any) -> None:
        self.module = module.get_base_model() if hasattr(module, "get_base_model") else module
        self.base, self._output = self._find()
        self.whole = self.base is None

    def run(self, **inputs: Any) -> Any:
        """The trunk's whole answer; the module's own where it is whole."""
        return (self.module if self.base is None else self.base)(**inputs)

    def states(self, **inputs: Any) -> Any:
        """Last hidden states, (B, T, W)."""
        return self.base(**inputs)[0]

    def logits(self, states: Any) -> Any:
        """(S, V) logits of (S, W) hidden states, as the module itself would compute them."""
        import torch

        asked = []

        def answer(*_: Any, **__: Any) -> Any:
            asked.append(True)
            return self._output(last_hidden_state=states[None])

        dummy = torch.zeros(1, states.shape[0], dtype=torch.long, device=states.device)
        self.base.forward = answer
        try:
            logits = self.module(input_ids=dummy).logits[0]
        finally:
            del self.base.forward
        if not asked:
            raise FailedError("its head does not ask its trunk", where=type(self.module).__name__)
        return logits

    def _find(self) -> tuple[Any, Any]:
        """The submodule that the module's forward asks for hidden states, and the type of its answer; (None, None) if none.

        Some architectures (OPT) go around their base model, straight to its decoder: a pass over two tokens shows.
        """
        import torch

        answers: dict[int, Any] = {}
        decoder = self.module.get_decoder() if hasattr(self.module, "get_decoder") else None
        candidates = [part for part in (self.module.base_model, decoder) if part is not None and part is not self.module]
        hooks = [
            part.register_forward_hook(lambda asked, _, answer: answers.__setitem__(id(asked), answer)) for part in candidates
        ]
        device = self.module.get_input_embeddings().weight.device
        try:
            with torch.inference_mode():
                self.module(input_ids=torch.zeros(1, 2, dtype=torch.long, device=device))
        finally:
            for hook in hooks:
                hook.remove()
        for part in candidates:
            if hasattr(answers.get(id(part)), "last_hidden_state"):
                return part, type(answers[id(part)])
        return None, None
