"""Architectures beyond the session's checkpoints: packed where that gives the same scores, padded where not, always right."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import checkpoints
from features.model import Model
from features.scoring import Scorer

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "original_max_position_embeddings": 24,
    "short_factor": [1.0] * 4,
    "long_factor": [1.5, 2.0, 3.0, 4.0],
}
MAMBA = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "initializer_range": 0.3}
BLOOM = {"vocab_size": 300, "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
# transformers' name of the model -> (its settings, how it should be computed)
ARCHITECTURES: dict[str, tuple[dict[str, Any], str]] = {
    "Qwen2": (SIZES, "packed"),
    "Qwen3": (SIZES | {"head_dim": 8}, "packed"),
    "Olmo2": (SIZES, "packed"),
    "GPTNeoX": (SIZES, "packed"),
    "OPT": (SIZES | {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0}, "packed"),
    "Mixtral": (SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2}, "packed"),
    "Gemma2": (
        SIZES | {"head_dim": 8, "sliding_window": 16, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
        "packed",
    ),
    "Gemma3": (SIZES | {"head_dim": 8, "sliding_window": 16}, "packed"),
    "Cohere": (SIZES | {"logit_scale": 0.25}, "packed"),
    "Granite": (SIZES | {"logits_scaling": 4.0}, "packed"),
    "Phi3": (SIZES | {"rope_parameters": LONGROPE, "original_max_position_embeddings": 24}, "packed"),
    "GptOss": (SIZES | {"head_dim": 8, "sliding_window": 16, "num_local_experts": 4, "num_experts_per_tok": 2}, "padded"),
    "Bloom": (BLOOM, "padded"),
    "Mamba": (MAMBA, "padded"),
}


def made(name: str, settings: dict[str, Any]) -> Model:
    import transformers

    suffix = "_text" if name == "Gemma3" else ""
    config_class = getattr(transformers, f"{name}TextConfig" if suffix else f"{name}Config")
    torch.manual_seed(0)
    config = config_class(**settings)
    module = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    device = torch.device("cpu")
    return Model(name, Path(name), "sha256:0", "causal", module, checkpoints.tokenizer(), config, device, torch.float32, 128)


def naive(model: Model, context: list[int], targets: list[int]) -> np.ndarray:
    with torch.inference_mode():
        table = model.module(torch.tensor([context + targets[:-1]]), use_cache=False).logits[0].float().log_softmax(-1)
    rows = torch.arange(len(context) - 1, len(context) + len(targets) - 1)
    return table[rows, torch.tensor(targets)].numpy()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture_scores_as_its_own_plain_forward(name: str, caplog: pytest.LogCaptureFixture) -> None:
    settings, expected = ARCHITECTURES[name]
    model = made(name, settings)
    numbers = np.random.default_rng(1).integers(3, 300, 200)
    trunk = numbers[:20].tolist()
    requests = [(trunk, numbers[20 + 3 * i : 23 + 3 * i].tolist()) for i in range(6)]
    requests += [(trunk + numbers[60:75].tolist(), numbers[75:80].tolist()), (numbers[80:84].tolist(), numbers[84:120].tolist())]
    scorer = Scorer(model, token_budget=40)
    with caplog.at_level(logging.WARNING, logger="foretune.scoring"):
        for _ in range(2):
            for (context, targets), found in zip(requests, scorer.token_logprobs(requests), strict=True):
                assert found == pytest.approx(naive(model, context, targets), abs=1e-4), len(context)
    assert scorer.engine.name == expected
    said = [record for record in caplog.records if "padded instead of packed" in record.getMessage()]
    assert len(said) == (expected == "padded")
