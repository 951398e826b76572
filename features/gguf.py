"""GGUF checkpoints, converted once: transformers needs half a minute for a GGUF's tokenizer, and a second for the result."""

from __future__ import annotations

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

    with whole_folder(target) as draft:
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
