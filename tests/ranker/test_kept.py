"""The default ranker is fitted once in a project, and never taken for another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ranker import reference
from ranker.reference import default_ranker, kept
from ranker.reference.kept import kept_ranker, made_of

A, B = {"ppl_clm": 12.0, "kshot_acc": 0.61, "ppl_sc": 40.0}, {"ppl_clm": 31.0, "kshot_acc": 0.42, "probe_4": 0.5}


def test_what_is_kept_answers_to_the_last_digit_and_is_mended_where_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "mlruns" / "default-ranker"
    said = kept_ranker(tmp_path).answer(A, B).to_dict()
    assert said == default_ranker().answer(A, B).to_dict()
    assert not list(tmp_path.iterdir())  # nothing but mlruns is written to, and none is made

    (place / "of-an-older-version").mkdir(parents=True)
    (place / ".being-written-by-another.partial").mkdir()
    assert kept_ranker(tmp_path).answer(A, B).to_dict() == said
    assert {folder.name for folder in place.iterdir()} == {made_of(), ".being-written-by-another.partial"}

    with monkeypatch.context() as patch:
        patch.setattr(kept, "default_ranker", lambda: pytest.fail("it was fitted again"))
        again = kept_ranker(tmp_path)
    assert again.answer(A, B).to_dict() == said
    assert (again.card_, again.importance_, again.get_params()) == (
        kept_ranker(tmp_path).card_,
        default_ranker().importance_,
        default_ranker().get_params(),
    )
    assert again.card_["table"] == reference.DEFAULT

    trees = place / made_of() / "own.txt"
    whole = trees.read_text()
    trees.write_text(whole[: len(whole) // 2])
    assert kept_ranker(tmp_path).answer(A, B).to_dict() == said
    assert trees.read_text() == whole


def test_what_another_process_kept_meanwhile_is_not_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "mlruns" / "default-ranker" / made_of()
    (tmp_path / "mlruns").mkdir()

    def while_another_keeps_it():
        default_ranker().save(place)
        (place / "theirs").touch()
        return default_ranker()

    monkeypatch.setattr(kept, "default_ranker", while_another_keeps_it)
    kept_ranker(tmp_path)
    assert (place / "theirs").is_file()


def test_other_tables_code_or_libraries_are_another_ranker(monkeypatch: pytest.MonkeyPatch) -> None:
    now = made_of()
    assert made_of() == now
    with monkeypatch.context() as patch:
        patch.setattr(kept, "version", lambda name: "0.1")
        assert made_of() != now
    with monkeypatch.context() as patch:
        patch.setattr(kept, "TABLES", ("zeng2025",))
        assert made_of() != now
    read = Path.read_bytes
    for name in ("trees.py", "perplexity.py", "foretune2026.csv"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", lambda file, name=name: read(file) + b" " * (file.name == name))
            assert made_of() != now


def test_where_nothing_can_be_kept_it_answers_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    taken = tmp_path / "mlruns" / "default-ranker"
    taken.write_text("a file where the folder should be")
    assert kept_ranker(tmp_path).answer(A, B).to_dict() == default_ranker().answer(A, B).to_dict()
    assert taken.read_text() == "a file where the folder should be"
