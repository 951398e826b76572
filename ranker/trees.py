"""Boosted trees on items, by LightGBM, and several boosters kept as one in LightGBM's native text.

A tree scorer gives a checkpoint one number: `fit` predicts its standardised outcome, `fit_ranknet` lets only the order of pairs
count. Scoring items rather than pairs keeps a table of millions of pairs at its thousands of rows; the comparison is the
difference of two scores, and TreeSHAP gives its parts exactly.

Reference: C. Burges et al., Learning to rank using gradient descent, 2005 (RankNet).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import lightgbm as lgb
import numpy as np
from scipy.special import expit

from features.errors import DataError
from ranker.pairs import Floats, Ints, better_first, within

_PAIRS_A_ROW, _FEW_PAIRS, _LEAST_BEND = 16, 2000, 1e-6
QUIET: dict[str, Any] = {"verbosity": -1, "deterministic": True, "force_row_wise": True, "num_threads": 1}


def parameters(n: int, seed: int) -> dict[str, Any]:
    """LightGBM's settings for n rows: small, extra-random, strongly regularised trees where there is little to learn from."""
    small = n < 400
    return {
        **QUIET,
        "objective": "l2",
        "num_leaves": 6 if small else 15 if n < 5000 else 31,
        "learning_rate": 0.06,
        "min_data_in_leaf": int(np.clip(n // 20, 1 if n < 10 else 2, 40)),
        "min_sum_hessian_in_leaf": 1e-3,
        "min_data_in_bin": 1 if small else 3,
        "extra_trees": n < 5000,
        "feature_fraction": 0.6,
        "bagging_fraction": 0.8 if n >= 10 else 1.0,
        "bagging_freq": 1 if n >= 10 else 0,
        "lambda_l2": 1.0,
        "seed": seed,
        "max_bin": 63 if n > 20_000 else 255,
    }


def fit(Z: Floats, t: Floats, w: Floats, *, rounds: int, seed: int, monotone: Ints | None = None) -> lgb.Booster:
    """A booster of `rounds` trees on (n, d) standardised features and (n,) standardised outcomes, weighted."""
    p = parameters(len(Z), seed)
    if monotone is not None and monotone.any():
        p["monotone_constraints"] = [int(m) for m in monotone]
    data = lgb.Dataset(
        Z,
        t,
        weight=w,
        params={"min_data_in_bin": p["min_data_in_bin"], "max_bin": p["max_bin"], "feature_pre_filter": False, **QUIET},
    )
    return lgb.train(p, data, rounds, keep_training_booster=True)  # else it is written as text and read again


def fit_ranknet(Z: Floats, t: Floats, w: Floats, unit: Ints, *, rounds: int, seed: int, monotone: Ints) -> lgb.Booster:
    """A booster of `rounds` trees whose differences are log-odds that the first of a pair has the higher outcome.

    Parameters
    ----------
    Z, t, w, unit : (n, d) standardised features; (n,) standardised outcomes, weights, and what is compared within
    monotone : (d,) +1 or -1 where a feature may only count in that direction
    """
    n = len(Z)
    i, j, weight = better_first(t, w, *within(unit, limit=max(_FEW_PAIRS, _PAIRS_A_ROW * n), seed=seed))
    weight *= n / max(float(weight.sum()), 1e-12)

    def gradient(score: Floats, _: lgb.Dataset) -> tuple[Floats, Floats]:
        wrong = expit(score[j] - score[i])
        pull, bend = weight * wrong, weight * wrong * (1 - wrong)
        slope = np.bincount(j, pull, n) - np.bincount(i, pull, n)
        return np.asarray(slope, float), np.asarray(np.bincount(i, bend, n) + np.bincount(j, bend, n) + _LEAST_BEND, float)

    p: dict[str, Any] = {**parameters(n, seed), "objective": gradient, "num_leaves": 6, "min_data_in_leaf": 2}
    if monotone.any():
        p["monotone_constraints"] = [int(m) for m in monotone]
    data = lgb.Dataset(Z, t, params={"min_data_in_bin": p["min_data_in_bin"], **QUIET})
    return lgb.train(p, data, rounds, keep_training_booster=True)


def merge(boosters: Sequence[lgb.Booster]) -> lgb.Booster:
    """One booster whose raw prediction is the mean of the given ones'; its trees stand in their order.

    LightGBM's text form is a header and one block per tree; blocks are renumbered and their leaf values divided.
    """
    texts = [b.model_to_string(importance_type="split") for b in boosters]
    share = 1.0 / len(texts)
    head = texts[0][: texts[0].index("Tree=0")]
    tail = texts[0][texts[0].index("end of trees") :]
    blocks: list[str] = []
    for text in texts:
        body = text[text.index("Tree=0") : text.index("end of trees")]
        for block in re.split(r"(?m)^(?=Tree=\d+$)", body):
            if block.strip():
                block = re.sub(r"^Tree=\d+", f"Tree={len(blocks)}", block)
                block = re.sub(r"(?m)^(leaf_value|internal_value)=(.*)$", lambda m: f"{m[1]}={_scaled(m[2], share)}", block)
                blocks.append(block)
    head = re.sub(r"(?m)^tree_sizes=.*$", "tree_sizes=" + " ".join(str(len(b.encode())) for b in blocks), head)
    return read("".join([head, *blocks, tail]))


def _scaled(values: str, share: float) -> str:
    return " ".join(repr(float(v) * share) for v in values.split())


def read(text: str) -> lgb.Booster:
    """A booster from LightGBM's native text.

    Raises
    ------
    DataError : the text is not a LightGBM model
    """
    if not text.startswith("tree") or "end of trees" not in text:
        raise DataError("not a LightGBM model in text form", where="booster.txt", remedy="train the ranker again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it takes its parameters from the text, as it should
            return lgb.Booster(model_str=text)
    except lgb.basic.LightGBMError as error:
        raise DataError(f"LightGBM refuses it: {error}", where="booster.txt", remedy="train the ranker again") from error


def leaf_values(booster: lgb.Booster) -> Floats:
    """(trees, most leaves) leaf values, zero-padded: with `leaves`, per-tree predictions without one call per bag."""
    rows = [
        np.array([float(v) for v in m[1].split()])
        for m in re.finditer(r"(?m)^leaf_value=(.*)$", booster.model_to_string(num_iteration=-1))
    ]
    out = np.zeros((len(rows), max((len(r) for r in rows), default=1)))
    for i, r in enumerate(rows):
        out[i, : len(r)] = r
    return out


@dataclass
class Forest:
    """Boosters of one kind, merged: those of all rows, and those of every resample, whose spread is the doubt.

    Attributes
    ----------
    whole, bags : the merged boosters; None where nothing was fitted. Where tasks have trees of their own these are sections that
        stand one after the other
    sections : code of a section -> first tree and number of trees of `whole`, and those of each of the `bags`
    """

    whole: lgb.Booster | None = None
    bags: lgb.Booster | None = None
    sections: dict[int, tuple[tuple[int, int], tuple[int, list[int]]]] = field(default_factory=dict)
    leaves: Floats = field(default_factory=lambda: np.zeros((0, 1)))

    @classmethod
    def of(cls, whole: Mapping[int, Sequence[lgb.Booster]], bags: Mapping[int, Sequence[lgb.Booster]]) -> Self:
        """From the boosters of each section, as many in every section: of `whole` their mean counts."""
        if not whole:
            return cls()
        sections, first, first_of_bags = {}, 0, 0
        for code, boosters in whole.items():
            count, counts = sum(b.num_trees() for b in boosters), [b.num_trees() for b in bags[code]]
            sections[code] = ((first, count), (first_of_bags, counts))
            first, first_of_bags = first + count, first_of_bags + sum(counts)
        joined = [merge([b for code in whole for b in part[code]]) for part in (whole, bags)]
        return cls.joined(joined[0], joined[1], sections)

    @classmethod
    def joined(cls, whole: lgb.Booster, bags: lgb.Booster, sections: dict[int, Any]) -> Self:
        """From what `merge` made."""
        return cls(whole, bags, sections, leaf_values(bags))

    def score(self, Z: Floats, section: int = 0) -> Floats:
        """(n,) what the boosters of all rows say; 0 of a section that was not fitted."""
        if self.whole is None or section not in self.sections:
            return np.zeros(len(Z))
        first, count = self.sections[section][0]
        found = self.whole.predict(Z, num_threads=1, start_iteration=first, num_iteration=count)
        return np.asarray(found) * len(self.sections)

    def each(self, Z: Floats, section: int = 0) -> Floats:
        """(bags, n) what each of the `bags` says, (1, n) zeros of a section that was not fitted."""
        if self.bags is None or section not in self.sections:
            return np.zeros((1, len(Z)))
        first, counts = self.sections[section][1]
        total = sum(counts)
        found = self.bags.predict(Z, pred_leaf=True, num_threads=1, start_iteration=first, num_iteration=total)
        each = self.leaves[np.arange(first, first + total), np.asarray(found).reshape(len(Z), total).astype(np.int64)]
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
        return np.add.reduceat(each, starts, axis=1).T * (len(counts) * len(self.sections))

    def parts(self, Z: Floats, section: int = 0) -> Floats:
        """(n, d) TreeSHAP shares of each matrix column in `score`; with the common base value they add up to it."""
        if self.whole is None or section not in self.sections:
            return np.zeros(Z.shape)
        first, count = self.sections[section][0]
        found = self.whole.predict(Z, pred_contrib=True, num_threads=1, start_iteration=first, num_iteration=count)
        return np.asarray(found)[:, :-1] * len(self.sections)

    def texts(self) -> tuple[str, str]:
        """LightGBM's own text of `whole` and `bags`; empty where nothing was fitted."""
        one, two = ("" if booster is None else booster.model_to_string(num_iteration=-1) for booster in (self.whole, self.bags))
        return one, two

    @classmethod
    def from_texts(cls, whole: str, bags: str, sections: Mapping[str, Any]) -> Self:
        """What `texts` wrote; `sections` as JSON gave them.

        Raises
        ------
        DataError : not LightGBM models, or of another number of trees than `sections` say
        """
        if not sections:
            return cls()
        read_ = {int(k): ((int(a[0]), int(a[1])), (int(b[0]), [int(c) for c in b[1]])) for k, (a, b) in sections.items()}
        out = cls.joined(read(whole), read(bags), read_)
        told = sum(a[1] for a, _ in read_.values()), sum(sum(b[1]) for _, b in read_.values())
        assert out.whole is not None
        assert out.bags is not None
        if told != (out.whole.num_trees(), out.bags.num_trees()):
            raise DataError("another number of trees than ranker.json says", remedy="train the ranker again")
        return out
