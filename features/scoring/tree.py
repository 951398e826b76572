"""The prefix tree of a set of rows, laid out flat: every distinct prefix stands once, so it is computed once.

Tokens stand in preorder: a token comes after its prefix, and all that continues it follows at once. Hence the tokens of any
interval need, from before the interval, only the root path of its first token. That is what makes batches of any size exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Run = tuple[int, int]


@dataclass(frozen=True)
class PrefixTree:
    """N distinct tokens in preorder.

    Attributes
    ----------
    tokens : (N,) int64 token ids
    depths : (N,) int64, the position of each token in its rows
    ends : (N,) int64, one past the last token that continues it
    starts : (G,) int64, rising: where a run of tokens without a branch begins
    parents : (G,) int64: the token that each run continues, -1 for the beginning of a row
    sources : for each row, in the order given, the tokens whose outputs it scores
    """

    tokens: np.ndarray
    depths: np.ndarray
    ends: np.ndarray
    starts: np.ndarray
    parents: np.ndarray
    sources: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.tokens)

    def root_path(self, token: int) -> list[Run]:
        """The tokens before `token` in its rows, from the beginning, as (begin, end) intervals; `token` itself left out."""
        runs: list[Run] = []
        end = token
        group = int(np.searchsorted(self.starts, token, side="right")) - 1
        while True:
            begin = int(self.starts[group])
            if end > begin:
                runs.append((begin, end))
            parent = int(self.parents[group])
            if parent < 0:
                break
            end = parent + 1
            group = int(np.searchsorted(self.starts, parent, side="right")) - 1
        return _joined(runs[::-1])


def _joined(runs: list[Run]) -> list[Run]:
    found: list[Run] = []
    for begin, end in runs:
        if found and found[-1][1] == begin:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return found


def build(ids: Sequence[np.ndarray], positions: Sequence[np.ndarray]) -> PrefixTree:
    """The prefix tree of rows of token ids (each at least one token); `positions` are the scored positions of each row.

    Separate trees stand longest first, so that a batch too large for the memory shows at once.
    """
    # big-endian bytes sort as the token sequences do, and a prefix sorts right before what continues it
    order = sorted(range(len(ids)), key=[row.astype(">u4").tobytes() for row in ids].__getitem__)
    shared = [0] * len(order)
    for place in range(1, len(order)):
        shared[place] = _common(ids[order[place - 1]], ids[order[place]])
    trees: list[list[int]] = []
    for place, common in enumerate(shared):
        if common == 0:
            trees.append([])
        trees[-1].append(place)
    trees.sort(key=lambda places: -max(len(ids[order[place]]) for place in places))

    total = sum(len(row) for row in ids) - sum(shared)
    tokens, depths, ends = (np.zeros(total, dtype=np.int64) for _ in range(3))
    path = np.zeros(max((len(row) for row in ids), default=0), dtype=np.int64)  # token at each depth of the latest row
    starts, parents, sources = [], [], [np.zeros(0, dtype=np.int64)] * len(ids)
    filled = length = 0
    for place in (place for places in trees for place in places):
        row, common = ids[order[place]], shared[place]
        ends[path[common:length]] = filled
        length = len(row)
        fresh = length - common
        if fresh:
            starts.append(filled)
            parents.append(int(path[common - 1]) if common else -1)
            tokens[filled : filled + fresh] = row[common:]
            depths[filled : filled + fresh] = np.arange(common, length)
            path[common:length] = np.arange(filled, filled + fresh)
            filled += fresh
        sources[order[place]] = path[positions[order[place]]]
    ends[path[:length]] = filled
    return PrefixTree(tokens, depths, ends, np.asarray(starts, dtype=np.int64), np.asarray(parents, dtype=np.int64), sources)


def _common(left: np.ndarray, right: np.ndarray) -> int:
    size = min(len(left), len(right))
    differ = left[:size] != right[:size]
    first = int(differ.argmax()) if size else 0
    return first if size and differ[first] else size
