"""PPL-CLM: how well a causal checkpoint predicts text that it has not seen, per token and per byte.

Perplexity depends on the tokenizer: a vocabulary of longer tokens has fewer, harder ones. Bits per byte divides the same
likelihood by a
length that every checkpoint shares, so it is the one to compare where tokenizers differ (Gao et al. 2020, The Pile).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from features.corpora import Corpora
from features.estimate import ratio
from features.registry import Session
from features.rows import Feature
from features.tasks import Task

LARGEST = 120_000  # bytes of a corpus that are measured, unless told otherwise


def capped(documents: tuple[str, ...], most_bytes: int) -> list[str]:
    """The leading documents of up to `most_bytes` together (UTF-8), and always one, cut to that size."""
    kept: list[str] = []
    left = most_bytes
    for document in documents:
        size = len(document.encode())
        if kept and size > left:
            break
        kept.append(document if size <= left else document.encode()[:left].decode(errors="ignore"))
        left -= size
    return kept


def perplexity(name: str, nll: list[float], tokens: list[int], direction: int = -1) -> Feature:
    """exp(sum of nll / sum of tokens) over documents, with the delta method's standard error over documents."""
    mean_nll, stderr = ratio(nll, tokens)
    value = math.exp(min(mean_nll, 700.0))
    return Feature(name, value, stderr=None if stderr is None else value * stderr, count=len(nll), direction=direction)


def bits_per_byte(name: str, nll: list[float], sizes: list[int]) -> Feature:
    """Sum of nll (nats) / sum of bytes / ln 2, with its standard error over documents."""
    value, stderr = ratio(nll, sizes)
    return Feature(
        name, value / math.log(2), stderr=None if stderr is None else stderr / math.log(2), count=len(nll), direction=-1
    )


class PerplexityCLM:
    """`ppl_clm` and `bpb_clm` of each corpus: the exponential of the mean negative log-likelihood of a token, and bits per byte.

    With several corpora, `ppl_clm` is that of the corpus named `reference` (else of the first), and every corpus has
    `ppl_clm_NAME` and `bpb_clm_NAME`.

    Parameters
    ----------
    window : tokens of a window, at most what the checkpoint can see; the same for all, so that long-context checkpoints gain
        nothing
    stride : tokens that each window predicts after the first; the others are its context
    most_bytes : how much of each corpus is measured

    The direction is -1, but within a fixed size it misleads: Zeng et al. (2025, arXiv 2504.12491) find it worse than a coin.
    """

    name: ClassVar[str] = "ppl_clm"
    version: ClassVar[int] = 1
    scope: ClassVar[Literal["checkpoint", "task"]] = "checkpoint"
    produces: ClassVar[tuple[str, ...]] = ("ppl_clm", "ppl_clm_*", "bpb_clm", "bpb_clm_*")

    def __init__(self, *, window: int = 512, stride: int = 256, most_bytes: int = LARGEST) -> None:
        self.window, self.stride, self.most_bytes = window, stride, most_bytes

    def settings(self) -> dict[str, Any]:
        return {"window": self.window, "stride": self.stride, "most_bytes": self.most_bytes}

    def data_digest(self, task: Task | None, corpora: Corpora) -> str:
        return corpora.digest

    def applies(self, kind: str, task: Task | None) -> bool:
        return kind == "causal"

    def measure(self, session: Session) -> list[Feature]:
        corpora = session.corpora
        main = "reference" if "reference" in corpora.names else corpora.names[0]
        window = min(self.window, session.model.max_length)
        rows: list[Feature] = []
        for corpus in corpora.names:
            texts = capped(corpora.documents(corpus), self.most_bytes)
            scores = session.scorer.rolling(texts, stride=min(self.stride, window), max_length=window)
            scores = [score for score in scores if score.tokens]
            nll = [-score.logprob for score in scores]
            for suffix in ([""] if corpus == main else []) + ([f"_{corpus}"] if len(corpora.names) > 1 else []):
                rows.append(perplexity(f"ppl_clm{suffix}", nll, [score.tokens for score in scores]))
                rows.append(bits_per_byte(f"bpb_clm{suffix}", nll, [score.bytes for score in scores]))
        return rows


class TaskPerplexity:
    """`ppl_task` and `bpb_task`: the same of the task's own prompts, without shots and without answers.

    How near the pre-training text was to the task's (Gururangan et al. 2020, arXiv 2004.10964, continue pre-training on it for
    that reason). It says nothing of the answers: a checkpoint that reads the questions well need not know what is asked.
    """

    name: ClassVar[str] = "ppl_task"
    version: ClassVar[int] = 1
    scope: ClassVar[Literal["checkpoint", "task"]] = "task"
    produces: ClassVar[tuple[str, ...]] = ("ppl_task", "bpb_task")

    def __init__(self, *, window: int = 512, stride: int = 256) -> None:
        self.window, self.stride = window, stride

    def settings(self) -> dict[str, Any]:
        return {"window": self.window, "stride": self.stride}

    def data_digest(self, task: Task | None, corpora: Corpora) -> str:
        return "" if task is None else task.digest

    def applies(self, kind: str, task: Task | None) -> bool:
        return kind == "causal" and task is not None

    def measure(self, session: Session) -> list[Feature]:
        window = min(self.window, session.model.max_length)
        texts = [example.query for example in session.examples()]
        scores = session.scorer.rolling(texts, stride=min(self.stride, window), max_length=window)
        scores = [score for score in scores if score.tokens]
        nll = [-score.logprob for score in scores]
        return [
            perplexity("ppl_task", nll, [score.tokens for score in scores]),
            bits_per_byte("bpb_task", nll, [score.bytes for score in scores]),
        ]
