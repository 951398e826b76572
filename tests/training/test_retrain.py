"""Retraining: only a challenger that wins on unseen checkpoints becomes champion; a killed process leaves nothing half done."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import steps
from features.errors import DataError, FailedError, UserError
from training import tracking
from training.duel import duel
from training.fit import train
from training.retrain import Decision, retrain

SMALL = {"bags": 4, "rounds": 10}
PRELOAD = ["mlflow", "mlflow.lightgbm", "lightgbm", "sklearn.base", "ranker", "training.retrain"]


def table(n: int = 14, *, sign: float = 1.0, prefix: str = "m", seed: int = 0, zoo: str = "mine") -> pd.DataFrame:
    """`n` checkpoints on one task whose order a column without known direction tells (sign 1) or turns round (sign -1)."""
    proxy = np.random.default_rng(seed).permutation(np.linspace(0, 1, n))
    names = [f"{prefix}{i}" for i in range(n)]
    return pd.DataFrame(
        {"zoo": zoo, "task": "films", "checkpoint": names, "outcome": sign * proxy, "hue": proxy, "width": proxy[::-1]}
    )


def quick(**arguments: Any) -> Decision:
    return retrain(splits=2, params=SMALL, say=lambda line: None, **arguments)


@pytest.fixture(scope="module")
def misled_once(_migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `misled` gives, made once."""
    root = tmp_path_factory.mktemp("misled")
    (root / "mlruns").mkdir()
    shutil.copy(_migrated, root / "mlruns" / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        train([table(sign=-1.0, prefix="old", zoo="past")], splits=1, params=SMALL, root=root)
        tracking.log_table(table(24), name="news", root=root)
    return root


@pytest.fixture
def misled(misled_once: Path, mlflow_root: Path) -> Path:
    """A champion that learnt the opposite of what newer outcomes show; a store of the test's own."""
    shutil.copytree(misled_once / "mlruns", mlflow_root / "mlruns", dirs_exist_ok=True)
    with contextlib.closing(sqlite3.connect(mlflow_root / "mlruns" / "mlflow.db")) as db, db:
        for (sheet,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, kind, *_ in db.execute(f"PRAGMA table_info({sheet})").fetchall():
                if "CHAR" in kind or "TEXT" in kind:
                    change = f"UPDATE {sheet} SET {column} = replace({column}, ?, ?) WHERE instr({column}, ?)"
                    db.execute(change, (str(misled_once), str(mlflow_root), str(misled_once)))
        assert str(misled_once) not in "".join(db.iterdump()), "the copy points at the original"
    return mlflow_root


def test_a_challenger_that_wins_by_the_margin_becomes_champion_and_the_tags_say_why(misled: Path) -> None:
    decision = quick()
    assert decision.action == "promoted"
    assert decision.champion == decision.challenger == tracking.alias_version() == "2"
    assert decision.figures["difference"] >= 0.01
    tags = tracking.find_version("foretune-ranker", "2").tags
    assert tags["foretune.decision"] == "promoted"
    assert tags["foretune.previous"] == "1"
    assert tags["foretune.reason"] == decision.reason
    assert "held-out pairs" in decision.reason
    assert "+0.010 or more with probability 0.9" in decision.reason


def test_a_challenger_that_does_not_win_is_kept_beside_and_the_alias_stays(mlflow_root: Path) -> None:
    train([table()], splits=1, params=SMALL)
    tracking.log_table(table(prefix="more", seed=1, zoo="more"), name="more")
    decision = quick()
    assert decision.action == "kept"
    assert (decision.champion, decision.challenger) == ("1", "2")
    assert tracking.alias_version() == "1"
    assert tracking.find_version("foretune-ranker", "2").tags["foretune.decision"] == "kept"


def test_a_margin_that_is_not_reached_keeps_the_champion(misled: Path) -> None:
    assert quick(margin=0.999).action == "kept"


def test_without_news_nothing_is_fitted_or_registered(misled: Path) -> None:
    quick()
    again = quick()
    assert again.action == "unchanged"
    assert "nothing new since version 2" in again.reason
    assert len(tracking.versions()) == 2


def test_a_dry_run_says_what_would_happen_and_changes_nothing(misled: Path) -> None:
    before = (misled / "mlruns" / "mlflow.db").read_bytes()
    decision = quick(dry_run=True)
    assert (decision.action, decision.champion, decision.challenger) == ("promoted", "1", None)
    assert str(decision).startswith("would be promoted")
    assert (misled / "mlruns" / "mlflow.db").read_bytes() == before


def test_without_a_champion_the_default_ranker_is_the_one_to_beat(mlflow_root: Path, kept_default: Path) -> None:
    shutil.copytree(kept_default, mlflow_root / "mlruns" / "default-ranker")
    tracking.log_table(table(12), name="first")
    dry = quick(dry_run=True)
    assert dry.champion is None
    assert "the default ranker" in dry.reason
    assert tracking.versions() == []
    decision = quick()
    assert tracking.find_version("foretune-ranker", "1").tags["foretune.reference"] == "true"
    assert decision.challenger == "2"
    # the default ranker knows neither column, so it can only guess
    assert (decision.action, decision.figures["champion"]) == ("promoted", 0.5)
    assert tracking.champion()[1]["version"] == "2"


def test_rollback_gives_the_alias_back_and_the_same_table_does_not_bring_it_again(misled: Path) -> None:
    quick()
    decision = quick(rollback=True)
    assert (decision.action, decision.champion) == ("rolled back", "1")
    assert tracking.alias_version() == "1"
    assert tracking.find_version("foretune-ranker", "2").tags["foretune.decision"] == "rolled back"
    assert quick().action == "unchanged"
    with pytest.raises(UserError, match="replaced no other"):
        quick(rollback=True)


def test_rollback_without_a_champion_or_together_with_a_dry_run_is_refused(mlflow_root: Path) -> None:
    with pytest.raises(UserError, match="has no champion"):
        quick(rollback=True)
    with pytest.raises(UserError, match="choose one"):
        quick(rollback=True, dry_run=True)
    with pytest.raises(UserError, match="margin"):
        quick(margin=-1)
    with pytest.raises(DataError, match="no comparison table"):
        quick()
    assert tracking.alias_version() is None


def test_two_at_once_are_kept_apart(misled: Path) -> None:
    with tracking.lease(), pytest.raises(FailedError, match="another retraining"):
        quick()
    assert len(tracking.versions()) == 1


def test_a_champion_that_moved_meanwhile_is_not_overwritten(misled: Path) -> None:
    def somebody_else(line: str) -> None:
        if line.startswith("4 register"):
            version = train([table(8, prefix="third", zoo="third")], splits=1, params=SMALL).version
            assert tracking.move_alias("foretune-ranker", version, expected="1")

    decision = retrain(splits=2, params=SMALL, say=somebody_else)
    assert decision.action == "kept"
    assert decision.champion == tracking.alias_version() == "3"
    assert "became version 3 meanwhile" in decision.reason


def test_of_two_that_hold_the_lease_the_later_version_makes_way_and_nothing_is_lost(misled: Path) -> None:
    def the_other(line: str) -> None:
        if line.startswith("2 duel"):  # the other one registers first, and takes its time to move the alias
            tags = {"foretune.decision": "pending", "foretune.verdict": "promote", "foretune.previous": "1"}
            tracking.register_ranker(tracking.champion()[0], tags=tags)

    decision = retrain(splits=2, params=SMALL, say=the_other)
    assert (decision.action, decision.champion, decision.challenger) == ("abandoned", "1", "3")
    assert "version 2 of another retraining was first" in decision.reason
    assert tracking.alias_version() == "1"
    assert quick().champion == tracking.alias_version() == "4"  # the other one never came back: all is done again


def test_kill_9_at_every_step_loses_nothing_and_never_half_moves_the_alias(misled: Path) -> None:
    arguments = {"splits": 2, "params": SMALL, "root": misled}
    for step in ("1 table", "2 duel", "3 fit"):  # before registration nothing has changed
        steps.kill_at(step, retrain, PRELOAD, **arguments)
        assert tracking.alias_version() == "1"
        assert len(tracking.versions()) == 1
        assert tracking.champion()[1]["version"] == "1"
    steps.kill_at("4 register", retrain, PRELOAD, **arguments)
    assert tracking.alias_version() == "1"
    assert tracking.find_version("foretune-ranker", "2").tags["foretune.decision"] == "pending"
    lines = steps.kill_at("5 alias", retrain, PRELOAD, **arguments)  # the pending verdict is carried out, not found again
    assert not any(line.startswith("2 duel") for line in lines)
    assert tracking.champion()[1]["version"] == "2"
    assert tracking.find_version("foretune-ranker", "2").tags["foretune.decision"] == "pending"
    assert quick().action == "unchanged"  # it settles what was moved but not recorded
    assert tracking.find_version("foretune-ranker", "2").tags["foretune.decision"] == "promoted"
    assert len(tracking.versions()) == 2
    steps.kill_at("1 record", retrain, PRELOAD, rollback=True, root=misled)
    assert tracking.champion()[1]["version"] == "2"
    steps.kill_at("2 alias", retrain, PRELOAD, rollback=True, root=misled)
    assert tracking.champion()[1]["version"] == "1"
    assert tracking.find_version("foretune-ranker", "2").tags["foretune.decision"] == "rolled back"
    assert quick().action == "unchanged"  # what was rolled back does not come again on the same table


def test_a_pending_verdict_that_newer_outcomes_overtook_is_abandoned(misled: Path) -> None:
    def stop(line: str) -> None:
        if line.startswith("4 register"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retrain(splits=2, params=SMALL, say=stop)
    tracking.log_table(table(prefix="newest", seed=2, zoo="newest"), name="newest")
    decision = quick()
    assert decision.challenger == "3"
    assert tracking.find_version("foretune-ranker", "2").tags["foretune.decision"] == "abandoned"


def test_the_duel_asks_neither_about_a_checkpoint_that_it_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from training import duel as module

    fitted: list[set[str]] = []
    asked: list[set[str]] = []
    real_fit, real_pairs = module.fit, module._pairs

    def spy_fit(rows: pd.DataFrame, **k: Any) -> Any:
        fitted.append(set(rows["checkpoint"].str.split("@").str[0]))
        return real_fit(rows, **k)

    def spy_pairs(rows: pd.DataFrame, *a: Any) -> Any:
        asked.append(set(rows["checkpoint"].str.split("@").str[0]))
        return real_pairs(rows, *a)

    monkeypatch.setattr(module, "fit", spy_fit)
    monkeypatch.setattr(module, "_pairs", spy_pairs)
    history = table()
    renamed = table().assign(zoo="elsewhere")  # the champion knew the same checkpoints in another zoo
    verdict = duel(history, renamed, splits=3, samples=50, champion_params=SMALL, challenger_params=SMALL)
    assert verdict.splits == 3
    for held, *both in zip(asked, fitted[::2], fitted[1::2], strict=True):
        assert held
        assert all(not held & seen for seen in both)


def test_the_champion_is_judged_by_the_columns_that_it_was_fitted_on(mlflow_root: Path) -> None:
    rows = table(20).assign(width=np.random.default_rng(3).normal(size=20))
    train([rows], features=["width"], splits=1, params=SMALL)
    tracking.log_table(table(24, prefix="new", seed=1).assign(width=np.random.default_rng(4).normal(size=24)), name="news")
    decision = quick(dry_run=True)
    assert decision.figures["challenger"] > 0.9
    assert decision.figures["champion"] < 0.7


def test_equal_rankers_differ_by_nothing() -> None:
    verdict = duel(table(), table(), splits=2, samples=50, champion_params=SMALL, challenger_params=SMALL)
    assert verdict.difference == 0.0
    assert verdict.interval == (0.0, 0.0)
    assert verdict.probability == 0.0


def test_too_few_checkpoints_are_no_ground_for_a_comparison() -> None:
    with pytest.raises(DataError, match="4 different checkpoints"):
        duel(table(4), table())
