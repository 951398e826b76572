"""The data law finds the curve that made the losses, and selects as its paper says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.datalaw import DataLaw, accept_then_stop, fit
from features.errors import DataError

SIZES = 200 * 2 ** np.arange(11)
PUBLISHED = {
    "losses": [2.1538, 2.1028, 2.0176, 1.9606, 1.8868, 1.7986, 1.75, 1.6711, 1.6034, 1.5405, 1.4792],
    "final": 1.3046,
}


@given(
    beta=st.floats(0.2, 1.0),
    learnt=st.sampled_from([0.0, 50.0, 2000.0]),
    floor=st.floats(0.0, 2.0),
)
@settings(max_examples=15, deadline=None)
def test_a_curve_of_the_law_is_found_again_beyond_its_sizes(beta, learnt, floor):
    true = DataLaw(scale=3 * (learnt + 200**beta), learnt=learnt, exponent=beta, floor=floor, residual=0)
    found = fit(SIZES, true.predict(SIZES))
    assert found.residual < 2e-3
    np.testing.assert_allclose(found.predict(8 * SIZES[-1]), true.predict(8 * SIZES[-1]), rtol=0.05, atol=0.02)


@given(scale=st.floats(0.1, 10))
@settings(max_examples=10, deadline=None)
def test_the_unit_of_the_loss_scales_the_prediction(scale):
    losses = 4 * SIZES**-0.2 + 0.5
    assert fit(SIZES, losses * scale).predict(1e6) == pytest.approx(fit(SIZES, losses).predict(1e6) * scale, rel=1e-3)


def test_losses_that_rise_or_stay_give_a_flat_line():
    assert fit(SIZES, np.full(11, 2.0)).predict(1e7) == pytest.approx(2.0)
    assert fit(SIZES, np.linspace(1, 2, 11)).scale == 0


def test_accept_then_stop_keeps_to_the_power_phase():
    losses = 5.0 * SIZES**-0.3 * np.exp(1e-4 * np.random.default_rng(0).normal(size=11))
    flat = losses.copy()
    flat[:5] = losses[5] * 1.02  # before the power phase
    true = 5.0 * (8 * SIZES[-1]) ** -0.3
    assert accept_then_stop(SIZES, losses, 8 * SIZES[-1]) == pytest.approx(true, rel=1e-2)
    assert accept_then_stop(SIZES, flat, 8 * SIZES[-1]) == pytest.approx(true, rel=1e-2)
    plain = np.exp(np.polyval(np.polyfit(np.log(SIZES), np.log(flat), 1), np.log(8 * SIZES[-1])))
    assert abs(plain / true - 1) > 0.1


def test_the_smallest_size_is_never_taken_on_top_of_the_first():
    losses = 5.0 * SIZES**-0.3 * np.exp(1e-3 * np.random.default_rng(0).normal(size=11))
    without = accept_then_stop(SIZES[1:], losses[1:], 1e6)
    nudged = losses * np.r_[1.0005, np.ones(10)]
    assert accept_then_stop(SIZES, nudged, 1e6) == accept_then_stop(SIZES, losses, 1e6)
    assert accept_then_stop(SIZES, losses, 1e6) == pytest.approx(without, rel=1e-3)
    assert accept_then_stop(SIZES[:3], losses[:3], 1e6) == pytest.approx(
        float(np.exp(np.polyval(np.polyfit(np.log(SIZES[:3]), np.log(losses[:3]), 1), np.log(1e6))))
    )


def test_published_losses_are_extrapolated_within_two_percent():
    """gpt2-large on gigaword, 200 to 204,800 examples -> 1,638,400 (Lin et al. 2024, github linhaowei1)."""
    losses = PUBLISHED["losses"]
    assert accept_then_stop(SIZES, losses, 1_638_400) == pytest.approx(PUBLISHED["final"], rel=0.02)
    assert fit(SIZES, losses).predict(1_638_400) == pytest.approx(PUBLISHED["final"], rel=0.02)


def test_what_determines_no_law_is_a_named_error():
    with pytest.raises(DataError, match="3 sizes do not determine a law; measure at least 4"):
        fit([1, 2, 3], [3, 2, 1])
    with pytest.raises(DataError, match="finite and above 0"):
        fit([1, 2, 3, 4], [3, 2, np.nan, 1])
    with pytest.raises(DataError, match="sizes but"):
        fit([1, 2, 3, 4], [3, 2, 1])
