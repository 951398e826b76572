"""Training examples as tensors: the gold continuation given the prompt, in the very tokens that the scoring engine scores.

causal      input = prompt + continuation; loss on the continuation
seq2seq     encoder input = prompt; loss on the continuation
masked      input = prompt + continuation; at each visit one token of the continuation, chosen at random, is masked and learnt
            (in expectation the pseudo-likelihood that the engine scores, Salazar et al. 2020)
classifier  a masked checkpoint on a task with fixed labels: input = the prompt, target = the label's index
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.scoring import Encoded

IGNORED = -100  # the label that no loss is taken of

Row = dict[str, Any]


def rows(kind: str, examples: Sequence[Encoded], max_length: int) -> list[Row]:
    """One row per encoded (prompt, gold continuation).

    Parameters
    ----------
    kind : causal, seq2seq or masked
    examples : what `features.scoring.encode` makes of them, already cut to the window
    max_length : tokens that the checkpoint takes
    """
    made: list[Row] = []
    for context, targets, suffix, _ in examples:
        if kind == "seq2seq":
            made.append({"input_ids": context, "labels": targets})
            continue
        ids = [*context, *targets, *suffix]
        labels = [IGNORED] * len(context) + [*targets] + [IGNORED] * len(suffix)
        # the scorer never reads a causal continuation's last token, training does: it may be one too many for the window
        made.append(
            {"input_ids": ids[-max_length:], "labels": labels[-max_length:]}
            if kind == "causal"
            else {"input_ids": ids, "labels": labels}
        )
    return made


def prompts(texts: Sequence[list[int]], golds: Sequence[int], max_length: int) -> list[Row]:
    """One row per prompt and the index of its label, for a classification head; special tokens are already there."""
    made: list[Row] = []
    for ids, gold in zip(texts, golds, strict=True):
        over = len(ids) - max_length
        # the tokens around the whole stay: the first (whose state the head reads) and, where it is cut, the end of the prompt
        made.append({"input_ids": ids if over <= 0 else ids[:1] + ids[1 + over :], "labels": gold})
    return made


def collator(kind: str, *, pad: int, mask: int | None = None) -> Callable[[list[Row]], dict[str, Any]]:
    """Pads a batch to its own longest row. Inputs are padded with `pad` (and masked out), labels with IGNORED."""
    import torch

    def padded(sequences: list[list[int]], value: int) -> Any:
        longest = max(map(len, sequences))
        return torch.tensor([s + [value] * (longest - len(s)) for s in sequences])

    def collate(batch: list[Row]) -> dict[str, Any]:
        inputs = [row["input_ids"] for row in batch]
        tensors = {
            "input_ids": padded(inputs, pad),
            "attention_mask": padded([[1] * len(ids) for ids in inputs], 0),
        }
        if kind == "classifier":
            return {**tensors, "labels": torch.tensor([row["labels"] for row in batch])}
        labels = padded([row["labels"] for row in batch], IGNORED)
        if kind == "masked":
            return {**tensors, **_masked(tensors["input_ids"], labels, mask)}
        return {**tensors, "labels": labels}

    return collate


def _masked(inputs: Any, labels: Any, mask: int | None) -> dict[str, Any]:
    """One target of each row is masked; it alone is learnt."""
    import torch

    targets = labels != IGNORED
    chosen = torch.multinomial(targets.float(), 1)
    inputs = inputs.scatter(1, chosen, torch.full_like(chosen, mask if mask is not None else 0))
    only = torch.full_like(labels, IGNORED).scatter(1, chosen, labels.gather(1, chosen))
    return {"input_ids": inputs, "labels": only}
