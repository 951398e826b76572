"""Strings tokenised together are tokenised as they are alone, and cut between context and continuation where the harness cuts."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import checkpoints
from features.errors import DataError
from features.model import Model, load
from features.scoring import tokens
from features.scoring.encoding import Encoder

SHOTS = "\n\n".join(f"Question: what is item {i} of the list?\nAnswer: entry {i} it is" for i in range(12))


class Counting:
    """A tokenizer that counts the characters it was given."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.characters = tokenizer, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def __call__(self, texts: list[str], **options: Any) -> Any:
        self.characters += sum(map(len, texts))
        return self.tokenizer(texts, **options)


@pytest.mark.parametrize("kind", ["causal", "seq2seq", "masked"])
@pytest.mark.parametrize("special", [True, False])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    begin=st.integers(0, len(SHOTS)),
    tails=st.lists(st.text(alphabet="a1 \n.<s>é", max_size=12), min_size=1, max_size=8),
)
def test_tokens_of_a_batch_are_those_of_each_text_alone(kind: str, special: bool, begin: int, tails: list[str]) -> None:
    tokenizer = checkpoints.tokenizer(kind)
    texts = [SHOTS[begin:] + tail for tail in tails] + [SHOTS[begin:], "short", ""]
    expected = [tokenizer(text, add_special_tokens=special)["input_ids"] for text in texts]
    assert tokens.batch_encode(tokenizer, texts, special=special) == expected


def test_shared_beginning_is_tokenised_once() -> None:
    tokenizer = Counting(checkpoints.tokenizer("causal"))
    texts = [f"{SHOTS}\n\nQuestion: and item {i}?" for i in range(50)]
    tokens.batch_encode(tokenizer, texts, special=True)
    assert tokenizer.characters < sum(map(len, texts)) / 5


def test_added_token_with_a_space_inside_keeps_texts_whole() -> None:
    import copy

    tokenizer = copy.deepcopy(checkpoints.tokenizer("causal"))
    assert tokens.splits_at_spaces(tokenizer)
    tokenizer.add_tokens(["item 3"])
    assert not tokens.splits_at_spaces(tokenizer)


@cache
def sentencepiece(model: str) -> Any:
    """A tokenizer in the manner of Llama 2 (BPE) or T5 (Unigram): spaces become part of a token, one is put in front, BOS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(unk_token="<unk>") if model == "BPE" else models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    raw.decoder = decoders.Metaspace(prepend_scheme="always")
    special = ["<unk>", "<s>", "</s>"]
    options: dict[str, Any] = {"vocab_size": 600, "special_tokens": special, "show_progress": False}
    trainer = trainers.BpeTrainer(**options) if model == "BPE" else trainers.UnigramTrainer(unk_token="<unk>", **options)
    raw.train_from_iterator(checkpoints.corpus(), trainer)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", raw.token_to_id("<s>"))])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


TOKENIZERS = {
    "byte-level BPE": lambda: checkpoints.tokenizer("causal"),
    "byte-level BPE that appends </s>": lambda: checkpoints.tokenizer("seq2seq"),
    "BPE over metaspaces": lambda: sentencepiece("BPE"),
    "Unigram over metaspaces": lambda: sentencepiece("Unigram"),
}
PIECES = st.sampled_from(["def", " f", "(x)", ":", "\n", "   ", "return", " x", "x", "ing", "é", "<s>", "\t", " ", ".", "字"])


@pytest.fixture(scope="module")
def llama(models: Path) -> Model:
    return load(models / "llama", device="cpu")


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_context_and_continuation_are_cut_where_the_harness_cuts(llama: Model, name: str, kind: str) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    tokenizer = TOKENIZERS[name]()
    harness = HFLM(pretrained=llama.module, tokenizer=tokenizer, backend=kind, batch_size=1)
    harness._loglikelihood_tokens = lambda requests, **_: [(head, tail) for _, head, tail in requests]
    encoder = Encoder(replace(llama, tokenizer=tokenizer, kind=kind))

    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(context=st.lists(PIECES, max_size=6).map("".join), continuation=st.lists(PIECES, min_size=1, max_size=4).map("".join))
    def law(context: str, continuation: str) -> None:
        if context and not context.strip():
            return  # the harness stops there
        [(head, tail)] = harness.loglikelihood([Instance("loglikelihood", {}, (context, continuation), 0)])
        if not head or not tail:
            with pytest.raises(DataError, match="no tokens"):
                encoder.pairs([(context, continuation)])
        else:
            assert encoder.pairs([(context, continuation)]) == [(head, tail)]

    law()
