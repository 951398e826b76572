"""Each proxy alone, and which factor of the recipe it detects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ranker import metrics
from ranker.pairs import Floats
from ranker.vocabulary import meaning

FACTORS = ("objective", "data_mix", "learning_rate", "domain_tag", "length_filter")
SHUFFLES = 1000


def singles(df: pd.DataFrame, columns: list[str], *, seed: int = 0, draws: int = 1000) -> pd.DataFrame:
    """Pairwise accuracy of each column alone, in the direction its name claims (up where it claims none), on all pairs.

    Equal outcomes are left out, equal or missing values count one half. One row per column: `feature`, one column per task,
    `accuracy` (mean over tasks), `low` and `high` (bootstrap over checkpoints, 95 %), `equal` (pairs of equal learning rate).
    """
    names = list(dict.fromkeys(df["checkpoint"]))
    rng = np.random.default_rng(seed)
    drawn = np.array([np.bincount(rng.choice(len(names), len(names)), minlength=len(names)) for _ in range(draws)])
    tasks = [df[df["task"] == t] for t in dict.fromkeys(df["task"])]
    rows = []
    for column in columns:
        direction = meaning(column).column_direction or 1
        per: dict[str, Any] = {"feature": column}
        samples, equal = [], []
        for part in tasks:
            x = direction * part[column].to_numpy(float)
            y = part["outcome"].to_numpy(float)
            i, j = np.triu_indices(len(part), 1)
            keep = y[i] != y[j]
            i, j = i[keep], j[keep]
            gap = np.nan_to_num(x[i] - x[j])
            hit: Floats = np.where(gap == 0, 0.5, (np.sign(gap) == np.sign(y[i] - y[j])).astype(float))
            code = np.array([names.index(c) for c in part["checkpoint"]])
            per[str(part["task"].iloc[0])] = float(hit.mean())
            samples.append(metrics.bootstrap(hit, code[i], code[j], len(names), drawn))
            if "learning_rate" in part:
                lr = part["learning_rate"].to_numpy(float)
                equal.append(float(hit[lr[i] == lr[j]].mean()))
        low, high = metrics.interval(np.mean(samples, axis=0))
        per["accuracy"] = float(np.mean([per[str(p["task"].iloc[0])] for p in tasks]))
        rows.append({**per, "low": low, "high": high, "equal": float(np.mean(equal)) if equal else None})
    return pd.DataFrame(rows)


def epsilon_squared(values: Floats, levels: np.ndarray) -> float:
    """Share of the variance of `values` between `levels`, less what as many levels take by chance; at least 0 (Kelley 1935).

    (SSB - (k - 1) MSW) / SST for k levels of n values, MSW = SSW / (n - k).
    """
    codes, index = np.unique(levels, return_inverse=True)
    n, k = len(values), len(codes)
    centred = values - values.mean()
    total = float(centred @ centred)
    if k < 2 or n <= k or total == 0:
        return 0.0
    sums = np.bincount(index, centred, k)
    between = float((sums**2 / np.bincount(index, minlength=k)).sum())
    return max(0.0, (between - (k - 1) * (total - between) / (n - k)) / total)


def detected(df: pd.DataFrame, columns: list[str], *, seed: int = 0, shuffles: int = SHUFFLES) -> list[dict[str, Any]]:
    """For the outcome and each column: `epsilon_squared` of each of `FACTORS`, mean over tasks, and its p-value.

    Perplexities are taken as logarithms. The p-value is the share of shuffles of the checkpoints (the same for all tasks) that
    gave as much.
    """
    rng = np.random.default_rng(seed)
    factors = [f for f in FACTORS if f in df and df[f].nunique() > 1]
    out = []
    for column in ["outcome", *columns]:
        row: dict[str, Any] = {"what": column, **dict.fromkeys(FACTORS, 0.0), **{f"{f} p": 1.0 for f in FACTORS}}
        parts = []
        for _, part in df.groupby("task", sort=False):
            part = part.sort_values("checkpoint")
            x = part["outcome"].to_numpy(float) if column == "outcome" else meaning(column).apply(part[column].to_numpy(float))
            if np.isfinite(x).all():
                parts.append((x, part))
        for factor in factors:
            if not parts:
                continue
            levels = [p[factor].astype(str).to_numpy() for _, p in parts]
            seen = float(np.mean([epsilon_squared(x, g) for (x, _), g in zip(parts, levels, strict=True)]))
            n = len(parts[0][0])
            chance = []
            for _ in range(shuffles):
                order = rng.permutation(n)
                chance.append(
                    np.mean(
                        [
                            epsilon_squared(x[order] if len(x) == n else rng.permutation(x), g)
                            for (x, _), g in zip(parts, levels, strict=True)
                        ]
                    )
                )
            row[factor] = seen
            row[f"{factor} p"] = float((1 + np.sum(np.array(chance) >= seen)) / (1 + shuffles))
        out.append(row)
    return out
