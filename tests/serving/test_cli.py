"""The command line: fast help with examples, JSON and nothing else on stdout, one line and the right exit code for each error."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
import yaml

from called import Foretune, foretune_in
from served import table
from serving import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Foretune:
    """`foretune ...` in this process, in an empty folder: (exit code, stdout, stderr)."""
    return foretune_in(tmp_path, monkeypatch, capsys)


def test_help_imports_nothing_heavy_and_answers_at_once() -> None:
    heavy = ["torch", "transformers", "mlflow", "bentoml", "lightgbm", "pandas", "numpy", "sklearn", "scipy", "rich", "pydantic"]
    script = (
        "import sys; sys.argv = ['foretune', '--help']\nfrom serving.cli import app\ntry: app()\nexcept SystemExit: pass\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    spent = []
    for _ in range(3):
        before, began = os.times(), time.perf_counter()
        said = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        after = os.times()
        spent.append(
            min(
                time.perf_counter() - began,
                after.children_user - before.children_user + after.children_system - before.children_system,
            )
        )
    assert said.stdout.splitlines()[-1] == "[]"
    # Processor time, so that a busy machine does not count against it.
    assert min(spent) < 0.3


def commands() -> list[tuple[str, ...]]:
    def walk(group: Any, path: tuple[str, ...]) -> list[tuple[str, ...]]:
        found = []
        for name, command in group.commands.items():
            found += walk(command, (*path, name)) if hasattr(command, "commands") else [(*path, name)]
        return found

    return walk(typer.main.get_command(cli.app), ())


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_each_command_explains_itself_with_an_example(path: tuple[str, ...], run: Foretune) -> None:
    code, out, _ = run(*path, "--help")
    assert code == 0
    assert f"foretune {' '.join(path)}" in out.split("Example")[1]
    command = typer.main.get_command(cli.app)
    for name in path:
        command = command.commands[name]  # type: ignore[attr-defined]
    assert not [p.name for p in command.params if p.name != "help" and not getattr(p, "help", None)]


def test_a_ranking_as_json_has_the_documented_shape_and_nothing_else_on_stdout(run: Foretune) -> None:
    code, out, _ = run("rank", "zeng2025", "--task", "sft_cms", "--json")
    assert code == 0
    answer = json.loads(out)
    assert set(answer) == {"task", "ranking"}
    assert set(answer["ranking"][0]) == {"checkpoint", "rank", "score", "interval", "p_best", "tied_with"}
    assert len(answer["ranking"]) == 50


def test_a_table_without_outcomes_can_be_ranked_and_exported(run: Foretune, tmp_path: Path) -> None:
    table(n=5).drop(columns="outcome").to_csv("known.csv", index=False)
    for name in ("r.csv", "r.json", "r.md"):
        assert run("rank", "known.csv", "-o", name)[0] == 0
    rows = list(csv.DictReader(Path("r.csv").read_text().splitlines()))
    ties = {row["checkpoint"]: row["tied_with"] for row in json.loads(Path("r.json").read_text())["ranking"]}
    assert {row["checkpoint"]: json.loads(row["tied_with"]) for row in rows} == ties
    assert [int(r["rank"]) for r in rows] == [1, 2, 3, 4, 5]
    assert [r["checkpoint"] for r in json.loads(Path("r.json").read_text())["ranking"]] == [r["checkpoint"] for r in rows]
    assert Path("r.md").read_text().count("| m0") >= 5
    assert run("rank", "known.csv", "-o", "pairs.csv", "--format", "pairs")[0] == 0
    pairs = pd.read_csv("pairs.csv")
    assert list(pairs.columns[:3]) == ["model_a", "model_b", "winner"]
    assert len(pairs) == 10
    assert set(pairs["winner"]) <= {"model_a", "model_b", "tie"}
    assert run("rank", "known.csv", "--html", "report.html")[0] == 0
    page = Path("report.html").read_text()
    assert "<svg" in page
    assert not re.search(r"(src|href)=", page)
    assert not any((tmp_path / "mlruns").glob("*")), "ranking a table writes nothing of its own"


def test_a_task_of_one_checkpoint_does_not_keep_the_others_from_being_ranked(run: Foretune) -> None:
    pd.concat([table(n=4), table(n=1).assign(task="lonely")]).to_csv("t.csv", index=False)
    code, said, told = run("rank", "t.csv", "--json")
    assert (code, len(json.loads(said)["ranking"])) == (0, 4)
    assert "task lonely: one checkpoint, nothing to rank" in told
    assert run("rank", "t.csv", "--task", "lonely")[0] == 2


def test_what_a_ranking_measured_is_recorded_once_for_retraining(run: Foretune, zoo_folder: Path, mlflow_root: Path) -> None:
    from training.tracking.history import recorded_features
    from training.tracking.place import experiment, talking

    asked = (
        "rank",
        str(zoo_folder / "zoo.yaml"),
        "--task",
        str(zoo_folder / "films.yaml"),
        "--features",
        "kshot",
        "--limit",
        "8",
    )
    assert run(*asked)[0] == 0
    recorded = recorded_features(root=mlflow_root)
    assert set(recorded["checkpoint"]) == {"llama", "gpt2"}
    assert "kshot_acc" in set(recorded["name"])
    assert run(*asked)[0] == 0  # nothing is measured anew, nothing is recorded again
    with talking(mlflow_root) as client:
        assert len(client.search_runs([experiment(client, mlflow_root)])) == 1


KSHOT = ("--features", "kshot", "--limit", "8")


def test_the_stores_lie_beside_the_mlflow_database_unless_another_is_named(
    run: Foretune, zoo_folder: Path, mlflow_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mlflow_root / "mlruns").rename(mlflow_root / "team")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_root / 'team' / 'mlflow.db'}")
    zoo = str(zoo_folder / "zoo.yaml")
    quick = ("--seeds", "1", "--epochs", "1", "--max-train-examples", "4", "--max-test-examples", "4", "--device", "cpu")
    assert run("extract", zoo, *KSHOT, "-o", "f.csv")[0] == 0
    assert run("finetune", zoo, *quick, "-o", "o.csv")[0] == 0
    assert not (mlflow_root / "mlruns").exists()
    there = {"features.db", "outcomes.db"}
    assert there <= {file.name for file in (mlflow_root / "team").iterdir()}
    before = {name: (mlflow_root / "team" / name).read_bytes() for name in there}
    assert run("extract", zoo, *KSHOT, "-o", "f.csv", "--store", "mine/f.db")[0] == 0
    assert run("finetune", zoo, *quick, "-o", "o.csv", "--store", "mine/o.db")[0] == 0
    assert {"f.db", "o.db"} <= {file.name for file in (mlflow_root / "mine").iterdir()}
    assert before == {name: (mlflow_root / "team" / name).read_bytes() for name in there}


def with_a_broken_one(zoo_folder: Path, meta: str = "{objective: clm}") -> Path:
    """The zoo with a third checkpoint, whose folder is missing."""
    path = zoo_folder / "broken.yaml"
    gone = f"  - {{name: gone, model: ./gone, meta: {meta}}}\n"
    path.write_text((zoo_folder / "zoo.yaml").read_text().replace("tasks:", gone + "tasks:"))
    return path


def test_a_checkpoint_that_cannot_be_measured_is_reported_and_has_no_place(
    run: Foretune, zoo_folder: Path, mlflow_root: Path
) -> None:
    code, out, err = run("rank", str(with_a_broken_one(zoo_folder)), *KSHOT, "--json")
    assert code == 1
    assert {row["checkpoint"] for row in json.loads(out)["ranking"]} == {"llama", "gpt2"}
    assert "failed: gone: " in err


def test_what_was_measured_by_name_before_speaks_too(run: Foretune, zoo_folder: Path, mlflow_root: Path) -> None:
    zoo, few = str(zoo_folder / "zoo.yaml"), ("--limit", "8")

    def missing() -> set[str]:
        code, out, _ = run("compare", "llama", "gpt2", "--zoo", zoo, *few, "--json")
        assert code == 0
        return set(json.loads(out)["missing"])

    before = missing()
    assert "rankme_mean" in before
    code, ranked, _ = run("rank", zoo, *few, "--json")
    assert run("extract", zoo, "--features", "linear_probe", *few, "-o", "probes.csv")[0] == code == 0
    assert before - missing() >= {"rankme_mean", "linear_probe_mean_r2"}
    code, again, _ = run("rank", zoo, *few, "--json")
    assert code == 0
    assert json.loads(again) != json.loads(ranked)
    code, named, _ = run("rank", zoo, "--features", "ppl_clm,ppl_sc,ppl_task,prompt,kshot,transferability", *few, "--json")
    assert json.loads(named) == json.loads(ranked)


def test_pickled_weights_that_were_allowed_have_a_place(run: Foretune, zoo_folder: Path, mlflow_root: Path) -> None:
    import torch
    from safetensors.torch import load_file

    zoo = (zoo_folder / "zoo.yaml").read_text()
    llama = next(Path(c["model"]) for c in yaml.safe_load(zoo)["checkpoints"] if c["name"] == "llama")
    pickled = zoo_folder / "pickled"
    shutil.copytree(zoo_folder / llama, pickled)
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    (zoo_folder / "old.yaml").write_text(zoo.replace("tasks:", "  - {name: old, model: ./pickled}\ntasks:"))
    code, out, err = run("rank", str(zoo_folder / "old.yaml"), "--allow-pickle", "old", "--limit", "8", "--json")
    assert (code, "failed" in err) == (0, False)
    assert {row["checkpoint"] for row in json.loads(out)["ranking"]} == {"llama", "gpt2", "old"}


def test_a_comparison_measures_the_two_and_no_other(run: Foretune, zoo_folder: Path, mlflow_root: Path) -> None:
    from training.tracking import recorded_features

    broken = with_a_broken_one(zoo_folder)
    code, out, err = run("compare", "llama", "gpt2", "--zoo", str(broken), "--limit", "8", "--json")
    assert code == 0
    assert "gone" not in err
    assert set(recorded_features()["checkpoint"]) == {"llama", "gpt2"}
    # What was measured once and is in MLflow answers without the zoo.
    code, again, _ = run("compare", "llama", "gpt2", "--task", "films", "--json")
    assert code == 0
    assert json.loads(again) == json.loads(out)
    assert run("compare", "llama", "gone", "--task", "films")[0] == 2
    code, out, err = run("compare", "llama", "gone", "--zoo", str(broken), "--limit", "8")
    assert (code, out) == (1, "")
    assert "failed: gone: " in err


def test_a_name_that_is_markup_stays_text_in_the_report(run: Foretune) -> None:
    rows = table(n=3).assign(checkpoint=["<script>alert(1)</script>", "=1+1", "plain"])
    rows.to_csv("t.csv", index=False)
    assert run("rank", "t.csv", "--html", "r.html", "-o", "r.csv")[0] == 0
    assert "<script" not in Path("r.html").read_text()
    assert "'=1+1" in Path("r.csv").read_text()


def test_a_comparison_for_a_person_names_winner_or_doubt(run: Foretune) -> None:
    table().to_csv("t.csv", index=False)
    code, out, _ = run("compare", "m00", "m01", "--task", "reviews", "--table", "t.csv")
    assert code == 0
    assert "P(m00 beats m01)" in out
    assert "ranker default" in out


MISTAKES = [
    (("compare", "a", "b"), "--table"),
    (("compare", "a", "b", "--table", "t.csv", "--zoo", "zoo.yaml"), "exclude each other"),
    (("compare", "a", "b", "--table", "nope.csv"), "nope.csv: no such file"),
    (("compare", "m00", "nope", "--task", "reviews", "--table", "t.csv"), "'nope' is not known"),
    (("compare", "m00", "m01", "--task", "nope", "--table", "t.csv"), "'nope' is not known"),
    (("rank", "nope.csv"), "nope.csv: no such file"),
    (("rank", "nope"), "nope"),
    (("rank", "t.csv", "-o", "r.xlsx"), "'.xlsx'"),
    (("rank", "t.csv", "--format", "pairs"), "--out"),
    (("rank", "t.csv", "-o", "r.csv", "--format", "xml"), "'xml'"),
    (("extract", "nope.yaml", "-o", "f.csv"), "nope.yaml"),
    (("extract", "nope.yaml", "-o", "f.txt"), "f.txt"),
    (("table", "nope.csv", "t.csv", "-o", "x.csv"), "nope.csv"),
    (("table", "t.csv", "t.csv", "-o", "x.csv"), "t.csv"),
    (("evaluate", "t.csv", "--group", "nope"), "'nope'"),
    (("evaluate", "t.csv", "--features", "nope"), "t.csv: no feature column 'nope'"),
    (("evaluate", "t.csv", "--task", "nope"), "t.csv: no task 'nope'; tasks: "),
    (("evaluate", "nope"), "give the path of a table"),
    (("rank", "t.csv", "-o", "folder.csv"), "folder.csv: is a folder"),
    (("rank", "t.csv", "-o", "t.csv/r.csv"), "t.csv is no folder"),
    (("rank", "t.csv", "--html", "t.csv/r.html"), "t.csv is no folder"),
    (("rank", "header.csv"), "header.csv: no rows"),
    (("extract", "nope.yaml", "-o", "folder.csv"), "folder.csv: is a folder"),
    (("retrain", "--dry-run", "--rollback"), "exclude"),
    (("outcomes", "import", "nope.csv"), "nope.csv"),
    (("import", "lm-eval", "nope", "-o", "f.csv"), "nope"),
    (("serve", "--zoo", "nope.yaml"), "nope.yaml"),
    (("serve", "--token-file", "nope"), "nope"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=[" ".join(m[0]) for m in MISTAKES])
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(run: Foretune, arguments: tuple[str, ...], words: str) -> None:
    table().to_csv("t.csv", index=False)
    table().iloc[:0].to_csv("header.csv", index=False)
    Path("folder.csv").mkdir()
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("foretune: ")
    assert words in err


def test_an_evaluation_prints_its_figures_and_draws_its_plots(run: Foretune) -> None:
    table().to_csv("t.csv", index=False)
    code, out, err = run("evaluate", "t.csv", "-m", "ltc", "--splits", "2", "--jobs", "2", "--plots", "plots", "--json")
    assert code == 0, err
    assert 0 <= json.loads(out)["mean"]["ltc"]["accuracy"] <= 1
    drawn = ["accuracy_by_gap.png", "calibration.png", "importance.png"]
    assert sorted(p.name for p in Path("plots").iterdir()) == drawn
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in Path("plots").iterdir())
    assert [Path(line).name for line in err.split()] == drawn
    assert run("evaluate", "t.csv", "--strata", "nope")[0] == 2


def test_an_evaluation_of_one_task_is_that_of_a_table_with_no_other(run: Foretune) -> None:
    both = pd.concat([table(), table(seed=1).assign(task="other")])
    both.to_csv("both.csv", index=False)
    both[both["task"] == "other"].to_csv("one.csv", index=False)
    judged = ("-m", "ltc", "-m", "best-single", "--splits", "2", "--json")
    of_both = run("evaluate", "both.csv", "--task", "other", *judged)
    assert json.loads(of_both[1]) == json.loads(run("evaluate", "one.csv", *judged)[1])


def test_what_is_unexpected_is_one_line_and_exit_code_1(run: Foretune, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("serving.report.kind", fail)
    code, _, err = run("rank", "t.csv", "-o", "x.csv")
    assert code == 1
    assert err == "foretune: unexpected ZeroDivisionError: by zero; FORETUNE_TRACEBACK=1 shows where\n"
    monkeypatch.setenv("FORETUNE_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        run("rank", "t.csv", "-o", "x.csv")


def test_results_alone_go_to_stdout_even_where_stderr_is_closed(tmp_path: Path) -> None:
    said = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m serving.cli evaluate absent.csv --json 2>&-"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (said.returncode, said.stdout) == (2, "")


def test_an_interrupted_command_says_that_it_can_be_gone_on_with(run: Foretune, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(out: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("serving.demo.demo", interrupted)
    code, said, told = run("demo")
    assert (code, said) == (130, "")
    assert "interrupted; the same command measures and fine-tunes only what is not done yet" in told
