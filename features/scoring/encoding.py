"""From text to token ids, with the boundary rules of lm-evaluation-harness, all strings of a request set in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from features.errors import CheckpointError, DataError
from features.model import Model
from features.scoring.tokens import batch_encode


class Encoder:
    """A model's tokenizer as lm-evaluation-harness would use it.

    The continuation's tokens are those of the joint string: white space that ends the context moves to the continuation,
    both are encoded together, and the context's length is cut off. Seq2seq models encode the two apart. An empty context is
    the prefix token (BOS, else EOS).
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.tokenizer: Any = model.tokenizer
        prefix = self.tokenizer.bos_token_id
        self.prefix = prefix if prefix is not None else self.tokenizer.eos_token_id
        if self.prefix is None and model.kind == "masked":
            self.prefix = self.tokenizer.cls_token_id
        self._prefix_text = self.tokenizer.decode(self.prefix) if self.prefix is not None else None
        self._affixes: tuple[list[int], list[int]] | None = None

    def encode(self, texts: Sequence[str], *, special: bool | None = None) -> list[list[int]]:
        """Token ids of each text. `special` None adds the tokenizer's special tokens, unless the text brings its own BOS."""
        if special is not None:
            return batch_encode(self.tokenizer, texts, special=special)
        bare = [i for i, text in enumerate(texts) if self._prefix_text is not None and text.startswith(self._prefix_text)]
        if not bare:
            return batch_encode(self.tokenizer, texts, special=True)
        found: list[list[int]] = [[]] * len(texts)
        others = sorted(set(range(len(texts))) - set(bare))
        for places, flag in ((bare, False), (others, True)):
            for place, ids in zip(places, batch_encode(self.tokenizer, [texts[i] for i in places], special=flag), strict=True):
                found[place] = ids
        return found

    def pairs(self, requests: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """(context ids, continuation ids) of each request. Raises DataError for a continuation without tokens."""
        moved = [_move_spaces(context, continuation) for context, continuation in requests]
        kind = self.model.kind
        contexts, alone = {c for c, _ in moved if c}, {t for c, t in moved if not c or kind == "seq2seq"}
        joint = contexts if kind == "seq2seq" else contexts | {c + t for c, t in moved if c}
        # a masked model's special tokens go around the whole, once it is put together
        whole = self._table(joint, False if kind == "masked" else None)
        apart = self._table(alone, False)
        found = []
        for place, (context, continuation) in enumerate(moved):
            if not context:
                head, tail = [], apart[continuation]
            elif kind == "seq2seq":
                head, tail = whole[context], apart[continuation]
            else:
                head = whole[context]
                tail = whole[context + continuation][len(head) :]
            if not head and kind != "masked":
                prefix = self.prefix_id
                head, tail = (tail[:1], tail[1:]) if tail[:1] == [prefix] else ([prefix], tail)
            if not tail:
                raise _no_tokens(place, requests[place][1])
            found.append((head, tail))
        return found

    @property
    def prefix_id(self) -> int:
        """BOS, else EOS: what stands for an empty context. Raises CheckpointError where the tokenizer has neither."""
        if self.prefix is None:
            raise CheckpointError("the tokenizer has neither BOS nor EOS to stand for an empty context", where=self.model.name)
        return int(self.prefix)

    def affixes(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer puts before and after a text."""
        if self._affixes is None:
            bare, whole = (batch_encode(self.tokenizer, ["a"], special=flag)[0] for flag in (False, True))
            start = next((i for i in range(len(whole) - len(bare) + 1) if whole[i : i + len(bare)] == bare), None)
            self._affixes = ([], []) if start is None else (whole[:start], whole[start + len(bare) :])
        return self._affixes

    def _table(self, texts: set[str], special: bool | None) -> dict[str, list[int]]:
        ordered = sorted(texts)
        return dict(zip(ordered, self.encode(ordered, special=special), strict=True))


def _no_tokens(place: int, continuation: str) -> DataError:
    where = f"request {place}"
    if not continuation:
        return DataError("the continuation has no tokens", where=where, remedy="every continuation needs text")
    what = f"the continuation {continuation!r} has no tokens of its own: they melt into the context's"
    return DataError(what, where=where, remedy="begin it with a space")


def _move_spaces(context: str, continuation: str) -> tuple[str, str]:
    spaces = len(context) - len(context.rstrip())
    return (context[:-spaces], context[-spaces:] + continuation) if spaces else (context, continuation)


def rolling_windows(ids: list[int], prefix: list[int], max_length: int, stride: int | None) -> list[tuple[list[int], list[int]]]:
    """(context, targets) windows that together predict each token once.

    The first window predicts as many tokens as it can hold, after the prefix token; each later one predicts the next `stride`
    tokens with all the context that the window has left. stride None is `max_length`: lm-evaluation-harness's disjoint windows,
    which know one token of context.
    """
    step = max_length if stride is None else stride
    if not 1 <= step <= max_length:
        raise DataError(f"stride {step} is outside 1..{max_length}", where="rolling", remedy="give a stride within the window")
    windows = [(prefix, ids[:max_length])] if ids else []
    done = min(len(ids), max_length)
    while done < len(ids):
        end = min(done + step, len(ids))
        begin = max(0, end - max_length - 1)
        windows.append((ids[begin:done], ids[done:end]))
        done = end
    return windows
