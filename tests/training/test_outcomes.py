"""Outcomes from elsewhere: checked row by row, never recorded twice, ready for the next retraining."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import DataError, StoreError
from features.rows import OUTCOME_COLUMNS
from training import tracking
from training.outcomes import OutcomeStore, import_outcomes, read_outcomes

ROWS = [
    {"checkpoint": "a", "task": "films", "outcome": 0.9},
    {"checkpoint": "b", "task": "films", "outcome": 0.8, "seed": 1, "recipe": "lora", "metric": "accuracy"},
]


def test_rows_get_the_defaults_and_all_the_columns(tmp_path: Path) -> None:
    expected = read_outcomes(ROWS)
    assert list(expected.columns) == OUTCOME_COLUMNS
    assert expected.loc[0, ["zoo", "recipe", "seed", "metric"]].tolist() == ["", "full", 0, ""]
    assert expected.loc[1, ["recipe", "seed"]].tolist() == ["lora", 1]
    frame = pd.DataFrame(ROWS)
    frame.to_csv(tmp_path / "o.csv", index=False)
    frame.to_parquet(tmp_path / "o.parquet")
    frame.to_json(tmp_path / "o.jsonl", orient="records", lines=True)
    for name in ("o.csv", "o.parquet", "o.jsonl"):
        pd.testing.assert_frame_equal(read_outcomes(tmp_path / name), expected, check_dtype=False)


def test_an_outcomes_file_of_our_own_is_taken_without_its_failed_rows(tmp_path: Path) -> None:
    own = pd.DataFrame(
        [
            ("z", "a", "sha256:1", "films", "full", 0, "accuracy", 0.5, 10, 1.0, ""),
            ("z", "b", "", "films", "full", 0, "accuracy", math.nan, 0, 0.0, "broken"),
        ],
        columns=OUTCOME_COLUMNS,
    )
    own.to_csv(tmp_path / "own.csv", index=False)
    assert read_outcomes(tmp_path / "own.csv")["checkpoint"].tolist() == ["a"]


def test_what_is_recorded_already_is_not_recorded_again_and_a_correction_counts(mlflow_root: Path, tmp_path: Path) -> None:
    first = import_outcomes(ROWS)
    assert (first.added, first.duplicates, first.replaced) == (2, 0, 0)
    assert import_outcomes([*ROWS, ROWS[0]]).to_dict() == {"added": 0, "duplicates": 3, "replaced": 0, "run_id": ""}
    corrected = import_outcomes([{**ROWS[0], "outcome": 0.7}, {"checkpoint": "c", "task": "films", "outcome": 0.1}])
    assert (corrected.added, corrected.replaced) == (1, 1)
    held = tracking.recorded_outcomes().set_index("checkpoint")["outcome"].to_dict()
    assert held == {"a": 0.7, "b": 0.8, "c": 0.1}
    again = import_outcomes([ROWS[0]])  # back to the first value: a correction too
    assert again.replaced == 1
    assert tracking.recorded_outcomes().set_index("checkpoint")["outcome"]["a"] == 0.9


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "no column 'checkpoint'"),
        ([{"checkpoint": "a", "task": "t"}], "no column 'outcome'"),
        ([{**ROWS[0], "score": 1}], "unknown column 'score'"),
        ([ROWS[0], {**ROWS[0], "outcome": "good"}], "row 2: outcome: expected a finite number, found 'good'"),
        ([{**ROWS[0], "outcome": math.inf}], "row 1: outcome"),
        ([{**ROWS[0], "outcome": True}], "row 1: outcome"),
        ([ROWS[1], {**ROWS[0], "outcome": 1e200}], "row 2: outcome: is beyond 1e+100"),
        ([{**ROWS[0], "outcome": None}, ROWS[1]], "row 1: outcome: it is empty"),
        ([{**ROWS[0], "checkpoint": ""}], "row 1: checkpoint: it is empty"),
        ([{**ROWS[0], "checkpoint": 7}], "row 1: checkpoint: expected text, found 7"),
        ([{**ROWS[0], "task": ["a"]}], "row 1: task: expected text"),
        ([{**ROWS[0], "seed": 1.5}], "row 1: seed: expected a whole number"),
        ([{**ROWS[0], "seed": -1}], "row 1: seed: expected a finite number of 0 or more"),
        ([{**ROWS[0], "seconds": -1}], "row 1: seconds"),
        ([{**ROWS[0], "checkpoint": "x" * 2000}], "row 1: checkpoint: expected text"),
        ([ROWS[0], {**ROWS[0], "outcome": 0.1}], "has two outcomes, 0.9 and 0.1"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_nothing_is_recorded(mlflow_root: Path, rows: list[dict], says: str) -> None:
    with pytest.raises(DataError) as caught:
        import_outcomes(rows)
    assert says in str(caught.value)
    assert not (mlflow_root / "mlruns" / "artifacts").exists()


def test_texts_of_digits_are_texts_whatever_separates_the_columns(tmp_path: Path) -> None:
    for separator in ",;\t":
        rows = [["checkpoint", "digest", "task", "recipe", "outcome"], ["a", "12345678", "t", "7", "1"]]
        (tmp_path / "o.csv").write_text("\n".join(separator.join(row) for row in rows))
        read = read_outcomes(tmp_path / "o.csv")
        assert read.loc[0, ["digest", "recipe", "outcome"]].tolist() == ["12345678", "7", 1.0]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "o.txt").write_text("a")
    (tmp_path / "o.parquet").write_text("not parquet")
    (tmp_path / "o.jsonl").write_text('{"checkpoint": ')
    (tmp_path / "o.csv").write_bytes(b"\xff\xfe\x00bad")
    for name, says in (
        ("o.txt", "cannot read '.txt'"),
        ("gone.csv", "no such file"),
        ("o.parquet", ""),
        ("o.jsonl", ""),
        ("o.csv", ""),
    ):
        with pytest.raises(DataError) as caught:
            read_outcomes(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
        assert says in str(caught.value)


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(OUTCOME_COLUMNS), plain, max_size=11), max_size=3))
def test_whatever_comes_in_is_either_checked_rows_or_a_named_error(rows: list[dict]) -> None:
    try:
        found = read_outcomes(rows)
    except DataError:
        return
    assert list(found.columns) == OUTCOME_COLUMNS
    assert found["outcome"].map(math.isfinite).all()
    assert (found["checkpoint"] != "").all()


def test_the_store_keeps_what_was_put_for_every_later_opening(tmp_path: Path) -> None:
    OutcomeStore(tmp_path / "deep" / "o.db").put("key", {"figures": {"accuracy": 0.5}})
    assert OutcomeStore(tmp_path / "deep" / "o.db").get("key") == {"figures": {"accuracy": 0.5}}
    assert OutcomeStore(tmp_path / "deep" / "o.db").get("other") is None
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        OutcomeStore(tmp_path / "file" / "o.db")


def test_imported_outcomes_reach_the_comparison_table(mlflow_root: Path) -> None:
    from features.rows import FEATURE_COLUMNS

    features = [
        ("z", name, f"sha256:{name}", "", "ppl_clm", value, None, None, 1, 0.0, -1, "")
        for name, value in (("a", 1.0), ("b", 2.0))
    ]
    tracking.log_extract(pd.DataFrame(features, columns=FEATURE_COLUMNS))
    import_outcomes([{**row, "recipe": "full", "metric": ""} for row in ROWS])
    table = tracking.comparison_table().set_index("checkpoint")
    assert table["outcome"].to_dict() == {"a": 0.9, "b": 0.8}
    assert table["ppl_clm"].to_dict() == {"a": 1.0, "b": 2.0}
