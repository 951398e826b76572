"""Fine-tuning: every kind of checkpoint on every kind of task, resumable, reported, reproducible."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from called import foretune_in
from features.errors import CheckpointError, ManifestError, StoreError, UserError
from features.extract import extract
from features.model import load
from features.rows import OUTCOME_COLUMNS
from features.scoring import encode
from features.tasks import Task
from features.zoo import Checkpoint, Zoo
from training.finetune import finetune
from training.outcomes import summary
from training.supervision import IGNORED, collator, prompts, rows
from training.trainable import Recipe, prepare
from training.tuning import tune

QUICK = {"epochs": 2, "learning_rate": 2e-3, "device": "cpu", "progress": False}


def zoo_of(models: Path, *names: str) -> Zoo:
    return Zoo("tiny", tuple(Checkpoint(name, str(models / name)) for name in names))


def supervised(model_path: Path, task: Path) -> tuple:
    model, read = load(model_path, device="cpu"), Task.read(task)
    pairs = [read.prompt(e)[e.gold or 0] for e in read.examples("train")]
    return model, rows(model.kind, encode(model, pairs), model.max_length)


@pytest.fixture(scope="module")
def outcomes(models: Path, learnable: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Every kind of checkpoint on every kind of task, two seeds, and a checkpoint that is not there."""
    tasks = [learnable / name for name in ("films.yaml", "sums.jsonl", "answers.yaml")]
    zoo = zoo_of(models, "llama", "t5", "bert", "nowhere")
    store = tmp_path_factory.mktemp("store") / "outcomes.db"
    return finetune(zoo, tasks, seeds=2, max_train_examples=48, max_test_examples=20, store=store, **QUICK)


def test_every_kind_of_checkpoint_does_every_kind_of_task(outcomes: pd.DataFrame) -> None:
    assert list(outcomes.columns) == OUTCOME_COLUMNS
    good = outcomes[outcomes["checkpoint"] != "nowhere"]
    assert len(good) == 3 * 3 * 2
    assert (good["error"] == "").all()
    assert good["outcome"].between(0, 1).all()
    assert (good["seconds"] > 0).all()
    assert (good["digest"].str.startswith("sha256:")).all()
    assert set(good.loc[good["task"] == "films", "metric"]) == {"accuracy"}
    assert set(good.loc[good["task"] == "answers", "metric"]) == {"exact_match"}


def test_a_checkpoint_that_cannot_be_read_is_reported_rows_and_the_rest_is_done(outcomes: pd.DataFrame) -> None:
    broken = outcomes[outcomes["checkpoint"] == "nowhere"]
    assert len(broken) == 6
    assert broken["outcome"].isna().all()
    assert broken["error"].str.contains("nowhere: no such folder").all()


@pytest.mark.parametrize(("name", "task", "chance"), [("bert", "films.yaml", 0.5), ("t5", "sums.jsonl", 1 / 3)])
def test_fine_tuning_learns_what_can_be_learnt(
    models: Path, learnable: Path, tmp_path: Path, name: str, task: str, chance: float
) -> None:
    found = finetune(zoo_of(models, name), [learnable / task], seeds=1, store=tmp_path / "o.db", **{**QUICK, "epochs": 8})
    margin = 3 * (chance * (1 - chance) / found["count"][0]) ** 0.5
    assert found["outcome"][0] > chance + margin


def test_seeds_differ_and_their_spread_is_reported(outcomes: pd.DataFrame) -> None:
    spread = summary(outcomes)
    assert (spread["seeds"] == 2).all()
    assert spread["outcome_sd"].max() > 0


