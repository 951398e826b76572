"""The small parts alone: settings, errors in one shape, past answers, drift, the catalogue."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.errors import DataError, StoreError, UnknownNameError, UserError
from ranker import LearningToCompare
from served import table
from serving import answers, failures, html_report, report
from serving.catalogue import Catalogue, read_known
from serving.champion import Snapshot
from serving.drift import Drift
from serving.ledger import Ledger
from serving.settings import Settings


def test_settings_come_from_the_environment_and_the_command_line_wins(tmp_path: Path) -> None:
    zoo = tmp_path / "zoo.yaml"
    zoo.write_text("")
    settings = Settings.read(
        {"FORETUNE_ROOT": str(tmp_path), "FORETUNE_ZOO": "nope", "FORETUNE_DEVICES": "cuda:0, cuda:1"}, zoo=zoo
    )
    assert settings.zoo == zoo
    assert settings.devices == ("cuda:0", "cuda:1")
    assert settings.store == tmp_path / "mlruns" / "features.db"
    assert Settings.read(settings.environment()).zoo == zoo
    assert "token" not in str(Settings.read({"FORETUNE_TOKEN": "x" * 20}).environment()).lower()


def test_the_service_measures_into_the_store_beside_mlflow_unless_a_root_or_a_store_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    beside = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/team/mlflow.db"}
    assert Settings.read({}).store == tmp_path / "mlruns" / "features.db"
    assert Settings.read({"MLFLOW_TRACKING_URI": "http://host:5000"}).store == tmp_path / "mlruns" / "features.db"
    assert Settings.read(beside).store == tmp_path / "team" / "features.db"
    assert Settings.read({"MLFLOW_TRACKING_URI": "sqlite:///team/mlflow.db"}).store == tmp_path / "team" / "features.db"
    assert Settings.read(beside | {"FORETUNE_ROOT": "own"}).store == tmp_path / "own" / "mlruns" / "features.db"
    assert Settings.read(beside, store="mine.db").store == tmp_path / "mine.db"
    started = Settings.read(beside)
    assert Settings.read(beside | started.environment()).store == started.store


def test_a_bento_writes_where_it_was_started_and_not_into_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    baked, started = tmp_path / "bento" / "src" / "serving" / "baked", tmp_path / "started"
    baked.mkdir(parents=True)
    started.mkdir()
    monkeypatch.chdir(baked.parents[1])  # as BentoML does
    assert Settings.read({"PWD": str(started)}).root == baked.parents[1]
    monkeypatch.setattr("serving.settings.BAKED", baked)
    assert Settings.read({"PWD": str(started)}).root == started
    assert Settings.read({"PWD": str(started), "FORETUNE_ROOT": str(tmp_path)}).root == tmp_path


@pytest.mark.parametrize(
    "environment",
    [
        {"FORETUNE_MAX_BODY": "many"},
        {"FORETUNE_MAX_CANDIDATES": "0"},
        {"FORETUNE_POLL_SECONDS": "nan"},
        {"FORETUNE_REQUEST_SECONDS": "inf"},
        {"FORETUNE_TOKEN": ""},
        {"FORETUNE_TOKEN": "short"},
        {"FORETUNE_TOKEN": "with a space in it"},
        {"FORETUNE_TOKEN_FILE": "/nowhere/token"},
        {"FORETUNE_ZOO": "/nowhere/zoo.yaml"},
        {"FORETUNE_TABLE": "nowhere.csv"},
    ],
)
def test_a_setting_that_cannot_be_meant_is_a_named_error(environment: dict[str, str]) -> None:
    with pytest.raises(UserError):
        Settings.read(environment)


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (404, b"Not Found", "Not Found"),
        (500, b"", "failed"),
        (
            400,
            b'{"error": "1 validation error", "detail": [{"loc": ["a", "features", "x"], "msg": "wrong", "type": "t"}]}',
            "wrong",
        ),
        (400, b'[{"error": "said in a list"}]', "said in a list"),
        (429, b'{"error": "Too many requests"}', "Too many requests"),
        (503, b'{"detail": {"odd": 1}}', '{"odd": 1}'),
        (400, b"\xff\xfe", "��"),
    ],
)
def test_whatever_a_layer_below_says_has_one_shape_outside(status: int, content: bytes, message: str) -> None:
    found = json.loads(failures.normalised(status, content))
    assert set(found["error"]) == {"code", "message", "where", "remedy"}
    assert found["error"]["message"] == message
    assert failures.normalised(status, failures.normalised(status, content)) == failures.normalised(status, content)


def test_an_error_of_ours_keeps_its_code_place_and_remedy() -> None:
    status, content = failures.of_error(StoreError("away", where="mlflow", remedy="start it"))
    assert status == 503
    assert json.loads(content)["error"] == {"code": "store", "message": "away", "where": "mlflow", "remedy": "start it"}


def answer(a: str, b: str, probability: float, version: str = "1") -> dict[str, object]:
    ranker = {"name": "r", "version": version, "run_id": None}
    return {"a": a, "b": b, "task": "t", "probability": probability, "too_close": False, "ranker": ranker}


def outcome(checkpoint: str, value: float, recipe: str = "full", seed: int = 0) -> dict[str, object]:
    return {"checkpoint": checkpoint, "task": "t", "recipe": recipe, "seed": seed, "metric": "accuracy", "outcome": value}


def test_past_answers_are_judged_once_whichever_way_they_were_asked(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.answered(answer("x", "y", 0.8))
    ledger.answered(answer("y", "x", 0.2))
    ledger.answered(answer("x", "z", 0.6))
    ledger.answered(answer("x", "x", 0.5))
    ledger.outcomes([outcome("x", 0.7), outcome("y", 0.5), outcome("z", 0.9, recipe="lora")])
    judged = ledger.judgement()
    assert (judged["judged"], judged["accuracy"]) == (1, 1.0)
    assert judged["brier"] == pytest.approx(0.04)
    ledger.outcomes([outcome("z", 0.9), outcome("x", 0.7, seed=1)])
    judged = Ledger(tmp_path / "ledger.db")
    judged.start()
    assert (judged.judgement()["judged"], judged.judgement()["accuracy"]) == (2, 0.5)
    judged.stop()


def test_only_so_many_answers_are_kept(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db", most=10)
    for i in range(50):
        ledger.answered(answer("a", f"b{i:02d}", 0.9))
        ledger.flush()
    ledger.outcomes([outcome("a", 1.0), *(outcome(f"b{i:02d}", 0.0) for i in range(50))])
    assert ledger.judgement()["judged"] == 10


def test_an_answer_given_again_pushes_none_out(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db", most=5)
    for a, b in [("p", "q"), *[("x", "y")] * 10]:
        ledger.answered(answer(a, b, 0.9))
        ledger.flush()
    ledger.outcomes([outcome(name, value) for name, value in (("p", 1.0), ("q", 0.0), ("x", 1.0), ("y", 0.0))])
    assert ledger.judgement()["judged"] == 2


def test_every_request_and_answer_has_an_example_that_it_takes() -> None:
    from serving import openapi

    for model in (*openapi.REQUESTS, *openapi.ANSWERS):
        example = openapi.EXAMPLES[model.__name__]
        assert model.model_validate(example).model_dump(exclude_unset=True) == example


def test_drift_is_the_share_outside_the_training_range() -> None:
    drift = Drift({"limits": {"ppl_clm": [5.0, 50.0], "kshot_acc": [0.2, 0.8]}})
    marks = drift.marks({"ppl_clm": 10.0}, {"ppl_clm": 500.0, "unknown": 3.0})
    drift.count(marks)
    report = drift.report()
    assert report["questions"] == 1
    assert report["features"] == {"ppl_clm": {"seen": 2, "outside": 1, "share": 0.5, "range": [5.0, 50.0]}}
    drift.count(marks)  # asked again
    drift.count_rows(pd.DataFrame({"ppl_clm": [1.0, 6.0, None], "objective": ["clm", "sc", None]}))
    assert drift.report()["questions"] == 3
    assert drift.report()["features"]["ppl_clm"] == {"seen": 6, "outside": 3, "share": 0.5, "range": [5.0, 50.0]}


def test_what_a_ranker_was_fitted_on_is_no_drift_in_the_features_own_units() -> None:
    rows = table(n=20)
    rows["ppl_clm"] = np.exp(np.linspace(2.0, 4.8, 20))  # compared as a logarithm
    rows["inv_ppl_sc"] = 1 / rows["ppl_clm"]
    columns = ["ppl_clm", "inv_ppl_sc", "kshot_acc"]
    ranker = LearningToCompare(bags=4, rounds=5).fit(rows[columns], rows["outcome"])
    drift = Drift(ranker.card_)
    drift.count_rows(rows)
    for name in columns:
        found = drift.report()["features"][name]
        assert (found["seen"], found["outside"]) == (20, 0)
        assert found["range"] == [rows[name].min(), rows[name].max()]
    assert drift.marks({"ppl_clm": 5.0}) == (("ppl_clm", True),)


def test_every_pair_of_a_tie_group_is_a_tie_though_a_row_names_only_its_nearest() -> None:
    rows = table(n=80)
    few = table(n=6)  # so few that nothing may be called
    ranker = LearningToCompare(bags=4, rounds=5).fit(few[["kshot_acc"]], few["outcome"])
    snapshot = Snapshot(ranker, "r", "1", None, "folder")
    ranking = answers.rank(snapshot, rows[["kshot_acc"]], list(rows["checkpoint"]), task=None)
    assert report.tie_groups(ranking) == [(1, 80)] * 80
    assert max(len(row["tied_with"]) for row in ranking["ranking"]) < 79
    assert {pair["winner"] for pair in report.pairs(ranking, np.full((80, 80), 0.51))} == {"tie"}
    assert html_report.chart(ranking).count("class=near") == 2 * 80


def test_a_table_to_answer_from_is_read_as_one_to_learn_from_is(tmp_path: Path) -> None:
    rows = table(n=4).assign(
        outcome=[1.0, 2.0, None, 3.0], flag=[True, False, None, True], kshot_acc=[Decimal("0.5"), *map(Decimal, "123")]
    )
    rows["kind"] = pd.Series(["clm", pd.NA, "sc", "sc"], dtype="string")
    rows["zoo"] = ["b", "b", None, None]
    rows.to_parquet(tmp_path / "t.parquet")
    known = read_known(tmp_path / "t.parquet")
    assert known["flag"].tolist()[:2] == [1.0, 0.0]
    assert known["kshot_acc"].tolist() == [0.5, 1.0, 2.0, 3.0]
    assert known["kind"].tolist() == ["clm", None, "sc", "sc"]
    assert known["checkpoint"].tolist() == ["b/m00", "b/m01", "m02", "m03"]
    rows.drop(columns=["zoo", "kshot_acc"]).to_csv(tmp_path / "t.csv", index=False)
    assert read_known(tmp_path / "t.csv")["flag"].tolist()[:2] == [1.0, 0.0]


def test_a_table_is_known_per_task_and_missing_features_are_left_out(tmp_path: Path) -> None:
    rows = pd.concat([table(n=3), table(1, n=2).assign(task="other", kshot_acc=None)])
    rows.loc[rows["checkpoint"] == "m01", "ppl_clm"] = None
    rows.to_csv(tmp_path / "t.csv", index=False)
    catalogue = Catalogue.of_table(read_known(tmp_path / "t.csv"), "t")
    assert list(catalogue.tables) == ["reviews", "other"]
    assert set(catalogue.row("reviews", "m00")) == {"ppl_clm", "kshot_acc", "objective"}
    assert set(catalogue.row("reviews", "m01")) == {"kshot_acc", "objective"}
    with pytest.raises(UnknownNameError, match="no task was named"):
        catalogue.table(None)
    with pytest.raises(UnknownNameError, match="'m02' has no features"):
        catalogue.row("other", "m02")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="checkpoint"), "no column 'checkpoint'"),
        (lambda t: t.assign(task=None), "empty cells"),
        (lambda t: pd.concat([t, t]), "stands there twice"),
        (lambda t: t[["task", "checkpoint"]], "no feature column"),
        (lambda t: t.assign(ppl_clm=float("inf")), "infinite"),
        (lambda t: t.assign(outcome="good"), "row 1, column 'outcome': 'good' is not a number"),
    ],
)
def test_a_table_that_cannot_be_answered_from_is_a_named_error(change: object, words: str, tmp_path: Path) -> None:
    change(table()).to_csv(tmp_path / "t.csv", index=False)  # type: ignore[operator]
    with pytest.raises(DataError, match=words):
        read_known(tmp_path / "t.csv")
