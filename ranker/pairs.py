"""Pairs of checkpoints: which may be compared, how much each one weighs, and which checkpoints are the same one twice."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def codes(*columns: object) -> Ints:
    """One integer per distinct combination of the columns' values, in order of first appearance; shape (n,)."""
    frame = pd.DataFrame({str(i): np.asarray(c, dtype=object) for i, c in enumerate(columns)})
    return frame.groupby(list(frame.columns), sort=False, dropna=False).ngroup().to_numpy(np.int64)


def within(unit: Ints, *, limit: int | None = None, seed: int = 0) -> tuple[Ints, Ints]:
    """Index pairs i < j of rows of the same unit (zoo and task).

    Parameters
    ----------
    unit : (n,) codes
    limit : at most about so many pairs; beyond it, pairs are drawn evenly at random, each unit in proportion to its pairs,
        without ever listing them all: a table of 7 million pairs costs no more memory than the sample
    """
    order = np.argsort(unit, kind="stable")
    bounds = np.flatnonzero(np.diff(unit[order])) + 1
    members = np.split(order, bounds) if len(unit) else []
    total = sum(len(m) * (len(m) - 1) // 2 for m in members)
    rng = np.random.default_rng(seed)
    left, right = [], []
    for rows in members:
        n = len(rows)
        size = n * (n - 1) // 2
        if limit is None or total <= limit:
            i, j = np.triu_indices(n, 1)
        else:
            draw = max(1, round(limit * size / total)) if size else 0
            i = rng.integers(0, n, draw)
            j = (i + rng.integers(1, n, draw)) % n if n > 1 else i
        left.append(rows[np.minimum(i, j)])
        right.append(rows[np.maximum(i, j)])
    if not left:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(left).astype(np.int64), np.concatenate(right).astype(np.int64)


def better_first(t: Floats, w: Floats, i: Ints, j: Ints) -> tuple[Ints, Ints, Floats]:
    """Each pair with the row of the higher outcome `t` first, and its weight: the root of both rows', 0 where they are equal."""
    up = t[i] > t[j]
    return np.where(up, i, j), np.where(up, j, i), np.sqrt(w[i] * w[j]) * (t[i] != t[j])


def certainty(y: Floats, sd: Floats | None, i: Ints, j: Ints) -> Floats:
    """Weight of each pair: how sure its order is given the outcomes' noise, |2 q - 1| with q = Phi(gap / root of summed
    variances).

    1 where the noise is unknown or nil, 0 for equal outcomes; a pair inside the seed noise weighs little or nothing.
    """
    gap = np.abs(y[i] - y[j])
    if sd is None:
        return (gap > 0).astype(float)
    noise = np.sqrt(np.nan_to_num(sd[i]) ** 2 + np.nan_to_num(sd[j]) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = 2 * norm.cdf(np.where(noise > 0, gap / np.where(noise > 0, noise, 1.0), np.inf)) - 1
    return np.where(gap > 0, weight, 0.0)


def far_out(y: Floats, unit: Ints, bound: float = 8.0) -> NDArray[np.bool_]:
    """Rows whose outcome is more than `bound` robust deviations (1.4826 MAD) from its unit's median: failed runs, slips of scale.

    Units of fewer than six rows, or whose middle half is one value, have no robust spread and mark nothing.
    """
    marked = np.zeros(len(y), bool)
    for u in np.unique(unit):
        rows = np.flatnonzero(unit == u)
        if len(rows) < 6:
            continue
        centre = np.median(y[rows])
        spread = 1.4826 * np.median(np.abs(y[rows] - centre))
        if spread > 0:
            marked[rows] = np.abs(y[rows] - centre) > bound * spread
    return marked


def twins(df: pd.DataFrame) -> Ints:
    """Codes per row of a checked table, equal for checkpoints whose figures and outcomes are identical in every task.

    Two rows of one measurement under two names tell a ranker what it should predict: they must stand on the same side of a split.
    Only numbers count; at least one feature and the outcome must agree in all tasks of the checkpoint.
    """
    from ranker.table import RESERVED, is_number

    numbers = [c for c in df.columns if c not in RESERVED and is_number(df[c]) and df[c].notna().any()]
    zoo = df["zoo"].astype(str) if "zoo" in df else pd.Series([""] * len(df), index=df.index)
    name = codes(zoo, df["checkpoint"])
    if not numbers:
        return name
    figures = df[["outcome", *_measured(numbers)]].to_numpy(float)
    signature: dict[int, list[tuple[object, ...]]] = {}
    for code, task, row in zip(name, df["task"], figures, strict=True):
        signature.setdefault(int(code), []).append((str(task), *(None if np.isnan(v) else float(v) for v in row)))
    keys = {
        code: (zoo.iloc[int(np.flatnonzero(name == code)[0])], tuple(sorted(rows, key=str))) for code, rows in signature.items()
    }
    first: dict[object, int] = {}
    same = {code: first.setdefault(key, code) for code, key in keys.items()}
    return np.array([same[int(c)] for c in name], np.int64)


def _measured(numbers: list[str]) -> list[str]:
    """Measured features where there are any: two runs of one recipe share its configuration without being the same run."""
    from ranker.vocabulary import meaning

    return [c for c in numbers if not meaning(c).configuration] or numbers


def merge_groups(*groupings: Ints) -> Ints:
    """The finest grouping that keeps together what any of the given groupings keeps together; shape (n,)."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(groupings[0])
    rows, columns, offset = [], [], n
    for grouping in groupings:
        compact = np.unique(grouping, return_inverse=True)[1]
        rows.append(np.arange(n))
        columns.append(compact + offset)
        offset += int(compact.max()) + 1 if n else 0
    r, c = np.concatenate(rows), np.concatenate(columns)
    graph = coo_matrix((np.ones(len(r)), (r, c)), shape=(offset, offset))
    return connected_components(graph, directed=False)[1][:n].astype(np.int64)
