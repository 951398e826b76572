"""What the ranker is made of, judged on all tables at once: each scorer alone, other blends, trees on pairs, tasks never seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd

from features.errors import DataError
from ranker import metrics, reference
from ranker.blend import calibration_error, probability
from ranker.compare import LearningToCompare
from ranker.ensemble import Sample
from ranker.evaluate import grouping, splits_of
from ranker.held import SCORERS, Held, prior, weigh
from ranker.pairs import Floats, within
from ranker.reference import PROXIES
from ranker.strata import Told
from ranker.studies import sources
from ranker.studies.page import Page
from ranker.studies.small import draws
from ranker.studies.tried import tried
from ranker.table import proxies_of
from ranker.trees import QUIET

_ONE = "one steepness"  # for all tasks, in place of each one's own
BLENDS: dict[str, tuple[Callable[[tuple[float, ...]], tuple[float, ...]], dict[str, Any]]] = {
    "as it is": (lambda p: p, {}),
    _ONE: (lambda p: p, {}),
    "one share each": (lambda p: tuple(float(share > 0) for share in p), {}),
    "without signs": (lambda p: (0.0, *p[1:]), {}),
    "process and trees only": (lambda p: (0.0, 0.0, 0.0, 0.0, *p[4:]), {}),
    "lines as on few rows": (lambda p: (0.3, 0.3, 0.3, 0.3, *p[4:]), {}),
    "without own trees": (lambda p: (*p[:-2], 0.0, p[-1]), {}),
    "without own process": (lambda p: (*p[:-1], 0.0), {}),
    "nothing of its own": (lambda p: prior(), {}),
    "freer": (lambda p: p, {"freedom": 1.5}),
    "slope freer": (lambda p: p, {"steep": (0.3, 1.0)}),
}


class _Kept(LearningToCompare):
    """Keeps what it learnt its blend from."""

    def _judge(self, sample: Sample, held: Held, known: Told) -> None:
        self.held_, self.sample_ = held, sample
        super()._judge(sample, held, known)


@dataclass
class PairTrees:
    """Trees on pairs: LightGBM on [a - b, a, b] in both orders, small and extra-random, bagged over checkpoints; the answer is
    half the difference of the two orders'.
    """

    seeds: int = 6
    rounds: int = 100
    boosters: list[lgb.Booster] = field(default_factory=list)

    def fit(self, sample: Sample) -> PairTrees:
        Z = np.nan_to_num(sample.Z)
        i, j = within(sample.unit, limit=10_000)
        keep = sample.t[i] != sample.t[j]
        a, b = np.concatenate([i[keep], j[keep]]), np.concatenate([j[keep], i[keep]])
        rng, names = np.random.default_rng(0), np.unique(sample.group)
        settings = {**QUIET, "objective": "binary", "num_leaves": 8, "learning_rate": 0.05, "min_data_in_leaf": 40}
        settings |= {"feature_fraction": 0.5, "extra_trees": True, "lambda_l2": 5.0}
        for seed in range(self.seeds):
            kept = np.isin(sample.group, rng.choice(names, max(2, int(0.8 * len(names))), replace=False))
            rows = kept[a] & kept[b]
            data = lgb.Dataset(_pairs(Z, a, b)[rows], (sample.t[a] > sample.t[b])[rows].astype(float), params=QUIET)
            self.boosters.append(lgb.train({**settings, "seed": seed}, data, self.rounds))
        return self

    def gaps(self, Z: Floats, i: Any, j: Any) -> Floats:
        Z = np.nan_to_num(Z)
        there, back = (
            np.mean([m.predict(_pairs(Z, x, y), raw_score=True, num_threads=1) for m in self.boosters], 0)
            for x, y in ((i, j), (j, i))
        )
        return np.asarray((there - back) / 2, float)


def _pairs(Z: Floats, i: Any, j: Any) -> Floats:
    return np.hstack([Z[i] - Z[j], Z[i], Z[j]])


def _tables(table: str | Path | None) -> dict[str, Callable[[], pd.DataFrame]]:
    bare = ["task", "checkpoint", "outcome", *PROXIES]
    found: dict[str, tuple[str, Callable[[], pd.DataFrame]]] = {
        "zeng, proxies": ("", lambda: sources.zeng(parts=False)[bare]),
        "zeng, configurations": ("", sources.zeng),
        "nas": ("nas", lambda: sources.nas(table)),
        "rectified, 0 samples": ("rectified", lambda: sources.rectified(table, samples=0)),
        "rectified, 6,400 samples": ("rectified", lambda: sources.rectified(table)),
        "amuro": ("amuro", lambda: sources.amuro(table)),
        "vision": ("vision", lambda: sources.vision(table)),
    }
    out = {}
    for name, (source, read) in found.items():
        try:
            if source:
                sources.find(table, source)
        except DataError:
            continue
        out[name] = read
    return out


def _ours() -> pd.DataFrame:
    own = reference.load("foretune2026")
    return own[["task", "checkpoint", "outcome", *proxies_of(own)]]


def study(table: str | Path | None = None, *, splits: int = 20, seed: int = 0, command: str = "", quick: bool = False) -> Page:
    """All tables whole and in draws of 12 checkpoints; `quick` keeps the table that ships."""
    page = Page("What the ranker is made of", command)
    page.text(
        f"{splits} splits of each table, or draws of 12 checkpoints (60 % train); mean accuracy over pairs of held-out "
        "checkpoints, tasks and splits. Shares, slopes and scorers were chosen by the last line, not by any one table."
    )
    accuracy: list[list[Any]] = []
    sure: list[list[Any]] = []
    for name, read in list({**_tables(table), "our zoo": _ours}.items())[: 1 if quick else None]:
        df = read()
        groups = grouping(df, None)
        count = len(np.unique(groups))
        whole = list(splits_of(df, groups, None, splits=splits if count < 200 else 3, train_share=0.6, seed=seed))
        for label, parts in ((name, whole), (f"{name}, 12", draws(df, 12, splits, seed) if count > 20 else [])):
            if parts:
                one = _judge(df, groups, parts)
                page.figures[label] = one
                accuracy.append([label, *one["accuracy"].values()])
                sure.append([label, *one["brier"].values(), *one["ece"].values()])
    names = list(next(iter(page.figures.values()))["accuracy"])
    accuracy.append(["mean", *np.mean([row[1:] for row in accuracy], 0).tolist()])
    sure.append(["mean", *np.mean([row[1:] for row in sure], 0).tolist()])
    page.table("Accuracy: scorers alone, blends, trees on pairs", ["table", *names], accuracy)
    heads = [f"{kind}, {name}" for kind in ("Brier", "ECE") for name in BLENDS]
    page.table("How sure: Brier score and calibration error of the blends", ["table", *heads], sure)
    _new_tasks(page, table, max(1, splits // 4), seed, quick)
    tried(page)
    return page


def _fit(df: pd.DataFrame, columns: list[str], groups: Any, rows: Any) -> _Kept:
    train = df.iloc[rows]
    return _Kept().fit(train[columns], train["outcome"], task=train["task"], group=groups[rows])


def _columns(df: pd.DataFrame) -> list[str]:
    return [c for c in df.columns if c not in ("task", "checkpoint", "outcome", "zoo", "group", "outcome_sd")]


def _judge(df: pd.DataFrame, groups: Any, parts: list[tuple[Any, Any]]) -> dict[str, dict[str, float]]:
    columns = _columns(df)
    hits: dict[str, list[float]] = {}
    p: dict[str, list[Floats]] = {b: [] for b in BLENDS}
    right: dict[str, list[Floats]] = {b: [] for b in BLENDS}
    for train_rows, test_rows in parts:
        ranker = _fit(df, columns, groups, train_rows)
        trees = PairTrees().fit(ranker.sample_)
        usual = prior(float(np.median(ranker.held_.own)) if len(ranker.held_.own) else 0)
        shares = {b: weigh(ranker.held_, change(usual), **options) for b, (change, options) in BLENDS.items()}
        train = df.iloc[train_rows]
        for task, rows in df.iloc[test_rows].groupby("task", sort=False):
            y = rows["outcome"].to_numpy(float)
            i, j = np.triu_indices(len(rows), 1)
            i, j = i[y[i] != y[j]], j[y[i] != y[j]]
            if not len(i):
                continue
            zoo = pd.concat([rows, train[train["task"] == task]])[columns]
            Z = ranker.standardiser_.standardise(ranker.standardiser_.raw(rows[columns]), ranker.context(zoo))
            code = ranker.tasks_.index(str(task)) if str(task) in ranker.tasks_ else -1
            scores, steep = ranker.ensemble_.apart(Z, code), ranker.ensemble_.trusted(code)
            better = np.sign(y[i] - y[j])
            found = {name: scores[i, k] - scores[j, k] for k, name in enumerate(SCORERS)}
            found |= {b: (1.0 if b == _ONE else steep) * (scores[i] - scores[j]) @ shares[b] for b in BLENDS}
            found["pair trees"] = trees.gaps(Z, i, j)
            found["pair trees with it"] = _unit(found["pair trees"]) / 2 + _unit(found["as it is"])
            for name, gap in found.items():
                right_now = metrics.right(probability(gap), better)
                hits.setdefault(name, []).append(float(right_now.mean()))
                if name in BLENDS:
                    p[name].append(probability(np.abs(gap)))
                    right[name].append(right_now)
    out: dict[str, dict[str, float]] = {"accuracy": {k: float(np.mean(v)) for k, v in hits.items()}, "brier": {}, "ece": {}}
    for b in BLENDS:
        sure, hit = np.concatenate(p[b]), np.concatenate(right[b])
        out["brier"][b] = float(np.mean((sure - hit) ** 2))
        out["ece"][b] = calibration_error(sure, hit)
    return out


def _unit(gap: Floats) -> Floats:
    return gap / max(float(np.sqrt((gap**2).mean())), 1e-9)


def _new_tasks(page: Page, table: str | Path | None, splits: int, seed: int, quick: bool) -> None:
    """What the log-odds would have to be multiplied by on a task that was fitted on, and on one that was not."""
    rows: list[list[Any]] = []
    for name, read in list(_tables(table).items())[: 1 if quick else None]:
        df = read()
        if df["task"].nunique() < 2:
            continue
        columns, groups = _columns(df), grouping(df, None)
        gaps: dict[bool, list[Floats]] = {True: [], False: []}
        for train_rows, test_rows in splits_of(df, groups, None, splits=splits, train_share=0.6, seed=seed):
            for task in df["task"].unique():
                asked = df.iloc[test_rows]
                asked = asked[asked["task"] == task]
                y = asked["outcome"].to_numpy(float)
                i, j = np.triu_indices(len(y), 1)
                for seen in (True, False):
                    rows_ = train_rows if seen else train_rows[(df["task"].iloc[train_rows] != task).to_numpy()]
                    ranker = _fit(df, columns, groups, rows_)
                    ranker.ensemble_.strange = 1.0
                    s = ranker.strengths(asked[columns], task=str(task), context=df.loc[df["task"] == task, columns])
                    gaps[seen].append(((s[i] - s[j]) * np.sign(y[i] - y[j]))[y[i] != y[j]])
        one = {}
        for seen, label in ((True, "seen"), (False, "new")):
            gap = np.concatenate(gaps[seen])
            slopes = np.linspace(0.05, 2, 40)
            one[f"{label}, accuracy"] = float(np.mean((gap > 0) + 0.5 * (gap == 0)))
            one[f"{label}, slope"] = float(slopes[np.argmin([np.logaddexp(0, -f * gap).mean() for f in slopes])])
        one["new / seen"] = one["new, slope"] / one["seen, slope"]
        page.figures[f"new task/{name}"] = one
        rows.append([name, *one.values()])
    if rows:
        ratio = float(np.exp(np.mean([np.log(page.figures[f"new task/{row[0]}"]["new / seen"]) for row in rows])))
        page.table(
            "Tasks never seen",
            ["table", "accuracy, seen task", "best slope", "accuracy, new task", "best slope", "ratio of the slopes"],
            [*rows, ["geometric mean", None, None, None, None, ratio]],
            f"{splits} splits; other checkpoints in every case. Before odds on new tasks were drawn towards even.",
        )