def test_no_test_example_is_trained_on_and_no_features_example_is_measured(learnable: Path) -> None:
    task = Task.read(learnable / "films.yaml")
    roles = {role: {e.query for e in task.examples(role)} for role in ("train", "features", "test")}
    assert not roles["train"] & roles["test"]
    assert not roles["features"] & roles["test"]


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bert"])
@pytest.mark.parametrize("recipe", ["full", "last-layer", "lora"])
def test_a_recipe_trains_its_weights_and_no_others(models: Path, name: str, recipe: str) -> None:
    module = load(models / name, device="cpu").module
    prepared = prepare(module, recipe, kind=load(models / name, device="cpu").kind, name=name)
    trained = {n for n, p in prepared.named_parameters() if p.requires_grad}
    frozen = {n for n, p in prepared.named_parameters() if not p.requires_grad}
    embedding = {n for n, p in prepared.named_parameters() if p is prepared.get_input_embeddings().weight}
    if recipe == "full":
        assert not frozen
    if recipe == "last-layer":
        assert embedding <= frozen
        assert any(n.endswith(("lm_head.weight", "decoder.weight")) for n in trained)
        last = {"llama": "layers.1.", "gpt2": "h.1.", "t5": "decoder.block.1.", "bert": "layer.1."}[name]
        first = last.replace("1.", "0.")
        assert any(last in n for n in trained)
        assert not any(first in n and "encoder.block" not in n and last not in n for n in trained)
        assert not any("encoder.block" in n for n in trained)
    if recipe == "lora":
        assert trained
        assert all("lora_" in n for n in trained)


