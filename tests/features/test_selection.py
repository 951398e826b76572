"""Selectors and estimators: unbiased where they say so, better than chance where they learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import DataError, UnknownNameError
from features.selection.estimators import Estimate, lure, lure_weights, plain, pure, pure_weights, weighted
from features.selection.selectors import SELECTORS, select
from features.selection.study import against_random
from features.selection.subset import TaskSubset, load, save


def benchmark(checkpoints: int, examples: int, seed: int = 0) -> np.ndarray:
    """Losses with a difficulty of each example, a skill of each checkpoint and four factors."""
    rng = np.random.default_rng(seed)
    skill = rng.normal(size=(checkpoints, 4)) * [1, 0.6, 0.4, 0.3]
    factors = rng.normal(size=(examples, 4))
    noise = 0.3 * rng.normal(size=(checkpoints, examples))
    return np.maximum(rng.gamma(2, 1, size=examples) + 0.3 * skill[:, :1] + 0.4 * skill @ factors.T + noise, 0)


def pair_accuracy(estimate: np.ndarray, truth: np.ndarray) -> float:
    i, j = np.triu_indices(len(truth), 1)
    return float((np.sign(estimate[i] - estimate[j]) == np.sign(truth[i] - truth[j])).mean())


@given(st.sampled_from(sorted(SELECTORS)), st.integers(1, 40), st.integers(1, 8), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_a_subset_has_just_the_budget_and_no_example_twice(name: str, budget: int, checkpoints: int, seed: int) -> None:
    losses = benchmark(max(checkpoints, 3), 40, seed)
    subset = select(name, losses, budget, seed=seed)
    assert len(set(subset.index.tolist())) == len(subset.index) == budget
    assert set(subset.index) <= set(range(40))
    assert np.isfinite(subset.weights).all()


@given(st.sampled_from(sorted(SELECTORS)), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_the_whole_benchmark_gives_its_own_mean(name: str, seed: int) -> None:
    losses, fresh = benchmark(6, 20, seed), benchmark(1, 20, seed + 1)[0]
    subset = select(name, losses, 20, seed=seed)
    assert subset.offset + fresh[subset.index] @ subset.weights == pytest.approx(fresh.mean(), rel=2e-2)


@pytest.mark.parametrize("estimator", [lure, pure])
def test_lure_and_pure_are_unbiased_under_a_biased_draw_and_plain_is_not(estimator) -> None:
    losses = benchmark(8, 60)
    fresh = benchmark(1, 60, 5)[0]
    runs = []
    for seed in range(4000):
        subset = select("high-loss", losses, 12, seed=seed)
        runs.append((estimator(fresh[subset.index], subset.probabilities, 60).value, fresh[subset.index].mean()))
    values, naive = np.array(runs).T
    half_width = 3.3 * values.std() / np.sqrt(len(values))  # 99.9 % interval of the simulation's mean
    assert abs(values.mean() - fresh.mean()) < half_width
    assert abs(naive.mean() - fresh.mean()) > half_width


@pytest.mark.parametrize("name", ["random", "high-loss"])
@pytest.mark.parametrize("estimator", [lure, pure])
def test_standard_errors_cover_the_truth_about_as_often_as_they_promise(name: str, estimator) -> None:
    losses = benchmark(8, 80)
    fresh = losses.mean(axis=0) + 0.3 * np.random.default_rng(0).normal(size=80)
    inside = 0
    for seed in range(600):
        subset = select(name, losses, 25, seed=seed)
        found = estimator(fresh[subset.index], subset.probabilities, 80)
        inside += abs(found.value - fresh.mean()) < 1.96 * found.stderr
    assert 0.88 < inside / 600 <= 1


def test_pure_is_not_exact_even_where_all_examples_are_drawn() -> None:
    found = pure(np.array([0.0, 1.0]), np.array([0.5, 1.0]), 2)
    assert found.value == 0.25
    assert found.stderr == pytest.approx(0.25)
    assert lure(np.array([0.0, 1.0]), np.array([0.5, 1.0]), 2) == Estimate(0.5, 0.0)


def test_weights_by_hand() -> None:
    assert lure_weights(np.full(3, 1 / np.arange(10, 7, -1)), 10) == pytest.approx([1, 1, 1])  # uniform: the plain mean
    assert pure_weights(np.array([0.5, 0.5]), 4) == pytest.approx([1 / 2 + 1 / 4, 1 / 2])
    assert lure_weights(np.array([0.5, 1.0]), 2) == pytest.approx([1, 1])  # everything drawn: the mean itself


def test_plain_and_weighted_errors() -> None:
    losses = np.array([1.0, 2, 3, 4])
    assert plain(losses, 8).stderr == pytest.approx(np.std(losses, ddof=1) / 2 * np.sqrt(0.5))
    assert plain(losses, 4).stderr == 0
    assert weighted(losses, np.full(4, 0.25), 8).stderr == pytest.approx(plain(losses, 8).stderr)
    assert np.isnan(plain(losses[:1], 8).stderr)


def test_the_study_finds_the_same_and_its_interval_excludes_zero() -> None:
    study = against_random(benchmark(24, 200), shares=(0.03, 1.0), selectors=("random", "kriging"), repetitions=15)
    best = study.table.query("selector == 'kriging' and share < 1").iloc[0]
    assert best.over_random_low > 0
    assert study.table.query("share == 1").accuracy.tolist() == pytest.approx([1, 1], abs=0.02)
    with pytest.raises(DataError, match="at least four"):
        against_random(benchmark(3, 20))


def test_whole_runs_are_held_out() -> None:
    """Twins of each checkpoint under one run name: no pair within a run may be told apart by having seen its twin."""
    losses, runs = benchmark(6, 60), [f"run{i}" for i in range(6)]
    once = against_random(losses, groups=runs, shares=(0.1,), selectors=("kriging",), repetitions=8).table
    twice = against_random(
        np.repeat(losses, 2, axis=0), groups=np.repeat(runs, 2).tolist(), shares=(0.1,), selectors=("kriging",), repetitions=8
    )
    assert abs(once.accuracy[0] - twice.table.accuracy[0]) < 0.15


def test_kriging_ranks_checkpoints_that_it_never_saw_better_than_random() -> None:
    losses = benchmark(50, 300)
    gains = []
    for seed in range(12):
        order = np.random.default_rng(seed).permutation(50)
        known, fresh = losses[order[:25]], losses[order[25:]]
        scores = {}
        for name in ("random", "kriging"):
            subset = select(name, known, 10, seed=seed)
            scores[name] = pair_accuracy(subset.offset + fresh[:, subset.index] @ subset.weights, fresh.mean(axis=1))
        gains.append(scores["kriging"] - scores["random"])
    assert np.mean(gains) - 2 * np.std(gains) / np.sqrt(12) > 0


def test_kriging_covers_classes_whose_levels_move_apart_and_weighs_them_by_their_share() -> None:
    """Checkpoints that differ in which label word they prefer: two examples of one class would say nothing of the whole."""
    rng = np.random.default_rng(0)
    strata = np.repeat(["a", "b", "c"], [40, 20, 40])
    levels = rng.normal(size=(12, 3))[:, np.unique(strata, return_inverse=True)[1]]
    losses = 5 + levels + 0.1 * rng.normal(size=(12, 100))
    subset = select("kriging", losses, 3, strata=strata)
    assert set(strata[subset.index]) == {"a", "b", "c"}
    weights = dict(zip(strata[subset.index], subset.weights, strict=True))
    assert [weights[k] for k in "abc"] == pytest.approx([0.4, 0.2, 0.4], abs=0.08)


def test_small_tasks_do_not_bias_a_random_subset() -> None:
    """Drawn in proportion to the target, so that each example of a small task counts for more, and weighed to undo it."""
    losses = np.concatenate([np.full((3, 20), 1.0), np.full((3, 180), 2.0)], axis=1)
    tasks = np.repeat(["small", "large"], [20, 180])
    estimates = [s.weights @ losses[0, s.index] for s in (select("random", losses, 20, tasks=tasks, seed=i) for i in range(400))]
    assert np.mean(estimates) == pytest.approx(1.5, abs=0.02)


def test_anchor_weights_are_cluster_sizes_and_twins_do_not_break_it() -> None:
    base = benchmark(10, 5)
    subset = select("anchor-points", np.repeat(base, [5, 4, 3, 2, 1], axis=1), 5)
    assert sorted(subset.weights * 15) == pytest.approx([1, 2, 3, 4, 5])
    crowded = select("anchor-points", np.repeat(base[:, :2], 10, axis=1), 6)
    assert len(crowded.index) == 6
    assert crowded.weights.sum() == pytest.approx(1)


def test_strata_get_their_share_and_tasks_share_the_budget_equally() -> None:
    losses = benchmark(5, 120)
    tasks = np.repeat(["small", "large"], [20, 100])
    subset = select("stratified", losses, 20, tasks=tasks)
    assert np.bincount(subset.index < 20).tolist() == [10, 10]
    assert subset.weights[subset.index < 20].sum() == pytest.approx(0.5)
    labels = np.tile(["a", "b", "b", "b"], 30)
    taken = select("stratified", losses, 40, strata=labels).index
    assert (labels[taken] == "a").sum() == 10


@pytest.mark.parametrize(
    ("budget", "losses"), [(0, np.ones((3, 4))), (5, np.ones((3, 4))), (2, np.full((3, 4), np.nan)), (1, np.ones(4))]
)
def test_what_cannot_be_selected_from_is_a_named_error(budget: int, losses: np.ndarray) -> None:
    with pytest.raises(DataError):
        select("random", losses, budget)
    with pytest.raises(UnknownNameError, match="anchor-points"):
        select("nothing", np.ones((3, 4)), 1)


def test_losses_or_probabilities_that_do_not_fit_are_named_errors() -> None:
    with pytest.raises(DataError, match="not finite"):
        plain(np.array([np.nan]), 4)
    with pytest.raises(DataError, match="known probabilities"):
        lure(np.array([1.0, 2.0]), np.array([0.5, np.nan]), 4)


def test_a_subset_survives_its_file_and_a_broken_file_is_named(tmp_path) -> None:
    path = tmp_path / "subset.json"
    made = TaskSubset("films", ("1", "7"), (0.25, 0.75), (0.1, 0.2))
    save(path, [made], selector="random", budget=2, made_from=["a"])
    assert load(path) == [made]
    document = json.loads(path.read_text())
    for breakage in (
        {"format": "other"},
        {"tasks": [{"task": "films"}]},
        {"tasks": [{**made.to_dict(), "examples": ["1", "1"]}]},
    ):
        path.write_text(json.dumps(document | breakage))
        with pytest.raises(DataError, match=r"subset\.json"):
            load(path)
