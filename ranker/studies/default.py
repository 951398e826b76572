"""Which ranker should install with the product? Candidates, each asked about zoos that it has never seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from features.registry import by_default
from ranker import reference
from ranker.compare import LearningToCompare
from ranker.pairs import codes
from ranker.studies.page import Page, cell, with_interval
from ranker.studies.transfer import alone, asked
from ranker.table import proxies_of
from ranker.vocabulary import meaning

SIGNS = ("strict", "proven")


def fitted(tables: Mapping[str, pd.DataFrame], columns: list[str], **parameters: Any) -> LearningToCompare:
    """A ranker fitted on whole zoos (name -> table) with those of `columns` that any of them has."""
    df = pd.concat([t.assign(zoo=name) for name, t in tables.items()], ignore_index=True)
    used = [c for c in columns if c in df and df[c].notna().any()]
    return LearningToCompare(**parameters).fit(
        df[used],
        df["outcome"],
        task=df["task"],
        group=codes(df["checkpoint"]),
        zoo=df["zoo"],
        outcome_sd=df.get("outcome_sd"),
    )


def candidates(page: Page, seed: int) -> None:
    """Fit on all zoos but one, in each way; ask about the one left out; beside the best proxy of the others and perplexity."""
    zoos = {name: reference.vocabulary(name) for name in reference.TABLES}
    everything = list(dict.fromkeys(c for table in zoos.values() for c in proxies_of(table)))
    rows: list[list[Any]] = []
    for name, table in zoos.items():
        offered = proxies_of(table)
        for label, others, columns in _ways(zoos, name, everything):
            for signs in SIGNS:
                ranker = fitted(others, columns, signs=signs, random_state=seed)
                found = asked(ranker, table, offered)
                page.figures[f"transfer/{label}/{signs} -> {name}"] = asdict(found)
                rows.append([name, label, signs, with_interval(asdict(found)), found.ece, found.called, found.called_accuracy])
        for column in (c for c in reference.SHARED if c in table):
            rows.append([name, f"{column} alone", "-", cell(alone(table, column)), None, None, None])
    page.table(
        "A ranker asked about a zoo that it has never seen",
        ["asked about", "fitted on", "directions", "accuracy [95 %]", "ECE", "called", "right of them"],
        rows,
        "`shared`: perplexity, span-corruption perplexity and k-shot accuracy; `all`: everything that the extractors measure. "
        "`strict`: a feature whose direction is known counts only that way; `proven`: only where the training side agrees.",
    )


def new_tasks(page: Page, df: pd.DataFrame, seed: int) -> None:
    """Fit on other tasks and other variants of the zoo `df`, with the published table and without; ask about the rest."""
    zeng, names = reference.vocabulary("zeng2025"), np.random.default_rng(seed).permutation(df["checkpoint"].unique())
    everything = proxies_of(df)
    known = [c for c in everything if meaning(c).direction]
    shared, lean = list(reference.SHARED), reference.lean
    # what it is called: whether the published table is among the zoos, the zoos that the own one is made into, the columns
    ways: dict[str, tuple[bool, Callable[[pd.DataFrame], list[pd.DataFrame]], list[str]]] = {
        "zeng2025, shared": (True, lambda own: [], shared),
        "other tasks and variants, shared": (False, lambda own: [own], shared),
        "other tasks and variants, all": (False, lambda own: [own], everything),
        "zeng2025 + other tasks and variants, shared": (True, lambda own: [own], shared),
        "zeng2025 + other tasks and variants, all": (True, lambda own: [own], everything),
        "zeng2025 + other tasks and variants, known": (True, lambda own: [own], known),
        "the same, measured by default": (True, lambda own: [own], [c for c in known if by_default(c)]),
        "the same, known and measured by default as two zoos (the choice)": (True, lean, known),
    }
    offers = {"everything": everything, "what is measured by default": [c for c in everything if by_default(c)]}
    right: dict[tuple[str, str], list[float]] = {}
    for task in df["task"].unique():
        for half in (set(names[::2]), set(names[1::2])):
            test = df[(df["task"] == task) & df["checkpoint"].isin(half)].reset_index(drop=True)
            train = df[(df["task"] != task) & ~df["checkpoint"].isin(half)].assign(zoo="own")
            for label, (published, made, columns) in ways.items():
                zoos = {"zeng2025": zeng} if published else {}
                zoos |= {str(part["zoo"].iloc[0]): part for part in made(train)}
                ranker = fitted(zoos, columns, signs="strict", random_state=seed)
                for offer, offered in offers.items():
                    right.setdefault((label, offer), []).append(asked(ranker, test, offered).accuracy)
            for column in reference.SHARED:
                for offer in offers:
                    right.setdefault((f"{column} alone", offer), []).append(alone(test, column))
    labels = list(dict.fromkeys(label for label, _ in right))
    for (label, offer), shares in right.items():
        page.figures[f"new task/{label}/{offer}"] = {"accuracy": float(np.mean(shares)), "tasks": shares}
    page.table(
        "New variants on a new task",
        ["fitted on", *(f"asked with {offer}" for offer in offers)],
        [[label, *(float(np.mean(right[label, offer])) for offer in offers)] for label in labels],
        "Half of the variants and four tasks to learn from, the other half on the fifth task to answer for, both halves in turn: "
        "what a newcomer's zoo is to the ranker that installs. Accuracy, mean of the tasks. All with `strict` directions; "
        "`known`: features that claim one; `measured by default`: without short probes, linear probes, effective ranks and "
        "Fisher information, which are measured when they are named.",
    )


def _ways(
    zoos: Mapping[str, pd.DataFrame], left_out: str, everything: list[str]
) -> list[tuple[str, dict[str, pd.DataFrame], list[str]]]:
    """(what it is called, the zoos to fit on, the columns to use)."""
    others = {k: v for k, v in zoos.items() if k != left_out}
    shared = list(reference.SHARED)
    ways = [(f"{k}, shared", {k: v}, shared) for k, v in others.items()]
    ways += [(f"{k}, all", {k: v}, everything) for k, v in others.items() if k != "zeng2025"]
    if len(others) > 1:
        ways += [(" + ".join(others) + ", shared", others, shared), (" + ".join(others) + ", all", others, everything)]
    return ways
