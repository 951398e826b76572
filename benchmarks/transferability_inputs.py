"""What the two sides of benchmarks/transferability.py score: texts with classes, and checkpoints made on the spot."""

from __future__ import annotations

import ast
import gzip
import importlib
import json
from pathlib import Path

PACKAGES = ("asyncio", "email", "multiprocessing", "unittest")
ZOO = Path(__file__).parents[1] / "training" / "free_zoo"
DECODERS = ("01-sc-public", "02-prefix_lm-code", "05-clm-public")


def texts(count: int) -> tuple[list[str], list[str]]:
    """Functions of packages of the standard library, cut to 400 characters, and which package each is from, mixed; each text
    once, because equal ones tie as neighbours."""
    found: list[tuple[str, str]] = []
    for package in PACKAGES:
        folder = Path(importlib.import_module(package).__file__ or "").parent
        functions = []
        for path in sorted(folder.rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
            functions += [(ast.get_source_segment(source, node) or "")[:400] for node in nodes]
        new = [text for text in dict.fromkeys(functions) if text not in {text for text, _ in found}]
        found += [(text, package) for text in new[: count // len(PACKAGES)]]
    order = sorted(range(len(found)), key=lambda i: (i * 7919) % len(found))
    return [found[i][0] for i in order], [found[i][1] for i in order]


def read_texts(path: Path, count: int) -> tuple[list[str], list[str]]:
    """The first rows of JSON lines (or .gz) with text and label, cut to 400 characters, each text once."""
    opened = gzip.open if path.suffix == ".gz" else open
    found: dict[str, str] = {}
    with opened(path, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            found.setdefault(row["text"][:400], str(row["label"]))
            if len(found) == count:
                break
    return list(found), list(found.values())


def checkpoints(folder: Path, corpus: list[str]) -> dict[str, str]:
    """Two BERT encoders, a GPT-2 without a padding token, three shipped decoders in float32, a folder with cut-off weights."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        BertConfig,
        BertForMaskedLM,
        GPT2Config,
        GPT2LMHeadModel,
        PreTrainedTokenizerFast,
    )

    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    raw.train_from_iterator(corpus, trainers.WordPieceTrainer(vocab_size=4000, special_tokens=specials, show_progress=False))
    raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        model_max_length=512,
    )  # fmt: skip
    made = {}
    for seed in (0, 1):
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=192, num_hidden_layers=8, num_attention_heads=4, intermediate_size=768
        )
        made[f"bert-{seed}"] = str(folder / f"bert-{seed}")
        BertForMaskedLM(config).save_pretrained(made[f"bert-{seed}"])
        tokenizer.save_pretrained(made[f"bert-{seed}"])
    raw.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    plain = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="[UNK]", eos_token="[SEP]", bos_token="[CLS]", model_max_length=512
    )
    torch.manual_seed(2)
    made["gpt2"] = str(folder / "gpt2")
    small = GPT2Config(vocab_size=len(plain), n_embd=192, n_layer=4, n_head=4, n_positions=512, bos_token_id=2, eos_token_id=3)
    GPT2LMHeadModel(small).save_pretrained(made["gpt2"])
    plain.save_pretrained(made["gpt2"])
    for name in DECODERS:  # the peer computes in whatever dtype a checkpoint is kept in
        made[name] = str(folder / name)
        AutoModelForCausalLM.from_pretrained(ZOO / name, dtype=torch.float32).save_pretrained(made[name])
        AutoTokenizer.from_pretrained(ZOO / name).save_pretrained(made[name])
    made["broken"] = str(folder / "broken")
    tokenizer.save_pretrained(made["broken"])
    source = Path(made["bert-0"])
    (folder / "broken" / "config.json").write_bytes((source / "config.json").read_bytes())
    weights = (source / "model.safetensors").read_bytes()
    (folder / "broken" / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    return made
