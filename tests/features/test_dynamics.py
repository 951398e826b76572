"""Trajectories, relatedness of tasks and points, cartography and curves."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from features.dynamics.cartography import AMBIGUOUS, EASY, HARD, coordinates, read_dynamics, read_trainer_state, regions
from features.dynamics.curves import course, power_law
from features.dynamics.points import against_labels, agreement, cluster, coefficients, correlations, scaling, standardised
from features.dynamics.published import TASKS, attainable, cartography, pythia
from features.dynamics.relatedness import detrended, effective_size, holm, p_value, relatedness
from features.dynamics.trajectories import Trajectories
from features.errors import DataError


def walks(count: int, length: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, length)).cumsum(axis=1)


def test_a_correlation_and_its_textbook_p_value_equal_scipys() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 29))
    table = relatedness({"a": x, "b": y}, np.arange(29))
    expected = stats.pearsonr(x, y)
    assert table.correlation.loc["a", "b"] == pytest.approx(expected.statistic)
    assert table.p_naive.loc["a", "b"] == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(
    ("r", "p", "unit"),
    [
        (0.77, 1e-6, 1e-6),
        (-0.39, 0.037, 1e-3),
        (-0.32, 0.088, 1e-3),
        (0.51, 0.004, 1e-3),
        (0.27, 0.164, 1e-3),
        (-0.33, 0.08, 1e-2),
    ],
)
def test_the_published_p_values_are_those_of_29_independent_checkpoints(r: float, p: float, unit: float) -> None:
    """Vivek et al., figure 4, to the digits printed: so the document did not correct for autocorrelation."""
    least, most = p_value(abs(r) + 0.005, 29), p_value(abs(r) - 0.005, 29)
    assert least <= p + unit
    assert most >= p - unit


def test_correcting_for_autocorrelation_keeps_the_false_alarms_of_unrelated_walks_down() -> None:
    naive = corrected = 0
    for seed in range(300):
        table = relatedness(dict(zip("ab", walks(2, 30, seed), strict=True)), np.arange(30))
        naive += table.p_naive.loc["a", "b"] < 0.05
        corrected += table.p_value.loc["a", "b"] < 0.05
    assert naive / 300 > 0.4  # what the textbook p-value does to two random walks
    assert corrected < naive / 2


def test_independent_series_keep_their_full_size() -> None:
    sizes = [effective_size(*np.random.default_rng(seed).normal(size=(2, 100))) for seed in range(40)]
    assert np.mean(sizes) > 80


def test_a_shared_trend_relates_unrelated_tasks_until_it_is_removed() -> None:
    steps = np.arange(1, 41) * 100
    noise = np.random.default_rng(1).normal(scale=0.1, size=(2, 40))
    falling = dict(zip("ab", -np.log(steps) + noise, strict=True))
    assert relatedness(falling, steps).p_adjusted.loc["a", "b"] < 0.05
    assert relatedness(falling, steps, detrend="linear").p_adjusted.loc["a", "b"] > 0.05


def test_differences_are_between_successive_checkpoints() -> None:
    assert detrended(np.array([[1.0, 3, 7]]), np.arange(3), "difference").tolist() == [[2, 4]]
    with pytest.raises(DataError, match="linear or difference"):
        detrended(np.zeros((1, 3)), np.arange(3), "cubic")  # type: ignore[arg-type]


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, np.nan])) == pytest.approx([0.03, 0.06, 0.06, np.nan], nan_ok=True)


def test_a_task_that_never_changes_correlates_with_nothing() -> None:
    table = relatedness({"flat": np.ones(9), "up": np.arange(9.0)}, np.arange(9))
    assert np.isnan(table.correlation.loc["flat", "up"])


@pytest.mark.parametrize(
    ("means", "length"),
    [({"a": np.zeros(9)}, 9), ({"a": np.zeros(4), "b": np.ones(4)}, 4), ({"a": np.full(9, np.nan), "b": np.ones(9)}, 9)],
)
def test_what_cannot_be_related_is_a_named_error(means: dict[str, np.ndarray], length: int) -> None:
    with pytest.raises(DataError):
        relatedness(means, np.arange(length))


@given(st.integers(3, 12), st.integers(2, 40), st.integers(0, 10**6), st.integers(1, 17))
@settings(max_examples=25, deadline=None)
def test_blockwise_correlations_equal_numpys(checkpoints: int, examples: int, seed: int, block: int) -> None:
    data = np.random.default_rng(seed).normal(size=(checkpoints, examples))
    np.testing.assert_allclose(correlations(data, block=block), np.corrcoef(data.T).reshape(examples, examples), atol=1e-5)


def test_a_constant_trajectory_is_related_to_nothing_but_itself() -> None:
    data = np.random.default_rng(0).normal(size=(8, 4))
    data[:, 2] = 1e6
    assert correlations(data)[2].tolist() == [0, 0, 1, 0]


def test_at_full_degree_squared_distances_of_orthonormal_coefficients_are_twice_one_minus_r() -> None:
    data, steps = walks(50, 12, 3).T, np.arange(12)
    points = coefficients(data, steps, 11)
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    np.testing.assert_allclose(squared, 2 * (1 - correlations(data)), atol=1e-5)


def test_agreement_grows_with_the_degree_as_in_figure_8() -> None:
    data, steps = walks(120, 29, 0).T, np.arange(29) * 10_000
    by_degree = [agreement(data, steps, d) for d in (1, 4, 28)]
    assert by_degree == sorted(by_degree)
    assert by_degree[-1] > 0.9


def test_coefficients_follow_the_order_of_the_steps_not_of_the_rows() -> None:
    data, order = walks(6, 9, 1).T, np.random.default_rng(0).permutation(9)
    np.testing.assert_allclose(coefficients(data, np.arange(9), 4), coefficients(data[order], np.arange(9)[order], 4), atol=1e-12)


def test_scaling_gives_back_distances_that_a_plane_can_hold() -> None:
    plane = np.random.default_rng(0).normal(size=(20, 2)) / 5
    distance = np.linalg.norm(plane[:, None] - plane[None], axis=-1)
    found = scaling(1 - distance)
    np.testing.assert_allclose(np.linalg.norm(found[:, None] - found[None], axis=-1), distance, atol=1e-6)


def test_clusters_of_two_opposite_courses_are_their_labels() -> None:
    base = np.linspace(-1, 1, 15)[:, None]
    noise = np.random.default_rng(0).normal(scale=0.1, size=(15, 40))
    data = np.concatenate([base + noise[:, :20], -base + noise[:, 20:]], axis=1)
    labels = np.repeat([0, 1], 20)
    assert against_labels(cluster(coefficients(data, np.arange(15), 3), 2), labels)["adjusted_rand"] == 1


@pytest.mark.parametrize("data", [np.zeros((2, 5)), np.full((5, 3), np.nan)])
def test_trajectories_that_cannot_be_related_are_named_errors(data: np.ndarray) -> None:
    with pytest.raises(DataError):
        standardised(data)
    with pytest.raises(DataError, match="use 1 to 4"):
        coefficients(np.random.default_rng(0).normal(size=(5, 3)), np.arange(5), 5)


def test_cartography_by_hand(tmp_path) -> None:
    for epoch, logits in enumerate([[0.0, 0.0], [0.0, np.log(3)]]):
        lines = [
            {"guid": "x", f"logits_epoch_{epoch}": logits, "gold": 1},
            {"guid": 7, f"logits_epoch_{epoch}": logits, "gold": 0},
        ]
        (tmp_path / f"dynamics_epoch_{epoch}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    guids, probability, correct = read_dynamics(tmp_path)
    frame = coordinates(probability, correct)
    assert guids == ["x", "7"]
    assert frame.confidence.tolist() == pytest.approx([0.625, 0.375])
    assert frame.variability.tolist() == pytest.approx([0.125, 0.125])
    assert frame.correctness.tolist() == [1, 1]


def test_published_coordinates_come_back_from_the_probabilities_that_made_them() -> None:
    """WinoGrande, guid 17715 (allenai/cartography): six epochs, five right, confidence .890, variability .192."""
    p = np.array([0.4617, 0.9707, 0.9762, 0.9773, 0.9776, 0.9776])
    frame = coordinates(p[:, None], (p > 0.5)[:, None])
    assert frame.confidence[0] == pytest.approx(0.8901795546, abs=1e-3)
    assert frame.variability[0] == pytest.approx(0.1921846387, abs=1e-3)
    assert frame.correctness[0] == 5


def test_regions_split_into_the_ambiguous_third_and_two_halves() -> None:
    frame = coordinates(np.array([[0.9, 0.95, 0.1, 0.2, 0.9, 0.1], [0.9, 0.95, 0.1, 0.2, 0.1, 0.9]]), np.zeros((2, 6)))
    assert regions(frame, 0.34).tolist() == [EASY, EASY, HARD, HARD, AMBIGUOUS, AMBIGUOUS]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{}", "not a training dynamic"),
        ('{"guid": 1, "logits_epoch_0": [1, NaN], "gold": 0}', "not finite"),
        ('{"guid": 1, "logits_epoch_0": [1, 2], "gold": 2}', "gold"),
    ],
)
def test_broken_dynamics_name_file_and_line(tmp_path, text: str, match: str) -> None:
    (tmp_path / "dynamics_epoch_0.jsonl").write_text(text)
    with pytest.raises(DataError, match=match) as error:
        read_dynamics(tmp_path)
    assert "dynamics_epoch_0.jsonl:1" in str(error.value)


def test_an_epoch_that_misses_an_example_is_a_named_error(tmp_path) -> None:
    for epoch, guids in enumerate([[1, 2], [1]]):
        rows = [json.dumps({"guid": g, f"logits_epoch_{epoch}": [0, 1], "gold": 0}) for g in guids]
        (tmp_path / f"dynamics_epoch_{epoch}.jsonl").write_text("\n".join(rows))
    with pytest.raises(DataError, match="not in every epoch"):
        read_dynamics(tmp_path)
    with pytest.raises(DataError, match=r"no dynamics_epoch"):
        read_dynamics(tmp_path / "nothing")


def test_trainer_state_becomes_one_row_a_step(tmp_path) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_text(
        json.dumps({"log_history": [{"step": 1, "loss": 2.0}, {"step": 1, "eval_loss": 3.0}, {"step": 2, "loss": 1.0}]})
    )
    assert read_trainer_state(path)[["step", "loss", "eval_loss"]].iloc[0].tolist() == [1, 2.0, 3.0]
    path.write_text("[]")
    with pytest.raises(DataError, match=r"trainer_state\.json"):
        read_trainer_state(path)


def test_a_parabola_in_log_step_gives_its_slope_and_curvature_back() -> None:
    steps = np.array([0, 10, 100, 300, 1000, 3000, 10000, 20000])
    x = np.log1p(steps) - np.log1p(steps[-1])
    found = course(steps, 2 - 0.3 * x + 0.05 * x**2)
    assert found["slope"] == pytest.approx(-0.3)
    assert found["curvature"] == pytest.approx(0.1)
    assert found["level"] == pytest.approx(2)
    assert found["variability"] == pytest.approx(0, abs=1e-9)


def test_a_power_law_is_forecast_and_a_short_course_says_nan() -> None:
    steps = np.array([10.0, 30, 100, 300, 1000, 3000])
    losses = 1.5 + 4 * (1 + steps) ** -0.4
    assert power_law(steps, losses, 30_000) == pytest.approx(1.5 + 4 * 30_001**-0.4, abs=2e-3)
    assert power_law(steps, losses[::-1], 30_000) == losses[0]
    short = course(np.array([5]), np.array([1.0]))
    assert short["level"] == 1
    assert np.isnan([short[k] for k in ("slope", "curvature", "variability", "poly_1", "forecast")]).all()


def test_trajectories_survive_their_file_and_refuse_another(tmp_path) -> None:
    shape = np.arange(6.0).reshape(2, 3)
    made = Trajectories("t", ("a", "b"), np.array([2, 1]), ("x", "y", "z"), shape, shape, shape, "0", ("p", "q", "p"))
    made.save(tmp_path / "t.npz")
    back = Trajectories.load(tmp_path / "t.npz").sorted().of_examples([2, 0])
    assert back.checkpoints == ("b", "a")
    assert back.examples == ("z", "x")
    assert back.labels == ("p", "p")
    np.testing.assert_array_equal(back.nll, [[5, 3], [2, 0]])
    (tmp_path / "bad.npz").write_text("no")
    with pytest.raises(DataError, match=r"bad\.npz"):
        Trajectories.load(tmp_path / "bad.npz")
    with pytest.raises(DataError, match="shape"):
        Trajectories("t", ("a",), np.array([1]), ("x",), np.zeros((2, 1)), np.zeros((1, 1)), np.zeros((1, 1)))


def test_published_tables_go_through_the_same_code(tmp_path) -> None:
    """A made-up table of Pythia's shape, in which two tasks follow one course and the others noise."""
    rng, rows = np.random.default_rng(0), []
    for step in range(12):
        shared = rng.normal()
        for task in TASKS:
            acc = shared if task in ("arc_easy", "piqa") else rng.normal()
            rows.append({"release": "v1", "model": "m", "step": step, "shots": 0, "task": task, "acc": acc})
    path = tmp_path / "table.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    assert "| piqa | 1.00 |" in pythia(path)
    pd.DataFrame(rows).query("step < 5").to_csv(path, index=False)
    with pytest.raises(DataError, match="ten checkpoints"):
        pythia(path)
    pd.DataFrame({"model": ["m"]}).to_csv(path, index=False)
    with pytest.raises(DataError, match="no column"):
        pythia(path)


