"""The workloads of benchmarks/scoring.py: a model made on the spot, and requests in the standard library's words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

WORKLOADS = {
    "few-shot": "5-shot, 4 choices, 100 questions",
    "templates": "0-shot, 6 templates x 2 verbalisers, 100 texts",
    "rolling": "rolling perplexity, 60 documents of 20 to 2,000 tokens",
    "one-token": "0-shot, 4 choices of one token, 300 questions",
}
TEMPLATES = ("{} This is", "{} It was", "{} Overall, it is", "{} In short,", "{} I find it", "{} The text above is")
WINDOW = 512


def library() -> list[str]:
    """Source of standard library modules, one string each."""
    root = Path(json.__file__).parents[1]
    return [path.read_text(encoding="utf-8", errors="ignore") for path in sorted(root.glob("*.py"))[:120]]


def make_model(folder: Path) -> None:
    """Write a Llama of about 30M parameters with random weights, and a byte-level BPE of 8,192 entries, to `folder`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        library(),
        trainers.BpeTrainer(vocab_size=8192, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=WINDOW,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def requests_of(workload: str, tokenizer: Any) -> list[Any]:
    """The workload's requests: (context, continuation) pairs, or texts for rolling. The same on every call."""
    rng = np.random.default_rng(0)
    # docstring-like lines: words and spaces, 8 to 20 words
    lines = [line.strip() for text in library() for line in text.splitlines()]
    sentences = sorted({line for line in lines if re.fullmatch(r"[A-Za-z][A-Za-z ,.'()-]{40,110}", line)})
    rng.shuffle(sentences)
    take = iter(sentences)

    def question() -> tuple[str, list[str]]:
        choices = [" " + " ".join(next(take).split()[:3]) for _ in range(4)]
        return f"Question: {next(take)} {next(take)}\nAnswer:", choices

    if workload == "few-shot":
        shots = ""
        for _ in range(5):
            text, choices = question()
            shots += f"{text} {next(take)} {choices[0].strip()}\n\n"
        asked = [question() for _ in range(100)]
        return [(shots + text, choice) for text, choices in asked for choice in choices]
    if workload == "templates":
        texts = [f"{next(take)} {next(take)}" for _ in range(100)]
        return [
            (template.format(text), f" {word}") for text in texts for template in TEMPLATES for word in ("positive", "negative")
        ]
    if workload == "one-token":
        asked = [question() for _ in range(300)]
        return [(text, letter) for text, _ in asked for letter in (" a", " b", " c", " d")]
    whole = "\n".join(library())
    ids = tokenizer(whole[:600_000], add_special_tokens=False, verbose=False)["input_ids"]
    lengths = np.exp(rng.uniform(np.log(20), np.log(2000), 60)).astype(int)
    starts = rng.integers(0, len(ids) - 2000, 60)
    return [tokenizer.decode(ids[start : start + length]) for start, length in zip(starts, lengths, strict=True)]


def token_pairs(workload: str, requests: list[Any], model: Any) -> list[list[tuple[list[int], list[int]]]]:
    """(context ids, target ids) of each request: one pair, or the windows of a document."""
    from features.scoring.encoding import Encoder, rolling_windows

    encoder = Encoder(model)
    if workload == "rolling":
        return [rolling_windows(ids, [encoder.prefix_id], model.max_length, None) for ids in encoder.encode(requests)]
    return [[pair] for pair in encoder.pairs(requests)]


def distinct_tokens(groups: list[list[tuple[list[int], list[int]]]]) -> tuple[int, int]:
    """(tokens of all requests, distinct ones): what the naive way computes and what must be computed."""
    from features.scoring.tree import build

    rows = [np.asarray((context + targets)[:-1], dtype=np.int64) for group in groups for context, targets in group]
    unique = list({row.tobytes(): row for row in rows}.values())
    return sum(map(len, rows)), len(build(unique, [np.zeros(0, dtype=np.int64)] * len(unique)))
