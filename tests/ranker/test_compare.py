"""LearningToCompare: the laws of its answers, bad input, and that it learns."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from threadpoolctl import threadpool_info, threadpool_limits

from features.errors import DataError, ForetuneError
from ranker import LearningToCompare
from ranker.ensemble import Ensemble
from ranker.reference import default_ranker, default_table, lean, load

QUICK = {"bags": 4, "rounds": 20}
number = st.one_of(st.none(), st.floats(-1e6, 1e6, allow_nan=False))


def made(n: int = 24, seed: int = 0, noise: float = 0.3) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"good": rng.normal(size=n), "noise": rng.normal(size=n), "kind": rng.choice(["sc", "clm", "sc+clm"], n)})
    return X, 2 * X["good"].to_numpy() + (X["kind"] == "clm").to_numpy() + noise * rng.normal(size=n)


@pytest.fixture(scope="module")
def ranker() -> LearningToCompare:
    X, y = made()
    return LearningToCompare(**QUICK).fit(X, y)


@settings(max_examples=60, deadline=None)
@given(
    a=st.tuples(number, number),
    b=st.tuples(number, number),
    kinds=st.tuples(st.sampled_from(["sc", "clm", "new", None]), st.none()),
)
def test_two_sides_of_a_question_add_up_to_one_exactly(ranker: LearningToCompare, a: tuple, b: tuple, kinds: tuple) -> None:
    rows = [{"good": r[0], "noise": r[1], "kind": k} for r, k in zip((a, b), kinds, strict=True)]
    X = pd.DataFrame(rows, columns=["good", "noise", "kind"])
    there, back = ranker.compare(X[:1], X[1:])[0], ranker.compare(X[1:], X[:1])[0]
    assert there + back == 1.0
    assert ranker.compare(X[:1], X[:1])[0] == 0.5


def test_reasons_add_up_to_the_log_odds_and_agreeing_features_of_a_linear_zoo_have_none(ranker: LearningToCompare) -> None:
    X, _ = made()
    for i, j in ((0, 1), (2, 3), (5, 9)):
        a, b = X.iloc[i].to_dict(), X.iloc[j].to_dict()
        answer = ranker.answer(a, b, context=X)
        assert sum(r["contribution"] for r in answer.reasons) == pytest.approx(answer.log_odds, abs=1e-9)
        assert answer.probability == pytest.approx(1 / (1 + np.exp(-answer.log_odds)))
        assert answer.interval[0] <= answer.probability <= answer.interval[1]
        mirrored = ranker.answer(b, a, context=X)
        assert answer.probability + mirrored.probability == 1.0
        assert {answer.winner, mirrored.winner} == {"a", "b"}
        assert answer.too_close == mirrored.too_close
    assert set(answer.to_dict()) == {"winner", "probability", "interval", "too_close", "reasons", "missing"}


def test_sides_looked_at_one_by_one_answer_as_the_pair_does(ranker: LearningToCompare) -> None:
    X, _ = made()
    context = ranker.context(X)
    rows = [X.iloc[k].to_dict() for k in range(5)]
    alone = [ranker.sides({"x": row}, context=context)[0] for row in rows]
    for i, j in ((0, 1), (1, 0), (2, 4), (3, 3)):
        kept, asked = ranker.between(alone[i], alone[j]), ranker.answer(rows[i], rows[j], context=context)
        assert kept.probability == pytest.approx(asked.probability, abs=1e-12)
        assert kept.interval == pytest.approx(asked.interval, abs=1e-12)
        assert (kept.winner, kept.missing) == (asked.winner, asked.missing)
        for mine, theirs in zip(kept.reasons, asked.reasons, strict=True):
            assert mine["contribution"] == pytest.approx(theirs["contribution"], abs=1e-12)


def test_the_answer_and_the_table_say_the_same(ranker: LearningToCompare) -> None:
    X, _ = made()
    context = ranker.context(X)
    p = ranker.compare(X[:6], X[6:12], context=context)
    for k in range(6):
        one = ranker.answer(X.iloc[k].to_dict(), X.iloc[6 + k].to_dict(), context=context)
        assert one.probability == pytest.approx(p[k], abs=1e-12)


def test_a_pair_of_no_known_zoo_is_answered_alone(ranker: LearningToCompare) -> None:
    X, _ = made()
    together = ranker.compare(X[:5], X[5:10])
    alone = [ranker.compare(X[k : k + 1], X[5 + k : 6 + k])[0] for k in range(5)]
    assert together == pytest.approx(alone, abs=1e-12)


def test_it_learns_what_there_is_to_learn_and_ranks_unseen_checkpoints(ranker: LearningToCompare) -> None:
    X, y = made(60, seed=1)
    i, j = np.triu_indices(60, 1)
    p = ranker.compare(X.iloc[i], X.iloc[j], context=X)
    assert np.mean((p > 0.5) == (y[i] > y[j])) > 0.85
    assert ranker.card_["importance"]["good"] > 3 * ranker.card_["importance"]["noise"]


def test_what_is_missing_is_named_with_the_most_telling_first(ranker: LearningToCompare) -> None:
    answer = ranker.answer({"noise": 0.1}, {"noise": 0.2, "size": 3})
    assert answer.missing[0] == "good"
    assert answer.measure_next[0]["settles"] > answer.measure_next[-1]["settles"]
    assert answer.too_close
    assert any("size" in note for note in answer.notes)


def test_it_is_a_scikit_learn_estimator() -> None:
    ranker = LearningToCompare(error_rate=0.2, bags=4)
    assert clone(ranker).get_params() == ranker.get_params()
    assert ranker.set_params(bags=8).bags == 8
    assert not [name for name in vars(ranker) if name.endswith("_")]


def test_the_same_rows_give_the_same_ranker() -> None:
    X, y = made(16)
    one, two = (LearningToCompare(**QUICK).fit(X, y) for _ in range(2))
    assert one.booster_.model_to_string() == two.booster_.model_to_string()
    assert (one.strengths(X) == two.strengths(X)).all()


def test_a_fit_keeps_to_one_thread_and_gives_the_others_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def threads() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    seen: list[set[int]] = []
    fit = Ensemble.fit
    monkeypatch.setattr(Ensemble, "fit", lambda self, *args, **kw: (seen.append(threads()), fit(self, *args, **kw))[1])
    X, y = made()
    with threadpool_limits(2, "blas"):
        before = threads()
        LearningToCompare(**QUICK).fit(X, y)
        assert (before, seen, threads()) == ({2}, [{1}], {2})


@pytest.mark.parametrize("name", ["error_rate", "bags", "rounds", "signs", "max_pairs"])
def test_parameters_are_checked_in_fit_and_named(name: str) -> None:
    X, y = made(8)
    wrong = "sideways" if name == "signs" else 0
    with pytest.raises(DataError, match=name):
        LearningToCompare(**{name: wrong}).fit(X, y)


def test_bad_rows_are_refused() -> None:
    X, y = made(8)
    with pytest.raises(DataError, match="not a finite number"):
        LearningToCompare().fit(X, np.where(np.arange(8) == 3, np.nan, y))
    with pytest.raises(DataError, match="7 values for 8 rows"):
        LearningToCompare().fit(X, y[:7])
    with pytest.raises(DataError, match="two checkpoints of different outcome"):
        LearningToCompare().fit(X, np.ones(8))
    with pytest.raises(DataError, match="one group"):
        LearningToCompare().fit(X, y, group=["g"] * 8)
    with pytest.raises(DataError, match="not fitted"):
        LearningToCompare().compare(X, X)


def test_questions_it_cannot_answer_are_refused(ranker: LearningToCompare) -> None:
    X, _ = made()
    with pytest.raises(DataError, match="none of the features"):
        ranker.compare(X[["good"]].rename(columns={"good": "x"}), X)
    with pytest.raises(DataError, match="none of the features"):
        ranker.answer({"x": 1.0}, {"good": 1.0})
    with pytest.raises(DataError, match="2 and 3 rows"):
        ranker.compare(X[:2], X[:3])
    with pytest.raises(DataError, match="no candidates"):
        ranker.rank(X[:0])
    with pytest.raises(DataError, match="2 columns, where the ranker was fitted on 3"):
        ranker.compare(np.zeros((1, 2)), np.zeros((1, 2)))


def test_missing_cells_tiny_tables_and_several_zoos_are_fitted() -> None:
    X, y = made(12)
    X.loc[::3, "good"] = np.nan
    holes = LearningToCompare(**QUICK).fit(X, y)
    assert np.isfinite(holes.strengths(X)).all()
    tiny = LearningToCompare(**QUICK).fit(pd.DataFrame({"f": [1.0, 2.0]}), [0.0, 1.0])
    assert 0 < tiny.compare(np.array([[1.0]]), np.array([[2.0]]))[0] < 1
    X, y = made(30)
    zoo = np.repeat(["small", "big"], 15)
    shifted = y + 100 * (zoo == "big")
    X["good"] += 50 * (zoo == "big")
    pair = LearningToCompare(**QUICK).fit(X, shifted, zoo=zoo)
    assert pair.holdout_["accuracy"] > 0.75  # outcomes are compared within a zoo, features standardised within it


def test_pairs_inside_the_seed_noise_weigh_nothing() -> None:
    """Where half the rows are pure noise of known size, knowing it must not hurt, and their pairs carry no weight."""
    from ranker.pairs import certainty

    y, sd = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 0.0, 50.0, 50.0])
    weight = certainty(y, sd, np.array([0, 2]), np.array([1, 3]))
    assert weight[0] == 1.0
    assert weight[1] < 0.02


def test_the_unit_of_the_outcome_changes_no_answer() -> None:
    X, y = made(16)
    plain = LearningToCompare(**QUICK).fit(X, y, outcome_sd=np.full(16, 0.5))
    tiny = LearningToCompare(**QUICK).fit(X, 1e-9 * np.asarray(y), outcome_sd=np.full(16, 0.5e-9))
    np.testing.assert_allclose(tiny.compare(X[:8], X[8:]), plain.compare(X[:8], X[8:]), atol=1e-6)
    with pytest.raises(DataError, match="finite number up to"):
        LearningToCompare(**QUICK).fit(X, 1e200 * np.asarray(y))


def test_twins_and_checkpoints_of_a_group_never_stand_on_two_sides() -> None:
    X, y = made(12)
    X = pd.concat([X, X.iloc[:2]], ignore_index=True)
    y = np.concatenate([y, y[:2]])
    fitted = LearningToCompare(**QUICK).fit(X, y, group=[f"c{k}" for k in range(14)])
    assert fitted.card_["groups"] == 12


def test_a_known_sign_counts_only_where_the_training_rows_agree() -> None:
    rng = np.random.default_rng(3)
    ppl = np.exp(rng.normal(size=40))
    agree = LearningToCompare(**QUICK).fit(pd.DataFrame({"ppl_clm": ppl}), -np.log(ppl))
    against = LearningToCompare(**QUICK).fit(pd.DataFrame({"ppl_clm": ppl}), np.log(ppl))
    strict = LearningToCompare(signs="strict", **QUICK).fit(pd.DataFrame({"ppl_clm": ppl}), np.log(ppl))
    low, high = pd.DataFrame({"ppl_clm": [0.5]}), pd.DataFrame({"ppl_clm": [2.0]})
    assert agree.compare(low, high)[0] > 0.8
    assert agree.card_["signs"] == {"ppl_clm": -1}
    assert against.compare(low, high)[0] < 0.2
    assert strict.compare(low, high)[0] >= 0.5


def test_the_default_ranker_answers_for_a_zoo_of_other_names_and_scales() -> None:
    ranker = default_ranker()
    assert {"ppl_clm", "ppl_sc", "kshot_acc", "prompt_nll"} < set(ranker.feature_names_)
    better = {"ppl_clm": 210.0, "ppl_sc_t5": 300.0, "kshot_acc": 0.31, "n_parameters": 1e6}
    worse = {"ppl_clm": 230.0, "ppl_sc_t5": 420.0, "kshot_acc": 0.25, "n_parameters": 1e6}
    answer = ranker.answer(better, worse, task="films")
    assert answer.winner == "a"
    assert {"ppl_clm", "ppl_sc", "kshot_acc"} <= {r["feature"] for r in answer.reasons}
    assert "prompt_nll" in answer.missing
    assert ranker.card_["holdout"]["accuracy"] > 0.6


def test_the_default_ranker_knows_zoos_without_what_is_measured_by_name_only() -> None:
    table = default_table()
    assert set(table["zoo"]) == {"zeng2025", "foretune2026", "foretune2026, measured by default"}
    whole, less = (table[table["zoo"] == f"foretune2026{rest}"].reset_index(drop=True) for rest in ("", ", measured by default"))
    assert (whole["checkpoint"] == less["checkpoint"]).all()
    assert (whole["outcome"] == less["outcome"]).all()
    dear = ["probe_long_loss", "linear_probe_last_r2", "rankme_mean"]
    assert whole[dear].notna().any().all()
    assert less[dear].isna().all().all()
    assert less["prompt_nll"].equals(whole["prompt_nll"])
    assert [len(lean(zoo)) for zoo in (whole, less)] == [2, 1]


def test_saving_and_loading_changes_no_answer(ranker: LearningToCompare, tmp_path: Path) -> None:
    X, _ = made()
    ranker.save(tmp_path / "r")
    again = LearningToCompare.load(tmp_path / "r")
    assert (again.compare(X[:8], X[8:16], context=X) == ranker.compare(X[:8], X[8:16], context=X)).all()
    assert again.answer(X.iloc[0].to_dict(), X.iloc[1].to_dict()) == ranker.answer(X.iloc[0].to_dict(), X.iloc[1].to_dict())
    assert again.rank(X).rows == ranker.rank(X).rows
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == [
        "bags.txt",
        "booster.txt",
        "own.txt",
        "own_bags.txt",
        "ranker.json",
    ]
    assert again.card_["digest"] == ranker.card_["digest"]


def _edit(folder: Path, change: Callable[[Any], None]) -> None:
    content = json.loads((folder / "ranker.json").read_text())
    change(content)
    (folder / "ranker.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "ranker.json").unlink(),
        lambda f: (f / "booster.txt").unlink(),
        lambda f: (f / "booster.txt").write_text("tree\n"),
        lambda f: (f / "ranker.json").write_text("{}"),
        lambda f: (f / "ranker.json").write_text("{"),
        lambda f: _edit(f, lambda content: content.update({"format": 99})),
        lambda f: (f / "ranker.json").write_text((f / "ranker.json").read_text().replace('"standardiser"', '"other"')),
        lambda f: _edit(f, lambda content: content["ensemble"].update({"own trees": {"0": [[0, 1], [0, [1]]]}})),
        lambda f: _edit(f, lambda content: content["ensemble"].update({"own processes": {"0": {}}})),
        lambda f: _edit(f, lambda content: content["ensemble"].update({"trees": {}})),
        lambda f: _edit(f, lambda content: content["ensemble"].update({"trees": []})),
        lambda f: (f / "ranker.json").write_bytes(b"\xff\xfe\x00"),
    ],
)
def test_a_damaged_or_strange_folder_is_refused_by_name(ranker: LearningToCompare, tmp_path: Path, damage: object) -> None:
    ranker.save(tmp_path)
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(ForetuneError) as caught:
        LearningToCompare.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_the_package_imports_and_answers_without_torch_mlflow_or_bentoml() -> None:
    script = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'transformers', 'mlflow', 'bentoml', 'ray'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import ranker, ranker.evaluate, ranker.table, ranker.laws, ranker.plots\n"
        "from ranker import LearningToCompare\n"
        "import numpy as np\n"
        "r = LearningToCompare(bags=2, rounds=5).fit(np.arange(8.).reshape(8, 1), np.arange(8.))\n"
        "print(r.compare(np.array([[7.]]), np.array([[0.]]))[0] > .5)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert run.stdout.strip() == "True", run.stderr


def test_the_published_table_gives_one_row_per_task_and_checkpoint() -> None:
    table = load("zeng2025")
    assert table.shape == (150, 13)
    with pytest.raises(ForetuneError, match="zeng2025"):
        load("zeng2026")
