"""The zoo that ships: small, complete, trained on free text only, and better than chance at language."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from features.errors import ManifestError
from features.zoo import Zoo
from training import recipe as recipes
from training import shipped

FREE = {"books__standardebooks", "wiki__cia_factbook", "legal__dc_code", "code__cpython_stdlib", "techdoc__python_docs"}


def test_it_is_eight_variants_in_16_bits_under_12_megabytes():
    zoo = Zoo.read(shipped.path())
    assert len(zoo.checkpoints) == 8
    assert [c.name for c in zoo.checkpoints] == [run.name for run in recipes.read("free").runs()]
    assert len({c.meta["objective"] for c in zoo.checkpoints}) == 7
    files = [file for file in shipped.FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < shipped.LARGEST
    for checkpoint in zoo.checkpoints:
        assert json.loads((Path(checkpoint.location) / "config.json").read_text())["dtype"] == "float16"


def test_its_recipe_names_freely_redistributable_text_alone():
    sources = {corpus.source.removesuffix(".jsonl.gz") for corpus in recipes.read("free").corpora.values()}
    assert sources == FREE
    note = (shipped.FOLDER / "README.md").read_text()
    assert all(name in note for name in recipes.read("free").corpora)


def test_each_predicts_held_out_text_of_its_own_domain_better_than_a_guess():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    zoo = Zoo.read(shipped.path())
    rows = [json.loads(line) for line in zoo.corpora["reference"].read_text().splitlines()]
    for checkpoint in zoo.checkpoints:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.location)
        model = AutoModelForCausalLM.from_pretrained(checkpoint.location, dtype=torch.float32).eval()
        mix = recipes.read("free").mixes[str(checkpoint.meta["data_mix"])]
        losses = []
        for text in [row["text"] for row in rows if row["corpus"] in mix][::3]:
            ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text).input_ids[:127]]])
            with torch.no_grad():
                losses.append(float(model(ids, labels=ids).loss))
        assert sum(losses) / len(losses) < math.log(len(tokenizer)) - 1, checkpoint.name


def test_packing_refuses_a_folder_without_a_zoo_and_one_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ManifestError, match=r"zoo\.yaml: no finished variant; run"):
        shipped.pack(tmp_path, tmp_path / "packed")
    monkeypatch.setattr(shipped, "LARGEST", 1000)
    with pytest.raises(ManifestError, match="bytes are more than 1,000"):
        shipped.pack(shipped.FOLDER, tmp_path / "packed")


def test_packing_copies_what_a_checkpoint_needs(tmp_path: Path):
    shipped.pack(shipped.FOLDER, tmp_path)
    again = Zoo.read(tmp_path / "zoo.yaml")
    assert [c.name for c in again.checkpoints] == [c.name for c in Zoo.read(shipped.path()).checkpoints]
    for checkpoint in again.checkpoints:
        original = shipped.FOLDER / checkpoint.name / "model.safetensors"
        assert (Path(checkpoint.location) / "model.safetensors").read_bytes() == original.read_bytes()
