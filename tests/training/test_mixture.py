"""Corpora, filters, tags and the batches made of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from features.errors import DataError
from training import mixture
from training.mixture import Loader
from training.objectives import IGNORE, Specials

SPECIALS = Specials(pad=0, bos=1, eos=2, mask=3, sep=4, sentinels=tuple(range(5, 69)))


def loader(objective: str = "clm", kind: str = "causal", steps: int = 12, seed: int = 0) -> Loader:
    streams = {"low": np.arange(100, 1100, dtype=np.uint16), "high": np.arange(20_000, 23_000, dtype=np.uint16)}
    return Loader(streams, {"low": 1, "high": 3}, objective, kind, SPECIALS, 64, 8, steps, seed)


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
@pytest.mark.parametrize("objective", ["clm", "ul2", "ul2r+clm"])
def test_a_batch_is_a_pure_function_of_its_step(objective, kind):
    first, second = loader(objective, kind), loader(objective, kind)
    kept = [second.batch(step) for step in (7, 0, 11, 7)]
    for step, (inputs, labels) in zip((7, 0, 11, 7), kept, strict=True):
        again = first.batch(step)
        assert np.array_equal(again[0], inputs)
        assert np.array_equal(again[1], labels)
    assert not np.array_equal(kept[0][1], kept[1][1])
    assert not np.array_equal(loader(objective, kind, seed=1).batch(7)[1], kept[0][1])


def test_rows_are_windows_of_the_text_without_padding_waste():
    inputs, labels = loader().batch(0)
    assert inputs.shape == labels.shape == (8, 64)
    assert (inputs[:, 0] == SPECIALS.bos).all()
    assert (np.diff(inputs[:, 1:], axis=1) == 1).all()
    for objective in ("sc", "ul2", "ul2r", "prefix_lm"):
        padded = np.mean([(loader(objective).batch(step)[0] == SPECIALS.pad).mean() for step in range(12)])
        assert padded < 0.02, objective


def test_a_mix_keeps_its_shares_and_a_corpus_is_read_through_before_it_is_read_again():
    run = loader(steps=40)
    starts = np.concatenate([run.batch(step)[0][:, 1] for step in range(40)])
    low = starts[starts < 20_000]
    assert len(low) / len(starts) == pytest.approx(0.25, abs=0.06)
    first = low[: 1000 // 64 - 1]  # one reading of the low corpus, less the window that the offset may cost
    assert len(set(first.tolist())) == len(first)
    assert (np.abs(np.subtract.outer(first, first)) + 64 * np.eye(len(first)) >= 64).all()


def test_a_part_is_drawn_for_each_row_of_a_decoder_and_for_each_step_of_the_other_forms():
    labels = loader("sc+clm").batch(0)[1]
    shares = (labels != IGNORE).mean(axis=1)
    assert len({share > 0.9 for share in shares}) == 2
    for step in range(12):
        inputs, labels = loader("sc+clm", "seq2seq").batch(step)
        assert (inputs != SPECIALS.pad).all()
        assert (labels != IGNORE).all()


def test_the_length_filter_keeps_percentiles():
    documents = ["x" * n for n in range(1, 101)]
    assert mixture.filter_length(documents, "all") == documents
    assert [len(d) for d in mixture.filter_length(documents, "25-75")] == list(range(26, 76))
    assert [len(d) for d in mixture.filter_length(documents, "75-100")] == list(range(76, 101))
    for wrong in ("75-25", "a-b", "25", "0-101"):
        with pytest.raises(ValueError):
            mixture.length_bounds(wrong)


def test_what_is_held_out_depends_on_the_documents_alone():
    documents = [f"document {i}" for i in range(200)]
    training, held = mixture.hold_out(documents)
    assert len(held) == 10
    assert set(training) | set(held) == set(documents)
    assert not set(training) & set(held)
    assert set(mixture.hold_out(documents[::-1])[1]) == set(held)
    assert mixture.hold_out(["one"]) == (["one"], [])


def test_a_tag_names_the_domain_in_the_first_line():
    assert mixture.tagged("Once upon a time", "books") == "[books]\nOnce upon a time"


def test_corpora_are_read_from_jsonl_and_text_zipped_or_not(tmp_path: Path):
    rows = "".join(json.dumps({"text": text, "source": "s"}) + "\n" for text in ("one", "two\u2028lines", " "))
    rows = rows.replace("\\u2028", "\u2028")  # a line separator of Unicode is not a line of the file
    (tmp_path / "a.jsonl").write_text(rows)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    (tmp_path / "c.txt").write_text("whole\n\nfile")
    assert mixture.read_corpus("a.jsonl", tmp_path) == mixture.read_corpus("b.jsonl.gz", tmp_path) == ["one", "two\u2028lines"]
    assert mixture.read_corpus("c.txt", tmp_path) == ["whole\n\nfile"]
    assert len(mixture.read_corpus("builtin:licences", tmp_path)) > 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": 1}\n', "line 1: text is not a string"),
        ("a.jsonl", b'{"text": "x"}\n[]\n', "line 2 is not an object with a text"),
        ("a.jsonl", b"\n", "line 1 is not an object"),
        ("a.jsonl", b'{"text": "x \\ud83d"}\n', r"line 1: .ud83d after .* is half of a surrogate pair"),
        ("a.jsonl", b"[" * 100_000, "line 1: nested too deeply"),
        ("a.jsonl", b'{"text": ' + b"9" * 5000 + b"}", "line 1: a number of more than 4,300 digits"),
        ("a.txt", b"  \n", "holds no text"),
        ("a.txt", b"\xff\xfe\x00", "cannot be read"),
        ("a.txt.gz", b"not gzip", "cannot be read"),
    ],
)
def test_bad_corpora_are_named(tmp_path: Path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        mixture.read_corpus(name, tmp_path, "r.yaml: corpora.films")
    assert str(caught.value).startswith("r.yaml: corpora.films: ")


def test_missing_corpora_say_where_to_look(tmp_path: Path):
    with pytest.raises(DataError, match=r"no corpus file .*nowhere\.jsonl; correct the name, or say where .* --corpora"):
        mixture.read_corpus("nowhere.jsonl", tmp_path)
    with pytest.raises(DataError, match="no built-in corpus 'web'; use one of source, documentation"):
        mixture.read_corpus("builtin:web", tmp_path)
