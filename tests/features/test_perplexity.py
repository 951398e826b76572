"""PPL-CLM and PPL-SC: right by hand, the same for every tokenizer where they say so, seeded, and honest about their error."""

from __future__ import annotations

import gzip
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.corpora import Corpora, built_in, read_corpus
from features.corruption import PerplexitySC, corrupt, passages, sentinels
from features.errors import CheckpointError, DataError, UnknownNameError
from features.estimate import mean, ratio
from features.model import load
from features.perplexity import PerplexityCLM, TaskPerplexity, bits_per_byte, capped, perplexity
from features.registry import Session
from features.rows import Feature
from features.tasks import Task
from features.zoo import Checkpoint

WORDS = st.lists(st.text("abcdeé", min_size=1, max_size=6), min_size=8, max_size=80)


def corpus(folder: Path, name: str = "reference", text: str = "") -> Corpora:
    (folder / f"{name}.txt").write_text(text or "\n\n".join(built_in()[:6]))
    return Corpora({name: folder / f"{name}.txt"})


def session(folder: Path, corpora: Corpora) -> Session:
    return Session(Checkpoint(folder.name, str(folder)), load(folder, device="cpu"), corpora)


def by_name(rows: list[Feature]) -> dict[str, Feature]:
    return {row.name: row for row in rows}


def test_perplexity_and_bits_per_byte_by_hand() -> None:
    nll, tokens, sizes = [math.log(2) * 4, math.log(2) * 6], [2, 2], [8, 12]
    found = perplexity("p", nll, tokens)
    assert found.value == pytest.approx(2 ** (10 / 4))
    # documents' means are 2 ln2 and 3 ln2: standard error sqrt(2/1 * 2 * (.5 * .5 ln2)^2) = .5 ln2, times the value
    assert found.stderr == pytest.approx(2 ** (10 / 4) * 0.5 * math.log(2))
    bits = bits_per_byte("b", nll, sizes)
    assert (bits.value, bits.stderr, bits.direction, bits.count) == (pytest.approx(0.5), pytest.approx(0.0), -1, 2)


def test_one_document_has_no_standard_error() -> None:
    assert perplexity("p", [1.0], [1]).stderr is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=30))
def test_a_mean_has_the_textbook_standard_error(values: list[float]) -> None:
    value, stderr = mean(values)
    assert value == pytest.approx(np.mean(values), abs=1e-9)
    assert stderr == pytest.approx(np.std(values, ddof=1) / math.sqrt(len(values)), abs=1e-9)
    assert mean(values, [2.0] * len(values)) == (pytest.approx(value, abs=1e-9), pytest.approx(stderr, abs=1e-9))


def test_the_standard_error_of_a_ratio_covers_the_truth() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        sizes = rng.integers(5, 50, 40)
        value, stderr = ratio(rng.gamma(sizes, 2.0), sizes)
        hits += abs(value - 2.0) < 1.96 * (stderr or 0)
    assert 0.90 <= hits / 300 <= 0.98


def test_an_untrained_checkpoint_is_no_better_than_guessing_and_says_so_in_bits(models: Path, tmp_path: Path) -> None:
    found = by_name(PerplexityCLM().measure(session(models / "llama", corpus(tmp_path))))
    assert set(found) == {"ppl_clm", "bpb_clm"}
    assert 500 < (found["ppl_clm"].value or 0) < 5000  # 1,000 entries: about a guess
    documents = read_corpus(tmp_path / "reference.txt")
    tokens = sum(len(load(models / "llama").tokenizer(text)["input_ids"]) for text in documents)
    nats = math.log(found["ppl_clm"].value or 0) * tokens
    assert found["bpb_clm"].value == pytest.approx(nats / math.log(2) / sum(len(d.encode()) for d in documents), rel=1e-6)
    assert found["ppl_clm"].count == len(documents)
    assert 0 < (found["ppl_clm"].stderr or 0) < 0.2 * (found["ppl_clm"].value or 0)


def test_several_corpora_have_a_row_each_and_the_reference_is_the_feature(models: Path, tmp_path: Path) -> None:
    corpora = Corpora({**corpus(tmp_path, "code", "def f(x): return x\n" * 40).paths, **corpus(tmp_path, "reference").paths})
    found = by_name(PerplexityCLM().measure(session(models / "llama", corpora)))
    assert set(found) == {f"{n}_clm{s}" for n in ("ppl", "bpb") for s in ("", "_code", "_reference")}
    assert found["ppl_clm"].value == found["ppl_clm_reference"].value != found["ppl_clm_code"].value


