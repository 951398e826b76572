"""Studies say on their page what was seen, whichever way it went."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.dynamics.trajectories import Trajectories
from features.errors import DataError
from features.studies.material import Material, quantity
from features.studies.selection import selection
from features.studies.tasks import task_page


def task(name: str, checkpoints: int, seed: int) -> Trajectories:
    rng = np.random.default_rng(seed)
    skill, hard = rng.normal(size=(checkpoints, 2)), rng.gamma(2, size=60)
    nll = np.maximum(hard + skill @ rng.normal(size=(2, 60)) + 0.3 * rng.normal(size=(checkpoints, 60)), 0.01)
    names, ids = tuple(f"c{i}" for i in range(checkpoints)), tuple(map(str, range(60)))
    labels = tuple("ab"[i % 2] for i in range(60))
    return Trajectories(name, names, np.arange(checkpoints), ids, nll, np.exp(-nll), (nll < 1).astype(float), labels=labels)


def test_the_page_of_the_selection_study_has_every_selector_budget_and_quantity(tmp_path: Path) -> None:
    runs = np.array([f"run{i}" for i in range(12)] + [f"run{i}" for i in range(4) for _ in range(2)])
    found = Material([task("one", 20, 0), task("two", 20, 1)], runs, np.arange(20) < 12)
    files = selection(found, repetitions=2).write(tmp_path / "selection.md", as_html=False)
    assert {p.name for p in files} == {"selection.md", "selection-final.png", "selection-runs.png"}
    text = (tmp_path / "selection.md").read_text()
    assert text.count("| kriging |") == text.count("| random |") == 6
    assert "12 checkpoints of 12 runs are ranked" in text
    assert "12 checkpoints of 4 runs are ranked" in text
    assert "| selector | 1% (1) | 2% (2) | 5% (6) | 10% (12) | 20% (24) | 30% (36) |" in text
    assert "anchor-points: better than random, its interval excluding zero, in " in text


def test_quantities_are_losses_lower_being_better() -> None:
    one = task("one", 4, 0)
    assert np.array_equal(quantity(one, "nll").nll, one.nll)
    assert np.allclose(quantity(one, "choice").nll, np.minimum(one.nll, -np.log(1e-9)))
    assert np.array_equal(quantity(one, "error").nll, 1 - one.correct)


def test_a_few_tasks_of_a_published_table_are_judged_the_same_way(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    skill = rng.normal(size=16)
    columns = {f"acc_{i}": 0.5 + 0.1 * (skill if i < 6 else 0) + 0.02 * rng.normal(size=16) for i in range(46)}
    frame = pd.DataFrame({"dataset": list("abcdefgh") * 2, "params": 1, "acc_mean": 0.5, **columns})
    frame.to_csv(tmp_path / "table.csv", index=False)
    page = task_page(tmp_path / "table.csv", repetitions=3)
    text = page.write(tmp_path / "page.md", as_html=False)[0].read_text()
    assert "16 models of Gadre et al. 2024 in 8 groups" in text
    assert "accuracies of 46 tasks" in text.replace("\n", " ")
    frame[["dataset"]].to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(DataError, match="acc_TASK"):
        task_page(tmp_path / "other.csv")
