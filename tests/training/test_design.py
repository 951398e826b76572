"""The order of a zoo's variants: balanced wherever it stops, and nothing confounded."""

from __future__ import annotations

from collections import Counter

import pytest

from training import design
from training import recipe as recipes

FACTORS = {
    "objective": ["clm", "sc", "prefix_lm", "sc+clm", "ul2", "ul2r", "ul2r+clm"],
    "data_mix": ["a", "b", "c", "d", "e", "f"],
    "learning_rate": [0.001, 0.003, 0.006],
    "domain_tag": [0, 1],
    "length_filter": ["all", "25-75", "75-100"],
}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_prefix_uses_the_levels_of_each_factor_equally_often(seed):
    runs = design.plan(FACTORS, 48, seed)
    for n in range(1, 49):
        for factor, levels in FACTORS.items():
            assert design.imbalance(runs[:n], factor, levels) <= 1, (n, factor)


def test_no_two_factors_are_confounded_in_the_zoo_or_its_first_half():
    runs = design.plan(FACTORS, 48)
    assert max(design.confounding(runs).values()) < 0.2
    assert design.confounding(runs[:24])["objective", "learning_rate"] < 0.25
    assert design.confounding([{"a": i % 2, "b": i % 2} for i in range(8)])["a", "b"] == pytest.approx(1)


def test_each_learning_rate_is_a_block_of_all_objectives_and_mixes():
    runs = design.plan(FACTORS, 48)
    for rate in FACTORS["learning_rate"]:
        block = [run for run in runs if run["learning_rate"] == rate]
        assert len(block) == 16
        assert {run["objective"] for run in block} == set(FACTORS["objective"])
        assert {run["data_mix"] for run in block} == set(FACTORS["data_mix"])
        assert max(Counter(run["objective"] for run in block).values()) <= 3


def test_no_run_comes_twice_and_a_longer_plan_starts_with_the_shorter():
    runs = design.plan(FACTORS, 60)
    assert len({tuple(run.values()) for run in runs}) == 60
    assert design.plan(FACTORS, 24) == runs[:24]
    small = {"objective": ["clm", "sc"], "data_mix": ["a", "b"]}
    assert len({tuple(run.values()) for run in design.plan(small, 4)}) == 4


def test_impossible_plans_are_refused():
    with pytest.raises(ValueError, match="9 runs asked for, but the factors have 4 combinations"):
        design.plan({"objective": ["clm", "sc"], "data_mix": ["a", "b"]}, 9)
    with pytest.raises(ValueError, match="at least one level"):
        design.plan({"objective": []}, 1)
    with pytest.raises(ValueError, match="each level once"):
        design.plan({"objective": ["clm", "clm"]}, 1)


def test_the_shipped_reference_recipe_is_such_a_design():
    plan = recipes.read("reference")
    runs = [run.model_dump(exclude={"name"}) for run in plan.runs()]
    assert len(runs) == 131
    assert plan.trajectory.variants >= 6
    assert plan.trajectory.checkpoints >= 12
    for n in range(1, len(runs) + 1):
        for factor, levels in plan.design.factors:
            assert design.imbalance(runs[:n], factor, levels) <= 1
    assert max(design.confounding(runs).values()) < 0.2
