"""How many tokens go in a batch: what the memory budget allows, halved when it turns out too much."""

from __future__ import annotations

from features.errors import FailedError
from features.model import Model

_CPU_MB, _CUDA_SHARE = 512.0, 0.5
_CPU_TOKENS, _CUDA_TOKENS = 1024, 32768


class Budget:
    """Tokens per batch, and rows of logits at a time.

    Parameters
    ----------
    memory_mb : working memory of a batch beyond the weights; None is 512 MB on the CPU and half of what is free on CUDA
    tokens : tokens of a batch, instead of what the memory allows

    Attributes
    ----------
    tokens : tokens in a batch. More than the default gains no speed: the matrices are large enough.
    head_rows : positions whose logits are held at once
    """

    def __init__(self, model: Model, memory_mb: float | None = None, tokens: int | None = None) -> None:
        import torch

        config = getattr(model.config, "text_config", None) or model.config
        width = int(getattr(config, "hidden_size", 0) or getattr(config, "d_model", 0) or 768)
        inner = int(getattr(config, "intermediate_size", 0) or getattr(config, "d_ff", 0) or 4 * width)
        vocabulary = int(getattr(config, "vocab_size", 0) or 32000)
        cuda = model.device.type == "cuda"
        if memory_mb is None:
            free = torch.cuda.mem_get_info(model.device)[0] / 2**20 if cuda else 0.0
            memory_mb = _CUDA_SHARE * free if cuda else _CPU_MB
        room = memory_mb * 2**20
        size = torch.finfo(model.dtype).bits // 8
        # what is alive at once in a layer: about a dozen states of the model's width, three of its inner width
        per_token = size * (12 * width + 3 * inner)
        self.tokens = tokens or int(min(_CUDA_TOKENS if cuda else _CPU_TOKENS, max(16, 0.6 * room / per_token)))
        self.head_rows = int(max(1, min(self.tokens, 0.25 * room / (vocabulary * (size + 8)))))

    def halve(self, cause: BaseException, tried: int, name: str, *, smallest: bool) -> None:
        """Halve the budget below the `tried` tokens if `cause` is a lack of memory; raise the cause if it is not.

        Raises FailedError where the batch was the `smallest` possible.
        """
        if not out_of_memory(cause):
            raise cause
        if smallest:
            raise FailedError(
                f"not enough memory for a batch of {tried} tokens", where=name, remedy="use a larger machine or a smaller dtype"
            ) from cause
        import torch

        self.tokens = max(1, min(self.tokens, tried) // 2)
        self.head_rows = max(1, self.head_rows // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def out_of_memory(cause: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    import torch

    if isinstance(cause, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(cause).lower()
    return isinstance(cause, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
    )