def small(kind: str) -> tuple[Any, str]:
    """A random model of an architecture that names its parts in another order than it uses them, or scales a tied head."""
    import transformers as t

    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
    if kind == "opt":
        config = t.OPTConfig(**sizes, ffn_dim=32, word_embed_proj_dim=8, max_position_embeddings=32)
        return t.OPTForCausalLM(config), "causal"
    if kind == "bart":
        sides = {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
        config = t.BartConfig(vocab_size=50, d_model=16, max_position_embeddings=32, **sides)
        return t.BartForConditionalGeneration(config), "seq2seq"
    if kind == "deberta":
        relative = {"relative_attention": True, "position_buckets": 4, "conv_kernel_size": 3}
        return t.DebertaV2ForMaskedLM(t.DebertaV2Config(**sizes, **relative, max_position_embeddings=32)), "masked"
    config = t.SwitchTransformersConfig(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, num_experts=2)
    return t.SwitchTransformersForConditionalGeneration(config), "seq2seq"


@pytest.mark.parametrize(
    ("architecture", "trained", "frozen"),
    [
        ("opt", ["final_layer_norm", "project_out"], ["project_in", "embed_positions"]),
        ("bart", [], ["layernorm_embedding", "embed_positions"]),
        ("deberta", ["cls.predictions"], ["rel_embeddings", "encoder.LayerNorm", "encoder.conv"]),
        ("switch", ["decoder.final_layer_norm"], ["encoder.final_layer_norm"]),
    ],
)
def test_the_last_layer_is_what_is_computed_last_and_begins_as_the_model_that_it_was(
    architecture: str, trained: list[str], frozen: list[str]
) -> None:
    module, kind = small(architecture)
    module.eval()
    inputs = {"input_ids": torch.tensor([[5, 6, 7]])} | (
        {"decoder_input_ids": torch.tensor([[8, 9]])} if kind == "seq2seq" else {}
    )
    with torch.no_grad():
        before = module(**inputs).logits
    prepared = prepare(module, "last-layer", kind=kind, name=architecture)
    needs = {name: p.requires_grad for name, p in prepared.named_parameters()}
    for part in trained:
        assert any(part in name for name in needs)
        assert all(needs[name] for name in needs if part in name and "layers." not in name), part
    for part in frozen:
        assert not any(needs[name] for name in needs if part in name and "layers.1." not in name and "layer.1." not in name), part
    with torch.no_grad():
        torch.testing.assert_close(prepared(**inputs).logits, before)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_checkpoint_as_it_was(models: Path, learnable: Path) -> None:
    model, examples = supervised(models / "llama", learnable / "films.yaml")
    before = {n: p.clone() for n, p in model.module.named_parameters()}
    recipe = Recipe("lora", epochs=1, learning_rate=1e-3)
    once, again, other = (tune(model, examples, recipe, seed, device="cpu").state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(once[n], again[n]) for n in once)
    assert any(not torch.equal(once[n], other[n]) for n in once)
    assert once.keys() == model.module.state_dict().keys()  # adapters are merged: a plain checkpoint again
    assert all(torch.equal(before[n], p) for n, p in model.module.named_parameters())


def test_early_stopping_keeps_the_best_epoch_and_writes_only_to_a_temporary_folder(
    models: Path, learnable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, examples = supervised(models / "gpt2", learnable / "films.yaml")
    steps: list[int] = []
    recipe = Recipe("last-layer", epochs=12, learning_rate=0.3, early_stopping=True)  # a rate at which the loss soon rises
    tune(model, examples, recipe, 0, device="cpu", on_step=lambda: steps.append(1))
    per_epoch = -(-round(len(examples) * 0.9) // 16)
    assert 3 * per_epoch <= len(steps) < 12 * per_epoch
    assert not list(tmp_path.iterdir())


def test_a_diverged_fine_tuning_is_an_error_that_says_so(models: Path, learnable: Path, tmp_path: Path) -> None:
    found = finetune(
        zoo_of(models, "gpt2"),
        [learnable / "films.yaml"],
        seeds=1,
        epochs=1,
        learning_rate=9.9,
        max_train_examples=32,
        store=tmp_path / "o.db",
        device="cpu",
        progress=False,
    )
    # such a rate gives weights that are not finite (an error) or a checkpoint that has forgotten all (an outcome): never neither
    assert found["outcome"].notna().all() or found["error"].str.contains("diverged|finite").all()
    model, examples = supervised(models / "gpt2", learnable / "films.yaml")
    with torch.no_grad():
        next(model.module.parameters())[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match="diverged"):
        tune(model, examples[:16], Recipe(epochs=1), 0, device="cpu")


def test_a_second_run_repeats_nothing_and_another_metric_costs_nothing(
    models: Path, learnable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import tuning

    calls: list[int] = []
    real = tuning.tune
    monkeypatch.setattr(tuning, "tune", lambda *a, **k: (calls.append(1), real(*a, **k))[1])
    arguments = {"seeds": 1, "store": tmp_path / "o.db", "max_train_examples": 32, "max_test_examples": 20, **QUICK}
    zoo, tasks = zoo_of(models, "bert", "gpt2"), [learnable / "films.yaml"]
    first = finetune(zoo, tasks, **arguments)
    assert len(calls) == 2
    pd.testing.assert_frame_equal(first, finetune(zoo, tasks, **arguments))
    other = finetune(zoo, tasks, metric="gold_probability", **arguments)
    assert len(calls) == 2
    assert other["outcome"].between(0, 1).all()
    assert (other["outcome"] != first["outcome"]).all()
    assert len(finetune(zoo, tasks, **{**arguments, "epochs": 1})) == 2
    assert len(calls) == 4


def test_the_cache_of_one_checkpoint_never_answers_for_another_or_for_other_examples(
    models: Path, learnable: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(models / "gpt2", tmp_path / "model")
    arguments = {"seeds": 1, "store": tmp_path / "o.db", "max_train_examples": 16, "metric": "gold_loglikelihood", **QUICK}
    zoo = zoo_of(tmp_path, "model")
    first = finetune(zoo, [learnable / "sums.jsonl"], **arguments)
    for file in (models / "mistral").iterdir():
        shutil.copy(file, tmp_path / "model" / file.name)  # the same name, other weights
    second = finetune(zoo, [learnable / "sums.jsonl"], **arguments)
    assert first["digest"][0] != second["digest"][0]
    assert first["outcome"][0] != second["outcome"][0]
    fewer = finetune(zoo, [learnable / "sums.jsonl"], **{**arguments, "max_test_examples": 5})
    assert fewer["count"][0] == 5


def test_kill_9_loses_nothing_that_was_finished_and_repeats_nothing(models: Path, learnable: Path, tmp_path: Path) -> None:
    import multiprocessing

    store = tmp_path / "o.db"
    arguments = {"seeds": 2, "store": store, "max_train_examples": 64, **QUICK}
    zoo, tasks = zoo_of(models, "llama", "gpt2"), [learnable / "films.yaml"]

    def finished() -> dict[str, str]:
        try:
            with sqlite3.connect(store) as connection:
                return dict(connection.execute("select key, value from outcomes"))
        except sqlite3.OperationalError:
            return {}

    process = multiprocessing.get_context("fork").Process(target=finetune, args=(zoo, tasks), kwargs=arguments)
    process.start()
    deadline = time.monotonic() + 120
    while not finished() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    kept = finished()
    assert 1 <= len(kept) < 4
    table = finetune(zoo, tasks, **arguments)
    after = finished()
    assert len(after) == 4
    assert table["outcome"].notna().all()
    assert all(after[key] == value for key, value in kept.items())  # the very rows, seconds and all: nothing was done again


def test_a_batch_takes_the_loss_of_the_answer_alone_and_pads_to_its_own_longest_row() -> None:
    from features.scoring import Encoded

    made = rows(
        "causal", [Encoded([5, 6, 7], [8, 9], [], 0), Encoded([5], [8], [], 0), Encoded([1, 2, 3, 4, 5, 6], [7, 8], [], 0)], 7
    )
    assert made[0] == {"input_ids": [5, 6, 7, 8, 9], "labels": [IGNORED] * 3 + [8, 9]}
    assert made[2]["input_ids"] == [2, 3, 4, 5, 6, 7, 8]  # the window holds seven
    batch = collator("causal", pad=0)(made[:2])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [5, 8, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1] * 5, [1, 1, 0, 0, 0]]
    assert batch["labels"][1].tolist() == [IGNORED, 8, IGNORED, IGNORED, IGNORED]


def test_a_masked_example_shows_one_token_of_the_answer_as_masked_and_learns_it() -> None:
    from features.scoring import Encoded

    torch.manual_seed(0)
    made = rows("masked", [Encoded([1, 5, 6], [7, 8, 9], [2], 0)] * 40, 64)
    batch = collator("masked", pad=0, mask=4)(made)
    learnt = batch["labels"] != IGNORED
    assert (learnt.sum(1) == 1).all()
    assert (batch["input_ids"][learnt] == 4).all()
    assert set(batch["labels"][learnt].tolist()) == {7, 8, 9}
    assert (batch["input_ids"][:, [0, 1, 2, 6]] == torch.tensor([1, 5, 6, 2])).all()


def test_choices_that_are_no_fixed_labels_are_scored_by_likelihood_for_a_masked_checkpoint(outcomes: pd.DataFrame) -> None:
    assert outcomes.query("checkpoint == 'bert' and task == 'sums'")["outcome"].notna().all()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"recipe": "half"}, UserError, "recipe: no recipe 'half'; use full, last-layer, lora"),
        ({"seeds": 0}, UserError, "seeds: 0 are no seeds"),
        ({"seeds": [1, 1]}, UserError, "different seeds"),
        ({"epochs": 0}, UserError, "epochs: expected a whole number above 0, found 0"),
        ({"learning_rate": -1.0}, UserError, "learning_rate"),
        ({"batch_size": 1.5}, UserError, "batch_size"),
        ({"metric": "exact_match"}, UserError, "a multiple_choice task has no metric 'exact_match'"),
        ({"metric": "bleu"}, UserError, "use auto, accuracy"),
        ({"device": "tpu"}, UserError, "device: no device 'tpu'"),
        ({"tasks": []}, UserError, "no task"),
        (
            {"early_stopping": True, "max_train_examples": 1},
            UserError,
            "early_stopping: 1 example of films to train on, and early stopping holds one out; raise max_train_examples",
        ),
        ({"tasks": ["nothing.yaml"]}, ManifestError, "nothing.yaml"),
    ],
)
def test_a_mistake_is_named_before_any_work(
    models: Path, learnable: Path, tmp_path: Path, change: dict, error: type[Exception], says: str
) -> None:
    arguments = {"tasks": [learnable / "films.yaml"], "recipe": "full", "store": tmp_path / "o.db", **QUICK, **change}
    with pytest.raises(error) as caught:
        finetune(zoo_of(models, "llama"), arguments.pop("tasks"), **arguments)
    assert says in str(caught.value)
    assert not (tmp_path / "o.db").exists()


