"""Hold-outs and figures: nothing leaks, ties and twins are handled as said, the published protocol is reproduced."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest

from features.errors import DataError, UnknownNameError, UserError
from ranker import metrics
from ranker.baselines import BestSingle, Logistic, Single, pair_accuracy
from ranker.evaluate import evaluate, grouping, splits_of
from ranker.parallel import at_work, each
from ranker.reference import load
from ranker.table import check

QUICK = {"bags": 4, "rounds": 20}


def made(n: int = 20, tasks: int = 1, seed: int = 0, noise: float = 0.3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x, other = rng.normal(size=n), rng.normal(size=n)
    frames = [
        pd.DataFrame(
            {
                "task": f"t{t}",
                "checkpoint": [f"c{k}" for k in range(n)],
                "outcome": x + noise * rng.normal(size=n),
                "x": x,
                "other": other,
            }
        )
        for t in range(tasks)
    ]
    return pd.concat(frames, ignore_index=True)


def test_no_checkpoint_twin_or_group_stands_on_two_sides() -> None:
    table = load("zeng2025")
    groups = grouping(table, None)
    name = table["checkpoint"]
    assert groups[name == "model-46"][0] == groups[name == "model-49"][0]
    for train, test in splits_of(table, groups, None, splits=5, train_share=0.6, seed=0):
        assert not set(groups[train]) & set(groups[test])
        assert not set(name.iloc[train]) & set(name.iloc[test])
        assert 28 <= name.iloc[train].nunique() <= 32
    grouped = made(20).assign(group=["a"] * 10 + ["b"] * 10)
    codes = grouping(check(grouped), None)
    assert len(set(codes)) == 2


def test_holding_out_tasks_holds_out_their_checkpoints_too() -> None:
    table = check(made(12, tasks=3))
    for train, test in splits_of(table, grouping(table, "task"), "task", splits=4, train_share=0.6, seed=0):
        assert not set(table["task"].iloc[train]) & set(table["task"].iloc[test])
        assert not set(table["checkpoint"].iloc[train]) & set(table["checkpoint"].iloc[test])


def test_the_result_has_the_agreed_shape_and_is_json() -> None:
    result = evaluate(
        made(16, tasks=2), methods=("ltc", "logistic", "configuration", "best-single", "single:x"), splits=3, parameters=QUICK
    )
    json.dumps(result, allow_nan=False)
    assert set(result["tasks"]) == {"t0", "t1"}
    for figures in (*result["tasks"].values(), result["mean"]):
        assert set(figures) == {"ltc", "logistic", "configuration", "best-single", "single:x"}
        for one in figures.values():
            assert {"accuracy", "sd", "ci95", "pairs", "kendall_tau", "top1_regret"} <= set(one)
            assert 0 <= one["accuracy"] <= 1
    assert result["mean"]["single:x"]["accuracy"] > 0.75
    assert result["mean"]["configuration"]["accuracy"] == 0.5


def test_splits_side_by_side_give_the_same_figures_to_the_last_digit() -> None:
    table = made(16, tasks=2)
    alone = evaluate(table, methods=("ltc", "best-single"), splits=3, parameters=QUICK)
    with at_work(2):
        assert evaluate(table, methods=("ltc", "best-single"), splits=3, parameters=QUICK) == alone
        assert len(set(each(os.getpid, [()] * 8)) - {os.getpid()}) >= 1  # the work was done elsewhere
    with pytest.raises(UserError, match="jobs = 0"):
        at_work(0)


def test_only_what_was_asked_for_is_reported() -> None:
    result = evaluate(made(12), methods=("ltc",), splits=2, parameters=QUICK)
    assert set(result["mean"]) == {"ltc"}
    assert "against_best_single" in result["mean"]["ltc"]


def test_a_table_of_pure_noise_is_called_undecided() -> None:
    table = made(14)
    table["outcome"] = np.random.default_rng(9).normal(size=14)
    result = evaluate(table, methods=("ltc", "best-single"), splits=4, parameters=QUICK)
    assert "too few to show that ltc beats" in result["note"]
    small = evaluate(made(6), methods=("ltc",), splits=3, parameters=QUICK)
    assert "the table is too small: 6" in small["note"]


def test_a_table_on_which_one_feature_is_better_is_not_called_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    class Backwards(BestSingle):
        def strengths(self, rows: pd.DataFrame, context: pd.DataFrame) -> np.ndarray:
            return -super().strengths(rows, context)

        def sureness(self, rows: pd.DataFrame, i: np.ndarray, j: np.ndarray) -> tuple[float, np.ndarray]:
            return 1.0, np.ones(len(i))

    monkeypatch.setattr("ranker.evaluate.LearningToCompareMethod", lambda parameters: Backwards())
    result = evaluate(made(30), methods=("ltc", "best-single"), splits=4)
    assert "on this table the best single feature is better than ltc (difference -" in result["note"]
    assert "too few" not in result["note"]


def test_perplexity_is_judged_checkpoint_by_checkpoint_whatever_is_held_out_together() -> None:
    table = made(24).rename(columns={"other": "family"}).assign(family=np.arange(24) % 6)
    table["ppl_clm"] = np.exp(-table["outcome"] + 0.3 * np.random.default_rng(1).normal(size=24))
    table["family"] = [f"f{k}" for k in table["family"]]
    found = evaluate(table, methods=("ltc", "single:ppl_clm"), group="family", splits=4, parameters=QUICK)["tasks"]["t0"]
    assert found["ltc"]["perplexity"]["accuracy"] == pytest.approx(found["single:ppl_clm"]["accuracy"], abs=0.02)
    assert found["ltc"]["error_reduction"] == pytest.approx(
        1 - (1 - found["ltc"]["accuracy"]) / (1 - found["ltc"]["perplexity"]["accuracy"])
    )
    table["ppl_clm"] = table["ppl_clm"].astype(object)
    table.loc[2, "ppl_clm"] = "9 ?"  # a configuration then, and no perplexity to reduce the error of
    assert "error_reduction" not in evaluate(table, methods=("ltc",), splits=2, parameters=QUICK)["mean"]["ltc"]


def test_a_row_without_a_group_is_held_out_alone_whether_the_column_is_named_or_not() -> None:
    table = check(made(16).assign(group=["f1"] * 4 + ["f2"] * 4 + [""] * 8, family=["f1"] * 4 + ["f2"] * 4 + [None] * 8))
    assert len(set(grouping(table, None))) == len(set(grouping(table, "group"))) == len(set(grouping(table, "family"))) == 10


def test_a_slip_among_numbers_is_told_and_a_split_cannot_have_a_negative_seed() -> None:
    table = made(12)
    table["x"] = table["x"].astype(object)
    table.loc[3, "x"] = "0.5 ?"
    result = evaluate(table, methods=("best-single",), splits=2)
    assert "column 'x' is taken as a configuration, since '0.5 ?' is no number" in result["note"]
    with pytest.raises(DataError, match="seed = -1"):
        evaluate(table, methods=("best-single",), splits=2, seed=-1)


def test_perplexity_alone_reproduces_the_published_figure() -> None:
    """Zeng et al., Table 1: PPL-CLM alone orders .306 / .366 / .331 of the held-out pairs of the three tasks."""
    result = evaluate(load("zeng2025"), methods=("single:inv_ppl_clm",), splits=20)
    for task, published in (("sft_cms", 0.306), ("sft_rag", 0.366), ("sft_cbqa", 0.331)):
        assert result["tasks"][task]["single:inv_ppl_clm"]["accuracy"] == pytest.approx(published, abs=0.03)
    assert "model-46 = model-49" in result["note"]
    assert "model-04 on sft_cbqa" in result["note"]


def test_equal_outcomes_are_left_out_and_equal_predictions_count_half() -> None:
    y = np.array([1.0, 1.0, 2.0])
    unit = np.zeros(3, np.int64)
    assert pair_accuracy(np.array([0.0, 5.0, 9.0]), y, unit) == 1.0
    assert pair_accuracy(np.array([0.0, 9.0, 9.0]), y, unit) == 0.75
    assert metrics.right(np.array([0.5, 0.9, 0.9]), np.array([1, 1, -1])).tolist() == [0.5, 1.0, 0.0]


def test_order_figures_of_a_worked_example() -> None:
    found = metrics.order_figures(np.array([3.0, 2.0, 1.0, 0.0]), np.array([5.0, 9.0, 4.0, 1.0]), (2,))
    assert found["top1_regret"] == 4.0
    assert found["best_at"] == 2.0
    assert found["top1"] == 0.0
    assert found["kendall_tau"] == pytest.approx(4 / 6)
    assert found["top5_recall"] == 1.0


def test_the_best_single_is_chosen_on_the_training_side_with_its_sign() -> None:
    table = check(made(30))
    table["outcome"] = -table["outcome"]
    chosen = BestSingle().fit(table, ["x", "other"]).chosen["t0"]
    assert chosen.column == "x"
    assert chosen.signs["t0"] == -1


def test_a_text_alone_stands_for_the_mean_outcome_of_its_level() -> None:
    table = check(pd.DataFrame({"task": "t", "checkpoint": list("abcd"), "outcome": [1.0, 2, 5, 6], "mix": ["u", "u", "v", "v"]}))
    one = Single("mix").fit(table, ["mix"])
    assert (one.strengths(table, table)[2:] > one.strengths(table, table)[:2].max()).all()


def test_the_logistic_baseline_orders_a_linear_truth() -> None:
    table = check(made(60, noise=0.01))
    fitted = Logistic().fit(table[:30], ["x", "other"])
    assert pair_accuracy(fitted.strengths(table[30:], table[:0]), table["outcome"][30:].to_numpy(), np.zeros(30, np.int64)) > 0.97


def test_noise_of_known_size_gives_a_ceiling() -> None:
    quiet = evaluate(made(12).assign(outcome_sd=1e-6), methods=("best-single",), splits=2)
    loud = evaluate(made(12).assign(outcome_sd=100.0), methods=("best-single",), splits=2)
    assert quiet["ceiling"]["t0"] == pytest.approx(1.0)
    assert loud["ceiling"]["t0"] == pytest.approx(0.5, abs=0.02)


def test_wrong_questions_are_refused_by_name() -> None:
    table = made(10)
    with pytest.raises(UnknownNameError, match="no method 'magic'"):
        evaluate(table, methods=("magic",))
    with pytest.raises(UnknownNameError, match="no feature column 'y'"):
        evaluate(table, methods=("single:y",))
    with pytest.raises(UnknownNameError, match="no column 'family'"):
        evaluate(table, group="family")
    with pytest.raises(DataError, match="one group"):
        evaluate(table.assign(family="f"), group="family")
    with pytest.raises(DataError, match="one task only"):
        evaluate(table, group="task")
    with pytest.raises(DataError, match="train_share"):
        evaluate(table, train_share=1.5)


def test_pairs_may_be_restricted() -> None:
    table = made(12).assign(rate=[1.0, 2.0] * 6)

    def same_rate(rows: pd.DataFrame, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        rate = rows["rate"].to_numpy()
        return rate[i] == rate[j]

    every = evaluate(table, methods=("best-single",), splits=3)["mean"]["best-single"]["pairs"]
    some = evaluate(table, methods=("best-single",), splits=3, pairs=same_rate)["mean"]["best-single"]["pairs"]
    assert 0 < some < every


@pytest.mark.parametrize("group", ["task", "zoo"])
def test_whole_tasks_and_whole_zoos_can_be_held_out(group: str) -> None:
    """The truth is the same everywhere, so a ranker must carry it over to a task or a zoo that it has never seen."""
    table = pd.concat([made(10, tasks=3, seed=k).assign(zoo=f"z{k}") for k in range(4)], ignore_index=True)
    table["x"] += 100 * table["zoo"].str[1].astype(int)  # zoos lie apart: only the standing within a zoo can help
    result = evaluate(table, methods=("ltc", "best-single"), group=group, splits=2, parameters=QUICK)
    assert result["mean"]["ltc"]["accuracy"] > 0.75
    assert result["mean"]["ltc"]["accuracy"] >= result["mean"]["best-single"]["accuracy"] - 0.05
