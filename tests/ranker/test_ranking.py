"""Borda, Bradley-Terry, P(best), ties: against worked examples, brute force and the clock."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ranker import LearningToCompare
from ranker.blend import probability
from ranker.ranking import against_anchors, assemble, borda, bradley_terry, tie_groups, top_chances


def test_borda_counts_expected_wins() -> None:
    P = np.array([[0.5, 0.9, 0.8], [0.1, 0.5, 0.6], [0.2, 0.4, 0.5]])
    assert borda(P) == pytest.approx([0.85, 0.35, 0.3])


@settings(max_examples=20, deadline=None)
@given(hnp.arrays(float, 6, elements=st.floats(-3, 3)))
def test_bradley_terry_recovers_the_strengths_behind_the_probabilities(strength: np.ndarray) -> None:
    found, error = bradley_terry(probability(strength[:, None] - strength[None]), prior=1e-9)
    assert found == pytest.approx(strength - strength.mean(), abs=1e-4)
    assert (error > 0).all()


def test_bradley_terry_of_the_1987_american_league() -> None:
    """Agresti, Categorical Data Analysis, table 10.10: wins between seven baseball teams, estimates relative to the last."""
    wins = np.array(
        [
            [0, 7, 9, 7, 7, 9, 11],
            [6, 0, 7, 5, 11, 9, 9],
            [4, 6, 0, 7, 7, 8, 12],
            [6, 8, 6, 0, 6, 7, 10],
            [6, 2, 6, 7, 0, 7, 12],
            [4, 4, 5, 6, 6, 0, 6],
            [2, 4, 1, 3, 1, 7, 0],
        ],
        float,
    )  # Milwaukee, Detroit, Toronto, New York, Boston, Cleveland, Baltimore
    found, _ = bradley_terry(wins, prior=1e-9)
    assert found - found[6] == pytest.approx([1.581, 1.436, 1.294, 1.248, 1.108, 0.684, 0.0], abs=2e-3)


def test_anchors_agree_with_all_pairs() -> None:
    s = np.random.default_rng(0).normal(size=600)
    every = borda(probability(s[:, None] - s[None]))
    some = against_anchors(lambda i, j: probability(s[i] - s[j]), s, anchors=64)
    assert np.abs(every - some).max() < 0.01


def test_chances_are_those_of_luce_and_add_up() -> None:
    s = np.log(np.array([[4.0, 2.0, 1.0, 1.0]]))
    best, top = top_chances(s, 2, draws=20_000)
    assert best == pytest.approx([0.5, 0.25, 0.125, 0.125])
    assert top.sum() == pytest.approx(2.0, abs=0.02)
    assert top[0] == pytest.approx(0.5 + 0.25 * 4 / 6 + 2 * 0.125 * 4 / 7, abs=0.02)
    assert top_chances(s, 4)[1].tolist() == [1.0] * 4


def test_a_tie_group_holds_those_too_close_to_its_first() -> None:
    strength = np.log(9) * np.array([0.0, -0.5, -0.99, -1.01, -3.0])  # called from odds of nine to one
    assert tie_groups(strength, 0.9).tolist() == [0, 0, 0, 1, 2]


def test_rows_are_in_order_and_ties_are_mutual() -> None:
    strength = np.array([0.0, 3.0, 0.1])
    bags = strength + np.random.default_rng(0).normal(0, 0.1, (8, 3))
    ranking = assemble(["a", "b", "c"], strength, bags, 0.9, 1, 1.7, [])
    rows = ranking.rows
    assert list(ranking) == rows
    assert (len(ranking), ranking[0]["checkpoint"]) == (3, "b")
    assert [r["checkpoint"] for r in rows] == ["b", "c", "a"]
    assert [r["rank"] for r in rows] == [1, 2, 3]
    assert rows[0]["tied_with"] == []
    assert rows[1]["tied_with"] == ["a"]
    assert rows[2]["tied_with"] == ["c"]
    assert sum(r["p_best"] for r in rows) == pytest.approx(1.0)
    assert all(r["interval"][0] <= r["score"] <= r["interval"][1] for r in rows)


def test_one_candidate_is_best_for_certain() -> None:
    (row,) = assemble(["only"], np.zeros(1), np.zeros((4, 1)), 0.9, 1, 1.0, []).rows
    assert row["p_best"] == 1.0
    assert row["rank"] == 1


def test_a_thousand_candidates_take_under_a_second_and_more_cost_in_proportion() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(30, 4)), columns=list("abcd"))
    ranker = LearningToCompare(bags=4).fit(X, X["a"] + rng.normal(size=30))
    zoo = pd.DataFrame(rng.normal(size=(1000, 4)), columns=list("abcd"))
    ranker.rank(zoo[:10])
    start = time.process_time()
    ranking = ranker.rank(zoo)
    assert time.process_time() - start < 1.0
    assert ranking.exact
    assert len(ranking.rows) == 1000
    big = ranker.rank(pd.concat([zoo] * 3, ignore_index=True))
    assert not big.exact
    top = [r["checkpoint"] for r in big.rows[:3]]
    assert {int(c) % 1000 for c in top} == {int(ranking.rows[0]["checkpoint"])}
