"""A checkpoint loads as what it is, has its content as its identity, and says what is wrong with it when it does not load."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from features import weights
from features.errors import CheckpointError
from features.model import kind_of, load, n_parameters, prefetch, weights_digest


@pytest.fixture
def copy(models: Path, tmp_path: Path) -> Path:
    """A copy of the llama checkpoint that a test may spoil."""
    return Path(shutil.copytree(models / "llama", tmp_path / "copy"))


@pytest.mark.parametrize(
    ("name", "kind", "window"),
    [
        ("llama", "causal", 512),
        ("gpt2", "causal", 256),
        ("mistral", "causal", 512),
        ("t5", "seq2seq", 2048),
        ("bert", "masked", 256),
    ],
)
def test_kind_and_window_come_from_the_configuration(models: Path, name: str, kind: str, window: int) -> None:
    model = load(models / name, device="cpu")
    assert (model.kind, model.max_length, model.name, model.headless) == (kind, window, name, False)
    assert model.dtype == torch.float32
    assert not model.module.training
    assert n_parameters(model) == sum(p.numel() for p in model.module.parameters())


def test_dtype_is_the_one_asked_for(models: Path) -> None:
    model = load(models / "llama", device="cpu", dtype="bfloat16")
    assert model.module.get_input_embeddings().weight.dtype == torch.bfloat16
    with pytest.raises(CheckpointError, match="no such dtype: 'int8'"):
        load(models / "llama", device="cpu", dtype="int8")


def test_digest_is_the_content_and_not_the_place(copy: Path, models: Path) -> None:
    assert weights_digest(copy) == weights_digest(models / "llama") == load(copy, device="cpu").digest
    (copy / "README.md").write_text("words about it")
    assert weights_digest(copy) == weights_digest(models / "llama")
    assert len({weights_digest(models / name) for name in ("llama", "gpt2", "mistral", "t5", "bert")}) == 5


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_any_byte_of_weights_configuration_or_tokenizer_changes_the_digest(copy: Path, file: str) -> None:
    before = weights_digest(copy)
    content = bytearray((copy / file).read_bytes())
    content[-2] ^= 1
    (copy / file).write_bytes(content)
    assert weights_digest(copy) != before


def test_remembered_hash_is_forgotten_when_the_file_changes_in_place(copy: Path) -> None:
    file = copy / "model.safetensors"
    past = time.time() - 1000
    os.utime(file, (past, past))
    before = weights_digest(copy)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, (past, past))  # the same size and the same time of modification
    assert weights_digest(copy) != before


def test_prefetch_reads_the_next_checkpoint_and_is_silent_about_a_broken_one(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr(weights, "file_hash", lambda file: read.append(file.name) or "0")
    prefetch(copy).join(timeout=30)
    assert "model.safetensors" in read
    prefetch(tmp_path / "nothing" / "here" / "at-all").join(timeout=30)


def test_missing_folder_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere: no such folder; give a folder of save_pretrained"):
        load(tmp_path / "nowhere")


def test_file_in_place_of_a_folder_is_said(models: Path) -> None:
    with pytest.raises(CheckpointError, match="a file where a folder is needed"):
        load(models / "llama" / "config.json")


def test_name_that_the_hub_does_not_give_is_the_checkpoints_error() -> None:
    with pytest.raises(CheckpointError, match="no-one/nothing-at-all: neither a folder here nor to be had from the Hub"):
        load("no-one/nothing-at-all")


def test_truncated_weights_are_named_with_their_size(copy: Path) -> None:
    file = copy / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=rf"model\.safetensors: truncated: {len(whole) // 2} bytes of {len(whole)}"):
        load(copy)


@pytest.mark.parametrize(
    "content", [b"", b"short", b"\xff" * 400, struct.pack("<Q", 8) + b"not json", struct.pack("<Q", 2) + b"[]"]
)
def test_damaged_weights_are_named(copy: Path, content: bytes) -> None:
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a safetensors file, or its header is damaged"):
        load(copy)


def _sharded(folder: Path, source: Path) -> Path:
    """The index of `source`, saved again in shards into `folder`."""
    load(source, device="cpu").module.save_pretrained(folder, max_shard_size="100KB")
    return folder / "model.safetensors.index.json"


def test_missing_shard_is_named(copy: Path, models: Path) -> None:
    (copy / "model.safetensors").unlink()
    _sharded(copy, models / "llama")
    first = min(copy.glob("model-00001-of-*.safetensors"))
    first.unlink()
    with pytest.raises(CheckpointError, match=rf"{re.escape(first.name)}: a weight file is missing"):
        load(copy)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "null",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": 1, "b": "c"}}',
        '{"weight_map": {"a": ["b"]}}',
        "[" * 100_000,
        "\N{LATIN SMALL LETTER E WITH ACUTE}".encode("latin-1"),
    ],
)
@pytest.mark.parametrize("index", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_damage_to_the_index_is_the_checkpoints_error_with_a_remedy(copy: Path, index: str, content: str | bytes) -> None:
    (copy / "model.safetensors").unlink()
    (copy / index).write_bytes(content.encode() if isinstance(content, str) else content)
    message = rf"{re.escape(index)}: the index of the weights cannot be read \(.*; fetch or save the checkpoint again"
    with pytest.raises(CheckpointError, match=message):
        weights_digest(copy, allow_pickle=True)


def test_an_index_that_names_nothing_or_what_cannot_be_is_the_checkpoints_error(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    index = copy / "model.safetensors.index.json"
    for content, message in (
        ({}, "names no file; fetch or save the checkpoint again"),
        ({"a": ""}, "a weight file is missing"),
        ({"a": "x" * 5000}, "cannot be read"),
        ({"a": "\0"}, "a weight file is missing"),
    ):
        index.write_text(json.dumps({"weight_map": content}))
        with pytest.raises(CheckpointError, match=message):
            weights_digest(copy)


def test_the_digest_is_of_the_very_weights_that_are_loaded(copy: Path, models: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    before = weights_digest(copy)
    loaded = load(copy, device="cpu").module.get_input_embeddings().weight
    _sharded(tmp_path / "other", models / "mistral")
    for file in (tmp_path / "other").glob("model*"):  # what another save left behind
        shutil.copy(file, copy)
    assert weights_digest(copy) == load(copy, device="cpu").digest == before
    assert torch.equal(load(copy, device="cpu").module.get_input_embeddings().weight, loaded)
    for file in copy.glob("model-*.safetensors"):  # an index without its shards, beside a whole file, is nothing
        file.unlink()
    assert load(copy, device="cpu").digest == before
    tensors = load_file(copy / "model.safetensors")
    tensors["model.embed_tokens.weight"] += 1
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert weights_digest(copy) != before


def test_shards_have_the_digest_of_their_content_and_score_as_the_whole(copy: Path, models: Path) -> None:
    (copy / "model.safetensors").unlink()
    _sharded(copy, models / "llama")
    files = weights.weight_files(copy)
    assert len(files) > 1
    before = weights_digest(copy)
    (copy / "stray.safetensors").write_bytes(b"not the checkpoint's")
    assert (weights.weight_files(copy), weights_digest(copy)) == (files, before)
    whole = load(models / "llama", device="cpu").module.state_dict()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in load(copy, device="cpu").module.state_dict().items())


def _with_code(folder: Path, file: str) -> Path:
    """Give a checkpoint's configuration, or its tokenizer's, a class of its own."""
    content = json.loads((folder / file).read_text())
    content["auto_map"] = {"AutoModelForCausalLM": "own.Own"}
    (folder / file).write_text(json.dumps(content))
    (folder / "own.py").write_text("from transformers import LlamaForCausalLM\n\n\nclass Own(LlamaForCausalLM):\n    pass\n")
    return folder


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_that_a_checkpoint_brings_is_part_of_its_digest(copy: Path, file: str) -> None:
    whole = weights_digest(_with_code(copy, file))
    with (copy / "own.py").open("a") as code:
        code.write("# edited\n")
    edited = weights_digest(copy)
    (copy / "part.py").write_text("")
    assert len({whole, edited, weights_digest(copy)}) == 3


def test_code_that_no_auto_map_names_leaves_the_digest_as_it_is(copy: Path, models: Path) -> None:
    (copy / "own.py").write_text("")
    assert weights_digest(copy) == weights_digest(models / "llama")


def test_tensor_missing_from_the_weights_is_never_made_up(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"weights are missing: model\.layers\.1\.mlp\.up_proj\.weight"):
        load(copy)


def test_encoder_without_a_head_loads_as_headless(models: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, BertModel

    folder = tmp_path / "encoder"
    BertModel.from_pretrained(models / "bert").save_pretrained(folder)
    AutoTokenizer.from_pretrained(models / "bert").save_pretrained(folder)
    model = load(folder, device="cpu")
    assert (model.kind, model.headless) == ("masked", True)


def _only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _only_gguf(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "small.gguf")


def _adapter(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")


def _other_name(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "weights.safetensors")


def _run(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "checkpoint-500").mkdir()


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_only_pickle, r"only pickled weights \(pytorch_model\.bin\); convert them to safetensors, or allow pickle"),
        (_only_gguf, r"GGUF weights \(small\.gguf\); name the file: gguf_file: small\.gguf"),
        (_adapter, r"an adapter, not a checkpoint; merge it into its base model"),
        (_other_name, r"neither model\.safetensors nor model\.safetensors\.index\.json, but weights\.safetensors; name the file"),
        (_run, r"a folder of training checkpoints; name one of them, e\.g\. checkpoint-500"),
        (_empty, r"no weights \(\*\.safetensors\); give the folder that save_pretrained wrote"),
    ],
)
def test_folder_of_another_kind_is_told_what_it_is(copy: Path, spoil: object, message: str) -> None:
    spoil(copy)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=message):
        load(copy)


def test_folder_without_a_configuration_is_told(copy: Path) -> None:
    (copy / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no config\.json beside the weights"):
        load(copy)


def test_pickled_weights_load_when_they_are_allowed_by_name(copy: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    model = load(copy, device="cpu", allow_pickle=True)
    assert model.kind == "causal"
    for stray in ("pytorch_model-00001-of-00002.bin", "optimizer.safetensors"):  # not what transformers loads
        (copy / stray).write_bytes(b"stray")
    (copy / "pytorch_model.bin.index.json").write_text("[]")
    assert load(copy, device="cpu", allow_pickle=True).digest == model.digest


def test_model_that_is_no_language_model_is_told(copy: Path) -> None:
    from transformers import ViTConfig

    with pytest.raises(CheckpointError, match=r"not a language model \(vit\)"):
        kind_of(ViTConfig(), where="somewhere")


def test_gguf_checkpoint_scores_as_the_weights_it_was_made_from(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from features.scoring import Scorer

    file = _write_gguf(models / "llama", tmp_path / "small.gguf")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")  # what is kept lies beside it
    first = load(file, device="cpu")
    assert first.digest == weights_digest(file) == weights_digest(tmp_path, "small.gguf")
    again = load(tmp_path, gguf_file="small.gguf", device="cpu", cache=tmp_path / "converted")
    assert [p.name for p in (tmp_path / "converted").iterdir()] == [first.digest.removeprefix("sha256:")[:32]]
    requests = [([40, 50, 60], [70, 80, 90])]
    expected = Scorer(load(models / "llama", device="cpu")).token_logprobs(requests)[0]
    for model in (first, again):
        assert model.kind == "causal"
        assert Scorer(model).token_logprobs(requests)[0] == pytest.approx(expected, abs=1e-4)


def test_gguf_file_that_is_none_is_named_and_leaves_nothing(copy: Path, tmp_path: Path) -> None:
    (copy / "small.gguf").write_bytes(b"GGML and more")
    with pytest.raises(CheckpointError, match=r"small\.gguf: not a GGUF file"):
        load(copy, gguf_file="small.gguf")
    (copy / "small.gguf").write_bytes(b"GGUF" + b"\0" * 40)
    readers = gguf.GGUFReader, gguf.get_tensor_name_map
    with pytest.raises(CheckpointError, match=r"small\.gguf: cannot be read as GGUF"):
        load(copy, gguf_file="small.gguf", cache=tmp_path / "converted")
    assert list((tmp_path / "converted").iterdir()) == []
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == readers  # kept for the time of a conversion only
    with pytest.raises(CheckpointError, match=r"other\.gguf: no such file; check gguf_file"):
        load(copy, gguf_file="other.gguf")


def _write_gguf(folder: Path, file: Path) -> Path:
    """The llama checkpoint of the tests as a float32 GGUF, as llama.cpp's converter would write it."""
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer

    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(str(file), "llama")
    layers, heads, groups = config["num_hidden_layers"], config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(layers)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config["vocab_size"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    ordered = sorted(model["vocab"], key=model["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(ordered)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(ordered))
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    names |= {
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    names |= {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    top = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    for name, tensor in load_file(folder / "model.safetensors").items():
        stem = name.removesuffix(".weight")
        if stem in top:
            target = top[stem]
        else:
            _, _, layer, part = stem.split(".", 3)
            target = f"blk.{layer}.{names[part]}"
        if (count := {"self_attn.q_proj": heads, "self_attn.k_proj": groups}.get(stem.split(".", 3)[-1])) is not None:
            # llama.cpp interleaves the halves of each head for its rotary positions
            tensor = tensor.reshape(count, 2, tensor.shape[0] // count // 2, -1).swapaxes(1, 2).reshape(tensor.shape)
        writer.add_tensor(f"{target}.weight", np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