def test_two_tasks_of_one_name_are_refused_whether_read_or_not(models: Path, learnable: Path, tmp_path: Path) -> None:
    path = learnable / "films.yaml"
    for tasks in ([path, path], [Task.read(path), path], [Task.read(path)] * 2):
        with pytest.raises(ManifestError, match=r"task: the name 'films' is taken by .*; give each task a name of its own"):
            finetune(zoo_of(models, "llama"), tasks, store=tmp_path / "o.db", **QUICK)
        with pytest.raises(ManifestError, match="task: the name 'films' is taken by"):
            extract(zoo_of(models, "llama"), tasks, store=tmp_path / "f.db", progress=False)


def test_two_examples_are_enough_for_early_stopping(models: Path, learnable: Path, tmp_path: Path) -> None:
    few = {"max_train_examples": 2, "max_test_examples": 8, "early_stopping": True}
    found = finetune(zoo_of(models, "bert"), [learnable / "films.yaml"], seeds=1, store=tmp_path / "o.db", **few, **QUICK)
    assert found["outcome"].notna().all()


@pytest.mark.parametrize("max_length", [1, 2, 3, 5, 9])
def test_a_prompt_is_cut_to_its_first_token_and_its_end(max_length: int) -> None:
    (row,) = prompts([[1, 2, 3, 4, 5]], [7], max_length)
    assert row["labels"] == 7
    assert row["input_ids"] == {1: [1], 2: [1, 5], 3: [1, 4, 5]}.get(max_length, [1, 2, 3, 4, 5])


