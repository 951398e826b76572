"""The prompt study: correlations that are what they say, and a choice of template that never sees what it is judged on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.dynamics.page import Page
from features.dynamics.prompts import ALL, CHOSEN, ENSEMBLE, HINDSIGHT, describe, study, templates_of
from features.errors import DataError


def table(n: int = 30, good: float = 0.8, seed: int = 0, run: bool = False) -> pd.DataFrame:
    """Checkpoints with one template that goes with the outcome and two that say nothing."""
    rng = np.random.default_rng(seed)
    outcome = rng.normal(size=n)
    columns = {"checkpoint": [f"c{i}" for i in range(n)], "task": "films", "outcome": outcome}
    for i, name in enumerate(("it", "this", "so")):
        score = good * outcome + np.sqrt(1 - good**2) * rng.normal(size=n) if i == 1 else rng.normal(size=n)
        columns |= {f"prompt_nll_{name}": -score, f"prompt_acc_{name}": 0.5 + score / 10, f"prompt_prob_{name}": 0.5 + score / 9}
    columns["prompt_acc_ensemble"] = 0.5 + rng.normal(size=n) / 10
    if run:
        columns |= {"step": np.arange(n) * 10, "family": "run"}
    return pd.DataFrame(columns)


def test_the_template_that_goes_with_the_outcome_is_found_and_chosen() -> None:
    found = study(table(), repetitions=40)
    assert found.templates == ("it", "this", "so")
    rows = found.correlations.set_index(["measure", "template"])
    for measure in ("nll", "acc", "prob"):
        assert rows.loc[(measure, "this"), "low"] > 0.4
        assert rows.loc[(measure, "this"), "p_adjusted"] < 0.01 < rows.loc[(measure, "it"), "p_adjusted"]
    expected = table()
    r = np.corrcoef(expected["prompt_acc_this"], expected["outcome"])[0, 1]
    assert rows.loc[("acc", "this"), "r"] == pytest.approx(r)
    picked = found.picked.set_index("template")
    assert picked.loc["this"].min() > 0.9
    assert picked.drop(columns=[]).sum().tolist() == pytest.approx([1, 1, 1])
    choices = found.choices.set_index(["measure", "method"])
    assert choices.loc[("nll", CHOSEN), "over_mean_low"] > 0
    assert choices.loc[("nll", HINDSIGHT), "accuracy"] >= choices.loc[("nll", CHOSEN), "accuracy"] - 1e-9
    assert ("acc", ENSEMBLE) in choices.index
    assert ("nll", ALL) in choices.index


def test_where_no_template_says_anything_choosing_gains_nothing_on_held_out_checkpoints() -> None:
    gains, optimism = [], []
    for seed in range(12):
        choices = study(table(16, good=0.0, seed=seed), repetitions=30).choices.set_index(["measure", "method"])
        gains.append(choices.loc[("nll", CHOSEN), "accuracy"] - 0.5)
        optimism.append(choices.loc[("nll", HINDSIGHT), "accuracy"] - 0.5)
    assert abs(np.mean(gains)) < 0.06
    assert np.mean(optimism) > 0.05  # the best of three in hindsight looks better than it is


def test_successive_checkpoints_of_one_run_count_for_less() -> None:
    rows = table(29, good=0.9, run=True)
    for column in ("outcome", "prompt_acc_it"):
        rows[column] = rows[column].cumsum()
    loose, strict = study(rows.drop(columns="step"), repetitions=5), study(rows, repetitions=5)
    place = (loose.correlations.measure == "acc") & (loose.correlations.template == "it")
    assert loose.correlations[place].p.item() == pytest.approx(strict.correlations[place].p.item())
    assert strict.correlations[place].p_adjusted.item() > loose.correlations[place].p_adjusted.item()


def test_the_page_has_the_table_and_over_a_run_the_figure(tmp_path: Path) -> None:
    rows = table(12, run=True)
    page = Page("Prompts")
    describe(page, study(rows, repetitions=5), rows)
    names = {p.name for p in page.write(tmp_path / "report.md")}
    assert names == {"report.md", "report.html", "prompts-accuracy.png", "prompts-correlations.png"}
    assert "| nll | this |" in (tmp_path / "report.md").read_text()


def test_the_noise_of_seeds_bounds_what_can_be_seen_and_a_constant_score_has_no_correlation(tmp_path: Path) -> None:
    rows = table(12).assign(prompt_acc_so=0.5)
    rows["outcome_sd"] = 0.6 * rows["outcome"].std()
    found = study(rows, repetitions=5)
    place = (found.correlations.measure == "acc") & (found.correlations.template == "so")
    assert found.correlations[place][["r", "low", "p_adjusted"]].isna().all(axis=None)
    page = Page("Prompts")
    describe(page, found, rows)
    text = page.write(tmp_path / "report.md")[0].read_text()
    assert "0.64 of their variance is of the checkpoints, so that r cannot pass 0.80" in text
    assert "| acc | so | - | - | - |" in text


def test_what_cannot_be_studied_is_a_named_error() -> None:
    assert templates_of(["prompt_nll", "prompt_nll_a", "prompt_acc_a"]) == ("a",)
    with pytest.raises(DataError, match="1 templates"):
        study(table()[["outcome", "prompt_nll_it", "prompt_acc_it"]])
    with pytest.raises(DataError, match="4 checkpoints"):
        study(table(4))
    with pytest.raises(DataError, match="1 different outcomes"):
        study(table().assign(outcome=1.0))
