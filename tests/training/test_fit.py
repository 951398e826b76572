"""Fitting: figures from held-out checkpoints, a registered version, an alias that only the first fit sets."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.errors import DataError, StoreError, UserError
from training import tracking
from training.fit import combined, fit, held_out, reference_table, train, units

SMALL = {"bags": 4, "rounds": 10}


def table(n: int = 14, *, sign: float = 1.0, prefix: str = "m", noise: float = 0.05, seed: int = 0) -> pd.DataFrame:
    """`n` checkpoints on one task; `kshot_acc` tells the outcome (or, with sign -1, its opposite), `width` tells nothing."""
    rng = np.random.default_rng(seed)
    proxy = rng.permutation(np.linspace(0.3, 0.9, n))
    return pd.DataFrame(
        {
            "task": "films",
            "checkpoint": [f"{prefix}{i}" for i in range(n)],
            "outcome": sign * proxy + noise * rng.normal(size=n),
            "kshot_acc": proxy,
            "width": rng.normal(size=n),
            "objective": ["clm", "sc"] * (n // 2),
        }
    )


def test_train_registers_a_version_with_its_figures_beside_the_baselines_and_sets_the_first_alias(
    mlflow_root: Path, tmp_path: Path
) -> None:
    table().to_csv(tmp_path / "mine.csv", index=False)
    fitted = train([tmp_path / "mine.csv"], splits=2, params=SMALL)
    assert (str(fitted), fitted.champion, fitted.rows, fitted.checkpoints) == ("1", True, 14, 14)
    assert {"ltc", "logistic", "best-single", "configuration"} <= set(fitted.evaluation["mean"])
    found = tracking.find_version(tracking.RANKER, "1")
    with tracking.place.talking() as client:
        run = client.get_run(found.run_id)
        files = {f.path for f in client.list_artifacts(found.run_id)}
        (dataset,) = run.inputs.dataset_inputs
    assert files >= {"ranker", "table", "evaluation.json"}
    assert dataset.dataset.name == "table"
    assert run.data.metrics["holdout.films.ltc.accuracy"] == fitted.evaluation["tasks"]["films"]["ltc"]["accuracy"]
    assert "holdout.films.best-single.accuracy" in run.data.metrics
    assert run.data.metrics["holdout.films.ltc.ci_low"] <= run.data.metrics["holdout.films.ltc.ci_high"]
    assert run.data.params["splits"] == "2"
    again = train([tmp_path / "mine.csv"], splits=1, params=SMALL)
    assert (again.version, again.champion) == ("2", False)
    assert tracking.alias_version() == "1"


def test_the_champion_answers_as_the_ranker_that_was_registered_and_comes_from_json_and_text_alone(mlflow_root: Path) -> None:
    train([table()], splits=1, params=SMALL)
    champion, who = tracking.champion()
    assert who["name"] == "foretune-ranker"
    assert who["version"] == "1"
    assert who["run_id"] == tracking.find_version("foretune-ranker", "1").run_id
    same = fit(combined([table()]), params=SMALL)
    a, b = table().iloc[[0, 1]], table().iloc[[2, 3]]
    np.testing.assert_array_equal(champion.compare(a, b, context=table()), same.compare(a, b, context=table()))
    kinds = {p.suffix for p in (mlflow_root / "mlruns" / "artifacts").rglob("*") if p.is_file()}
    assert not kinds & {".pkl", ".pickle", ".skops", ".joblib"}


def test_mlflow_s_own_loader_reads_the_booster(mlflow_root: Path) -> None:
    import lightgbm

    train([table()], splits=1, params=SMALL)
    with tracking.place.talking():
        import mlflow.lightgbm

        booster = mlflow.lightgbm.load_model("models:/foretune-ranker@champion")
    assert isinstance(booster, lightgbm.Booster)


def test_a_tampered_champion_is_refused_by_name(mlflow_root: Path) -> None:
    train([table()], splits=1, params=SMALL)
    run_id = tracking.find_version("foretune-ranker", "1").run_id
    (folder,) = (mlflow_root / "mlruns" / "artifacts" / run_id).rglob("ranker")
    file = folder / "ranker.json"
    file.write_text(file.read_text().replace("0.1", "0.2", 1))
    with pytest.raises(StoreError, match="foretune-ranker version 1: its files are not those that were registered"):
        tracking.champion()


def test_history_gives_the_table_back_and_training_on_it_needs_nothing_else(mlflow_root: Path, tmp_path: Path) -> None:
    table().to_csv(tmp_path / "mine.csv", index=False)
    train([tmp_path / "mine.csv"], splits=1, params=SMALL)
    (tmp_path / "mine.csv").unlink()
    history = tracking.comparison_table()
    kept = tracking.training_table("foretune-ranker", "1")
    assert kept is not None
    assert tracking.table_digest(history) == tracking.table_digest(kept)
    assert set(history["zoo"]) == {"mine"}
    assert len(history) == 14


def test_tables_without_a_zoo_are_zoos_of_their_own(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "one.csv", index=False)
    table().to_parquet(tmp_path / "two.parquet")
    both = combined([tmp_path / "one.csv", tmp_path / "two.parquet"])
    assert both.groupby("zoo").size().to_dict() == {"one": 14, "two": 14}


def test_two_files_of_one_name_are_zoos_of_their_own(tmp_path: Path) -> None:
    files = [tmp_path / folder / "table.csv" for folder in ("first", "second")]
    for file, scale in zip(files, (1.0, 100.0), strict=True):
        file.parent.mkdir()
        rows = table(prefix=file.parent.name)
        rows.assign(outcome=scale * rows["outcome"]).to_csv(file, index=False)
    assert combined(files).groupby("zoo").size().to_dict() == {"first/table": 14, "second/table": 14}


def test_figures_of_several_tables_never_have_a_checkpoint_on_both_sides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import ranker.evaluate as module

    sides: list[tuple[set[str], set[str]]] = []
    real = module.splits_of

    def spied(df: pd.DataFrame, *arguments: object, **named: object) -> object:
        for train_rows, test_rows in real(df, *arguments, **named):
            sides.append((set(df["checkpoint"].iloc[train_rows]), set(df["checkpoint"].iloc[test_rows])))
            yield train_rows, test_rows

    monkeypatch.setattr(module, "splits_of", spied)
    both = combined([table().assign(zoo="films"), table(seed=1).assign(zoo="kinds")])
    figures, _ = held_out(both, features=None, splits=3, train_share=0.6, seed=0, params=SMALL)
    assert figures["mean"]["ltc"]["pairs"] > 0
    assert len(sides) == 3
    assert not any(trained & judged for trained, judged in sides)


def test_the_same_checkpoint_in_two_zoos_is_one_unit_and_so_are_a_group_and_changed_weights() -> None:
    rows = pd.DataFrame(
        {"checkpoint": ["a", "a", "a@0123abcd", "b", "c"], "zoo": ["x", "y", "x", "x", "x"], "group": ["", "", "", "g", "g"]}
    )
    assert units(rows).tolist() == ["a", "a", "a", "group g", "group g"]


def test_without_a_table_the_default_ranker_is_registered_and_is_no_part_of_history(
    mlflow_root: Path, kept_default: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ranker.evaluate as module

    shutil.copytree(kept_default, mlflow_root / "mlruns" / "default-ranker")

    real = module.evaluate
    monkeypatch.setattr(
        module, "evaluate", lambda table, **k: real(table, **{**k, "splits": 1, "methods": ("ltc", "single:ppl_clm")})
    )
    fitted = train([])
    assert (fitted.champion, fitted.rows, fitted.checkpoints) == (True, len(reference_table()), 50 + 131)
    assert set(fitted.evaluation["tasks"]) == set(reference_table()["task"])
    assert tracking.find_version(fitted.name, fitted.version).tags["foretune.reference"] == "true"
    assert tracking.champion()[0].get_params()["signs"] == "strict"
    with pytest.raises(DataError, match="no comparison table"):
        tracking.comparison_table()


def test_too_few_checkpoints_for_a_hold_out_are_named(mlflow_root: Path) -> None:
    figures, note = held_out(combined([table(2)]), features=None, splits=2, train_share=0.6, seed=0, params=SMALL)
    assert figures == {}
    assert note.startswith("no hold-out figures: ")


@pytest.mark.parametrize(
    ("tables", "error", "says"),
    [
        (["nothing.csv"], DataError, "nothing.csv: no such file"),
        ([table().drop(columns="outcome")], DataError, "no column 'outcome'"),
    ],
)
def test_a_table_that_cannot_be_used_is_named_and_nothing_is_registered(
    mlflow_root: Path, tables: list, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        train(tables)
    assert tracking.versions() == []
    with pytest.raises(UserError, match="cannot name a ranker"):
        train([table()], name="a/b")
