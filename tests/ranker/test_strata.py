"""What two checkpoints share tells how sure to be, never which of them is favoured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.errors import DataError, UnknownNameError
from ranker import LearningToCompare
from ranker.evaluate import evaluate
from ranker.strata import Strata, told


def recipes(n: int = 90) -> tuple[pd.DataFrame, np.ndarray]:
    """A proxy that says which recipe a checkpoint has, and nothing beyond it."""
    rng = np.random.default_rng(4)
    recipe = rng.integers(0, 3, n)
    X = pd.DataFrame({"proxy": recipe + 0.6 * rng.normal(size=n), "recipe": np.array(["low", "middle", "high"])[recipe]})
    return X, recipe + 0.3 * rng.normal(size=n)


@pytest.fixture(scope="module")
def fitted() -> LearningToCompare:
    X, y = recipes()
    return LearningToCompare(bags=4, rounds=20, strata=["recipe"]).fit(X, y)


def test_a_pair_of_one_recipe_is_answered_with_more_doubt_and_in_the_same_order(fitted: LearningToCompare) -> None:
    X, y = recipes()
    plain = LearningToCompare(bags=4, rounds=20).fit(X[["proxy"]], y)
    i, j = np.triu_indices(len(X), 1)
    there, back = (fitted.compare(X.iloc[a], X.iloc[b], context=X) for a, b in ((i, j), (j, i)))
    before = plain.compare(X.iloc[i], X.iloc[j], context=X)
    assert (there + back == 1).all()
    assert ((there > 0.5) == (before > 0.5)).all()
    same = (X["recipe"].to_numpy()[i] == X["recipe"].to_numpy()[j]) & (np.abs(before - 0.5) > 1e-6)
    assert (np.abs(there - 0.5) < np.abs(before - 0.5))[same].all()
    assert (np.abs(there - 0.5) >= np.abs(before - 0.5) - 1e-9)[~same].all()
    assert fitted.feature_names_ == ["proxy"]
    assert fitted.card_["strata"]["slopes"][1] < 0


def test_the_answer_with_reasons_agrees_and_a_recipe_that_is_not_told_changes_nothing(fitted: LearningToCompare) -> None:
    X, _ = recipes()
    low, high = {"proxy": 0.2, "recipe": "low"}, {"proxy": 1.4, "recipe": "low"}
    answer = fitted.answer(high, low, context=X)
    assert answer.probability == fitted.compare(pd.DataFrame([high]), pd.DataFrame([low]), context=X)[0]
    assert sum(r["contribution"] for r in answer.reasons) == pytest.approx(answer.log_odds)
    assert answer.notes == []
    assert answer.probability < fitted.answer({"proxy": 1.4}, {"proxy": 0.2}, context=X).probability
    strength = fitted.strengths(pd.DataFrame({"proxy": [1.4, 0.2]}), context=X)
    bare = fitted.answer({"proxy": 1.4}, low, context=X)
    assert bare.log_odds == pytest.approx(strength[0] - strength[1])
    assert bare.call_from == fitted.call_from_
    one = X[X["recipe"] == "low"]
    told_, bare_ = (fitted.rank(rows, context=X).rows[0]["p_best"] for rows in (one, one[["proxy"]]))
    assert told_ < bare_  # all candidates share the recipe: the whole ranking is less sure


def test_strata_are_kept_on_disk_and_refused_where_they_are_not(fitted: LearningToCompare, tmp_path: Path) -> None:
    X, y = recipes()
    fitted.save(tmp_path)
    again = LearningToCompare.load(tmp_path)
    assert (again.compare(X[:8], X[8:16], context=X) == fitted.compare(X[:8], X[8:16], context=X)).all()
    with pytest.raises(DataError, match="no column 'lr'"):
        LearningToCompare(strata=["lr"]).fit(X, y)
    with pytest.raises(DataError, match="a list of columns"):
        LearningToCompare(strata="recipe").fit(X, y)  # type: ignore[arg-type]


def test_values_agree_as_numbers_or_as_words_and_missing_ones_never() -> None:
    a = told([{"lr": 0.1, "mix": " a "}, {"lr": None, "mix": "a"}, {"lr": "0.10"}], ("lr", "mix"))
    assert a.tolist() == [[0.1, "a"], [None, "a"], [0.1, None]]
    strata = Strata(("lr", "mix"), np.array([0.0, -1.0, -1.0]), (0.8, 0.95))
    factor, bar = strata.pairs(a[[0, 0]], a[[0, 1]], 0.9)
    assert factor == pytest.approx([np.exp(-2), 1])
    assert bar.tolist() == [0.95, 0.9]
    assert strata.common(a[:1], 0.9) == (1.0, 0.9)


def test_an_evaluation_scores_no_stratum_and_is_surer_of_how_sure_it_is() -> None:
    X, y = recipes()
    df = X.assign(task="t", checkpoint=[f"c{k}" for k in range(len(X))], outcome=y)
    options = {"methods": ["ltc"], "splits": 3, "parameters": {"bags": 4, "rounds": 20}}
    same = {"pairs": lambda rows, i, j: rows["recipe"].to_numpy()[i] == rows["recipe"].to_numpy()[j]}
    plain = evaluate(df, features=["proxy"], **options, **same)["mean"]["ltc"]
    strata = evaluate(df, strata=["recipe"], **options, **same)
    assert strata["protocol"]["features"] == ["proxy"]
    assert strata["mean"]["ltc"]["accuracy"] == plain["accuracy"]
    assert strata["mean"]["ltc"]["ece"] < plain["ece"]
    assert strata["mean"]["ltc"]["brier"] < plain["brier"]
    with pytest.raises(UnknownNameError, match="no column 'lr'"):
        evaluate(df, strata=["lr"])
