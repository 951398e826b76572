"""A checkpoint made ready to compute: causal, seq2seq or masked, on a device, in a dtype, with its tokenizer.

Loading is safe by default: safetensors or GGUF only, no code from the checkpoint. Whatever goes wrong with one checkpoint is
a CheckpointError that names it, so that a zoo goes on without it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from features.errors import CheckpointError
from features.store import default_path
from features.weights import prefetch, resolve, weight_files, weights_digest

__all__ = ["Kind", "Model", "load", "n_parameters", "prefetch", "weights_digest"]

Kind = Literal["causal", "seq2seq", "masked"]
_AUTO_CLASSES = {"causal": "AutoModelForCausalLM", "seq2seq": "AutoModelForSeq2SeqLM", "masked": "AutoModelForMaskedLM"}
_DEFAULT_MAX_LENGTH = 2048
_UNSET_LENGTH = int(1e18)  # tokenizers without a limit carry 1e30


@dataclass
class Model:
    """A loaded checkpoint.

    Attributes
    ----------
    name : what to call it in messages: the folder's name or the Hub id
    path : the local folder it was read from
    digest : ``sha256:...`` of its weights, configuration and tokenizer
    kind : "causal", "seq2seq" or "masked"
    module : the transformers module, in eval mode, on `device` in `dtype`
    tokenizer, config : transformers' tokenizer and configuration
    max_length : tokens that the model can see at once (as lm-evaluation-harness resolves it)
    headless : True where the checkpoint carries no output layer: good for representations, not for scores
    """

    name: str
    path: Path
    digest: str
    kind: Kind
    module: Any
    tokenizer: Any
    config: Any
    device: Any
    dtype: Any
    max_length: int
    headless: bool = False


def load(
    path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    gguf_file: str | None = None,
    device: str = "auto",
    dtype: Any = "auto",
    kind: Kind | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    cache: str | os.PathLike[str] | None = None,
    name: str | None = None,
) -> Model:
    """Load a checkpoint from a folder of save_pretrained, a GGUF file, or a Hub id.

    Parameters
    ----------
    device : "auto" is CUDA where there is one, else the CPU
    dtype : "auto" is float32 on the CPU and bfloat16 on CUDA; or a torch dtype or its name
    kind : "causal", "seq2seq" or "masked"; None reads it from the configuration
    trust_remote_code, allow_pickle : off; each runs code that came with the checkpoint
    cache : where a GGUF checkpoint is kept once it is converted; default ``converted`` beside the MLflow store

    Raises CheckpointError, naming path and cause, for whatever is wrong with the checkpoint.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer

    folder = resolve(path, revision, gguf_file)
    if gguf_file is None and Path(path).suffix == ".gguf":
        gguf_file = Path(path).name
    weight_files(folder, gguf_file, allow_pickle=allow_pickle)
    digest = weights_digest(folder, gguf_file, allow_pickle=allow_pickle)
    source = folder
    if gguf_file is not None:
        from features.gguf import converted

        kept = Path(cache) if cache is not None else default_path().with_name("converted")
        with _quiet():
            source = converted(folder / gguf_file, digest, kept)
    elif not (folder / "config.json").is_file():
        raise CheckpointError(
            "no config.json beside the weights", where=str(folder), remedy="give the folder that save_pretrained wrote"
        )
    chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    resolved = _dtype(dtype, chosen)
    with _quiet(), _blame(folder):
        config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
        what = kind or kind_of(config, where=str(folder))
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
        module, headless = _weights(source, folder, what, resolved, trust_remote_code, allow_pickle)
        module = module.to(chosen).eval()
    return Model(
        name=name or (str(path) if not Path(path).exists() else folder.name),
        path=folder,
        digest=digest,
        kind=what,
        module=module,
        tokenizer=tokenizer,
        config=module.config,
        device=chosen,
        dtype=resolved,
        max_length=max_length_of(module.config, tokenizer),
        headless=headless,
    )


def n_parameters(model: Model) -> int:
    """Parameters of the model, tied ones counted once."""
    return sum(parameter.numel() for parameter in model.module.parameters())


def kind_of(config: Any, *, where: str = "") -> Kind:
    """causal, seq2seq or masked, by the configuration's architecture, else by its model type."""
    from transformers.models.auto import modeling_auto as auto

    architectures = list(getattr(config, "architectures", None) or [])
    if getattr(config, "is_encoder_decoder", False):
        return "seq2seq"
    for architecture in architectures:
        if architecture.endswith(("ForCausalLM", "LMHeadModel")):
            return "causal"
        if architecture.endswith("ForMaskedLM"):
            return "masked"
    model_type = getattr(config, "model_type", "")
    masked, causal = model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if masked and not getattr(config, "is_decoder", False):
        return "masked"
    if causal:
        return "causal"
    found = ", ".join(architectures) or model_type or "nothing"
    raise CheckpointError(
        f"not a language model ({found})", where=where, remedy="give a causal, seq2seq or masked language model"
    )


def max_length_of(config: Any, tokenizer: Any) -> int:
    """The window in tokens: text_config, config, the tokenizer's limit, else 2048 (lm-evaluation-harness's order)."""
    text = getattr(config, "text_config", None) or config
    for attribute in ("n_positions", "max_position_embeddings", "n_ctx"):
        value = getattr(text, attribute, None)
        if value is not None:
            # RoBERTa's table begins after the padding index: two rows of it are not positions
            offset = 2 if getattr(config, "model_type", "") in ("roberta", "xlm-roberta", "camembert", "mpnet") else 0
            return int(value) - offset
    limit = getattr(tokenizer, "model_max_length", None)
    return int(limit) if limit is not None and limit < _UNSET_LENGTH else _DEFAULT_MAX_LENGTH


def _weights(source: Path, folder: Path, kind: Kind, dtype: Any, trust: bool, allow_pickle: bool) -> tuple[Any, bool]:
    """The module, and whether its output layer was missing. Any other missing weight is an error, never a random one."""
    import transformers

    module, info = getattr(transformers, _AUTO_CLASSES[kind]).from_pretrained(
        source,
        dtype=dtype,
        trust_remote_code=trust,
        use_safetensors=None if allow_pickle else True,
        output_loading_info=True,
    )
    missing = sorted(info["missing_keys"])
    body = f"{module.base_model_prefix}."
    in_body = [key for key in missing if key.startswith(body)] if module.base_model is not module else missing
    if in_body:
        shown = ", ".join(in_body[:3]) + (f" and {len(in_body) - 3} more" if len(in_body) > 3 else "")
        raise CheckpointError(
            f"weights are missing: {shown}", where=str(folder), remedy="the configuration and the weights do not belong together"
        )
    return module, bool(missing)


def _dtype(dtype: Any, device: Any) -> Any:
    import torch

    if dtype == "auto" or dtype is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise CheckpointError(f"no such dtype: {dtype!r}", where="dtype", remedy="use float32, bfloat16 or float16")
    return found


@contextmanager
def _blame(folder: Path) -> Iterator[None]:
    """Whatever transformers raises while it reads a checkpoint is that checkpoint's error."""
    try:
        yield
    except CheckpointError:
        raise
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except Exception as cause:
        line = (str(cause).strip().splitlines() or [""])[0]
        remedy = "allow code from the checkpoint by name, if you trust it" if "trust_remote_code" in str(cause) else ""
        raise CheckpointError(f"cannot be loaded ({type(cause).__name__}: {line})", where=str(folder), remedy=remedy) from cause


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and loading reports: what matters of them is raised."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(cast(int, verbosity))
        if bars:
            logging.enable_progress_bar()