def test_a_store_that_is_no_store_is_named(models: Path, learnable: Path, tmp_path: Path) -> None:
    (tmp_path / "o.db").write_text("these are not the bytes of a database, whatever its name says of it" * 20)
    with pytest.raises(StoreError, match=r"o\.db"):
        finetune(zoo_of(models, "llama"), [learnable / "films.yaml"], store=tmp_path / "o.db", **QUICK)


def test_progress_is_shown_on_stderr_with_the_time_left(
    models: Path, learnable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {**QUICK, "progress": True, "epochs": 1}
    found = finetune(zoo_of(models, "gpt2"), [learnable / "sums.jsonl"], seeds=1, store=tmp_path / "o.db", **arguments)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "gpt2 on sums, seed 0" in shown.err
    assert "step/s" in shown.err
    assert np.isfinite(found["outcome"]).all()


def test_the_command_fine_tunes_writes_and_refuses_what_it_cannot(
    models: Path, learnable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = foretune_in(tmp_path, monkeypatch, capsys)
    (tmp_path / "zoo.yaml").write_text(f"zoo: tiny\ncheckpoints:\n  - {{name: llama, model: {models / 'llama'}}}\n")
    once = ("--seeds", "1", "--epochs", "1")
    asked = ("finetune", "zoo.yaml", "--task", str(learnable / "films.yaml"), "-o", "outcomes.csv", *once)
    few = ("--max-train-examples", "32", "--max-test-examples", "20", "--learning-rate", "2e-3", "--max-length", "24")
    code, said, _ = run(*asked, *few, "--device", "cpu", "--json")
    assert code == 0
    rows = pd.read_csv(tmp_path / "outcomes.csv")
    assert list(rows.columns) == OUTCOME_COLUMNS
    assert json.loads(said)["rows"][0]["outcome"] == rows["outcome"].item()
    direct = finetune(
        zoo_of(models, "llama"), [learnable / "films.yaml"], seeds=1, store=tmp_path / "own.db", **(QUICK | {"epochs": 1}),
        max_train_examples=32, max_test_examples=20, max_length=24,
    )  # fmt: skip
    assert rows["outcome"].item() == pytest.approx(direct["outcome"].item())
    code, _, told = run(*asked, "--max-length", "0")
    assert code == 2
    assert "--max-length" in told
    code, _, told = run(*asked, *few, "--device", "tpu")
    assert code == 2
    assert "use auto, cpu or cuda" in told
