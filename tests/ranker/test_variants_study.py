"""The study of our own zoo: factors found where they were put, proxies judged by hand-countable pairs, a page with pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.errors import DataError, UnknownNameError
from ranker import reference
from ranker.studies import factors, variants
from ranker.table import proxies_of


@pytest.fixture(scope="module")
def zoo() -> pd.DataFrame:
    """Sixteen variants on two tasks: the learning rate makes the outcome, `ppl_clm` sees it, `noise` sees nothing."""
    rng = np.random.default_rng(0)
    rows = []
    for k in range(16):
        lr = (0.001, 0.004)[k % 2]
        quality = (k % 2) + 0.1 * rng.normal()
        for task in ("a", "b"):
            rows.append(
                {
                    "task": task,
                    "checkpoint": f"v{k:02d}",
                    "outcome": quality + 0.05 * rng.normal(),
                    "outcome_sd": 0.05,
                    "objective": ("clm", "sc")[k // 2 % 2],
                    "learning_rate": lr,
                    "ppl_clm": float(np.exp(5 - quality)),
                    "knn_mean": float(rng.normal()),
                }
            )
    return pd.DataFrame(rows)


def test_epsilon_squared_is_kelleys_by_hand() -> None:
    # two groups (1, 2) and (3, 4): SSB 4, SSW 1, MSW .5, SST 5
    assert factors.epsilon_squared(np.array([1.0, 2, 3, 4]), np.array(["x", "x", "y", "y"])) == pytest.approx((4 - 0.5) / 5)
    assert factors.epsilon_squared(np.ones(4), np.array(["x", "x", "y", "y"])) == 0
    assert factors.epsilon_squared(np.array([1.0, 2, 1, 2]), np.array(["x", "x", "y", "y"])) == 0  # never below 0


def test_a_factor_is_found_where_it_was_put_and_nowhere_else(zoo: pd.DataFrame) -> None:
    found = {row["what"]: row for row in factors.detected(zoo, ["ppl_clm", "knn_mean"], shuffles=200)}
    for what in ("outcome", "ppl_clm"):
        assert found[what]["learning_rate"] > 0.8
        assert found[what]["learning_rate p"] < 0.01
        assert found[what]["objective p"] > 0.05
    assert found["knn_mean"]["learning_rate p"] > 0.05


def test_a_proxy_alone_is_judged_in_its_own_direction(zoo: pd.DataFrame) -> None:
    three = pd.DataFrame(
        {"task": "t", "checkpoint": ["a", "b", "c"], "outcome": [1.0, 2, 3], "ppl_clm": [9.0, 5, 7], "learning_rate": [1.0, 1, 2]}
    )
    (row,) = factors.singles(three, ["ppl_clm"], draws=50).to_dict("records")
    assert row["accuracy"] == pytest.approx(2 / 3)  # b over c is wrong: a lower perplexity should be better
    assert row["equal"] == 1.0  # of equal learning rate: a and b alone
    assert factors.singles(zoo, ["ppl_clm"], draws=50)["accuracy"][0] > 0.8


def test_configurations_and_constants_are_no_proxies(zoo: pd.DataFrame) -> None:
    assert proxies_of(zoo.assign(width=96.0, same=1.0)) == ["ppl_clm", "knn_mean"]


def test_the_page_says_how_much_of_perplexitys_error_is_cut_and_has_its_pictures(zoo: pd.DataFrame, tmp_path: Path) -> None:
    zoo.to_csv(tmp_path / "zoo.csv", index=False)
    page = variants.study(tmp_path / "zoo.csv", splits=2, command="c", quick=True)
    assert page.figures["proxies/single:ppl_clm"]["error_cut"]["share"] == 0
    assert page.figures["outcomes/a"]["ratio"] > 2
    page.write(tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert all(f"page_{name}.png" in text and (tmp_path / f"page_{name}.png").is_file() for name in page.pictures)
    assert text.index("Each proxy alone") < text.index("page_singles.png")


def test_a_table_without_perplexity_is_refused(zoo: pd.DataFrame, tmp_path: Path) -> None:
    zoo.drop(columns="ppl_clm").to_csv(tmp_path / "zoo.csv", index=False)
    with pytest.raises(DataError, match=r"zoo\.csv: no column 'ppl_clm'; measure"):
        variants.study(tmp_path / "zoo.csv")


@pytest.mark.parametrize("name", [n for n in reference.TABLES if n != "zeng2025"])
def test_our_own_tables_have_noise_costs_and_the_shared_proxies(name: str) -> None:
    table = reference.load(name)
    assert table["outcome_sd"].notna().all()
    assert set(reference.SHARED) <= set(reference.vocabulary(name))
    assert not set(reference.CONFIGURATION) & set(reference.vocabulary(name))
    assert {"finetune", "ppl_clm", "kshot_acc"} <= set(reference.costs(name)["name"])


def test_what_has_no_costs_says_so() -> None:
    with pytest.raises(UnknownNameError, match="no reference table 'zeng2025' with costs"):
        reference.costs("zeng2025")