def test_the_attainable_variability_is_met_and_never_passed() -> None:
    rng = np.random.default_rng(0)
    for epochs in (2, 3, 6):
        right = rng.integers(0, epochs + 1, size=400)
        high = np.arange(epochs) < right[:, None]
        drawn = np.where(high, rng.uniform(0.5, 1, high.shape), rng.uniform(0, 0.5, high.shape))
        ends = np.where(high, rng.choice([0.5, 1], high.shape), rng.choice([0, 0.5], high.shape))
        p = np.where(rng.random(high.shape) < 0.5, drawn, ends)
        least, most = attainable(p.mean(axis=1), right, epochs)
        assert (p.std(axis=1) >= least - 1e-7).all()
        assert (p.std(axis=1) <= most + 1e-7).all()
    for p, right, end in (
        ([0.5, 0.5, 0.9, 0.9], 2, 0),
        ([0.2, 0.2, 0.5, 0.5], 2, 0),
        ([0.8, 0.8, 0.8, 0.8], 4, 0),
        ([1, 1, 0.7, 0], 3, 1),
        ([1, 0.5, 0.3, 0], 1, 1),
    ):
        found = attainable(np.array([np.mean(p)]), np.array([right]), 4)[end]
        assert found[0] == pytest.approx(np.std(p), abs=1e-7)
    assert np.isnan(attainable(np.array([0.9]), np.array([1]), 6)).all()


def test_published_coordinates_are_checked_against_what_each_definition_allows(tmp_path) -> None:
    path = tmp_path / "map.jsonl"
    p = np.array([[0.5, 0.5, 0.5, 0.9, 0.9, 0.9], [0.9, 0.95, 0.6, 0.8, 0.7, 0.99]])  # the first can vary no less than it does
    frame = coordinates(p.T, p.T > 0.5)
    frame.to_json(path, orient="records", lines=True)
    text = cartography(path, epochs=6)
    assert "0 of 2 contradict" in text
    assert "| population's standard deviation (ours) | 0 of 2 |" in text
    assert "| sample's standard deviation (divided by 5) | 1 of 2 |" in text
    assert "(`include_ci`) | 1 of 2 |" in text
    frame.assign(correctness=[1, 6]).to_json(path, orient="records", lines=True)
    assert "1 of 2 contradict" in cartography(path, epochs=6)
