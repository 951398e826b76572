"""From pairwise probabilities to a ranking: Borda, Bradley-Terry, P(best), P(in the top k), tie groups.

References: Bradley and Terry 1952; D. Hunter, MM algorithms for generalized Bradley-Terry models, 2004; Plackett 1975, Luce 1959.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ranker.blend import probability
from ranker.pairs import Floats, Ints


@dataclass(frozen=True)
class Ranking:
    """Checkpoints in order, best first.

    Attributes
    ----------
    rows : one mapping per checkpoint: ``checkpoint``, ``rank`` (1 is best), ``score`` (the share of the others that it is
        expected to beat), ``interval`` (of the score), ``p_best``, ``p_top_k``, ``tied_with`` (those in the same tie group;
        nearest `MOST_TIED`)
    top_k : the k of ``p_top_k``
    exact : whether scores come from all pairs; else from comparisons with a spread of anchors
    notes : features that were ignored, missing or unlike the training ones

    Notes
    -----
    A ranking is the sequence of its rows: ``ranking[0]`` is the best one, ``for row in ranking`` goes from best to worst.
    """

    rows: list[dict[str, Any]]
    top_k: int
    exact: bool = True
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {"ranking": self.rows}

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return self.rows[place]


MOST_TIED = 50
ALL_PAIRS = 2048


def borda(P: Floats) -> Floats:
    """(n,) expected share of the others that each one beats, from (n, n) probabilities that the row beats the column."""
    n = len(P)
    return (P.sum(1) - np.diag(P)) / max(n - 1, 1)


def bradley_terry(P: Floats, *, rounds: int = 200, tolerance: float = 1e-9, prior: float = 1e-3) -> tuple[Floats, Floats]:
    """Strengths and their standard errors from (n, n) probabilities or win shares, by Newton steps on the log-likelihood.

    Parameters
    ----------
    P : P[i, j] + P[j, i] = 1 (or counts of wins); the diagonal is not read; NaN marks a pair never compared
    prior : weight of a normal prior of variance 1 / prior, which keeps the strength of an unbeaten one finite

    Returns
    -------
    (n,) strengths in log-odds with mean 0, (n,) standard errors if each pair were one comparison
    """
    n = len(P)
    wins = np.nan_to_num(np.array(P, float))
    np.fill_diagonal(wins, 0.0)
    games = wins + wins.T
    s = np.zeros(n)

    def objective(strength: Floats) -> float:
        gap = strength[:, None] - strength[None]
        return float((wins * np.logaddexp(0, -gap)).sum() + 0.5 * prior * strength @ strength)

    value = objective(s)
    hessian = np.eye(n)
    for _ in range(rounds):
        p = probability(s[:, None] - s[None])
        gradient = wins.sum(1) - (games * p).sum(1) - prior * s
        curve = games * p * (1 - p)
        hessian = -curve
        hessian[np.diag_indices(n)] = curve.sum(1) + prior
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-6 and (new := objective(s + size * step)) > value + 1e-12:
            size /= 2
        s, value = s + size * step, min(new, value)
        if np.abs(size * step).max() < tolerance:
            break
    s = s - s.mean()
    return s, np.sqrt(np.diag(np.linalg.inv(hessian)))


def against_anchors(compare: Callable[[Ints, Ints], Floats], strength: Floats, anchors: int = 512) -> Floats:
    """(n,) Borda shares estimated from comparisons with a spread of anchors only: n x anchors comparisons instead of n x n.

    Parameters
    ----------
    compare : P(i beats j) for (m,) index arrays i and j
    strength : (n,) rough order; the anchors stand at its even quantiles, each for the candidates around it
    """
    n = len(strength)
    order = np.argsort(-strength, kind="stable")
    chosen = order[np.unique(np.linspace(0, n - 1, min(anchors, n)).round().astype(int))]
    total = np.zeros(n)
    everyone = np.arange(n)
    for a in chosen:
        total += compare(everyone, np.full(n, a))
    hits = np.zeros(n)
    hits[chosen] = 0.5  # an anchor met itself
    met = np.full(n, len(chosen), float)
    met[chosen] -= 1
    return (total - hits) / np.maximum(met, 1)


def top_chances(strengths: Floats, k: int, *, draws: int = 4000, seed: int = 0) -> tuple[Floats, Floats]:
    """P(best) and P(in the top k) under the Plackett-Luce model, which is what Bradley-Terry says of more than two.

    Parameters
    ----------
    strengths : (bags, n) log-odds strengths; a draw takes one bag at random, so that doubt about the strengths counts too
    """
    bags, n = strengths.shape
    shifted = strengths - strengths.max(1, keepdims=True)
    best = np.exp(shifted)
    best = (best / best.sum(1, keepdims=True)).mean(0)
    k = min(k, n)
    if k == n:
        return best, np.ones(n)
    rng = np.random.default_rng(seed)
    draws = int(min(draws, max(200, 20_000_000 // n)))
    hits = np.zeros(n)
    for start in range(0, draws, 100):
        many = min(100, draws - start)
        noisy = strengths[rng.integers(0, bags, many)] + rng.gumbel(size=(many, n))
        if k == 1:
            np.add.at(hits, noisy.argmax(1), 1)
        else:
            np.add.at(hits, np.argpartition(-noisy, k - 1, axis=1)[:, :k].ravel(), 1)
    top = hits / draws
    if k == 1:
        top = best
    return best, np.maximum(top, best)


def tie_groups(strength: Floats, call_from: float) -> Ints:
    """(n,) group of each one: going down from the best, a group holds all that are too close to call against its first.

    `call_from` is the probability from which a pair is called.
    """
    order = np.argsort(-strength, kind="stable")
    bound = np.log(call_from / (1 - call_from)) if 0.5 < call_from < 1 else (0.0 if call_from <= 0.5 else np.inf)
    group = np.empty(len(strength), np.int64)
    current, head = -1, np.inf
    for i in order:
        if current < 0 or head - strength[i] >= max(bound, 1e-12):
            current += 1
            head = strength[i]
        group[i] = current
    return group


def assemble(
    names: Sequence[str],
    strength: Floats,
    bags: Floats,
    call_from: float,
    top_k: int,
    widen: float,
    notes: list[str],
    seed: int = 0,
) -> Ranking:
    """A ranking from (n,) strengths and (bags, n) those of the resamples.

    Parameters
    ----------
    widen : factor from the spread of the bags to the standard error of their mean
    """
    n = len(strength)
    exact = n <= ALL_PAIRS

    def share(s: Floats) -> Floats:
        if exact:
            return borda(probability(s[:, None] - s[None]))
        return against_anchors(lambda i, j: probability(s[i] - s[j]), s)

    score = share(strength)
    error = widen * bags.std(0) if len(bags) > 1 else np.zeros(n)
    ordered = np.sort(strength)
    low = _share_at(ordered, strength - 1.645 * error)
    high = _share_at(ordered, strength + 1.645 * error)
    p_best, p_top = top_chances(strength + widen * (bags - bags.mean(0)), top_k, seed=seed)
    group = tie_groups(strength, call_from)
    order = np.lexsort((np.arange(n), -score)) if exact else np.argsort(-strength, kind="stable")
    rows = []
    members: dict[int, list[int]] = {}
    at = np.empty(n, np.int64)
    for i in order:
        same = members.setdefault(int(group[i]), [])
        at[i] = len(same)
        same.append(int(i))
    for r, i in enumerate(order):
        same = members[int(group[i])]
        start = int(np.clip(at[i] - MOST_TIED // 2, 0, max(0, len(same) - MOST_TIED - 1)))
        same = [m for m in same[start : start + MOST_TIED + 1] if m != i]
        rows.append(
            {
                "checkpoint": names[i],
                "rank": r + 1,
                "score": float(score[i]),
                "interval": [float(min(low[i], score[i])), float(max(high[i], score[i]))],
                "p_best": float(p_best[i]),
                "p_top_k": float(p_top[i]),
                "tied_with": [names[m] for m in same],
            }
        )
    return Ranking(rows, top_k, exact, notes)


def _share_at(ordered: Floats, at: Floats) -> Floats:
    """Borda share of strengths `at` against the (sorted) field, read off at up to 256 of its quantiles."""
    field_ = ordered[np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), 256)).round().astype(int))]
    knots = np.linspace(min(at.min(), ordered[0]), max(at.max(), ordered[-1]) + 1e-9, 512)
    return np.interp(at, knots, probability(knots[:, None] - field_[None]).mean(1))