def test_ppl_clm_is_for_causal_checkpoints_alone() -> None:
    assert [PerplexityCLM().applies(kind, None) for kind in ("causal", "seq2seq", "masked")] == [True, False, False]


def test_the_perplexity_of_a_task_is_that_of_its_prompts_without_the_answers(models: Path, tmp_path: Path) -> None:
    lines = [{"text": f"a film number {i}", "label": i % 2} for i in range(24)]
    (tmp_path / "films.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "films.yaml").write_text(
        'task: films\ndata: films.jsonl\noutput_type: multiple_choice\ndoc_to_text: "{{text}} It was"\n'
        "doc_to_choice: [bad, good]\ndoc_to_target: label\n"
    )
    task = Task.read(tmp_path / "films.yaml")
    one = session(models / "llama", corpus(tmp_path)).on(task)
    found = by_name(TaskPerplexity().measure(one))
    texts = [example.query for example in task.examples("features")]
    scores = one.scorer.rolling(texts)
    bits = -sum(s.logprob for s in scores) / math.log(2) / sum(len(text.encode()) for text in texts)
    assert found["bpb_task"].value == pytest.approx(bits, rel=1e-6)
    assert found["ppl_task"].count == len(texts)
    assert [TaskPerplexity().applies(kind, task) for kind in ("causal", "seq2seq", "masked")] == [True, False, False]
    assert not TaskPerplexity().applies("causal", None)


def test_the_largest_share_of_a_corpus_is_kept_in_whole_documents() -> None:
    assert capped(("aa", "bbb", "c"), 5) == ["aa", "bbb"]
    assert capped(("aéé", "b"), 4) == ["aé"]


@settings(max_examples=100, deadline=None)
@given(WORDS, st.integers(0, 99))
def test_a_masking_joins_to_the_text_again_and_takes_its_share(words: list[str], seed: int) -> None:
    text = " ".join(words)
    masking = corrupt(text, random.Random(seed))
    assert "".join(a + b for a, b in zip(masking.kept, [*masking.spans, ""], strict=True)) == text
    assert all(span.strip() for span in masking.spans)
    assert all(piece.strip() for piece in masking.kept)
    assert sum(len(span.split()) for span in masking.spans) == max(round(0.15 * len(words)), 1)
    assert masking == corrupt(text, random.Random(seed))


def test_spans_are_three_words_long_on_average() -> None:
    text = " ".join(str(i) for i in range(2000))
    spans = corrupt(text, random.Random(0)).spans
    assert np.mean([len(span.split()) for span in spans]) == pytest.approx(3.0)
    assert sum(len(span.split()) for span in spans) == 300


def test_passages_are_cut_at_a_word_and_short_documents_fall_out() -> None:
    assert passages(["one two three four five six seven eight nine", "too short"], 40, 5) == [
        "one two three four five six seven eight"
    ]


@pytest.mark.parametrize(
    ("name", "formulation"),
    [
        ("llama", "sc_causal_sentinel"),
        ("gpt2", "sc_causal_sentinel"),
        ("mistral", "sc_causal_sentinel"),
        ("t5", "sc_seq2seq_t5"),
        ("bert", "sc_masked_span"),
    ],
)
def test_each_architecture_names_its_formulation(models: Path, tmp_path: Path, name: str, formulation: str) -> None:
    corpora = corpus(tmp_path)
    found = PerplexitySC(documents=4).measure(session(models / name, corpora))
    assert [row.name for row in found] == [f"ppl_{formulation}", f"bpb_{formulation}"]
    assert all(row.value and row.stderr and row.count == 4 and row.direction == -1 for row in found)
    assert found == PerplexitySC(documents=4).measure(session(models / name, corpora))
    assert found != PerplexitySC(documents=4, seed=1).measure(session(models / name, corpora))


def test_a_tokenizer_without_sentinels_gets_them_as_plain_text(models: Path, tmp_path: Path) -> None:
    ours = session(models / "llama", corpus(tmp_path))
    assert len(sentinels(ours.model.tokenizer)) == 32
    ours.model.tokenizer = session(models / "llama", ours.corpora).model.tokenizer
    vocabulary = ours.model.tokenizer.get_vocab()
    ours.model.tokenizer.get_vocab = lambda: {k: v for k, v in vocabulary.items() if not k.startswith("<extra_id")}
    assert PerplexitySC(documents=2).measure(ours)[0].name == "ppl_sc_causal_plain"


