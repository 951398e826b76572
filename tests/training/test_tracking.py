"""MLflow: where the store is, what a run keeps, what history gives back."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.errors import DataError, FailedError, StoreError, UnknownNameError
from features.rows import FEATURE_COLUMNS, OUTCOME_COLUMNS
from training import tracking
from training.tracking.lease import LEASE


def features_rows(
    zoo: str = "z", names: str = "abcd", task: str = "films", digest: str = "sha256:{}", shift: float = 0.0
) -> pd.DataFrame:
    rows = []
    for i, name in enumerate(names):
        for feature, value, on in (("ppl_clm", 10.0 + i + shift, ""), ("kshot_acc", 0.9 - i / 10, task)):
            rows.append((zoo, name, digest.format(name * 8), on, feature, value, None, 0.1, 10, 1.0, -1, ""))
        rows.append((zoo, name, digest.format(name * 8), "", "objective", None, "clm" if i % 2 else "sc", None, 0, 0.0, 0, ""))
    return pd.DataFrame(rows, columns=FEATURE_COLUMNS)


def outcome_rows(
    zoo: str = "z", names: str = "abcd", task: str = "films", recipe: str = "full", digest: str = "sha256:{}"
) -> pd.DataFrame:
    rows = [
        (zoo, name, digest.format(name * 8), task, recipe, seed, "accuracy", 0.9 - i / 10 + seed / 100, 100, 2.0, "")
        for i, name in enumerate(names)
        for seed in range(2)
    ]
    return pd.DataFrame(rows, columns=OUTCOME_COLUMNS)


def test_the_store_is_mlruns_under_the_current_folder_unless_the_environment_names_another(
    mlflow_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tracking.tracking_uri() == f"sqlite:///{mlflow_root / 'mlruns' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking.tracking_uri() == "http://127.0.0.1:5000"


def test_a_run_is_kept_with_parameters_metrics_table_and_digest_and_nothing_is_written_elsewhere(mlflow_root: Path) -> None:
    table = features_rows()
    run_id = tracking.log_extract(table, params={"backend": "inline", "tasks": ["films"]})
    with tracking.place.talking() as client:
        found = client.get_run(run_id)
        assert client.get_experiment(found.info.experiment_id).artifact_location == str(mlflow_root / "mlruns" / "artifacts")
    assert found.info.status == "FINISHED"
    assert found.data.params == {"backend": "inline", "tasks": '["films"]'}
    assert found.data.metrics["rows"] == len(table)
    assert found.data.metrics["seconds"] == pytest.approx(table["seconds"].sum())
    (data,) = found.inputs.dataset_inputs
    digest = tracking.table_digest(table)
    assert data.dataset.name == "features"
    assert data.dataset.digest == digest.removeprefix("sha256:")[:32]
    assert found.data.tags["foretune.table_digest"] == digest
    assert {p.name for p in mlflow_root.iterdir()} == {"mlruns"}
    assert not list((mlflow_root / "mlruns").rglob("meta.yaml"))


def test_a_table_is_known_to_be_recorded_by_its_digest_whatever_its_order(mlflow_root: Path) -> None:
    table = features_rows()
    assert not tracking.is_recorded("extract", table)
    tracking.log_extract(table)
    assert tracking.is_recorded("extract", table.iloc[::-1])
    assert not tracking.is_recorded("finetune", table)
    assert not tracking.is_recorded("extract", features_rows(shift=1.0))


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a//b", "..", ".", "org/model", "é: {{x}}", "a/./b", "x/", "\n", ""])
def test_any_name_of_a_checkpoint_makes_a_metric_that_mlflow_takes(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    _validate_metric_name(tracking.runs._name(name))
    _validate_metric_name(tracking.runs._name(f"outcome.films.{name}"))


def test_a_run_whose_body_fails_is_marked_failed_and_its_table_is_never_read(mlflow_root: Path) -> None:
    started = []

    def fails_within() -> None:
        with tracking.run("table") as current:
            started.append(current.id)
            current.table(outcome_rows(), "table", context="training")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails_within()
    with tracking.place.talking() as client:
        assert client.get_run(started[0]).info.status == "FAILED"
    with pytest.raises(DataError, match="no comparison table"):
        tracking.comparison_table()


def test_two_roots_in_one_process_do_not_mix_and_the_environment_stays_clean(mlflow_root: Path, tmp_path: Path) -> None:
    import os
    import shutil

    other = tmp_path / "other"
    (other / "mlruns").mkdir(parents=True)
    shutil.copy(mlflow_root / "mlruns" / "mlflow.db", other / "mlruns" / "mlflow.db")
    tracking.log_outcomes(outcome_rows())
    tracking.log_outcomes(outcome_rows(names="ab"), root=other)
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert len(tracking.recorded_outcomes()) == 8
    assert len(tracking.recorded_outcomes(root=other)) == 4


def test_the_comparison_table_is_features_joined_with_outcomes_averaged_over_seeds(mlflow_root: Path) -> None:
    tracking.log_extract(features_rows())
    tracking.log_outcomes(outcome_rows())
    table = tracking.comparison_table().set_index("checkpoint")
    assert sorted(table.index) == ["a", "b", "c", "d"]
    assert table.loc["b", "outcome"] == pytest.approx(0.805)
    assert table.loc["b", "ppl_clm"] == 11.0
    assert table.loc["b", "kshot_acc"] == pytest.approx(0.8)
    assert table.loc["b", "objective"] == "clm"
    assert table["outcome_sd"].notna().all()


def test_a_zoo_with_nothing_to_compare_yet_does_not_stand_in_the_way_of_the_others(mlflow_root: Path) -> None:
    tracking.log_extract(features_rows(zoo="new", names="x"))
    tracking.log_outcomes(outcome_rows(zoo="new", names="x"))
    with pytest.raises(DataError, match="no task has two checkpoints"):
        tracking.comparison_table()
    tracking.log_table(
        pd.DataFrame({"zoo": "old", "task": "t", "checkpoint": ["a", "b"], "outcome": [1.0, 2.0], "f": [0.0, 1.0]})
    )
    table = tracking.comparison_table()
    assert set(zip(table["zoo"], table["checkpoint"], strict=True)) == {("new", "x"), ("old", "a"), ("old", "b")}


def test_the_later_measurement_counts_and_an_imported_correction_wins_over_a_rerun(mlflow_root: Path) -> None:
    tracking.log_extract(features_rows())
    tracking.log_extract(features_rows(shift=5.0))
    tracking.log_outcomes(outcome_rows(), kind="finetune")
    corrected = outcome_rows().iloc[[0]].assign(outcome=0.5)
    tracking.log_outcomes(corrected, kind="outcomes")
    tracking.log_outcomes(outcome_rows(names="abcdef"), kind="finetune")  # the same fine-tunings, logged again with two more
    table = tracking.comparison_table().set_index("checkpoint")
    assert table.loc["a", "ppl_clm"] == 15.0
    assert table.loc["a", "outcome"] == pytest.approx((0.5 + 0.91) / 2)


def test_a_name_whose_weights_changed_is_two_checkpoints(mlflow_root: Path) -> None:
    tracking.log_extract(features_rows())
    tracking.log_outcomes(outcome_rows())
    tracking.log_extract(features_rows(names="a", digest="sha256:new{}", shift=50.0))
    tracking.log_outcomes(outcome_rows(names="a", digest="sha256:new{}").assign(outcome=0.1))
    table = tracking.comparison_table().set_index("checkpoint")
    assert sorted(table.index) == ["a", "a@aaaaaaaa", "b", "c", "d"]
    assert (table.loc["a", "ppl_clm"], table.loc["a", "outcome"]) == (60.0, pytest.approx(0.1))
    assert table.loc["a@aaaaaaaa", "ppl_clm"] == 10.0


def test_outcomes_of_two_recipes_are_two_tasks_never_an_average(mlflow_root: Path) -> None:
    tracking.log_extract(features_rows())
    tracking.log_outcomes(outcome_rows())
    tracking.log_outcomes(outcome_rows(names="ab", recipe="lora").assign(outcome=[0.2, 0.3, 0.4, 0.5]))
    table = tracking.comparison_table().set_index(["task", "checkpoint"])
    assert table.loc[("films", "a"), "outcome"] == pytest.approx(0.905)
    assert table.loc[("films [lora accuracy]", "a"), "outcome"] == pytest.approx(0.25)
    assert table.loc[("films [lora accuracy]", "a"), "kshot_acc"] == pytest.approx(0.9)


def test_outcomes_without_zoo_or_digest_find_the_only_checkpoint_they_can_mean(mlflow_root: Path) -> None:
    tracking.log_extract(features_rows())
    tracking.log_outcomes(outcome_rows(zoo="").assign(digest=""), kind="outcomes")
    table = tracking.comparison_table()
    assert sorted(table["checkpoint"]) == ["a", "b", "c", "d"]
    assert set(table["zoo"]) == {"z"}


def test_earlier_tables_are_part_of_history_and_joined_rows_win(mlflow_root: Path) -> None:
    earlier = pd.DataFrame(
        {
            "zoo": ["z", "old", "old"],
            "task": "films",
            "checkpoint": ["a", "x", "y"],
            "outcome": [0.0, 0.3, 0.6],
            "ppl_clm": [1.0, 2.0, 3.0],
        }
    )
    tracking.log_table(earlier, name="earlier")
    tracking.log_extract(features_rows())
    tracking.log_outcomes(outcome_rows())
    table = tracking.comparison_table().set_index(["zoo", "checkpoint"])
    assert sorted(table.index) == [("old", "x"), ("old", "y"), ("z", "a"), ("z", "b"), ("z", "c"), ("z", "d")]
    assert table.loc[("z", "a"), "outcome"] == pytest.approx(0.905)
    assert np.isnan(table.loc[("old", "x"), "kshot_acc"])


def test_a_store_that_is_away_is_a_named_error_and_shows_no_password(mlflow_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    with pytest.raises(StoreError) as caught:
        tracking.alias_version()
    assert "127.0.0.1:9" in str(caught.value)
    assert "secret" not in caught.value.where
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    with pytest.raises(StoreError, match="retired the file store"):
        tracking.alias_version()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (mlflow_root / "mlruns" / "mlflow.db").write_text("not a database, but long enough to be looked at")
    with pytest.raises(StoreError):
        tracking.log_outcomes(outcome_rows())


def test_the_lease_keeps_a_second_holder_out_and_outlives_no_dead_process(mlflow_root: Path) -> None:
    with tracking.lease(), pytest.raises(FailedError, match="another retraining"), tracking.lease():
        pass
    with tracking.lease():
        pass  # freed at the end
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    import socket
    import time

    with tracking.place.talking() as client:
        client.set_registered_model_tag(tracking.RANKER, LEASE, f"{socket.gethostname()}:{gone.pid}:1:token@{time.time():.0f}")
    with tracking.lease():
        pass
    with tracking.place.talking() as client:
        client.set_registered_model_tag(tracking.RANKER, LEASE, f"elsewhere:1:1:token@{time.time() - 4000:.0f}")
    with tracking.lease(seconds=3600):
        pass


def test_the_lease_of_a_dead_process_whose_number_is_another_s_by_now_is_taken_over(mlflow_root: Path) -> None:
    with tracking.lease(), tracking.place.talking() as client:
        held = client.get_registered_model(tracking.RANKER).tags[LEASE]
    host, pid, began, _ = held.split(":")
    with tracking.place.talking() as client:
        client.set_registered_model_tag(tracking.RANKER, LEASE, held)
    with pytest.raises(FailedError, match="another retraining"), tracking.lease():
        pass
    with tracking.place.talking() as client:
        client.set_registered_model_tag(tracking.RANKER, LEASE, f"{host}:{pid}:1{began}:0@{held.rsplit('@', 1)[1]}")
    with tracking.lease() as token:
        assert token


def test_there_is_no_champion_before_one_is_made(mlflow_root: Path) -> None:
    assert tracking.alias_version() is None
    with pytest.raises(UnknownNameError, match="foretune train"):
        tracking.champion()


def test_importing_the_package_imports_no_mlflow() -> None:
    code = "import sys, training.tracking, training.outcomes, training.finetune, training.retrain\n"
    code += "print('mlflow' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_artifacts_of_the_store_are_tables_and_text_only(mlflow_root: Path) -> None:
    tracking.log_extract(features_rows())
    tracking.log_outcomes(outcome_rows())
    kinds = {p.suffix for p in (mlflow_root / "mlruns" / "artifacts").rglob("*") if p.is_file()}
    assert kinds == {".parquet"}
    with sqlite3.connect(mlflow_root / "mlruns" / "mlflow.db") as connection:
        assert connection.execute("select count(*) from runs").fetchone() == (2,)
