"""Small real checkpoints for the tests: random weights, a tokenizer really trained on the standard library's source.

Each builder writes a folder as `save_pretrained` would (safetensors) and returns its path. About 0.1 to 0.3 M parameters.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

SPECIALS = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", *[f"<extra_id_{i}>" for i in range(32)]]


@cache
def corpus() -> tuple[str, ...]:
    """Text that every installation has: docstrings and source of a few standard library modules."""
    root = Path(json.__file__).parents[1]
    names = ("textwrap", "string", "shlex", "heapq", "bisect", "statistics")
    return tuple((root / f"{name}.py").read_text(encoding="utf-8") for name in names)


@cache
def tokenizer(kind: str = "causal") -> Any:
    """A byte-level BPE of 1,000 entries with pad, bos, eos, mask and 32 sentinels.

    `kind`: causal, seq2seq (appends </s>) or masked (puts <s> and </s> around).
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=1000, special_tokens=SPECIALS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    if kind == "seq2seq":
        raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", raw.token_to_id("</s>"))])
    if kind == "masked":
        raw.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[(t, raw.token_to_id(t)) for t in ("<s>", "</s>")]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        additional_special_tokens=[t for t in SPECIALS if t.startswith("<extra_id")],
    )


def _save(model: Any, folder: Path, kind: str) -> Path:
    model.eval().save_pretrained(folder)
    tokenizer(kind).save_pretrained(folder)
    return folder


def llama(folder: Path, *, seed: int = 0, layers: int = 2, width: int = 64, positions: int = 512, **config: Any) -> Path:
    """A Llama-style causal checkpoint (grouped-query attention, rotary positions)."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    tok = tokenizer("causal")
    settings = LlamaConfig(
        vocab_size=len(tok),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        bos_token_id=tok.bos_token_id,
        eos_token_id=tok.eos_token_id,
        pad_token_id=tok.pad_token_id,
        initializer_range=0.2,
        **config,
    )
    return _save(LlamaForCausalLM(settings), folder, "causal")


def gpt2(folder: Path, *, seed: int = 0, positions: int = 256) -> Path:
    """A GPT-2 causal checkpoint (learned absolute positions, tied embeddings)."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    tok = tokenizer("causal")
    settings = GPT2Config(
        vocab_size=len(tok),
        n_embd=64,
        n_layer=2,
        n_head=4,
        n_positions=positions,
        bos_token_id=tok.bos_token_id,
        eos_token_id=tok.eos_token_id,
        initializer_range=0.2,
    )
    return _save(GPT2LMHeadModel(settings), folder, "causal")


def mistral(folder: Path, *, seed: int = 0, window: int = 32, positions: int = 512) -> Path:
    """A Mistral causal checkpoint whose attention slides over `window` tokens."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(seed)
    tok = tokenizer("causal")
    settings = MistralConfig(
        vocab_size=len(tok),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=window,
        max_position_embeddings=positions,
        bos_token_id=tok.bos_token_id,
        eos_token_id=tok.eos_token_id,
        initializer_range=0.2,
    )
    return _save(MistralForCausalLM(settings), folder, "causal")


def t5(folder: Path, *, seed: int = 0) -> Path:
    """A T5 seq2seq checkpoint (relative positions, sentinels)."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    tok = tokenizer("seq2seq")
    settings = T5Config(
        vocab_size=len(tok),
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        pad_token_id=tok.pad_token_id,
        eos_token_id=tok.eos_token_id,
        decoder_start_token_id=tok.pad_token_id,
        dropout_rate=0.0,
    )
    return _save(T5ForConditionalGeneration(settings), folder, "seq2seq")


def bert(folder: Path, *, seed: int = 0, positions: int = 256) -> Path:
    """A BERT masked checkpoint."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(seed)
    tok = tokenizer("masked")
    settings = BertConfig(
        vocab_size=len(tok),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=positions,
        pad_token_id=tok.pad_token_id,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
    )
    return _save(BertForMaskedLM(settings), folder, "masked")