def test_causal_span_perplexity_is_that_of_the_span_s_tokens_after_all_before_them(models: Path, tmp_path: Path) -> None:
    """One passage and one masking, scored again by hand through the model itself."""
    import torch

    text = "one two three four five six seven eight nine ten"
    ours = session(models / "llama", corpus(tmp_path, text=text))
    found = PerplexitySC(maskings=1).measure(ours)[0]
    masking = corrupt(text, random.Random(f"0/0/{text}"))
    tokenizer = ours.model.tokenizer

    def ids(piece: str) -> list[int]:
        return tokenizer(piece, add_special_tokens=False)["input_ids"]

    (span,) = masking.spans
    before = [
        tokenizer.bos_token_id,
        *ids(masking.kept[0]),
        *ids("<extra_id_0>"),
        *ids(masking.kept[1]),
        *ids("\n"),
        *ids("<extra_id_0>"),
    ]
    whole = torch.tensor([before + ids(span)])
    with torch.no_grad():
        logprobs = ours.model.module(whole).logits[0].log_softmax(-1)
    nll = -np.mean([float(logprobs[len(before) + i - 1, token]) for i, token in enumerate(ids(span))])
    assert found.value == pytest.approx(math.exp(nll), rel=1e-4)


def test_masked_span_perplexity_hides_all_spans_at_once(models: Path, tmp_path: Path) -> None:
    import torch

    text = "one two three four five six seven eight nine ten"
    ours = session(models / "bert", corpus(tmp_path, text=text))
    found = PerplexitySC(maskings=1).measure(ours)[0]
    (first, last), (span,) = corrupt(text, random.Random(f"0/0/{text}")).kept, corrupt(text, random.Random(f"0/0/{text}")).spans
    tokenizer = ours.model.tokenizer
    pieces = [tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in (first, span, last)]
    hidden = [tokenizer.mask_token_id] * len(pieces[1])
    whole = torch.tensor([[tokenizer.bos_token_id, *pieces[0], *hidden, *pieces[2], tokenizer.eos_token_id]])
    with torch.no_grad():
        logprobs = ours.model.module(whole).logits[0].log_softmax(-1)
    at = 1 + len(pieces[0])
    nll = -np.mean([float(logprobs[at + i, token]) for i, token in enumerate(pieces[1])])
    assert found.value == pytest.approx(math.exp(nll), rel=1e-4)


def test_a_passage_that_does_not_fit_is_told(models: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not fit its window of 256"):
        PerplexitySC(characters=4000).measure(session(models / "gpt2", corpus(tmp_path)))


def test_a_corpus_may_be_text_or_rows_and_mistakes_in_it_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "  "}\n{"text": "two"}\n')
    assert read_corpus(tmp_path / "a.jsonl") == ("one", "two")
    (tmp_path / "b.jsonl").write_text('{"words": "one"}\n')
    with pytest.raises(DataError, match=r"b\.jsonl: line 1: no field `text`; name the field that holds the document `text`"):
        read_corpus(tmp_path / "b.jsonl")
    (tmp_path / "c.txt").write_text(" \n\n")
    with pytest.raises(DataError, match="the corpus is empty"):
        read_corpus(tmp_path / "c.txt")
    with pytest.raises(DataError, match="cannot be read"):
        read_corpus(tmp_path / "gone.txt")
    (tmp_path / "half.jsonl").write_text('{"text": "one"}\n{"text": "two \\ud83d"}\n')
    with pytest.raises(DataError, match=r"half\.jsonl: line 2: \\ud83d after .* is half of a surrogate pair"):
        read_corpus(tmp_path / "half.jsonl")
    damaged = bytearray(gzip.compress(bytes(range(48, 122)) * 4))
    damaged[20:24] = bytes([damaged[20] ^ 255, damaged[21] ^ 255, 0, 255])
    (tmp_path / "damaged.txt.gz").write_bytes(damaged)
    with pytest.raises(DataError, match=r"damaged\.txt\.gz: cannot be read: Error -3"):
        read_corpus(tmp_path / "damaged.txt.gz")
    with pytest.raises(UnknownNameError, match="no corpus named 'referense'; did you mean 'reference'"):
        Corpora({"reference": tmp_path / "a.jsonl"}).documents("referense")


def test_the_built_in_sample_is_there_and_its_digest_is_its_content(tmp_path: Path) -> None:
    documents = Corpora().documents("built_in")
    assert len(documents) >= 16
    assert sum(map(len, documents)) > 20_000
    assert Corpora().digest == Corpora({}).digest
    (tmp_path / "a.txt").write_text("one")
    first = Corpora({"a": tmp_path / "a.txt"}).digest
    (tmp_path / "a.txt").write_text("two")
    assert len({first, Corpora({"a": tmp_path / "a.txt"}).digest, Corpora().digest}) == 3
