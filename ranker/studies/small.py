"""Small tables, the common case: 8 to 20 checkpoints, against the best single feature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.errors import DataError
from ranker.evaluate import grouping, splits_of
from ranker.reference import PROXIES
from ranker.studies import methods, sources
from ranker.studies.holdout import run
from ranker.studies.page import Page, difference, with_interval

SIZES = (10, 12, 20)


def draws(df: pd.DataFrame, n: int, splits: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(train rows, test rows) of each of `splits` draws of n checkpoints, 60 % of them to train."""
    rng = np.random.default_rng(seed + n)
    parts = []
    for k in range(splits):
        chosen = np.flatnonzero(df["checkpoint"].isin(_some(df, n, rng)["checkpoint"].unique()))
        part = df.iloc[chosen].reset_index(drop=True)
        (a, b), *_ = splits_of(part, grouping(part, None), None, splits=1, train_share=0.6, seed=seed + k)
        parts.append((chosen[a], chosen[b]))
    return parts


def _some(df: pd.DataFrame, n: int, rng: np.random.Generator) -> pd.DataFrame:
    names = df["checkpoint"].unique()
    kept = set(rng.permutation(names)[:n])
    return df[df["checkpoint"].isin(kept)].reset_index(drop=True)


def _tables(table: str | Path | None) -> dict[str, Callable[[], pd.DataFrame]]:
    """What is there: Zeng's always, the others where `table` is a folder that holds them."""
    out: dict[str, Callable[[], pd.DataFrame]] = {
        "zeng, proxies": lambda: sources.zeng(parts=False)[["task", "checkpoint", "outcome", *PROXIES]],
        "zeng, one task": lambda: _one_task(sources.zeng(parts=False)[["task", "checkpoint", "outcome", *PROXIES]], "sft_rag"),
    }
    found: dict[str, Callable[[], pd.DataFrame]] = {
        "nas": lambda: sources.nas(table),
        "rectified, 6,400 samples": lambda: sources.rectified(table),
        "amuro": lambda: sources.amuro(table),
        "vision": lambda: sources.vision(table),
        "ibm, roberta-base": lambda: _roberta(table),
    }
    for name, read in found.items():
        try:
            sources.find(table, name.split(",")[0])
        except DataError:
            continue
        out[name] = read
    return out


def _one_task(df: pd.DataFrame, task: str) -> pd.DataFrame:
    return df[df["task"] == task].reset_index(drop=True)


def _roberta(table: str | Path | None) -> pd.DataFrame:
    """The mean outcome of one uploader's first checkpoint each: no two of them are near-duplicates."""
    df = sources.mean_over_tasks(sources.ibm(table))
    own = df[df["zoo"] == "roberta-base"].drop_duplicates("group")
    return own[["task", "checkpoint", "outcome", "mnli_lp", "classification"]].reset_index(drop=True)


def study(table: str | Path | None = None, *, splits: int = 20, seed: int = 0, command: str = "", quick: bool = False) -> Page:
    """For each table and size, `splits` draws of so many checkpoints, 60 % of them to train; `quick` keeps one size."""
    page = Page("Small tables", command)
    makers: dict[str, methods.Maker] = {**methods.baselines(False), "published": methods.Published, "ltc": methods.Ours}
    page.text(
        f"Each line: {splits} draws of n checkpoints of the table, 60 % train, pairs of the held-out ones. "
        "`published` is learning to compare "
        "with LightGBM's defaults. The interval of the difference is a bootstrap over the table's checkpoints."
    )
    rows: list[list[Any]] = []
    for name, read in _tables(table).items():
        df = read()
        groups = grouping(df, None)
        columns = [c for c in df.columns if c not in ("task", "checkpoint", "outcome")]
        count = df["checkpoint"].nunique()
        for n in [s for s in (SIZES[1:2] if quick else SIZES) if s < count] or [count]:
            parts = draws(df, n, splits, seed)
            found = run(df, makers, parts, columns=columns, groups=groups, seed=seed)
            figures = {m: found.of(m, against="best-single") for m in makers}
            page.figures[f"{name}/{n}"] = figures
            rows.append(
                [
                    name,
                    n,
                    *(figures[m]["accuracy"] for m in ("best-single", "logistic", "published")),
                    with_interval(figures["ltc"]),
                    difference(figures["ltc"]),
                    figures["ltc"]["ece"],
                    figures["ltc"].get("called_accuracy"),
                ]
            )
    page.table(
        "By size",
        [
            "table",
            "checkpoints",
            "best-single",
            "logistic",
            "published",
            "ltc [95 %]",
            "ltc less best-single [95 %]",
            "ECE",
            "right of the called",
        ],
        rows,
    )
    return page
