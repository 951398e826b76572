"""Strings tokenised together are tokenised as they are alone, whatever they share."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import checkpoints
from features.scoring import tokens

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
