"""Many strings to token ids in one call; a long beginning that strings share is tokenised once.

Few-shot prompts share all but their last lines. Cutting a string in two is exact where no token can reach across the cut, which
holds for BPE within pre-tokens at a single space between two words. That is checked on two strings of each group too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_SHARED = 256  # characters in common that make a group worth it
_MARGIN = 32  # characters in common after the cut, so that its surroundings are the same in all strings


def batch_encode(tokenizer: Any, texts: Sequence[str], *, special: bool) -> list[list[int]]:
    """Token ids of each text, with the tokenizer's special tokens or without: what `tokenizer(text)` gives, in order."""
    found: dict[str, list[int]] = {}
    if len(texts) > 4 and splits_at_spaces(tokenizer):
        for group in _groups(sorted(set(texts))):
            found |= _in_two(tokenizer, group, special)
    rest = [text for text in dict.fromkeys(texts) if text not in found]
    found |= dict(zip(rest, _plain(tokenizer, rest, special), strict=True))
    return [found[text] for text in texts]


def splits_at_spaces(tokenizer: Any) -> bool:
    """Whether tokens stay within pre-tokens: fast BPE with a pre-tokenizer, no normalizer, no added token with a space inside."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if (
        backend is None
        or type(backend.model).__name__ != "BPE"
        or backend.pre_tokenizer is None
        or backend.normalizer is not None
    ):
        return False
    return not any(" " in token.strip() for token in tokenizer.get_added_vocab())


def _groups(texts: list[str]) -> list[list[str]]:
    """Runs of at least four sorted texts with a long beginning in common."""
    groups: list[list[str]] = []
    for text in texts:
        if groups and text[:_SHARED] == groups[-1][0][:_SHARED]:
            groups[-1].append(text)
        else:
            groups.append([text])
    return [group for group in groups if len(group) >= 4 and len(group[0]) > _SHARED + _MARGIN]


def _in_two(tokenizer: Any, group: list[str], special: bool) -> dict[str, list[int]]:
    """The token ids of a sorted group by its shared beginning and each text's own end; nothing where they cannot be cut."""
    first, last = group[0], group[-1]
    size = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    shared = first[:size]
    cut = len(shared) - _MARGIN
    while cut > 0 and not (shared[cut] == " " and shared[cut - 1].isalnum() and shared[cut + 1].isalnum()):
        cut -= 1
    if cut <= 0:
        return {}
    head = _plain(tokenizer, [shared[:cut]], special)[0]
    tails = _plain(tokenizer, [text[cut:] for text in group], False)
    for place in (0, -1):
        if _plain(tokenizer, [group[place]], special)[0] != head + tails[place]:
            return {}
    return {text: head + tail for text, tail in zip(group, tails, strict=True)}


def _plain(tokenizer: Any, texts: Sequence[str], special: bool) -> list[list[int]]:
    if not texts:
        return []
    return tokenizer(
        list(texts), add_special_tokens=special, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )["input_ids"]
