"""The comparison table: what is read, what is refused and in which words, what a join keeps."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.errors import DataError
from features.rows import FEATURE_COLUMNS, OUTCOME_COLUMNS
from ranker.table import check, describe, digest, features_of, join, read, widen

GOOD = "task,checkpoint,outcome,ppl_clm,objective\nt,a,1.0,10,clm\nt,b,2.0,,sc\nt,c,3.0,9,\n"


def write(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_numbers_stay_numbers_and_texts_stay_texts_where_cells_are_empty(tmp_path: Path) -> None:
    table = read(write(tmp_path, GOOD))
    assert table["ppl_clm"].dtype == float
    assert np.isnan(table["ppl_clm"][1])
    assert table["objective"].tolist() == ["clm", "sc", None]
    assert features_of(table) == ["ppl_clm", "objective"]


def test_csv_and_parquet_read_alike(tmp_path: Path) -> None:
    table = read(write(tmp_path, GOOD))
    table.to_parquet(tmp_path / "table.parquet")
    again = read(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    assert digest(again) == digest(table)


@pytest.mark.parametrize(
    "written",
    [
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.replace(",", ";").replace(".0", ",0"),
        GOOD.replace(",", "\t"),
        GOOD.replace("task,checkpoint", '"task", checkpoint ', 1),
        GOOD + ",,,,\n,,,,\n",
        "\n".join(f"{k},{line}" for k, line in zip(["", "0", "1", "2"], GOOD.splitlines(), strict=True)),
        "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in GOOD.splitlines()),
    ],
    ids=["windows", "mark", "semicolons", "tabs", "blanks", "spreadsheet", "index", "quoted"],
)
def test_a_table_is_the_same_however_it_was_written(tmp_path: Path, written: str) -> None:
    (tmp_path / "TABLE.CSV").write_text(written, encoding="utf-8", newline="")
    pd.testing.assert_frame_equal(read(tmp_path / "TABLE.CSV"), read(write(tmp_path, GOOD)))


def test_a_checkpoint_keeps_its_name_to_the_letter(tmp_path: Path) -> None:
    names = ["007", "7", "1e3", "null", "NA", "a, b/ü"]
    text = "task,checkpoint,outcome,f\n" + "".join(f'01,"{name}",{k},{k}\n' for k, name in enumerate(names))
    table = read(write(tmp_path, text))
    assert table["checkpoint"].tolist() == names
    assert set(table["task"]) == {"01"}


def test_numbers_written_as_text_are_numbers_in_parquet_as_in_csv(tmp_path: Path) -> None:
    rows = pd.DataFrame({"task": "t", "checkpoint": ["a", "b", "c"], "outcome": ["1", "2", "3.5"], "f": ["1e-3", None, " 2 "]})
    rows.to_parquet(tmp_path / "t.parquet")
    rows.to_csv(tmp_path / "t.csv", index=False)
    table = read(tmp_path / "t.parquet")
    assert table["f"].tolist()[::2] == [0.001, 2.0]
    pd.testing.assert_frame_equal(table, read(tmp_path / "t.csv"))


def test_decimals_and_integers_of_any_size_are_numbers(tmp_path: Path) -> None:
    large = [100000000000000000000, 200000000000000000000, 2]
    rows = pd.DataFrame({"task": "t", "checkpoint": ["a", "b", "c"], "outcome": [Decimal("1.5"), Decimal(2), Decimal(3)]})
    rows.assign(f=[Decimal("0.5332"), None, Decimal(2)]).to_parquet(tmp_path / "t.parquet")
    table = read(tmp_path / "t.parquet")
    assert table["f"].tolist()[::2] == [0.5332, 2.0]
    assert table["outcome"].tolist() == [1.5, 2.0, 3.0]
    rows.assign(flops=large).to_csv(tmp_path / "t.csv", index=False)
    assert read(tmp_path / "t.csv")["flops"].tolist() == [1e20, 2e20, 2.0]
    objects = check(rows.assign(flops=large).T.T)
    assert objects["flops"].tolist() == [1e20, 2e20, 2.0]
    with pytest.raises(DataError, match="row 1, column 'flops': is infinite"):
        check(rows.assign(flops=pd.Series([10**400, 1, 2], dtype=object)))
    with pytest.raises(DataError, match="row 1, column 'outcome': is infinite"):
        check(rows.assign(outcome=pd.Series([10**400, 1, 2], dtype=object), f=1.0))


def test_a_cell_of_several_values_and_a_column_that_stands_twice_are_refused_by_name(tmp_path: Path) -> None:
    rows = pd.DataFrame({"task": "t", "checkpoint": ["a", "b"], "outcome": [1.0, 2.0], "f": [3.0, 4.0]})
    rows.assign(several=[[1.0, 2.0], [3.0]]).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="row 1, column 'several': holds several values"):
        read(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column 'f' stands there twice"):
        check(pd.concat([rows, rows[["f"]]], axis=1))


def test_the_digest_ignores_row_order_and_sees_every_value(tmp_path: Path) -> None:
    table = read(write(tmp_path, GOOD))
    assert digest(table.iloc[::-1]) == digest(table)
    changed = table.copy()
    changed.loc[0, "ppl_clm"] = 10.5
    assert digest(changed) != digest(table)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("task,checkpoint\nt,a\n", ["table.csv", "no column 'outcome'"]),
        ("task,checkpoint,outcome,f\n", ["table.csv", "no rows"]),
        ("task,checkpoint,outcome,f\nt,a,1,1\nt,a,2,2\nt,b,3,3\n", ["row 2", "'a' stands there twice for task 't'"]),
        ("task,checkpoint,outcome,f\nt,a,1,1\nt,b,high,2\n", ["row 2, column 'outcome'", "'high' is not a number"]),
        ("task,checkpoint,outcome,f\nt,a,1,1\nt,b,,2\n", ["row 2, column 'outcome'", "is empty"]),
        ("task,checkpoint,outcome,f\nt,a,1,1\nt,b,inf,2\n", ["row 2, column 'outcome'", "is infinite"]),
        ("task,checkpoint,outcome,f\nt,a,1,1\nt,b,2,-inf\n", ["row 2, column 'f'", "is infinite"]),
        ("task,checkpoint,outcome,f\nt,a,1,1\n,b,2,3\n", ["row 2, column 'task'", "is empty"]),
        ("task,checkpoint,outcome,f\nt,a,1,1\nu,b,2,3\n", ["no task has two checkpoints"]),
        ("task,checkpoint,outcome,f\nt,a,1,1\nt,b,1,3\n", ["every outcome is the same"]),
        ("task,checkpoint,outcome,outcome_sd,f\nt,a,1,.1,1\nt,b,2,-1,3\n", ["row 2, column 'outcome_sd'", "negative"]),
        ("task,checkpoint,outcome,f,f\nt,a,1,1,1\nt,b,2,1,1\n", ["column 'f' stands there twice"]),
        ("task,checkpoint,outcome,f\nt,a,1,1,9\nt,b,2,2,9\n", ["more cells than the header"]),
        (",task,checkpoint,outcome,f\n7,t,a,1,1\n9,t,b,2,2\n", ["column 1 has no name"]),
        ("task,checkpoint,outcome,f\nt,a,1e200,1\nt,b,2,2\n", ["row 1, column 'outcome'", "beyond 1e+100"]),
        ("", ["is empty"]),
    ],
)
def test_a_bad_table_is_refused_by_file_row_and_column(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        read(write(tmp_path, text))
    for word in ["table.csv", *words]:
        assert word in str(caught.value)


def test_missing_files_and_other_suffixes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "absent.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        read(tmp_path / "folder.csv")
    (tmp_path / "latin.csv").write_bytes(GOOD.replace("clm", "modèle").encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        read(tmp_path / "latin.csv")
    with pytest.raises(DataError, match=r"unknown suffix '\.xlsx'"):
        read(write(tmp_path, "x", "table.xlsx"))
    with pytest.raises(DataError, match="cannot be read"):
        read(write(tmp_path, "not parquet", "table.parquet"))


def test_only_empty_feature_columns_leave_nothing_to_learn_from() -> None:
    table = check(pd.DataFrame({"task": ["t", "t"], "checkpoint": ["a", "b"], "outcome": [1, 2], "f": [None, None]}))
    with pytest.raises(DataError, match="no feature column with a value"):
        features_of(table)
    with pytest.raises(DataError, match="no feature column 'g'"):
        features_of(table, ["g"])


def long_features() -> pd.DataFrame:
    rows = []
    for name, ppl in (("a", 10.0), ("b", 8.0)):
        rows.append({"zoo": "z", "checkpoint": name, "task": "", "name": "ppl_clm", "value": ppl})
        rows.append({"zoo": "z", "checkpoint": name, "task": "", "name": "objective", "text": "clm"})
        rows.append({"zoo": "z", "checkpoint": name, "task": "films", "name": "kshot_acc", "value": ppl / 20})
    rows.append({"zoo": "z", "checkpoint": "b", "task": "news", "name": "kshot_acc", "error": "too long"})
    return pd.DataFrame(rows, columns=FEATURE_COLUMNS)


def test_a_join_repeats_checkpoint_features_per_task_and_averages_seeds() -> None:
    runs = [("films", "a", 0.5), ("films", "a", 0.7), ("films", "b", 0.9), ("news", "a", 0.1), ("news", "b", 0.2)]
    outcomes = pd.DataFrame(
        [
            {"zoo": "z", "checkpoint": c, "task": t, "recipe": "full", "seed": k, "metric": "accuracy", "outcome": y}
            for k, (t, c, y) in enumerate(runs)
        ],
        columns=OUTCOME_COLUMNS,
    )
    table = join(long_features(), outcomes).set_index(["task", "checkpoint"])
    assert table.loc[("films", "a"), "outcome"] == pytest.approx(0.6)
    assert table.loc[("films", "a"), "outcome_sd"] == pytest.approx(0.1)  # two runs .2 apart: sd .1414, standard error .1
    assert np.isnan(table.loc[("films", "b"), "outcome_sd"])
    assert table.loc[("news", "b"), "ppl_clm"] == 8.0
    assert table.loc[("news", "b"), "objective"] == "clm"
    assert np.isnan(table.loc[("news", "b"), "kshot_acc"])


def test_a_join_of_strangers_and_of_mixed_recipes_is_refused() -> None:
    outcomes = pd.DataFrame([{"zoo": "z", "checkpoint": "x", "task": "films", "outcome": 1.0}], columns=OUTCOME_COLUMNS)
    with pytest.raises(DataError, match="no checkpoint has both"):
        join(long_features(), outcomes)
    mixed = pd.DataFrame(
        [{"zoo": "z", "checkpoint": c, "task": "films", "recipe": r, "outcome": 1.0} for c, r in (("a", "full"), ("b", "lora"))],
        columns=OUTCOME_COLUMNS,
    )
    with pytest.raises(DataError, match="more than one recipe"):
        join(long_features(), mixed)


def test_features_widen_without_outcomes() -> None:
    wide = widen(long_features(), tasks=["films", "poems"])
    assert len(wide) == 4
    assert set(wide.columns) == {"zoo", "task", "checkpoint", "ppl_clm", "objective", "kshot_acc"}


def test_describe_finds_the_twins_and_the_failed_run_of_the_published_table() -> None:
    from ranker.reference import load

    found = describe(load("zeng2025"))
    assert found["twins"] == [["model-46", "model-49"], ["model-47", "model-50"]]
    assert found["far_out"] == ["model-04 on sft_cbqa: 0.15"]
    assert found["checkpoints"] == 50
    assert set(found["configurations"]) == {"objective", "data_mix", "length_filter"}
