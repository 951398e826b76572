"""One answer: probability, interval, whether it is too close to call, reasons that add up to it, and what to measure next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ranker.blend import probability
from ranker.pairs import Floats
from ranker.standardise import Context
from ranker.strata import Told, told
from ranker.vocabulary import meaning

if TYPE_CHECKING:
    from ranker.answering import Answering


NEW_TASK = "the ranker was not fitted on this task: its odds are drawn towards even"


@dataclass(frozen=True)
class Comparison:
    """The answer to "is a or b better?".

    Attributes
    ----------
    winner : "a" or "b"; None at exactly even odds
    probability : P(a beats b)
    interval : 90 % interval of that probability, from the resamples over checkpoints
    too_close : the odds are inside those that cannot be called at the ranker's error rate
    reasons : per feature ``feature``, ``a``, ``b`` (values) and ``contribution``: its share of ``log_odds``; they add up to it.
        Largest first
    missing : features that the ranker knows and a or b lacks; the one that promises most per second of measuring first
    log_odds : log(P / (1 - P))
    call_from : probability from which a pair is called
    notes : features that were ignored, or unlike the training ones
    """

    winner: str | None
    probability: float
    interval: tuple[float, float]
    too_close: bool
    reasons: list[dict[str, Any]]
    missing: list[str]
    log_odds: float = 0.0
    call_from: float = 0.9
    measure_next: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The fields of the ``compare`` object but names, task and ranker."""
        return {
            "winner": self.winner,
            "probability": self.probability,
            "interval": list(self.interval),
            "too_close": self.too_close,
            "reasons": self.reasons,
            "missing": self.missing,
        }


@dataclass(frozen=True)
class Side:
    """One of two, as far as it can be known without the other: made once where its zoo is known, used for every pair.

    Attributes
    ----------
    features : as given
    found : which of them measures which of the ranker's features
    z : (d,) standardised features
    strength, bags : log-odds score, and (bags,) those of the resamples
    shares : (d,) what each matrix column adds to the trees' part of the score
    task : code of the task
    outside : features in which the zoo is unlike the training checkpoints
    strata : (1, k) values of the ranker's strata
    """

    features: Mapping[str, Any]
    found: Mapping[str, str]
    z: Floats
    strength: float
    bags: Floats
    shares: Floats
    task: int
    outside: tuple[str, ...]
    strata: Told


def sides(
    ranker: Answering,
    rows: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, str]],
    Z: Floats,
    used: Context,
    task: int,
) -> list[Side]:
    """Sides from (n, d) standardised features."""
    strength, bags = ranker.ensemble_.scores(Z, task)
    shares = ranker.ensemble_.shares(Z, task)
    known = told(rows, tuple(ranker.strata))
    return [
        Side(row, found[k], Z[k], float(strength[k]), bags[:, k], shares[k], task, used.outside, known[k : k + 1])
        for k, row in enumerate(rows)
    ]


def explain(ranker: Answering, left: Side, right: Side) -> Comparison:
    """The `Comparison` of two sides of one zoo and task."""
    columns = ranker.standardiser_.columns
    a, b, found = left.features, right.features, (left.found, right.found)
    factor, call_from = 1.0, float(ranker.call_from_)
    if ranker.strata_ is not None:
        factors, bars = ranker.strata_.pairs(left.strata, right.strata, call_from)
        factor, call_from = float(factors[0]), float(bars[0])
    gaps = factor * (left.bags - right.bags)
    log_odds = factor * (left.strength - right.strength)
    p = float(probability(np.array([log_odds]))[0])
    error = ranker.widening_ * float(gaps.std())
    low, high = probability(np.array([log_odds - 1.6449 * error, log_odds + 1.6449 * error]))
    split = factor * ranker.ensemble_.between(left.z, right.z, left.task, left.shares - right.shares)
    told_of = np.array([c.name in found[0] or c.name in found[1] for c in columns])
    shares = _among(np.bincount(ranker.standardiser_.feature, split, len(columns)).astype(float), told_of, log_odds)
    reasons: list[dict[str, Any]] = [
        {
            "feature": columns[k].name,
            "a": a.get(found[0].get(columns[k].name, "")),
            "b": b.get(found[1].get(columns[k].name, "")),
            "contribution": float(shares[k]),
        }
        for k in np.flatnonzero(told_of)
    ]
    reasons.sort(key=lambda r: -abs(r["contribution"]))
    lacking = [c for c in columns if c.name not in found[0] or c.name not in found[1]]
    bound = float(np.log(call_from / (1 - call_from))) if call_from < 1 else np.inf
    costs = ranker.costs or {}
    settles = _settles(log_odds, np.array([factor * ranker.importance_.get(c.name, 0.0) for c in lacking]), bound)
    following: list[dict[str, Any]] = [
        {"feature": c.name, "settles": chance, "seconds": float(costs.get(c.name, meaning(c.name).seconds))}
        for c, chance in zip(lacking, settles.tolist(), strict=True)
    ]
    following.sort(key=lambda f: (-(f["settles"] / f["seconds"]), f["seconds"], f["feature"]))
    notes = []
    extra = sorted(
        {k for row, have in ((a, found[0]), (b, found[1])) for k in row.keys() - set(have.values())} - set(ranker.strata)
    )
    if extra:
        notes.append(f"not known to the ranker, ignored: {', '.join(extra[:20])}")
    if left.task < 0:
        notes.append(NEW_TASK)
    outside = tuple(dict.fromkeys((*left.outside, *right.outside)))
    if outside:
        notes.append(f"unlike the training checkpoints: {', '.join(outside)}")
    return Comparison(
        None if log_odds == 0 else ("a" if log_odds > 0 else "b"),
        p,
        (float(min(low, p)), float(max(high, p))),
        bool(max(p, 1 - p) < call_from),
        reasons,
        [f["feature"] for f in following],
        log_odds,
        call_from,
        following,
        notes,
    )


def _among(shares: Floats, told_of: NDArray[np.bool_], log_odds: float) -> Floats:
    """(p,) shares that add up to the log-odds over the features that one of the two has.

    TreeSHAP also credits a feature that neither has, where its absence changes what the others say: that part is theirs, by size.
    """
    size = np.where(told_of, np.abs(shares), 0.0)
    size = size if size.sum() > 0 else told_of.astype(float)
    out = np.where(told_of, shares, 0.0)
    out += (log_odds - out.sum()) * size / size.sum()
    out[int(np.argmax(size))] += log_odds - out.sum()  # rounding
    return out


def _settles(log_odds: float, reach: Floats, bound: float) -> Floats:
    """(n,) chances that measuring a feature moves the log-odds out of the band that is too close to call: its contribution is
    taken as normal with deviation `reach`, as over pairs of the training zoos.
    """
    if not np.isfinite(bound):
        return np.zeros(len(reach))
    deviation = np.where(reach > 0, reach, np.inf)
    chance = ndtr(-(bound - log_odds) / deviation) + ndtr((-bound - log_odds) / deviation)
    return np.where(reach > 0, chance, 0.0)
