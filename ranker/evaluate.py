"""Honest figures for a table: checkpoints (or groups of them, tasks, zoos) are held out, never pairs.

A pair is judged when both its checkpoints were held out together and their outcomes differ (equal outcomes have no order to get
right and are left out; equal predictions count 1/2). Checkpoints whose figures are identical are one group, so that a twin never
stands on the other side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from features.errors import DataError, UnknownNameError
from ranker import metrics
from ranker.baselines import BestSingle, Logistic, Single
from ranker.blend import probability
from ranker.compare import LearningToCompare
from ranker.figures import Judged, result
from ranker.pairs import Floats, Ints, codes, merge_groups, twins
from ranker.parallel import each
from ranker.table import check, features_of, is_number

METHODS = ("ltc", "logistic", "configuration", "best-single")
_KEPT = 4_000_000


@dataclass
class LearningToCompareMethod:
    """`LearningToCompare` as an evaluated method: fitted on the training rows, asked with the whole zoo as context."""

    parameters: dict[str, Any] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    ranker: LearningToCompare | None = None

    def fit(self, train: pd.DataFrame, columns: list[str]) -> LearningToCompareMethod:
        strata = self.parameters.get("strata", ())
        columns = self.columns = [*(c for c in columns if c not in strata), *strata]
        self.ranker = LearningToCompare(**self.parameters).fit(
            train[columns],
            train["outcome"].to_numpy(float),
            task=train["task"],
            group=train[" group"],
            zoo=train.get("zoo"),
            outcome_sd=train["outcome_sd"].to_numpy(float) if "outcome_sd" in train else None,
        )
        return self

    def strengths(self, rows: pd.DataFrame, context: pd.DataFrame) -> Floats:
        assert self.ranker is not None
        zoo = pd.concat([rows, context])[self.columns] if len(context) else rows[self.columns]
        return self.ranker.strengths(rows[self.columns], task=str(rows["task"].iloc[0]), context=zoo)

    def slope(self, task: str) -> float:
        return 0.0

    def sureness(self, rows: pd.DataFrame, i: Ints, j: Ints) -> tuple[Floats, Floats]:
        """What the log-odds of each pair of rows are multiplied by, and the confidence from which it is called."""
        assert self.ranker is not None
        if self.ranker.strata_ is None:
            return np.ones(len(i)), np.full(len(i), self.ranker.call_from_)
        return self.ranker.sureness(rows.iloc[i], rows.iloc[j])


def make(method: str, df: pd.DataFrame, columns: list[str], parameters: dict[str, Any] | None = None) -> Any:
    """An unfitted method by its name.

    Raises
    ------
    UnknownNameError : no such method, or no such column
    """
    if method == "ltc":
        return LearningToCompareMethod(parameters or {})
    if method == "logistic":
        return Logistic()
    if method == "configuration":
        return Logistic(configuration=True)
    if method == "best-single":
        return BestSingle()
    if method.startswith("single:"):
        column = method.removeprefix("single:")
        if column not in columns:
            raise UnknownNameError(f"no feature column {column!r}", where="--method", remedy=f"columns: {', '.join(columns)}")
        return Single(column)
    raise UnknownNameError(
        f"no method {method!r}",
        where="--method",
        remedy="methods: ltc, logistic, configuration, best-single, single:COLUMN, singles",
    )


def splits_of(
    df: pd.DataFrame, group: Ints, hold: str | None, *, splits: int, train_share: float, seed: int
) -> Iterator[tuple[Ints, Ints]]:
    """Row indices (train, test) of each split.

    Groups of checkpoints are shuffled and put on the training side until it has `train_share` of the checkpoints. With `hold`
    "task", tasks are split too: the test side is the held-out checkpoints on the held-out tasks, and the training side the
    others on the others, since a checkpoint's outcome on one task tells of the next.
    """
    rng = np.random.default_rng(seed)
    names, size = np.unique(
        group[~df.duplicated(["checkpoint", *(["zoo"] if "zoo" in df else [])]).to_numpy()], return_counts=True
    )
    tasks = np.array(sorted(df["task"].unique()), dtype=object)
    for _ in range(splits):
        order = rng.permutation(len(names))
        reached = np.cumsum(size[order])
        k = int(
            np.clip(
                np.searchsorted(reached, train_share * size.sum() + 1e-9, side="right"),
                min(2, len(names) - 1),
                max(len(names) - 2, 1),
            )
        )
        in_train = np.isin(group, names[order[:k]])
        if hold == "task":
            shuffled = rng.permutation(tasks)
            kept = set(shuffled[: int(np.clip(round(train_share * len(tasks)), 1, len(tasks) - 1))])
            old = df["task"].isin(kept).to_numpy()
            yield np.flatnonzero(in_train & old), np.flatnonzero(~in_train & ~old)
        else:
            yield np.flatnonzero(in_train), np.flatnonzero(~in_train)


def evaluate(
    df: pd.DataFrame,
    *,
    methods: Sequence[str] = METHODS,
    features: Sequence[str] | None = None,
    group: str | None = None,
    splits: int = 20,
    train_share: float = 0.6,
    seed: int = 0,
    parameters: dict[str, Any] | None = None,
    strata: Sequence[str] = (),
    pairs: Any = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Hold-out figures of each method, per task and their mean over tasks.

    Parameters
    ----------
    df : a comparison table
    methods : of `METHODS`, ``single:COLUMN``, or ``singles`` for each number alone
    features : columns to use; all where left out
    group : column whose values are held out whole (uploader, family, base); "task" and "zoo" hold out whole tasks or zoos.
        Default: the column ``group`` where there is one, else the checkpoint
    splits, train_share, seed : random splits over groups; share of the checkpoints on the training side
    parameters : of `LearningToCompare`
    strata : columns that no method scores, but that tell ltc how sure to be of a pair that agrees in them
    pairs : function (rows, i, j) -> mask of the pairs to judge, e.g. those of equal learning rate
    progress : a bar on stderr where that is a terminal

    Splits run side by side within ``ranker.parallel.at_work(JOBS)``.

    Returns
    -------
    ``{"tasks": {TASK: {METHOD: figures}}, "mean": {METHOD: figures}, "notes": [...], ...}``; figures are ``accuracy`` (mean over
    splits), ``sd`` (over splits), ``ci95`` (bootstrap over groups of checkpoints), ``pairs`` (judged, over all splits),
    ``kendall_tau``, ``top1_regret``, ``top1``, ``best_at``, ``top5_recall``, ``brier``, ``ece``, ``by_gap``, and for ltc
    ``called``, ``called_accuracy``, ``against_best_single`` (paired difference, ci95) and ``error_reduction`` against perplexity
    where there is one

    Raises
    ------
    DataError : a table that cannot be split; UnknownNameError : no such method, column or group
    """
    df = check(df)
    if splits < 1 or not 0 < train_share < 1:
        raise DataError(
            f"splits = {splits}, train_share = {train_share}",
            where="evaluate",
            remedy="give at least 1 split and a share between 0 and 1",
        )
    if seed < 0:
        raise DataError(f"seed = {seed}", where="evaluate", remedy="give 0 or a larger whole number")
    hold = group if group in ("task", "zoo") else None
    if group is not None and group not in df.columns:
        raise UnknownNameError(f"no column {group!r} to group by", where="evaluate", remedy=f"columns: {', '.join(df.columns)}")
    columns = features_of(df, features)
    absent = [c for c in strata if c not in df.columns]
    if absent:
        raise UnknownNameError(f"no column {absent[0]!r}", where="evaluate --strata", remedy=f"columns: {', '.join(df.columns)}")
    columns = [c for c in columns if c != group and c not in strata]
    if strata:
        parameters = {**(parameters or {}), "strata": tuple(strata)}
    if not columns:
        raise DataError("no feature column left", where="evaluate", remedy="the group column cannot be the only feature")
    if hold == "task" and df["task"].nunique() < 2:
        raise DataError("one task only", where="evaluate --group task", remedy="hold out checkpoints instead")
    names = list(dict.fromkeys(_expand(methods, df, columns)))
    for name in names:
        make(name, df, columns)
    asked = list(names)
    if "ltc" in names and "best-single" not in names:
        names.append("best-single")
    groups = grouping(df, group)
    if len(np.unique(groups)) < 2:
        raise DataError(
            "one group only", where=f"evaluate --group {group or 'checkpoint'}", remedy="a hold-out needs at least two groups"
        )
    df[" group"] = groups
    units = df.groupby([c for c in ("zoo", "task") if c in df]).ngroups
    most = max(2000, _KEPT // (splits * units))
    tasks = [str(t) for t in dict.fromkeys(df["task"])]
    parts = splits_of(df, groups, hold, splits=splits, train_share=train_share, seed=seed)
    ask = partial(_split, df, columns, names, parameters, pairs, most)
    judged: dict[tuple[str, str], Judged] = {}
    empty = 0
    for found in each(ask, parts, progress=progress):
        empty += found is None
        for key, one in (found or {}).items():
            judged.setdefault(key, Judged()).add(one)
    if not judged:
        raise DataError(
            f"the table is too small: none of {splits} splits has a pair to learn from and one to judge",
            where="evaluate",
            remedy="give more checkpoints or groups",
        )
    return result(
        df,
        judged,
        names,
        asked,
        tasks,
        groups,
        columns,
        {"splits": splits, "train_share": train_share, "seed": seed, "group": group, "empty": empty},
    )


def fit_whole(
    df: pd.DataFrame, *, features: Sequence[str] | None = None, group: str | None = None, strata: Sequence[str] = ()
) -> LearningToCompare:
    """The ranker that `evaluate` judges, fitted on all rows: for its importances."""
    df = check(df)
    df[" group"] = grouping(df, group)
    columns = [c for c in features_of(df, features) if c not in (group, " group", *strata)]
    fitted = LearningToCompareMethod({"strata": tuple(strata)}).fit(df, columns).ranker
    assert fitted is not None
    return fitted


def grouping(df: pd.DataFrame, group: str | None) -> Ints:
    """Codes per row of what may not stand on two sides of a split: checkpoint, its twins, and its group."""
    zoo = df["zoo"] if "zoo" in df else pd.Series([""] * len(df))
    parts = [codes(zoo, df["checkpoint"]), twins(df)]
    if group is None and "group" in df:
        group = "group"
    if group == "zoo":
        parts.append(codes(df[group]))
    elif group not in (None, "task"):  # a row without a group is held out by its checkpoint alone
        blank = df[group].isna() | (df[group] == "")
        parts.append(codes(np.where(blank, "\0" + df["checkpoint"].astype(str), df[group].astype(str))))
    return merge_groups(*parts)


def _expand(methods: Sequence[str], df: pd.DataFrame, columns: list[str]) -> Iterator[str]:
    for method in methods:
        if method == "singles":
            yield from (f"single:{c}" for c in columns if is_number(df[c]))
        else:
            yield method


def _comparable(rows: pd.DataFrame) -> bool:
    if not len(rows):
        return False
    unit = rows.groupby(["zoo", "task"] if "zoo" in rows else ["task"])["outcome"]
    return bool((unit.nunique() > 1).any())


def _split(
    df: pd.DataFrame,
    columns: list[str],
    names: list[str],
    parameters: dict[str, Any] | None,
    pairs: Any,
    most: int,
    train_rows: Ints,
    test_rows: Ints,
) -> dict[tuple[str, str], Judged] | None:
    """Every method fitted on the one side and judged on the other; None where a side has nothing to compare."""
    train, test = df.iloc[train_rows], df.iloc[test_rows]
    if not _comparable(train) or not _comparable(test):
        return None
    judged: dict[tuple[str, str], Judged] = {}
    for name in names:
        fitted = make(name, df, columns, parameters).fit(train, columns)
        _judge(name, fitted, train, test, judged, pairs, most)
    return judged


def _judge(
    name: str, fitted: Any, train: pd.DataFrame, test: pd.DataFrame, judged: dict[tuple[str, str], Judged], pairs: Any, most: int
) -> None:
    """Predict the test rows, unit by unit, and keep the pairs."""
    for task, of_task in test.groupby("task", sort=False):
        rights, orders, sizes = [], [], []
        keep = judged.setdefault((name, str(task)), Judged())
        for zoo, rows in of_task.groupby("zoo", sort=False) if "zoo" in of_task else [("", of_task)]:
            if len(rows) < 2:
                continue
            same = train[(train["task"] == task) & (train["zoo"] == zoo)] if "zoo" in train else train[train["task"] == task]
            strength = fitted.strengths(rows, same)
            y = rows["outcome"].to_numpy(float)
            row = rows.index.to_numpy(np.int64)
            i, j = np.triu_indices(len(rows), 1)
            chosen = y[i] != y[j]
            if pairs is not None:
                chosen &= np.asarray(pairs(rows, i, j), bool)
            i, j = i[chosen], j[chosen]
            if not len(i):
                continue
            rights.append(metrics.right(_odds(fitted, str(task), strength[i] - strength[j]), np.sign(y[i] - y[j])))
            if pairs is None:
                orders.append(metrics.order_figures(strength, y))
                sizes.append(len(i))
            if len(i) > most:  # every pair counts for the accuracy; an even sample is kept for the rest
                thin = np.random.default_rng(len(i)).choice(len(i), most, replace=False)
                i, j = i[thin], j[thin]
            factor, bar = fitted.sureness(rows, i, j) if name == "ltc" else (1.0, None)
            p = _odds(fitted, str(task), factor * (strength[i] - strength[j]))
            better = np.sign(y[i] - y[j])
            keep.p.append(p)
            keep.better.append(better)
            keep.gap.append(np.abs(y[i] - y[j]))
            keep.i.append(row[i])
            keep.j.append(row[j])
            if bar is not None:
                keep.called.append(np.maximum(p, 1 - p) >= bar)
        if rights:
            keep.accuracy.append(float(np.concatenate(rights).mean()))
        if orders:
            keep.order.append({k: float(np.average([o[k] for o in orders], weights=sizes)) for k in orders[0]})


def _odds(fitted: Any, task: str, gap: Floats) -> Floats:
    """P of each pair; a method without a scale of its own gives the favoured side its training accuracy."""
    slope = fitted.slope(task)
    return probability(np.sign(gap) * slope if slope else gap)
