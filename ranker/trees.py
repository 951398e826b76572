"""Boosted trees on items, by LightGBM, and several boosters kept as one in LightGBM's native text.

A tree scorer predicts the standardised outcome of a checkpoint. Fitting items rather than pairs keeps a table of millions of
pairs at its thousands of rows; the comparison is the difference of two scores, and TreeSHAP gives its parts exactly.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

import lightgbm as lgb
import numpy as np

from features.errors import DataError
from ranker.pairs import Floats, Ints

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
    return lgb.train(p, data, rounds)


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


def per_bag(booster: lgb.Booster, values: Floats, Z: Floats, counts: Sequence[int]) -> Floats:
    """(bags, n) predictions of the boosters that `merge` joined, on their own scale; `counts` are their numbers of trees."""
    trees = len(values)
    leaves = np.asarray(booster.predict(Z, pred_leaf=True, num_threads=1)).reshape(len(Z), trees).astype(np.int64)
    each = values[np.arange(trees), leaves]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    return np.add.reduceat(each, starts, axis=1).T * len(counts)


def parts(booster: lgb.Booster, Z: Floats) -> Floats:
    """(n, d) TreeSHAP shares of each matrix column; with the common base value they add up to the prediction."""
    return np.asarray(booster.predict(Z, pred_contrib=True, num_threads=1))[:, :-1]
