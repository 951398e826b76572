"""A task of which features say much is answered more surely than one of which they say little; no order changes for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ranker import LearningToCompare
from ranker.held import SCORERS, Held
from ranker.pairs import within
from ranker.steepness import steepness

SLOPES = {"clear": 4.0, "usual": 1.5, "dim": 0.3}


def held_out(slopes: list[float], checkpoints: int, seed: int = 0) -> tuple[Held, np.ndarray]:
    """Pairs of tasks whose true log-odds are a slope of their own times what the one scorer says."""
    rng = np.random.default_rng(seed)
    i, j = within(np.repeat(np.arange(len(slopes)), checkpoints))
    score = rng.normal(size=checkpoints * len(slopes))
    gap = np.zeros((len(i), len(SCORERS)))
    gap[:, 0] = score[i] - score[j]
    task = i // checkpoints
    better = np.where(rng.random(len(i)) < 1 / (1 + np.exp(-np.array(slopes)[task] * gap[:, 0])), 1.0, -1.0)
    fold, own = np.zeros(len(i), np.int64), np.zeros(len(i), np.int64)
    worth = dict.fromkeys(range(len(slopes)), float(checkpoints))
    weights = np.zeros((2, len(SCORERS)))
    weights[:, 0] = 1.0
    return Held(gap, better, np.ones(len(i)), i, j, fold, own, task, float(checkpoints), worth), weights


def test_factors_come_near_the_true_ones_with_many_checkpoints_and_stay_near_one_with_few() -> None:
    true = [2.0, 1.0, 0.5, 1.0, 2.0, 0.5]
    many, few = (steepness(*held_out(true, n)) for n in (300, 6))
    assert [many[k] for k in range(6)] == pytest.approx(true, rel=0.15)
    drawn = np.log([few[k] for k in range(6)])
    assert np.abs(drawn).max() < 0.5 * np.log(2)


def test_tasks_that_are_alike_keep_the_common_steepness_whatever_it_is() -> None:
    for slope in (0.6, 1.0, 1.8):
        found = steepness(*held_out([slope] * 8, 150))
        assert list(found.values()) == pytest.approx([1.0] * 8, abs=0.12)


def test_one_task_or_no_pair_has_no_factor() -> None:
    held, weights = held_out([2.0, 0.5], 40)
    assert steepness(held.only(held.task == 0), weights) == {0: 1.0}
    assert steepness(held.only(held.task > 1), weights) == {}


def test_a_task_that_says_the_opposite_is_answered_with_less_and_still_in_the_same_order() -> None:
    found = steepness(*held_out([2.0, 2.0, -2.0], 60))
    assert 0 < found[2] < 0.7 < found[0]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    parts = []
    for task, slope in SLOPES.items():
        x = rng.normal(size=(70, 2))
        y = slope * x[:, 0] + 0.3 * x[:, 1] + rng.normal(size=70)
        parts.append(pd.DataFrame({"task": task, "good": x[:, 0], "other": x[:, 1], "outcome": y}))
    return pd.concat(parts, ignore_index=True)


def older_format(folder: Path) -> LearningToCompare:
    """The ranker in the folder as it was written before tasks had a steepness of their own."""
    content = json.loads((folder / "ranker.json").read_text())
    del content["ensemble"]["steep"], content["card"]["steepness"]
    (folder / "ranker.json").write_text(json.dumps(content | {"format": 5}))
    return LearningToCompare.load(folder)


def test_a_ranker_says_how_steep_each_task_is_and_keeps_it(table: pd.DataFrame, tmp_path: Path) -> None:
    X = table[["good", "other"]]
    ranker = LearningToCompare(bags=4, rounds=20).fit(X, table["outcome"], task=table["task"])
    steep = ranker.card_["steepness"]
    assert list(steep) == ranker.tasks_
    assert steep["clear"] > 1.1 > 0.9 > steep["dim"]
    ranker.save(tmp_path)
    loaded = LearningToCompare.load(tmp_path)
    older = older_format(tmp_path)
    a, b = {"good": 0.6, "other": 0.1}, {"good": -0.4, "other": 0.2}
    for task in SLOPES:
        context = X[(table["task"] == task).to_numpy()]
        answer = ranker.answer(a, b, task=task, context=context)
        assert ranker.answer(b, a, task=task, context=context).log_odds == -answer.log_odds
        assert sum(r["contribution"] for r in answer.reasons) == pytest.approx(answer.log_odds)
        strength = ranker.strengths(pd.DataFrame([a, b]), task=task, context=context)
        assert strength[0] - strength[1] == pytest.approx(answer.log_odds)
        assert loaded.answer(a, b, task=task, context=context) == answer
        before = older.answer(a, b, task=task, context=context)
        assert answer.log_odds == pytest.approx(steep[task] * before.log_odds)
        assert answer.interval[0] <= answer.probability <= answer.interval[1]
    assert ranker.holdout_["ece"] < 0.1
