"""The studies: figures that the papers report, hold-outs that hold, pages that say what was measured."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from features.errors import DataError
from ranker import metrics
from ranker.evaluate import grouping, splits_of
from ranker.pairs import codes
from ranker.parallel import at_work
from ranker.reference import OUTCOMES, PROXIES
from ranker.studies import bounds, ceilings, ibm, methods, sources, zeng
from ranker.studies.__main__ import main
from ranker.studies.holdout import run
from ranker.studies.page import Page, cell, signed

# Two means of 20 random splits (theirs, ours) differ by chance with a standard deviation of about .02: one split has .06 to .09.
SPLIT_NOISE = 0.06


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return sources.zeng()


@pytest.fixture(scope="module")
def alone(table):
    makers = {name: methods.single(name.removeprefix("single:")) for name in ("single:inv_ppl_clm", "single:kshot_rag")}
    return zeng.judge(table, makers, list(PROXIES), splits=20, seed=0)


@pytest.mark.parametrize("name", ["single:inv_ppl_clm", "single:kshot_rag"])
def test_a_proxy_alone_is_as_good_as_the_paper_says(alone, name):
    found = alone.tasks(name)
    for task, published in zip(OUTCOMES, zeng.PUBLISHED[name], strict=True):
        assert found[task] == pytest.approx(published, abs=SPLIT_NOISE)


def test_learning_to_compare_as_published_reaches_the_published_accuracy(table):
    found = zeng.judge(table, {"published": methods.Published}, list(PROXIES), splits=8, seed=0)
    tasks = found.tasks("published")
    for task, published in zip(OUTCOMES, zeng.PUBLISHED["published"], strict=True):
        assert tasks[task] == pytest.approx(published, abs=SPLIT_NOISE)
    assert np.mean(list(tasks.values())) == pytest.approx(0.744, abs=0.04)


def test_a_study_side_by_side_has_the_same_figures(table):
    makers = {"single:kshot_rag": methods.single("kshot_rag"), **methods.baselines(False)}
    alone = zeng.judge(table, makers, list(PROXIES), splits=3, seed=0)
    with at_work(2):
        beside = zeng.judge(table, makers, list(PROXIES), splits=3, seed=0)
    for method, pairs in alone.judged:
        assert beside.of(method, pairs) == alone.of(method, pairs)


def test_equal_learning_rates_leave_pairs_that_the_learning_rate_cannot_decide(table):
    rows = table[table["task"] == "sft_cms"]
    i, j = np.triu_indices(len(rows), 1)
    chosen = zeng.equal_learning_rate(rows, i, j)
    assert chosen.sum() == 315
    assert (rows["learning_rate"].to_numpy()[i[chosen]] == rows["learning_rate"].to_numpy()[j[chosen]]).all()


def test_the_failed_run_is_the_only_one_dropped(table):
    dropped = table[sources.failed_runs(table)]
    assert dropped[["checkpoint", "task"]].to_numpy().tolist() == [["model-04", "sft_cbqa"]]
    assert len(zeng.handled(table)) == len(table) - 1


@pytest.mark.parametrize("twins", [False, True])
def test_no_checkpoint_stands_on_both_sides(table, twins):
    _, parts = zeng.protocol(table, 10, 0, twins=twins)
    straddled = 0
    for train, test in parts:
        a, b = set(table["checkpoint"].iloc[train]), set(table["checkpoint"].iloc[test])
        assert not a & b
        assert len(a | b) == 50
        straddled += sum(("model-46" in side) != ("model-49" in side) for side in (a, b))
    assert (straddled == 0) == twins


def test_an_objective_is_taken_apart_into_what_it_trains_on(table):
    row = table[table["objective"] == "UL2R+CLM"].iloc[0]
    assert [row[f"trains_{p}"] for p in ("clm", "sc", "prefix", "mixture")] == [1, 1, 1, 0]


def _toy(n: int = 12, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return pd.DataFrame(
        {"task": "t", "checkpoint": [f"c{k}" for k in range(n)], "outcome": x + rng.normal(size=n), "kshot_acc": x}
    )


def test_the_bootstrap_is_that_of_the_mean_over_splits():
    df = _toy()
    test = np.arange(6)
    found = run(
        df,
        {"one": methods.single("kshot_acc")},
        [(np.arange(6, 12), test)],
        columns=["kshot_acc"],
        groups=codes(df["checkpoint"]),
    )
    i, j = np.triu_indices(6, 1)
    hit = metrics.right(
        df["kshot_acc"].to_numpy()[i] - df["kshot_acc"].to_numpy()[j] + 0.5,
        df["outcome"].to_numpy()[i] - df["outcome"].to_numpy()[j],
    )
    expected = metrics.bootstrap(hit, i, j, 12, found.draws)
    np.testing.assert_allclose(found.samples("one"), expected)
    assert found.of("one")["accuracy"] == pytest.approx(hit.mean())


def test_a_method_against_itself_differs_by_nothing():
    df = _toy()
    makers = {"a": methods.single("kshot_acc"), "b": methods.single("kshot_acc")}
    found = run(df, makers, [(np.arange(6), np.arange(6, 12))], columns=["kshot_acc"], groups=codes(df["checkpoint"]))
    assert found.of("a", against="b")["against"] == {"method": "b", "difference": 0.0, "ci95": [0.0, 0.0]}


def test_ours_is_judged_on_rows_that_it_was_not_fitted_on():
    df = _toy(20)
    seen: list[set[str]] = []

    class Spy(methods.Ours):
        def fit(self, train, columns):
            seen.append(set(train["checkpoint"]))
            return super().fit(train, columns)

        def order(self, rows, context):
            assert not seen[-1] & set(rows["checkpoint"])
            return super().order(rows, context)

    found = run(df, {"ltc": Spy}, [(np.arange(12), np.arange(12, 20))], columns=["kshot_acc"], groups=codes(df["checkpoint"]))
    figures = found.of("ltc")
    assert seen
    assert 0 <= figures["ece"] <= 1
    assert 0 <= figures["called"] <= 1


def test_rectified_gains_are_what_each_doubling_took_away(tmp_path):
    steps = [200 * 2**k for k in range(14)]
    wide = pd.DataFrame({"model": ["a", "b"], "task": "t", "loss_zero_shot": [4.0, 2.0], "n_params": [1e8, 2e8], "arch": "dec"})
    for k, n in enumerate(steps):
        wide[f"loss_ft_{n}"] = [4.0 * 0.9 ** (k + 1), 2.0]
    wide["outcome_final_loss"] = [1.0, 2.0]
    path = tmp_path / "rectified_scaling_tidy.csv"
    wide.to_csv(path, index=False)
    df = sources.rectified(tmp_path, samples=400)
    assert [c for c in df.columns if c.startswith("loss_")] == ["loss_zero_shot", "loss_ft_200", "loss_ft_400"]
    np.testing.assert_allclose(df["gain_400"], [-np.log(0.9), 0.0], atol=1e-12)
    assert df["outcome"].tolist() == [-1.0, -2.0]


def _hub(tmp_path, models: int = 24):
    rng = np.random.default_rng(0)
    name = [f"person{k}/bert-finetuned-{'squad' if k % 2 else 'cola'}" for k in range(models)]
    wide = pd.DataFrame({"model_name": name, "uploader": [f"person{k}" for k in range(models)], "base_model": "bert-base-cased"})
    wide["classification"], wide["mnli_lp"] = True, rng.uniform(size=models)
    wide["cola"], wide["mrpc"] = rng.uniform(size=models), rng.uniform(size=models)
    wide.to_csv(tmp_path / "models_fully_finetuned_wide.csv", index=False)
    seeds = pd.DataFrame(
        {"base_model": "bert_base_cased", "seed_run": range(4), "task": "cola", "ft_score": [0.5, 0.5, 0.52, 0.48], "loss": 0.1}
    )
    seeds.to_csv(tmp_path / "pretrained_baselines_20seeds.csv", index=False)


def test_hub_checkpoints_are_read_without_their_uploaders_name(tmp_path):
    _hub(tmp_path)
    df = sources.ibm(tmp_path)
    assert {c for c in df.columns if c.startswith("name_")} == {
        "name_bert",
        "name_finetuned",
        "name_squad",
        "name_cola",
        "name_says_task",
    }
    assert df["group"].nunique() == 24
    cola = df[df["task"] == "cola"]
    assert (cola["name_says_task"] == cola["name_cola"]).all()
    assert cola["outcome_sd"].iloc[0] == pytest.approx(1.4826 * 0.01)
    mean = sources.mean_over_tasks(df)
    assert len(mean) == 24
    assert mean["outcome"].iloc[0] == pytest.approx(df[df["checkpoint"] == mean["checkpoint"].iloc[0]]["outcome"].mean())


def test_a_page_says_the_same_in_words_and_numbers(tmp_path):
    page = Page("T", "command", figures={"a": {"accuracy": 0.7539999}})
    page.table("H", ["m", "x"], [["ltc", 0.754], ["none", None]])
    page.write(tmp_path / "docs" / "t.md")
    text = (tmp_path / "docs" / "t.md").read_text()
    assert "| ltc | .754 |" in text
    assert "| none | - |" in text
    assert json.loads((tmp_path / "docs" / "t.json").read_text()) == {"a": {"accuracy": 0.754}}


def test_shares_are_written_without_their_zero():
    assert [cell(0.5), cell(-0.25), cell(1.0), cell(12.34), cell(None)] == [".500", "-.250", "1.000", "12.3", "-"]
    assert [signed(0.012), signed(-0.012), signed(None)] == ["+.012", "-.012", "-"]


def test_a_table_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["nas", "--table", str(tmp_path)]) == 2
    assert "flexibert500_tidy.csv" in capsys.readouterr().err
    assert main(["zeng", "--jobs", "0"]) == 2
    assert "jobs = 0" in capsys.readouterr().err
    with pytest.raises(DataError, match="--table PATH"):
        sources.rectified(None)


def test_a_study_writes_its_page(tmp_path):
    _hub(tmp_path, 40)
    out = tmp_path / "ibm.md"
    assert main(["ibm", "--table", str(tmp_path), "--splits", "1", "-o", str(out)]) == 0
    text = out.read_text()
    assert "python -m ranker.studies ibm" in text
    assert str(tmp_path) not in text
    assert "| ltc |" in text
    assert "ceiling" in json.loads(out.with_suffix(".json").read_text())


def test_a_summary_says_which_aims_were_met(tmp_path):
    figures = {
        "accuracy": 0.88,
        "ci95": [0.87, 0.89],
        "sd": 0.01,
        "ece": 0.02,
        "ece_task": 0.03,
        "called": 0.9,
        "called_accuracy": 0.91,
    }
    (tmp_path / "nas.json").write_text(json.dumps({"ltc": figures}))
    (tmp_path / "ceilings.json").write_text(json.dumps({"nas/learnable": {"learnt": 0.863}}))
    out = tmp_path / "README.md"
    assert main(["summary", "--table", str(tmp_path), "-o", str(out)]) == 0
    assert "| .880 | .880 [.870, .890] | .010 | yes | .863 | .020 | .030 | .900 | .910 |" in out.read_text()


def test_a_summary_of_nothing_says_what_to_run_first(tmp_path, capsys):
    assert main(["summary", "--table", str(tmp_path)]) == 2
    assert "run the studies" in capsys.readouterr().err


def test_what_the_ranker_is_made_of_is_judged_on_the_table_that_ships(tmp_path):
    out = tmp_path / "choices.md"
    assert main(["choices", "--splits", "1", "--quick", "-o", str(out)]) == 0
    text = out.read_text()
    assert "pair trees" in text
    assert "ratio of the slopes" in text
    figures = json.loads(out.with_suffix(".json").read_text())
    assert set(figures["zeng, proxies"]["accuracy"]) >= {"trees", "as it is", "pair trees with it"}


def test_the_truth_is_worth_more_than_what_30_models_teach(table):
    page = Page("", "")
    bounds.teachable(page, table, {"proxies": list(PROXIES)}, 4, 0, worlds=2)
    one = page.figures["teachable/proxies"]
    assert one["truth"] > one["learnt"] > 0.5
    assert 0 < one["ece, equal, low"] < one["ece, equal, high"] < 0.2
    held = list(splits_of(table, grouping(table, None), None, splits=2, train_share=0.6, seed=0))
    bare = bounds.learnable(table.drop(columns="learning_rate"), list(PROXIES), held, 0, worlds=2)
    assert set(bare) == {"truth", "learnt"}
    assert bare["truth"] == bounds.learnable(table, list(PROXIES), held, 0, worlds=2)["truth"]


def test_halves_of_tasks_that_agree_leave_a_perfect_ranker_little_to_miss():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(2000, 1))
    reliability, agree, perfect = ceilings.halves(shared + rng.normal(size=(2000, 4)), standard=False)
    assert reliability == pytest.approx(4 / 5, abs=0.03)  # variance 1 shared, 1/4 of noise left in the mean of four
    assert perfect == pytest.approx(0.5 + np.arcsin(np.sqrt(0.8)) / np.pi, abs=0.01)
    assert 0.5 < agree < perfect


def test_other_outcomes_and_copies_tell_what_an_outcome_is_worth():
    rng = np.random.default_rng(1)
    good = np.where(np.arange(60) < 10, 0.0, rng.normal(size=60))
    df = pd.concat([
        pd.DataFrame({
            "task": f"t{k}", "zoo": "base", "checkpoint": ["base", *(f"c{i}" for i in range(1, 60))], "group": range(60),
            "mnli_lp": np.where(np.arange(60) < 10, 0.5, 0.6 + 0.001 * np.arange(60)),
            "outcome": good + 0.3 * rng.normal(size=60),
        })
        for k in range(6)
    ])  # fmt: skip
    count, base, ratio, perfect = ibm.copies(df)
    assert (count, base) == (10, "base")
    assert 0.2 < ratio < 0.5
    assert 0.75 < ibm.from_other_outcomes(df) < 0.95
    assert perfect > 0.8
