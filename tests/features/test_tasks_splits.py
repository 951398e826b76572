"""Who serves for what: four roles that do not overlap, made by a seeded shuffle or taken from the data."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import DataError, ManifestError
from features.splits import assign, spread
from features.tasks import Task

SPLITS = st.sampled_from(["", "train", "training", "validation", "dev", "test", "all", "features"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(SPLITS, st.integers(0, 60), st.integers(0, 2)), min_size=4, max_size=120), st.integers(0, 5))
def test_no_example_serves_for_two_roles_and_none_twice(rows: list[tuple[str, int, int]], seed: int) -> None:
    sources, keys, labels = zip(*rows, strict=True)
    try:
        roles = assign(sources, keys, labels, named={}, seed=seed, where="t")
    except DataError:
        return
    seen = Counter(keys[i] for role in (roles.train, roles.features, roles.test) for i in role)
    assert max(seen.values()) == 1
    assert set(roles.shots) <= set(roles.train)
    assert all((roles.train, roles.features, roles.test))
    assert roles == assign(sources, keys, labels, named={}, seed=seed, where="t")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=80), st.integers(1, 90), st.sampled_from("abc"))
def test_a_draw_is_spread_over_the_labels(labels: list[int], count: int, seed: str) -> None:
    chosen = spread(range(len(labels)), count, labels, seed)
    assert len(chosen) == min(count, len(labels))
    assert chosen == sorted(set(chosen))
    for label, total in Counter(labels).items():
        expected = total * len(chosen) / len(labels)
        assert abs(sum(labels[i] == label for i in chosen) - expected) <= 1 + 1e-9


def sizes(splits: list[str], **named: str) -> dict[str, int]:
    roles = assign(splits, list(range(len(splits))), [0] * len(splits), named=named, seed=0, where="t.yaml")
    return dict(roles.counts)


@pytest.mark.parametrize(
    ("splits", "named", "expected"),
    [
        (["all"] * 40, {}, {"train": 20, "shots": 20, "features": 10, "test": 10}),
        ([""] * 40, {}, {"train": 20, "shots": 20, "features": 10, "test": 10}),
        (["validation"] * 40, {}, {"train": 20, "shots": 20, "features": 10, "test": 10}),
        (["train"] * 40 + ["test"] * 9, {}, {"train": 30, "shots": 30, "features": 10, "test": 9}),
        (["train"] * 40 + ["dev"] * 9, {}, {"train": 30, "shots": 30, "features": 10, "test": 9}),
        (["train"] * 40 + ["validation"] * 8 + ["test"] * 9, {}, {"train": 40, "shots": 40, "features": 8, "test": 9}),
        (["validation"] * 40 + ["test"] * 9, {}, {"train": 30, "shots": 30, "features": 10, "test": 9}),
        (["train"] * 40 + ["features"] * 7 + ["test"] * 9, {}, {"train": 40, "shots": 40, "features": 7, "test": 9}),
        (
            ["a"] * 40 + ["b"] * 9,
            {"training_split": "a", "test_split": "b"},
            {"train": 30, "shots": 30, "features": 10, "test": 9},
        ),
        (
            ["train"] * 40 + ["pool"] * 6 + ["test"] * 9,
            {"fewshot_split": "pool"},
            {"train": 30, "shots": 6, "features": 10, "test": 9},
        ),
        (["train"] * 40 + ["test"] * 9, {"fewshot_split": "test"}, {"train": 30, "shots": 30, "features": 10, "test": 9}),
        ([""] * 40 + ["features"] * 7 + ["test"] * 9, {}, {"train": 40, "shots": 40, "features": 7, "test": 9}),
        ([""] * 40 + ["dev"] * 8 + ["test"] * 9, {}, {"train": 40, "shots": 40, "features": 8, "test": 9}),
        ([""] * 40 + ["test"] * 9, {"training_split": "all"}, {"train": 30, "shots": 30, "features": 10, "test": 9}),
        ([""] * 9 + ["train"] * 40, {"test_split": "all"}, {"train": 30, "shots": 30, "features": 10, "test": 9}),
        (["features"] * 40, {}, {"train": 20, "shots": 20, "features": 10, "test": 10}),
    ],
)
def test_the_splits_of_the_data_are_kept(splits: list[str], named: dict[str, str], expected: dict[str, int]) -> None:
    assert sizes(splits, **named) == expected


@pytest.mark.parametrize(
    ("split", "report"),
    [
        ("test", "test from 'test', train from 'all', features held out of train: 38 train, 38 shots, 12 features, 10 test"),
        ("dev", "test from 'validation', train from 'all', features held out of train: 38 train, 38 shots, 12 features, 10 test"),
        (
            "features",
            "50 examples of 'all' shuffled (seed 0), features from 'features': 38 train, 38 shots, 10 features, 12 test",
        ),
        (
            "train",
            "10 examples of 'train' shuffled (seed 0), features held out of train: 5 train, 5 shots, 3 features, 2 test;"
            " left out: 50 of 'all'",
        ),
    ],
)
def test_rows_without_a_split_are_train_beside_a_split_or_else_are_counted(split: str, report: str) -> None:
    sources = [split] * 10 + [""] * 50
    roles = assign(sources, range(60), [0] * 60, named={}, seed=0, where="t")
    assert roles.report == report
    if split != "train":
        assert min(roles.train) >= 10
        assert set(range(60)) == {*roles.train, *roles.features, *roles.test}


@pytest.mark.parametrize("count", [10, 50])
@pytest.mark.parametrize("other", ["", "test", "validation", "train", "mine"])
def test_a_split_called_features_serves_for_features_alone(other: str, count: int) -> None:
    roles = assign(["features"] * count + [other] * (60 - count), range(60), [0] * 60, named={}, seed=0, where="t")
    assert roles.features == tuple(range(count))


def test_carved_splits_have_a_largest_size() -> None:
    assert sizes(["all"] * 10_000) == {"train": 8500, "shots": 8500, "features": 500, "test": 1000}


def test_training_data_that_stands_in_the_test_is_dropped_and_counted() -> None:
    keys = [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 8, 9]
    roles = assign(["train"] * 8 + ["test"] * 4, keys, [0] * 12, named={}, seed=0, where="t")
    assert (len(roles.test), len(roles.train) + len(roles.features), roles.dropped) == (4, 6, 2)
    assert roles.report.endswith("; 2 duplicates dropped")
    assert {keys[i] for i in roles.test} == {0, 1, 8, 9}


def test_an_unknown_split_is_named_with_the_nearest() -> None:
    with pytest.raises(ManifestError) as caught:
        sizes(["train"] * 9 + ["test"] * 9, training_split="trian")
    assert str(caught.value) == "t.yaml: training_split: the data has no split 'trian'; did you mean 'train'?"


def test_a_leak_that_leaves_nothing_for_training_is_told() -> None:
    with pytest.raises(DataError, match="no example is left for train"):
        assign(["train"] * 5 + ["test"] * 5, [0, 1, 2, 3, 4] * 2, [0] * 10, named={}, seed=0, where="t")


def task(folder: Path, more: str = "", rows: int = 60) -> Task:
    lines = [json.dumps({"text": f"film {i}", "label": i % 3 % 2}) for i in range(rows)]
    (folder / "films.jsonl").write_text("\n".join(lines))
    (folder / "films.yaml").write_text(
        "data: films.jsonl\ndoc_to_text: '{{text}} It was'\ndoc_to_choice: [bad, good]\ndoc_to_target: label\n" + more
    )
    return Task.read(folder / "films.yaml")


def test_another_seed_makes_other_splits(tmp_path: Path) -> None:
    first, again, other = task(tmp_path), task(tmp_path), task(tmp_path, "seed: 1\n")
    assert first.digest == again.digest != other.digest
    assert {e.id for e in first.examples("test")} != {e.id for e in other.examples("test")}


def test_every_role_and_prompt_is_in_the_digest(tmp_path: Path) -> None:
    first = task(tmp_path)
    assert task(tmp_path, "target_delimiter: ''\n").digest != first.digest
    assert task(tmp_path, "num_fewshot: 2\n").digest != first.digest
    assert task(tmp_path, "description: 'Films. '\n").digest != first.digest
    for role in ("train", "features", "test"):
        victim = first.examples(role)[0]
        text = (tmp_path / "films.jsonl").read_text()
        (tmp_path / "films.jsonl").write_text(text.replace(f'"{victim.text}"', f'"{victim.text}!"'))
        assert Task.read(tmp_path / "films.yaml").digest != first.digest
        (tmp_path / "films.jsonl").write_text(text)


def test_a_subset_measures_its_examples_in_its_order_with_its_weights(tmp_path: Path) -> None:
    whole = task(tmp_path)
    ids = [e.id for e in whole.examples("features")][:3][::-1]
    part = whole.restricted(ids, [1, 2, 3])
    assert [e.id for e in part.examples("features")] == ids
    assert part.weights_of(part.examples("features")) == [1, 2, 3]
    assert len({whole.digest, part.digest, whole.restricted(ids).digest, whole.restricted(ids, [3, 2, 1]).digest}) == 4
    assert part.examples("test") == whole.examples("test")


def test_a_subset_cannot_reach_into_another_role(tmp_path: Path) -> None:
    whole = task(tmp_path)
    with pytest.raises(DataError, match="serves for test, not for features; select among the examples of the role features"):
        whole.restricted([whole.examples("test")[0].id])
    with pytest.raises(DataError, match="no example 'x'"):
        whole.restricted(["x"])
    ids = [e.id for e in whole.examples("features")]
    with pytest.raises(DataError, match="an example is named twice"):
        whole.restricted([ids[0], ids[0]])
    with pytest.raises(DataError, match="1 weights for 2 examples"):
        whole.restricted(ids[:2], [1.0])


def test_a_limit_keeps_the_labels_in_proportion(tmp_path: Path) -> None:
    whole = task(tmp_path, rows=120)
    part = whole.limited(12)
    assert Counter(e.label for e in part.examples("features")) == {"bad": 8, "good": 4}
    assert whole.limited(1000) is whole


def test_ids_are_the_data_s_own_where_each_row_has_one(tmp_path: Path) -> None:
    rows = [{"id": f"q{i}", "context": f"c{i}", "continuation": "x"} for i in range(8)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert {e.id for e in Task.read(tmp_path / "a.jsonl").examples("test")} <= {f"q{i}" for i in range(8)}
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({**row, "id": "same"}) for row in rows))
    assert {e.id for e in Task.read(tmp_path / "a.jsonl").examples("test")} <= set("01234567")
