"""Extraction: every checkpoint measured, nothing lost or repeated, a broken one reported, and no number under another's name."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import features.model
from features.errors import DataError, ManifestError, StoreError, UnknownNameError, UserError
from features.examples import trajectories
from features.extract import ExtractReport, extract, resolve_tasks, stored
from features.registry import EXTRACTORS, by_default, load, select
from features.rows import FEATURE_COLUMNS
from features.store import FeatureStore
from features.tasks import Task
from features.zoo import Zoo
from ranker.vocabulary import meaning

OURS = "configuration,ppl_clm,ppl_sc,prompt,kshot"
FILMS = "data: films.csv\ndoc_to_text: '{{text}} It was'\ndoc_to_choice: [bad, good]\ndoc_to_target: label\n"


def write(folder: Path, checkpoints: list[dict[str, Any]], **more: Any) -> Path:
    """A user's folder: a zoo, a 40-row CSV task and a small corpus."""
    lines = [f"the film number {i} was {'funny' if i % 2 else 'long'},{i % 2}" for i in range(40)]
    (folder / "films.csv").write_text("\n".join(["text,label", *lines]))
    (folder / "films.yaml").write_text(FILMS)
    text = [json.dumps({"text": f"Document {i} says that the number after {i} is {i + 1}, and so on and on."}) for i in range(6)]
    (folder / "held_out.jsonl").write_text("\n".join(text))
    corpora = {"reference": "held_out.jsonl"}
    manifest = {"zoo": "mine", "checkpoints": checkpoints, "tasks": ["films.yaml"], "corpora": corpora, **more}
    (folder / "zoo.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    return folder / "zoo.yaml"


def run(zoo: Path, **options: Any) -> ExtractReport:
    options = {"store": zoo.parent / "features.db", "features": OURS, "device": "cpu", "progress": False, **options}
    return extract(zoo, **options)


def damaged(source: Path, folder: Path, how: str) -> Path:
    """A copy of a checkpoint with its weights cut short, or with a NaN in them."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    weights = folder / "model.safetensors"
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:-1000])
    else:
        tensors = load_file(weights)
        tensors["model.norm.weight"][3] = float("nan")
        save_file(tensors, weights, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def zoo(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    damaged(models / "llama", folder / "cut", "cut")
    damaged(models / "llama", folder / "nan", "nan")
    return write(
        folder,
        [
            {"name": "gone", "model": "./gone"},
            {"name": "llama", "model": str(models / "llama"), "family": "f", "step": 3, "meta": {"objective": "clm"}},
            {"name": "cut", "model": "./cut"},
            {"name": "nan", "model": "./nan"},
            {"name": "t5", "model": str(models / "t5")},
            {"name": "bert", "model": str(models / "bert")},
        ],
    )


@pytest.fixture(scope="module")
def report(zoo: Path) -> ExtractReport:
    return run(zoo)


def test_every_whole_checkpoint_has_every_feature_that_applies(report: ExtractReport) -> None:
    rows = report.rows
    assert list(rows.columns) == FEATURE_COLUMNS
    for name, ppl in (
        ("llama", {"ppl_clm", "ppl_sc_causal_sentinel"}),
        ("t5", {"ppl_sc_seq2seq_t5"}),
        ("bert", {"ppl_sc_masked_span"}),
    ):
        own = rows[rows.checkpoint == name]
        assert {n for n in own.name if n.startswith("ppl")} == ppl
        assert {"parameters", "kind", "prompt_acc", "prompt_nll", "kshot_acc", "kshot_margin"} <= set(own.name)
        assert set(own[own.name.str.startswith(("kshot", "prompt"))].task) == {"films"}
        assert (own.error == "").all()
        assert (own.value.notna() ^ own.text.notna()).all()
        assert own.digest.str.startswith("sha256:").all()
    measured = rows[rows.name.str.startswith(("ppl", "bpb", "kshot", "prompt")) & (rows.error == "")]
    assert measured.stderr.notna().all()
    assert (measured.seconds > 0).all()
    assert (measured["count"] >= 6).all()
    claimed = rows[rows.direction != 0]
    assert [meaning(name).column_direction for name in claimed.name] == claimed.direction.tolist()  # the ranker knows it too


def test_the_manifest_s_metadata_stand_in_front(report: ExtractReport) -> None:
    own = report.rows[report.rows.checkpoint == "llama"]
    assert own.name.tolist()[:3] == ["family", "step", "objective"]
    assert (own.text.tolist()[0], own.value.tolist()[1], own.text.tolist()[2]) == ("f", 3.0, "clm")


def test_broken_checkpoints_are_rows_and_the_others_go_on(report: ExtractReport, zoo: Path) -> None:
    broken = report.rows[report.rows.error != ""].set_index(["checkpoint", "name"]).error
    assert broken["gone", "checkpoint"].startswith(f"{(zoo.parent / 'gone').resolve()}: no such folder")
    assert "truncated" in broken["cut", "checkpoint"]
    assert {name for checkpoint, name in broken.index if checkpoint == "nan"} == {"ppl_clm", "ppl_sc", "prompt", "kshot"}
    assert "not finite" in broken["nan", "kshot"]
    assert {failure.checkpoint for failure in report.failed} == {"gone", "cut", "nan"}
    assert len(report.failed) == 6
    assert report.rows[(report.rows.checkpoint == "nan") & (report.rows.name == "parameters")].value.notna().all()


def test_a_second_run_measures_only_what_failed_and_loads_no_whole_checkpoint(
    report: ExtractReport, zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, loaded = features.model.load, []

    def watched(path: str, **options: Any) -> Any:
        loaded.append(options["name"])
        return real(path, **options)

    monkeypatch.setattr(features.model, "load", watched)
    again = run(zoo)
    assert loaded == ["nan"]
    assert (again.measured, again.cached) == (0, report.measured)
    assert again.rows.equals(report.rows)


def test_what_is_stored_can_be_asked_for_without_loading(report: ExtractReport, zoo: Path) -> None:
    found = stored(zoo, features=OURS, store=zoo.parent / "features.db")
    assert found.equals(report.rows[report.rows.error == ""].reset_index(drop=True))
    script = (
        "import sys; from features.extract import stored\n"
        f"rows = stored({str(zoo)!r}, features={OURS!r}, store={str(zoo.parent / 'features.db')!r})\n"
        "assert len(rows) and 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})


def test_other_weights_in_the_same_folder_are_measured_anew(models: Path, tmp_path: Path) -> None:
    import checkpoints

    zoo = write(tmp_path, [{"name": "a", "model": "./a"}])
    shutil.copytree(models / "llama", tmp_path / "a")
    first = run(zoo, features="ppl_clm")
    shutil.rmtree(tmp_path / "a")
    checkpoints.llama(tmp_path / "a", seed=1)
    second = run(zoo, features="ppl_clm")
    assert (second.measured, second.cached) == (1, 0)
    assert first.rows.value[0] != second.rows.value[0]
    assert first.rows.digest[0] != second.rows.digest[0]


def test_other_data_settings_or_dtype_are_measured_anew_and_a_name_is_not(models: Path, tmp_path: Path) -> None:
    zoo = write(tmp_path, [{"name": "a", "model": str(models / "llama")}])
    assert run(zoo, features="prompt").measured == 1
    assert run(zoo, features="prompt").cached == 1
    test = Task.read(tmp_path / "films.yaml").examples("test")[0]
    text = (tmp_path / "films.csv").read_text()
    (tmp_path / "films.csv").write_text(text.replace(test.text + ",", test.text + " indeed,"))
    assert run(zoo, features="prompt").measured == 1, "the outcomes' split is in the key too"
    assert run(zoo, features="prompt", limit=5).measured == 1
    assert run(zoo, features="prompt", dtype="bfloat16").measured == 1
    renamed = zoo.with_name("renamed.yaml")
    renamed.write_text(zoo.read_text().replace("name: a", "name: b"))
    assert run(renamed, features="prompt").cached == 1


def test_progress_is_told_to_the_end_even_where_a_checkpoint_fails(zoo: Path, report: ExtractReport) -> None:
    told: list[tuple[int, int]] = []
    run(zoo, on_progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (30, 30)
    assert told == sorted(told)


def test_the_bar_stands_on_stderr_and_names_checkpoint_and_feature(
    zoo: Path, report: ExtractReport, capsys: pytest.CaptureFixture
) -> None:
    run(zoo, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "100%" in err
    assert "gone: " in err
    assert "no such folder" in err


def test_features_are_chosen_by_extractor_or_by_name(models: Path, tmp_path: Path) -> None:
    zoo = write(tmp_path, [{"name": "a", "model": str(models / "llama")}])
    assert set(run(zoo, features="bpb_clm,kshot_acc").rows.name) == {"bpb_clm", "kshot_acc"}
    assert set(run(zoo, features=["ppl_clm", "kshot_acc"]).rows.name) == {"ppl_clm", "bpb_clm", "kshot_acc"}
    assert run(zoo, features="configuration").rows.name.tolist()[:2] == ["parameters", "layers"]
    with pytest.raises(UnknownNameError) as caught:
        run(zoo, features="kshot_ac")
    assert str(caught.value) == "--features: no feature named 'kshot_ac'; did you mean 'kshot_acc'?"
    with pytest.raises(UnknownNameError, match=r"--features: no feature named 'ppl_cml'; did you mean 'ppl_clm'\?"):
        select(["ppl_cml"])
    with pytest.raises(UnknownNameError, match="--features: no features are named; known are: configuration"):
        select([" "])


def test_the_next_checkpoint_is_read_while_this_one_computes(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("llama", "gpt2", "mistral")
    zoo = write(tmp_path, [{"name": name, "model": str(models / name)} for name in names])
    told: list[str] = []
    for name in ("prefetch", "load"):
        real = getattr(features.model, name)

        def spy(path: Any, _real: Any = real, _name: str = name, **options: Any) -> Any:
            told.append(f"{_name} {Path(path).name}")
            return _real(path, **options)

        monkeypatch.setattr(features.model, name, spy)
    run(zoo, features="prompt")
    assert told == ["prefetch gpt2", "load llama", "prefetch mistral", "load gpt2", "load mistral"]


def test_a_memory_budget_makes_smaller_batches_of_the_same_scores(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import features.scoring.scorer as engine

    zoo = write(tmp_path, [{"name": "llama", "model": str(models / "llama")}])
    budgets: list[Any] = []
    real = engine.Budget
    monkeypatch.setattr(engine, "Budget", lambda *given: budgets.append(real(*given)) or budgets[-1])
    values = [
        run(zoo, features="ppl_clm,prompt", memory_budget_mb=mb, store=tmp_path / f"{mb}.db").rows["value"].dropna().tolist()
        for mb in (None, 0.2)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert len(budgets) == 2
    assert budgets[1].tokens < budgets[0].tokens / 4


def test_every_registered_extractor_is_what_the_protocol_says() -> None:
    for name in EXTRACTORS:
        extractor = load(name)
        assert extractor.name == name
        assert extractor.version >= 1
        assert extractor.scope in ("checkpoint", "task")
        assert json.loads(json.dumps(extractor.settings())) == extractor.settings()


@pytest.mark.parametrize(
    ("feature", "measured"),
    [
        ("ppl_clm", True),
        ("hscore_last", True),
        ("probe_lora_loss", False),
        ("rankme_mean", False),
        ("curve_drop", True),
        ("x", True),
    ],
)
def test_which_features_are_measured_when_none_is_named(feature: str, measured: bool) -> None:
    assert by_default(feature) is measured


def test_a_subset_restricts_the_examples_and_is_another_key(models: Path, tmp_path: Path) -> None:
    zoo = write(tmp_path, [{"name": "a", "model": str(models / "llama")}, {"name": "b", "model": str(models / "gpt2")}])
    whole = run(zoo, features="prompt")
    kept = trajectories(zoo, store=tmp_path / "features.db")["films"]
    chosen = [1, 3, 4]
    weights = [0.5, 0.3, 0.2]
    subset = {"task": "films", "examples": [kept.examples[i] for i in chosen], "weights": weights}
    (tmp_path / "subset.json").write_text(json.dumps({"format": "foretune-subset-1", "tasks": [subset]}))
    part = run(zoo, features="prompt", examples=tmp_path / "subset.json")
    assert (part.measured, part.cached) == (2, 0)
    nll = part.rows[(part.rows.checkpoint == "a") & (part.rows.name == "prompt_nll")]
    assert nll.value.item() == pytest.approx(np.average(kept.nll[0, chosen], weights=weights), abs=1e-4)
    assert nll["count"].item() == 3
    assert len(whole.rows) == len(part.rows)
    (tmp_path / "subset.json").write_text(json.dumps({"format": "foretune-subset-1", "tasks": [{**subset, "task": "flims"}]}))
    with pytest.raises(UnknownNameError, match="the subset is of the task 'flims'; did you mean 'films'"):
        run(zoo, examples=tmp_path / "subset.json")


def test_trajectories_are_read_back_from_the_store(models: Path, tmp_path: Path) -> None:
    zoo = write(
        tmp_path,
        [{"name": "a", "model": str(models / "llama"), "step": 20}, {"name": "b", "model": str(models / "gpt2"), "step": 10}],
    )
    with pytest.raises(
        DataError, match="0 checkpoints of mine are measured on it; run `foretune extract` with --features prompt first"
    ):
        trajectories(zoo, store=tmp_path / "features.db")
    rows = run(zoo, features="prompt,kshot").rows
    for extractor in ("prompt", "kshot"):
        found = trajectories(zoo, store=tmp_path / "features.db", extractor=extractor)["films"]
        assert (found.checkpoints, found.steps.tolist(), set(found.labels)) == (("a", "b"), [20, 10], {"bad", "good"})
        nll = rows[rows.name == f"{extractor}_nll"].value
        assert found.nll.mean(axis=1) == pytest.approx(nll.to_numpy())
    with pytest.raises(UnknownNameError, match="no template named 't9'"):
        trajectories(zoo, store=tmp_path / "features.db", template="t9")


def test_tasks_given_add_to_the_zoo_s_or_take_their_place(tmp_path: Path) -> None:
    zoo = Zoo.read(write(tmp_path, [{"name": "a", "model": "./a"}]))
    (tmp_path / "more.yaml").write_text("task: more\n" + FILMS)
    (tmp_path / "instead.yaml").write_text("task: films\nseed: 9\n" + FILMS)
    assert [task.name for task in resolve_tasks(zoo, [tmp_path / "more.yaml"])] == ["films", "more"]
    assert [(task.name, task.seed) for task in resolve_tasks(zoo, [tmp_path / "instead.yaml"])] == [("films", 9)]
    with pytest.raises(ManifestError, match="the name 'films' is taken by"):
        resolve_tasks(zoo, [tmp_path / "instead.yaml", tmp_path / "films.yaml"])


def test_the_user_s_mistakes_are_told_before_anything_is_loaded(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = write(tmp_path, [{"name": "a", "model": str(models / "llama")}])
    monkeypatch.setattr(features.model, "load", None)
    with pytest.raises(UnknownNameError, match="no backend named 'proces'; did you mean 'process'"):
        run(zoo, backend="proces")
    with pytest.raises(UnknownNameError, match="no checkpoint named 'b'"):
        run(zoo, allow_pickle=["b"])
    with pytest.raises(UserError, match="--dtype: no dtype named 'float8'"):
        run(zoo, dtype="float8")
    with pytest.raises(UserError, match="--device: no device named 'gpu'"):
        run(zoo, device="gpu")
    with pytest.raises(UserError, match="--device: 'cuda:99' is not there"):
        run(zoo, device="cuda:99")
    (tmp_path / "held_out.jsonl").write_text("{}")
    with pytest.raises(DataError, match="no field `text`"):
        run(zoo)
    (tmp_path / "broken.db").write_text("not a database, but long enough to be looked at as one, surely")
    with pytest.raises(StoreError, match="the feature store is corrupt"):
        run(zoo, store=tmp_path / "broken.db")


KILLED = """
import sys, time
import features.kshot, features.extract
measure = features.kshot.KShot.measure
def stuck(self, session):
    if session.checkpoint.name == "b":
        print("stuck", flush=True)
        time.sleep(600)
    return measure(self, session)
features.kshot.KShot.measure = stuck
features.extract.extract(sys.argv[1], store=sys.argv[2], features=sys.argv[3], device="cpu", progress=False)
"""


def test_a_run_killed_with_signal_9_loses_and_repeats_nothing(models: Path, tmp_path: Path) -> None:
    zoo = write(
        tmp_path, [{"name": name, "model": str(models / model)} for name, model in (("a", "llama"), ("b", "gpt2"), ("c", "t5"))]
    )
    store = tmp_path / "features.db"
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(zoo), str(store), OURS],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"stuck\n"
        os.kill(child.pid, signal.SIGKILL)
    assert child.returncode == -9
    with sqlite3.connect(store) as connection:
        before = dict(connection.execute("select key, at from measured"))
    connection.close()
    assert len(before) == 5 + 4  # all of a; of b everything before k-shot
    resumed, started = run(zoo), time.time()
    assert (resumed.cached, resumed.measured, resumed.failed) == (9, 6, [])
    with sqlite3.connect(store) as connection:
        after = dict(connection.execute("select key, at from measured"))
    connection.close()
    assert {key: at for key, at in after.items() if key in before} == before
    assert len(after) == 15
    assert max(after.values()) <= started
    whole = run(zoo, store=tmp_path / "fresh.db")
    numbers = ["checkpoint", "task", "name", "value", "text", "stderr", "count"]
    assert whole.rows[numbers].equals(resumed.rows[numbers])
    assert len(FeatureStore(store)) == 15
