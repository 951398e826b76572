"""The prompt study along runs: what holds in general is told from what one run's trend makes of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from features.dynamics.prompt_runs import LATER, along, over_runs
from features.dynamics.prompts import ALL, CHOSEN, ENSEMBLE, HINDSIGHT
from features.errors import DataError


def table(runs: int = 6, n: int = 12, follows: float = 0.9, trend: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Runs in which one template follows the outcome and two do not; all of them grow by `trend` a checkpoint."""
    rng = np.random.default_rng(seed)
    parts = []
    for run in range(runs):
        outcome = rng.normal(size=n)
        columns: dict[str, object] = {"family": f"run{run}", "step": 2 ** np.arange(n), "task": "films"}
        for i, name in enumerate(("it", "this", "so")):
            noise = rng.normal(size=n)
            score = (follows * outcome + np.sqrt(1 - follows**2) * noise if i == 1 else noise) + trend * np.arange(n)
            columns |= {f"prompt_nll_{name}": -score, f"prompt_acc_{name}": 0.5 + score / 10}
        columns["prompt_acc_ensemble"] = 0.5 + (rng.normal(size=n) + trend * np.arange(n)) / 10
        parts.append(pd.DataFrame({**columns, "outcome": outcome + trend * np.arange(n)}))
    return pd.concat(parts, ignore_index=True)


def test_the_template_that_follows_is_chosen_on_the_other_runs_and_holds_on_the_one_held_out() -> None:
    rows = table()
    found = along(rows.sample(frac=1, random_state=1))
    assert {run: s.tolist() for run, s in found.steps.items()}["run3"] == (2.0 ** np.arange(12)).tolist()
    one = rows[rows["family"] == "run2"]
    cells = (
        found.correlations.set_index(["run", "trend", "measure", "template"]).sort_index().loc[("run2", "kept", "acc", "this")]
    )
    expected = stats.pearsonr(one["prompt_acc_this"], one["outcome"])
    assert (cells["r"], cells["p"]) == pytest.approx((expected.statistic, expected.pvalue))
    assert cells["low"] < cells["r"] < cells["high"]
    assert cells["p"] <= cells["p_effective"] <= cells["p_adjusted"]
    pooled = found.pooled.set_index(["trend", "measure", "template"]).sort_index()
    for trend in ("kept", "differences"):
        assert pooled.loc[(trend, "nll", "this"), "p_adjusted"] < 0.01 < pooled.loc[(trend, "nll", "it"), "p_adjusted"]
        assert pooled.loc[(trend, "nll", "this"), ["runs", "positive"]].tolist() == [6, 6]
    chosen = found.choices[found.choices["method"] == CHOSEN]
    assert set(chosen["template"]) == {"this"}
    summary = found.summary.set_index(["measure", "method"]).sort_index()
    assert summary.loc[("nll", CHOSEN), "over_mean_low"] > 0
    assert summary.loc[("nll", CHOSEN), "accuracy"] == pytest.approx(summary.loc[("nll", HINDSIGHT), "accuracy"])
    assert {("acc", ENSEMBLE), ("acc", ALL), ("", LATER)} <= set(summary.index)


def test_a_shared_trend_correlates_everything_and_its_differences_nothing() -> None:
    moved = []
    for seed in range(8):
        found = along(table(follows=0.0, trend=1.0, seed=seed))
        pooled = found.pooled[found.pooled["measure"] == "nll"].groupby("trend")
        assert pooled["r"].min()["kept"] > 0.7
        moved.append(pooled["p_adjusted"].min()["differences"] < 0.05)
        summary = found.summary.set_index(["measure", "method"]).sort_index()["accuracy"]
        assert summary["", LATER] > summary["nll", CHOSEN]  # the step alone says as much, and without noise
    assert sum(moved) <= 1


def test_where_nothing_follows_nothing_is_found() -> None:
    significant = [(along(table(follows=0.0, seed=seed)).pooled["p_adjusted"] < 0.05).any() for seed in range(20)]
    assert np.mean(significant) <= 0.2  # two trends, each at 5 %


def test_the_template_chosen_for_a_run_is_not_chosen_by_that_run() -> None:
    rows = table(runs=3, follows=0.0)
    own = rows["family"] == "run0"
    rows.loc[own, "prompt_acc_it"] = rows.loc[own, "outcome"] / 10
    rows.loc[~own, "prompt_acc_so"] = rows.loc[~own, "outcome"] / 10
    choices = along(rows).choices.set_index(["measure", "method", "run"]).sort_index()
    assert choices.loc[("acc", CHOSEN, "run0"), "template"] == "so"
    assert choices.loc[("acc", CHOSEN, "run0"), "accuracy"] < 0.8


def test_a_score_that_never_varies_has_no_correlation_and_is_not_counted() -> None:
    rows = table(runs=3)
    rows.loc[rows["family"] == "run1", "prompt_acc_it"] = 0.5
    found = along(rows)
    cells = found.correlations.set_index(["run", "trend", "measure", "template"]).sort_index().loc[("run1", "kept", "acc", "it")]
    assert cells[["r", "low", "p", "p_adjusted"]].isna().all()
    assert found.pooled.set_index(["trend", "measure", "template"]).sort_index().loc[("kept", "acc", "it"), "runs"] == 2


def test_what_cannot_be_studied_along_runs_is_a_named_error() -> None:
    with pytest.raises(DataError, match="fewer than two runs"):
        along(table(runs=1))
    with pytest.raises(DataError, match="fewer than two runs"):
        along(table().drop(columns="step"))
    with pytest.raises(DataError, match="run run0"):
        along(table().assign(step=1))
    assert over_runs([0.5, 0.7])[0] == pytest.approx(0.6)
    assert np.isnan(over_runs([0.5, 0.7])[1:]).all()  # two runs say next to nothing of their spread
    assert over_runs([0.0, 0.0, 0.0])[3] == 1.0
    assert over_runs([1.0, 2.0, 3.0])[3] == pytest.approx(stats.ttest_1samp([1, 2, 3], 0).pvalue)
