"""GGUF checkpoints, converted once: transformers needs a quarter of a minute for a small one, and a second for the result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from features.errors import CheckpointError
from features.writing import whole_folder


def converted(file: Path, digest: str, cache: Path) -> Path:
    """The folder under `cache` that holds `file` as safetensors in float32 with its tokenizer; made on the first call.

    The folder is named by the digest of the file, written aside and moved into place: a killed conversion leaves nothing
    that could be taken for a finished one. Raises CheckpointError where transformers cannot read the file.
    """
    target = cache / digest.removeprefix("sha256:")[:32]
    if (target / "config.json").is_file():
        return target
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with whole_folder(target) as draft, _read_once():
        try:
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            model = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
            )
        except Exception as cause:
            line = (str(cause).strip().splitlines() or [""])[0]
            raise CheckpointError(f"cannot be read as GGUF ({type(cause).__name__}: {line})", where=str(file)) from cause
        model.hf_quantizer = None
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
    return target


@contextmanager
def _read_once() -> Iterator[None]:
    """For its time, a file is parsed once and a table of tensor names built once: transformers asks for the first three times
    (configuration, tokenizer, weights) and for the second once a module.
    """
    import gguf

    found = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    try:
        for name, made in found.items():
            setattr(gguf, name, lru_cache(maxsize=None)(made))
        yield
    finally:
        for name, made in found.items():
            setattr(gguf, name, made)
