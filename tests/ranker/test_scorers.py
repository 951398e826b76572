"""The parts inside: probabilities, linear scorers, the process, trees merged, standardising."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import DataError
from ranker import LearningToCompare, trees
from ranker.blend import calibration_error, probability, too_close_below, weights
from ranker.held import group_sizes
from ranker.linear import Linear, Signs, Single, ridge
from ranker.pairs import Floats, far_out, merge_groups, within
from ranker.process import Process
from ranker.rows import rarity
from ranker.scale import normal_scores, soft, standard_outcome
from ranker.standardise import Standardiser
from ranker.vocabulary import meaning, resolve
from ranker.words import holds, indicators

RNG = np.random.default_rng(0)


@settings(max_examples=300, deadline=None)
@given(st.floats(-800, 800))
def test_a_sigmoid_and_its_mirror_add_up_to_one_to_the_last_bit(x: float) -> None:
    there, back = probability(np.array([x, -x]))
    assert there + back == 1.0
    assert probability(np.array([0.0]))[0] == 0.5


def test_within_lists_every_pair_of_a_unit_once_and_samples_evenly() -> None:
    unit = np.array([0, 1, 0, 1, 1])
    assert set(zip(*within(unit), strict=True)) == {(0, 2), (1, 3), (1, 4), (3, 4)}
    big = np.repeat([0, 1], [2000, 1000])
    i, j = within(big, limit=5000)
    assert (big[i] == big[j]).all()
    assert (i != j).all()
    assert np.mean(big[i] == 0) == pytest.approx(0.8, abs=0.02)


def test_groups_that_share_a_member_become_one() -> None:
    merged = merge_groups(np.array([0, 0, 1, 2]), np.array([5, 6, 6, 7]))
    assert len(set(merged[:3])) == 1
    assert merged[3] != merged[0]


def test_a_prolific_group_counts_as_few_and_its_pairs_weigh_less() -> None:
    checkpoint = np.concatenate([np.arange(30), np.arange(30)])  # two tasks
    group = np.array([0] * 20 + list(range(1, 11)))
    members, size = group_sizes(np.concatenate([group, group]), checkpoint)
    assert members.tolist() == [20] + [1] * 10
    assert size == pytest.approx(30**2 / (20**2 + 10))
    assert group_sizes(np.arange(7), np.arange(7))[1] == pytest.approx(7)

    rng = np.random.default_rng(0)
    x, easy = rng.normal(size=120), np.arange(120) >= 60
    y = np.where(easy, 6 + 0.01 * rng.normal(size=120), 0.5 * x + rng.normal(size=120))
    x = np.where(easy, 4 + 0.01 * rng.normal(size=120), x)  # one uploader's 60 beat everybody else's, and say so
    alone = LearningToCompare(bags=4, rounds=5).fit(x[:, None], y)
    known = LearningToCompare(bags=4, rounds=5).fit(x[:, None], y, group=np.where(easy, 999, np.arange(120)))
    weak = np.array([[0.5]]), np.array([[-0.5]])
    context = pd.DataFrame({"x0": x})
    assert 0.5 < known.compare(*weak, context=context)[0] < alone.compare(*weak, context=context)[0]
    assert known.call_from_ >= alone.call_from_


def test_rows_of_a_prolific_group_weigh_less_and_twins_are_one() -> None:
    group = np.array([0, 0, 0, 0, 1, 2, 2])
    same = np.array([0, 1, 2, 3, 4, 5, 5])
    both = rarity(np.tile(group, 2), np.tile(same, 2), np.repeat([0, 1], 7))  # two tasks
    assert both[:7] == pytest.approx(both[7:])
    assert both.mean() == pytest.approx(1)
    assert both[0] / both[4] == pytest.approx(0.5)
    assert both[5] == both[4]
    assert (rarity(np.arange(5), np.arange(5), np.zeros(5, np.int64)) == 1).all()


def test_a_failed_run_is_far_out_and_keeps_only_its_rank() -> None:
    y = np.array([36.0, 37, 38, 36.5, 37.5, 38.5, 0.15])
    unit = np.zeros(7, np.int64)
    assert far_out(y, unit).tolist() == [False] * 6 + [True]
    t = standard_outcome(y, unit)
    assert t.argmin() == 6
    assert t[6] > -3
    assert t.mean() == pytest.approx(0)


def test_the_ridge_finds_the_weights_and_gives_noise_none() -> None:
    A = RNG.normal(size=(200, 5))
    truth = np.array([1.0, -0.5, 0.25, 0, 0])
    assert ridge(A, A @ truth + 0.1 * RNG.normal(size=200), 199) == pytest.approx(truth, abs=0.05)
    few, many = RNG.normal(size=(12, 30)), RNG.normal(size=12)
    assert np.abs(ridge(few, many, 11)).sum() < 1.5
    wide = RNG.normal(
        size=(10, 12)
    )  # more columns than rows: the same answer by the other route, as if two rows of zeros were there
    y = wide[:, 0] + 0.3 * RNG.normal(size=10)
    assert ridge(wide, y, 9) == pytest.approx(ridge(np.vstack([wide, np.zeros((2, 12))]), np.append(y, [0, 0]), 9), abs=1e-6)


def test_signs_are_kept() -> None:
    Z = RNG.normal(size=(60, 2))
    t = Z[:, 0] - Z[:, 1]
    zeros = np.zeros(60, np.int64)
    for kind in (Linear, Single):
        held = kind().fit(Z, t, np.ones(60), zeros, zeros, np.array([1, 1]))
        assert held.weights[0] > 0
        assert held.weights[1] == 0


def test_one_good_feature_among_noise_takes_the_weight_of_single() -> None:
    Z = RNG.normal(size=(30, 12))
    zeros = np.zeros(30, np.int64)
    found = Single().fit(Z, Z[:, 4] + 0.5 * RNG.normal(size=30), np.ones(30), zeros, zeros).weights
    assert np.abs(found).argmax() == 4
    assert abs(found[4]) > 5 * np.abs(np.delete(found, 4)).sum()


def process(n: int = 30) -> tuple[Process, np.ndarray, np.ndarray]:
    Z = np.random.default_rng(1).normal(size=(n, 2))
    t = np.sin(2 * Z[:, 0])
    zeros = np.zeros(n, np.int64)
    every = np.ones((2, n), bool)
    every[0, :5] = False
    return Process().fit(Z, t, np.ones(n), zeros, zeros, np.arange(n), every, 0), Z, t


def test_the_process_fits_a_curve_and_its_shares_add_up() -> None:
    fitted, Z, _ = process()
    fresh = np.random.default_rng(2).normal(size=(200, 2)).clip(-1.5, 1.5)
    assert np.corrcoef(fitted.score(fresh, 0)[-1], np.sin(2 * fresh[:, 0]))[0, 1] > 0.9
    gap = np.diff(fitted.score(Z[:2], 0)[-1])[0]
    shares = fitted.between(Z[1], Z[0], 0)
    assert shares.sum() == pytest.approx(gap, abs=1e-6)
    same = fitted.between(np.array([1.0, 0.3]), np.array([-1.0, 0.3]), 0)
    assert same[1] == 0.0


def test_the_evidence_gradient_is_that_of_finite_differences() -> None:
    """The gradient that the optimiser is given leads it to a point that no small step improves."""
    fitted, Z, t = process()
    n = len(Z)
    zeros = np.zeros(n, np.int64)

    def negative(theta: np.ndarray) -> float:
        K, noise = fitted._covariance(theta, Z, np.ones(n), zeros, zeros, np.arange(n))
        logdet = np.linalg.slogdet(K + noise)[1]
        prior = np.array([np.log(0.5), np.log(0.3), np.log(0.4), 0.5 * np.log(fitted.size)])
        pull = ((theta[:4] - prior) / np.array([1.5, 1.5, 1.0, 0.7])) ** 2
        return 0.5 * t @ np.linalg.solve(K + noise, t) + 0.5 * logdet + 0.5 * pull.sum()

    best = negative(fitted.theta)
    for k in range(4):
        for step in (-0.1, 0.1):
            moved = fitted.theta.copy()
            moved[k] += step
            if abs(moved[k] - np.array([np.log(0.5), np.log(0.3), np.log(0.4), 0.5 * np.log(fitted.size)])[k]) < 5:
                assert negative(moved) > best - 1e-4


def test_a_forest_predicts_the_mean_of_its_boosters_and_keeps_their_parts() -> None:
    Z = RNG.normal(size=(40, 3))
    t = Z[:, 0] + 0.1 * RNG.normal(size=40)
    ones = np.ones(40)
    several = [trees.fit(Z, t, ones, rounds=15, seed=k) for k in range(3)]
    forest = trees.Forest.of({0: several}, {0: several})
    each = np.array([b.predict(Z) for b in several])
    assert forest.whole is not None
    assert forest.whole.predict(Z) == pytest.approx(each.mean(0), abs=1e-9)
    assert forest.score(Z) == pytest.approx(each.mean(0), abs=1e-9)
    assert forest.each(Z) == pytest.approx(each, abs=1e-9)
    shap = forest.parts(Z)
    assert shap[0].sum() - shap[1].sum() == pytest.approx(forest.score(Z)[0] - forest.score(Z)[1], abs=1e-9)
    with pytest.raises(DataError, match="not a LightGBM model"):
        trees.read("nonsense")


def test_sections_of_a_forest_are_the_boosters_of_each_task_whatever_their_sizes() -> None:
    Z = RNG.normal(size=(40, 3))
    free, unit = np.zeros(3, np.int64), np.zeros(40, np.int64)

    def some(feature: int, rounds: int) -> list[lgb.Booster]:
        return [trees.fit_ranknet(Z, Z[:, feature], np.ones(40), unit, rounds=rounds, seed=k, monotone=free) for k in range(2)]

    whole, bags = {4: some(0, 9), 2: some(1, 5)}, {4: some(0, 7), 2: some(1, 8)}
    forest = trees.Forest.of(whole, bags)
    for code in (4, 2):
        assert forest.score(Z, code) == pytest.approx(np.mean([b.predict(Z) for b in whole[code]], 0), abs=1e-9)
        assert forest.each(Z, code) == pytest.approx(np.array([b.predict(Z) for b in bags[code]]), abs=1e-9)
        gap = forest.parts(Z, code).sum(1)
        assert gap[0] - gap[1] == pytest.approx(forest.score(Z, code)[0] - forest.score(Z, code)[1], abs=1e-9)
    assert not forest.score(Z, 7).any()
    assert not forest.parts(Z, 7).any()
    assert forest.each(Z, 7).shape == (1, 40)
    again = trees.Forest.from_texts(*forest.texts(), {str(k): v for k, v in forest.sections.items()})
    assert np.array_equal(again.each(Z, 2), forest.each(Z, 2))
    assert np.array_equal(again.score(Z, 4), forest.score(Z, 4))
    with pytest.raises(DataError, match="another number of trees"):
        trees.Forest.from_texts(*forest.texts(), {"4": forest.sections[4]})
    nothing = trees.Forest.of({}, {})
    assert nothing.texts() == ("", "")
    assert not trees.Forest.from_texts("", "", {}).score(Z).any()


def test_ranknet_learns_the_order_alone_leaves_doubtful_rows_out_and_keeps_directions() -> None:
    Z = RNG.normal(size=(60, 2))
    unit = np.repeat([0, 1], 30)
    order = Z[:, 0] + 0.05 * RNG.normal(size=60)
    free = np.zeros(2, np.int64)

    def scored(t: Floats, w: Floats, monotone: Any = free) -> Floats:
        booster = trees.fit_ranknet(Z, t, w, unit, rounds=75, seed=0, monotone=monotone)
        return np.asarray(booster.predict(Z))

    ones = np.ones(60)
    found = scored(order, ones)
    assert np.array_equal(found, scored(np.exp(3 * order), ones))  # any increasing function of the outcome says the same
    # and so does a shift of one unit: only pairs within it count
    assert np.array_equal(found, scored(order + 100.0 * unit, ones))
    i, j = np.triu_indices(60, 1)
    assert np.mean((found[i] > found[j]) == (order[i] > order[j])) > 0.9
    wrong = np.where(np.arange(60) % 3 == 0, -order, order)
    sure = np.where(np.arange(60) % 3 == 0, 1e-6, 1.0)
    assert np.corrcoef(scored(wrong, sure), order)[0, 1] > np.corrcoef(scored(wrong, ones), order)[0, 1] + 0.05
    against = scored(order, ones, np.array([-1, 0]))
    assert np.corrcoef(against, order)[0, 1] < 0.5


def test_blend_weights_follow_the_better_scorer_and_the_slope_calibrates() -> None:
    rng = np.random.default_rng(5)
    truth = rng.normal(size=4000)
    better = np.where(rng.random(4000) < probability(2 * truth), 1.0, -1.0)
    gap = np.column_stack([truth, rng.normal(size=4000)])
    found = weights(gap, better, np.ones(4000), 4000, [1, 1], freedom=1.0)
    assert found[0] == pytest.approx(2.0, abs=0.2)
    assert found[1] < 0.1
    p = probability(gap @ found)
    right = np.where(better > 0, p > 0.5, p < 0.5).astype(float)
    assert calibration_error(p, right) < 0.03
    bound = too_close_below(p, right, np.ones(4000), 0.1, 1000)
    called = np.maximum(p, 1 - p) >= bound
    assert right[called].mean() >= 0.885
    assert called.mean() > 0.3


def test_far_values_are_bent_but_stay_in_order() -> None:
    z = np.linspace(-50, 50, 1001)
    assert (np.diff(soft(z)) > 0).all()
    assert soft(np.array([1.5]))[0] == 1.5
    assert np.abs(soft(z)).max() < 4


def test_rank_scores_are_symmetric_and_tell_missing_values_apart() -> None:
    scores = normal_scores(np.array([1.0, 2, 3, 4, np.nan]), np.array([1.0, 2, 3, 4]))
    assert scores[:4] == pytest.approx(-scores[:4][::-1])
    assert np.isnan(scores[4])


def test_the_parts_of_a_configuration_are_indicators() -> None:
    column = pd.Series(["SC", "SC+CLM", "CLM", "SC+CLM", "SC", "CLM", "UL2", None])
    found = indicators(column, np.arange(8), 24)
    assert "~SC" in found
    assert "~CLM" in found
    assert holds("SC+PLM", ["~SC", "=SC", "~CLM", "!SC"]).tolist() == [1, 0, 0, 1]
    assert indicators(pd.Series([f"name-{k}" for k in range(8)]), np.arange(8), 24) == []


def test_a_zoo_of_another_scale_is_standardised_by_itself_and_a_pair_mostly_by_the_training() -> None:
    X = pd.DataFrame({"ppl_clm": np.exp(RNG.normal(1.0, 0.1, 40))})
    learnt = Standardiser().fit(X, np.zeros(40, np.int64), np.arange(40))
    other = pd.DataFrame({"ppl_clm": np.exp(RNG.normal(6.0, 0.5, 40))})
    raw = learnt.raw(other)
    context = learnt.context(raw)
    assert context.outside == ("ppl_clm",)
    assert np.std(learnt.standardise(raw, context)) == pytest.approx(1.0, abs=0.3)
    pair = learnt.raw(X[:2])
    assert learnt.context(pair).spread[0] == pytest.approx(learnt.columns[0].spread, rel=0.5)


def test_names_say_what_a_column_is() -> None:
    assert meaning("inv_ppl_clm").quantity == meaning("ppl_clm").quantity == "ppl_clm"
    assert meaning("inv_ppl_clm").column_direction == 1
    assert meaning("ppl_clm").column_direction == -1
    assert meaning("inv_ppl_clm").apply(np.array([0.25])) == pytest.approx(meaning("ppl_clm").apply(np.array([4.0])))
    assert meaning("learning_rate").configuration
    assert meaning("something else").direction == 0
    assert resolve(["ppl_sc", "kshot_acc"], ["ppl_sc_t5", "kshot_rag", "x"]) == {"ppl_sc": "ppl_sc_t5", "kshot_acc": "kshot_rag"}
    assert resolve(["kshot_cms", "kshot_rag"], ["kshot_acc"]) == {}


def test_few_checkpoints_prove_no_lower_bound_than_a_pairs_own_confidence() -> None:
    rng = np.random.default_rng(6)
    p = 0.5 + 0.5 * rng.random(3000)
    right = (rng.random(3000) < p).astype(float)
    ones = np.ones(3000)
    few, many = (too_close_below(p, right, ones, 0.1, size) for size in (12, 2000))
    assert many < few <= 0.9
    assert too_close_below(p, right, ones, 0.1, 6) == 1.0
    bold = too_close_below(p, (rng.random(3000) < 0.6).astype(float), ones, 0.1, 2000)
    assert bold > 0.99
    assert too_close_below(p[:0], right[:0], ones[:0], 0.1, 12) == 0.9


def test_known_directions_vote_and_those_that_say_the_same_share_a_vote() -> None:
    Z = RNG.normal(size=(40, 3))
    Z = np.column_stack([Z, Z[:, 0], Z[:, 0]])
    zeros = np.zeros(40, np.int64)
    votes = Signs().fit(Z, RNG.normal(size=40), np.ones(40), zeros, zeros, np.array([1, -1, 0, 1, 1])).weights
    assert votes[2] == 0
    assert votes[1] < 0
    assert abs(votes[0] - votes[3]) < 1e-9
    assert 0.8 < (votes[0] + votes[3] + votes[4]) / -votes[1] < 2.2


def test_words_alone_can_decide() -> None:
    X = pd.DataFrame({"kind": ["sc", "clm", "ul2", "plm"] * 10})
    y = X["kind"].map({"sc": 0.0, "clm": 1.0, "ul2": 2.0, "plm": 3.0}).to_numpy() + 0.1 * RNG.normal(size=40)
    ranker = LearningToCompare(bags=4, rounds=20).fit(X, y, group=np.arange(40))
    order = ranker.strengths(pd.DataFrame({"kind": ["sc", "clm", "ul2", "plm"]}), context=X)
    assert (np.diff(order) > 0).all()


_STRANGE_VALUES = [
    1.5,
    3,
    "2.5",
    "words",
    None,
    float("nan"),
    float("inf"),
    -4.0,
    0.0,
    True,
    1e300,
    10**400,
    [1.0],
    {},
    np.int32(7),
]


@pytest.mark.parametrize("value", _STRANGE_VALUES, ids=lambda v: repr(v)[:12])
def test_a_row_is_read_as_the_same_row_of_a_table(value: Any) -> None:
    X = pd.DataFrame({"good": RNG.normal(size=40), "ppl_clm": RNG.lognormal(3, 1, 40), "kind": ["sc", "clm"] * 20})
    learnt = Standardiser().fit(X, np.zeros(40, np.int64), np.arange(40))
    for name in ("good", "ppl_clm", "inv_ppl_clm"):
        row = {"kind": "sc", name: value}
        found = resolve([c.name for c in learnt.columns], list(row))
        # No table holds these: in a row they are no numbers.
        shown = None if isinstance(value, list | dict) or value == 10**400 else value
        table = pd.DataFrame({"kind": ["sc"], name: pd.Series([shown], dtype=object)})
        assert np.array_equal(learnt.raw_row(row, found), learnt.raw(table)[0], equal_nan=True)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_context_mixes_each_column_as_it_would_alone(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 12))
    table = np.array(
        data.draw(
            st.lists(
                st.lists(st.sampled_from([1.0, 2.0, 5.0, 400.0, np.nan]), min_size=rows, max_size=rows), min_size=3, max_size=3
            )
        )
    )
    learnt = Standardiser().fit(
        pd.DataFrame(RNG.normal(size=(30, 3)), columns=["a", "b", "c"]), np.zeros(30, np.int64), np.arange(30)
    )
    together = learnt.context(table.T)
    for k in range(3):
        alone = np.full((rows, 3), np.nan)
        alone[:, k] = table[k]
        one = learnt.context(alone)
        assert one.centre[k] == together.centre[k]
        assert one.spread[k] == together.spread[k]
        present = table[k][~np.isnan(table[k])]
        column = learnt.columns[k]
        if len(present) == 0:
            assert (one.centre[k], one.spread[k]) == (column.centre, column.spread)
        elif column.name not in one.outside:
            middle = float(np.median(present))
            assert min(middle, column.centre) - 1e-9 <= one.centre[k] <= max(middle, column.centre) + 1e-9


@pytest.mark.parametrize("rows", [16, 40])  # too few for scorers of the task's own, and enough
def test_a_task_never_fitted_on_draws_the_odds_towards_even(rows: int) -> None:
    X = pd.DataFrame({"good": RNG.normal(size=rows)})
    ranker = LearningToCompare(bags=4, rounds=20).fit(X, X["good"] + 0.3 * RNG.normal(size=rows), task=["films"] * rows)
    assert bool(ranker.ensemble_.own.sections) == (rows == 40)
    assert not ranker.ensemble_.own_processes  # of one task, the process of all tasks is its own
    a, b = {"good": 1.0}, {"good": -1.0}
    known, strange = (ranker.answer(a, b, task=t, context=X) for t in ("films", "books"))
    assert strange.log_odds == pytest.approx(0.5 * known.log_odds, rel=1e-9 if rows == 16 else 0.2)
    for answer in (known, strange):
        assert sum(r["contribution"] for r in answer.reasons) == pytest.approx(answer.log_odds)
    assert any("not fitted on this task" in note for note in strange.notes)
    assert not known.notes


def test_a_table_of_which_some_tasks_have_scorers_of_their_own_answers_on_all() -> None:
    X = pd.DataFrame({"good": RNG.normal(size=70), "other": RNG.normal(size=70)})
    task = np.repeat(["films", "books", "news"], [40, 10, 20])
    y = np.where(task == "films", 1, -1) * X["good"] + 0.3 * RNG.normal(size=70)
    ranker = LearningToCompare(bags=4, rounds=20).fit(X, y, task=task)
    assert set(ranker.ensemble_.own.sections) == {ranker.tasks_.index("films"), ranker.tasks_.index("news")}
    assert set(ranker.ensemble_.own_processes) == set(ranker.ensemble_.own.sections)
    without, with_own = ranker.ensemble_.weights
    assert (without[-2:] == 0).all()
    assert (with_own[-2:] > 0).all()
    a, b = {"good": 1.0, "other": 0.0}, {"good": -1.0, "other": 0.0}
    for name in ("films", "books", "news", "unheard of"):
        answer = ranker.answer(a, b, task=name, context=X)
        assert sum(r["contribution"] for r in answer.reasons) == pytest.approx(answer.log_odds)
        assert ranker.answer(b, a, task=name, context=X).log_odds == -answer.log_odds
        p = ranker.compare(pd.DataFrame([a]), pd.DataFrame([b]), task=name, context=X)[0]
        assert p == pytest.approx(answer.probability, abs=1e-12)
    assert ranker.answer(a, b, task="films", context=X).probability > 0.8
    assert ranker.answer(a, b, task="news", context=X).probability < 0.2


def test_reasons_add_up_whatever_is_missing() -> None:
    X = pd.DataFrame(RNG.normal(size=(60, 4)), columns=["good", "other", "third", "fourth"])
    X.loc[::3, "third"] = np.nan
    y = X["good"] * X["other"] + X["third"].fillna(1) * X["fourth"] + 0.1 * RNG.normal(size=60)
    ranker = LearningToCompare(bags=4, rounds=40).fit(X, y, task=["films"] * 60)
    values = {"good": (1.0, -0.5), "other": (0.5, 0.2), "third": (-1.0, 1.5), "fourth": (2.0, 0.1)}
    for names in (["good"], ["good", "third"], ["other", "fourth"], ["third"], list(values)):
        a, b = ({n: values[n][k] for n in names} for k in (0, 1))
        for task in ("films", "books"):
            answer = ranker.answer(a, b, task=task)
            assert {r["feature"] for r in answer.reasons} == set(names)
            assert sum(r["contribution"] for r in answer.reasons) == pytest.approx(answer.log_odds, abs=1e-12)
            back = ranker.answer(b, a, task=task)
            assert {r["feature"]: -r["contribution"] for r in back.reasons} == pytest.approx(
                {r["feature"]: r["contribution"] for r in answer.reasons}, abs=1e-12
            )


def test_a_task_of_one_group_or_of_equal_outcomes_gets_no_scorers_of_its_own() -> None:
    X = pd.DataFrame({"good": RNG.normal(size=75)})
    task = np.repeat(["films", "one group", "all equal"], 25)
    y = np.where(task == "all equal", 1.0, X["good"] + 0.3 * RNG.normal(size=75))
    group = np.where(task == "one group", "g", np.arange(75).astype(str))
    ranker = LearningToCompare(bags=4, rounds=20).fit(X, y, task=task, group=group)
    assert list(ranker.ensemble_.own.sections) == [ranker.tasks_.index("films")]
    for name in set(task):
        assert ranker.answer({"good": 1.0}, {"good": -1.0}, task=name, context=X).probability > 0.5


def test_trees_on_pairs_of_which_none_differs_say_nothing() -> None:
    free = np.zeros(2, np.int64)
    booster = trees.fit_ranknet(
        RNG.normal(size=(12, 2)), np.ones(12), np.ones(12), free.repeat(6), rounds=5, seed=0, monotone=free
    )
    forest = trees.Forest.of({0: [booster]}, {0: [booster]})
    assert not forest.score(RNG.normal(size=(3, 2))).any()
    assert not forest.each(RNG.normal(size=(3, 2))).any()
