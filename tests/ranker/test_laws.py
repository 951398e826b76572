"""Laws from loss to accuracy: each recovers its own curve, and the pictures of an evaluation are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from features.errors import DataError
from ranker import plots
from ranker.evaluate import evaluate
from ranker.laws import FORMS, compare, fit, judge
from ranker.reference import default_ranker, load

TRUTH = {
    "linear": [0.9, -0.1],
    "power": [0.9, 0.05, 1.5],
    "exponential": [0.8, 1.2, 0.9],
    "sigmoid": [0.6, -2.0, 3.0, 0.3],
    "shifted": [1.2, 1.0, 0.8, 0.5],
}


@pytest.mark.parametrize("name", list(FORMS))
def test_each_law_recovers_its_own_curve(name: str) -> None:
    x = np.linspace(1.5, 5, 40)
    y = FORMS[name].value(x, np.array(TRUTH[name]))
    law = fit(name, x, y)
    assert law.predict(x) == pytest.approx(y, abs=2e-3)
    assert law.r2 > 0.999


def test_the_right_law_is_preferred_and_predicts_held_out_checkpoints() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 6, 60)
    y = FORMS["sigmoid"].value(x, np.array([0.6, -3.0, 3.0, 0.3])) + 0.005 * rng.normal(size=60)
    assert compare(x, y)[0].name == "sigmoid"
    found = judge("sigmoid", x, y, splits=5)
    assert found["rmse"] < 0.2 * found["rmse_of_mean"]
    assert found["spearman"] > 0.9


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(DataError, match="no law 'cubic'"):
        fit("cubic", np.arange(5.0), np.arange(5.0))
    with pytest.raises(DataError, match="2 points for the 4 parameters"):
        fit("sigmoid", np.array([1.0, 2, np.nan]), np.arange(3.0))
    with pytest.raises(DataError, match="the same everywhere"):
        fit("linear", np.ones(5), np.arange(5.0))


def test_the_pictures_are_drawn_and_a_wrong_task_is_refused(tmp_path: Path) -> None:
    result = evaluate(load("zeng2025"), methods=("best-single", "single:inv_ppl_sc"), splits=2)
    paths = plots.save(result, tmp_path / "plots", default_ranker())
    assert [p.name for p in paths] == ["accuracy_by_gap.png", "calibration.png", "importance.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in paths)
    with pytest.raises(DataError, match="no task 'films'"):
        plots.calibration(result, "films")
