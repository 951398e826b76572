"""Held-out pairs turned into figures: per task, their mean, intervals, notes, the noise's ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd

from ranker import metrics
from ranker.pairs import Floats, Ints, codes, far_out, twins
from ranker.table import is_number
from ranker.vocabulary import meaning

SMALL = 12
_DRAWS = 400


@dataclass
class Judged:
    """Held-out pairs of one method and task over all splits; `i` and `j` are rows of the table."""

    p: list[Floats] = field(default_factory=list)
    better: list[Floats] = field(default_factory=list)
    gap: list[Floats] = field(default_factory=list)
    i: list[Ints] = field(default_factory=list)
    j: list[Ints] = field(default_factory=list)
    called: list[np.ndarray] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    order: list[dict[str, float]] = field(default_factory=list)

    def add(self, other: Judged) -> None:
        """What another split found, after what is here."""
        for one in fields(self):
            getattr(self, one.name).extend(getattr(other, one.name))


def result(
    df: pd.DataFrame,
    judged: dict[tuple[str, str], Judged],
    names: list[str],
    asked: list[str],
    tasks: list[str],
    groups: Ints,
    columns: list[str],
    protocol: dict[str, Any],
) -> dict[str, Any]:
    rng = np.random.default_rng(protocol["seed"] + 1)
    n = int(groups.max()) + 1
    held = np.unique(groups)
    draws = np.zeros((_DRAWS, n))
    for b in range(_DRAWS):
        np.add.at(draws[b], rng.choice(held, len(held)), 1)
    per_task: dict[str, dict[str, Any]] = {}
    samples: dict[tuple[str, str], Floats] = {}
    for task in tasks:
        figures: dict[str, Any] = {}
        for name in names:
            one = judged.get((name, task))
            if one is None or not one.p:
                continue
            p, better, gap = np.concatenate(one.p), np.concatenate(one.better), np.concatenate(one.gap)
            r = metrics.right(p, better)
            i, j = groups[np.concatenate(one.i)], groups[np.concatenate(one.j)]
            samples[name, task] = metrics.bootstrap(*_pooled(r, i, j), n, draws)
            figures[name] = {
                "accuracy": float(np.mean(one.accuracy)),
                "sd": float(np.std(one.accuracy, ddof=1)) if len(one.accuracy) > 1 else None,
                "ci95": metrics.interval(samples[name, task]),
                "pairs": len(p),
                **{k: float(np.mean([o[k] for o in one.order])) for k in (one.order[0] if one.order else {})},
                **metrics.pair_figures(p, better, gap),
            }
            if name == "ltc":
                called = np.concatenate(one.called)
                figures[name]["called"] = float(called.mean())
                figures[name]["called_accuracy"] = float(r[called].mean()) if called.any() else None
        if figures:
            per_task[task] = figures
    mean = {
        name: _mean([f[name] for f in per_task.values() if name in f])
        for name in names
        if any(name in f for f in per_task.values())
    }
    for name, figures in mean.items():
        per_split = [np.array(judged[name, t].accuracy) for t in per_task if (name, t) in judged]
        if len({len(s) for s in per_split}) == 1 and len(per_split[0]) > 1:
            figures["sd"] = float(np.mean(per_split, axis=0).std(ddof=1))
        figures["ci95"] = metrics.interval(_average([samples[name, t] for t in per_task if (name, t) in samples]))
    notes = _notes(df, groups, protocol, columns)
    if "ltc" in mean and "best-single" in mean:
        both = [t for t in per_task if ("ltc", t) in samples and ("best-single", t) in samples]
        difference = _average([samples["ltc", t] - samples["best-single", t] for t in both])
        for t in both:
            per_task[t]["ltc"]["against_best_single"] = {
                "difference": per_task[t]["ltc"]["accuracy"] - per_task[t]["best-single"]["accuracy"],
                "ci95": metrics.interval(samples["ltc", t] - samples["best-single", t]),
            }
        gain = mean["ltc"]["accuracy"] - mean["best-single"]["accuracy"]
        bounds = metrics.interval(difference)
        mean["ltc"]["against_best_single"] = {"difference": gain, "ci95": bounds}
        if bounds[0] is None or bounds[0] <= 0:
            shown = "" if bounds[0] is None else f", 95 % interval [{bounds[0]:+.3f}, {bounds[1]:+.3f}]"
            found = (
                "on this table the best single feature is better than ltc"
                if bounds[1] is not None and bounds[1] < 0
                else f"{len(np.unique(groups))} groups of checkpoints are too few to show that ltc beats the best single feature"
            )
            notes.append(f"{found} (difference {gain:+.3f}{shown})")
    _error_reduction(df, per_task, mean, judged, columns)
    if not set(asked) >= set(names):
        for figures in [*per_task.values(), mean]:
            for name in set(names) - set(asked):
                figures.pop(name, None)
    out: dict[str, Any] = {
        "tasks": per_task,
        "mean": mean,
        "notes": notes,
        "note": "; ".join(notes),
        "protocol": {**protocol, "features": columns},
    }
    if "outcome_sd" in df:
        out["ceiling"] = _ceiling(df)
    return out


def _pooled(r: Floats, i: Ints, j: Ints, limit: int = 60_000) -> tuple[Floats, Ints, Ints]:
    """Pairs for the bootstrap, thinned evenly beyond `limit`."""
    if len(r) <= limit:
        return r, i, j
    step = np.linspace(0, len(r) - 1, limit).astype(np.int64)
    return r[step], i[step], j[step]


def _average(samples: list[Floats]) -> Floats:
    if not samples:
        return np.empty(0)
    stacked = np.vstack(samples)
    return stacked[:, np.isfinite(stacked).all(0)].mean(0)


def _mean(figures: list[dict[str, Any]]) -> dict[str, Any]:
    """Plain means over tasks; pairs are summed."""
    out: dict[str, Any] = {}
    for key in figures[0]:
        values = [f.get(key) for f in figures]
        if key == "pairs":
            out[key] = int(sum(v for v in values if v))
        elif key == "by_gap":
            out[key] = [_plain_mean([v[q] for v in values if v]) for q in range(5)]
        elif key == "reliability":
            bins = [[v[q] for v in values if v and q < len(v)] for q in range(10)]
            out[key] = [{k: float(np.mean([b[k] for b in same])) for k in same[0]} for same in bins if same]
        elif key != "ci95":
            out[key] = _plain_mean(values)
    out["ci95"] = [None, None]
    return out


def _plain_mean(values: Sequence[Any]) -> float | None:
    numbers = [v for v in values if isinstance(v, (int, float))]
    return float(np.mean(numbers)) if numbers else None


def _notes(df: pd.DataFrame, groups: Ints, protocol: dict[str, Any], columns: list[str]) -> list[str]:
    notes = []
    count = len(np.unique(groups))
    if count < SMALL:
        notes.append(f"the table is too small: {count} groups of checkpoints; figures of under {SMALL} are mostly chance")
    zoo = df["zoo"] if "zoo" in df else pd.Series([""] * len(df), index=df.index)
    unit = codes(zoo, df["task"])
    out = np.flatnonzero(far_out(df["outcome"].to_numpy(float), unit))
    if len(out):
        listed = ", ".join(f"{df['checkpoint'].iloc[k]} on {df['task'].iloc[k]} ({df['outcome'].iloc[k]:g})" for k in out[:5])
        notes.append(f"far-out outcomes (failed runs?), winsorised in fitting and judged as they are: {listed}")
    checkpoints, same = codes(zoo, df["checkpoint"]), twins(df)
    if len(np.unique(same)) < len(np.unique(checkpoints)):
        twice = [sorted(set(df["checkpoint"][same == s])) for s in np.unique(same)]
        listed = ", ".join(" = ".join(t) for t in twice if len(t) > 1)
        notes.append(f"identical checkpoints kept on one side: {listed}")
    for column in columns:
        if (stray := _stray(df[column])) is not None:
            notes.append(f"column {column!r} is taken as a configuration, since {stray!r} is no number")
    if protocol["empty"]:
        notes.append(
            f"{protocol['empty']} of {protocol['splits']} splits had no pair to learn from or to judge and were left out"
        )
    return notes


def _stray(values: pd.Series) -> str | None:
    """The first text of a column in which most are numbers: a slip of the pen made a configuration of a feature."""
    if pd.api.types.is_numeric_dtype(values):
        return None
    given = values.dropna()
    strange = pd.to_numeric(given, errors="coerce").isna()
    return str(given[strange].iloc[0]) if 0 < strange.sum() < len(given) / 2 else None


def _error_reduction(
    df: pd.DataFrame,
    per_task: dict[str, dict[str, Any]],
    mean: dict[str, Any],
    judged: dict[tuple[str, str], Judged],
    columns: list[str],
) -> None:
    """1 - error of ltc / error of perplexity alone (lower is better, as everybody reads it), where the table has a perplexity."""
    numbers = [c for c in columns if is_number(df[c])]
    ppl = [c for c in numbers if meaning(c).quantity == "ppl_clm"] or [
        c for c in numbers if meaning(c).quantity.startswith(("ppl", "perplexity"))
    ]
    if not ppl or "ltc" not in mean:
        return
    direction = meaning(ppl[0]).column_direction
    errors = []
    x = df[ppl[0]].to_numpy(float) * direction
    for task, figures in per_task.items():
        one = judged.get(("ltc", task))
        if one is None or not one.i:
            continue
        i, j = np.concatenate(one.i), np.concatenate(one.j)
        agree = np.nan_to_num(np.sign(x[i] - x[j])) * np.concatenate(one.better)
        error = float(np.mean(0.5 - 0.5 * agree))
        errors.append(error)
        figures["ltc"]["perplexity"] = {"column": ppl[0], "accuracy": 1 - error}
        figures["ltc"]["error_reduction"] = 1 - (1 - figures["ltc"]["accuracy"]) / error if error > 0 else None
    if errors and np.mean(errors) > 0:
        mean["ltc"]["error_reduction"] = 1 - (1 - mean["ltc"]["accuracy"]) / float(np.mean(errors))


def _ceiling(df: pd.DataFrame) -> dict[str, Any]:
    """Per task, the mean chance over pairs that their order survives the outcomes' own noise: what a perfect ranker would
    score.
    """
    from scipy.stats import norm

    from ranker.pairs import within

    out: dict[str, Any] = {}
    for task, rows in df.groupby("task", sort=False):
        y, sd = rows["outcome"].to_numpy(float), np.nan_to_num(rows["outcome_sd"].to_numpy(float))
        unit = codes(rows["zoo"]) if "zoo" in rows else np.zeros(len(rows), np.int64)
        i, j = within(unit, limit=200_000)
        noise = np.sqrt(sd[i] ** 2 + sd[j] ** 2)
        keep = (y[i] != y[j]) & (noise > 0)
        if keep.any():
            out[str(task)] = float(norm.cdf(np.abs(y[i] - y[j])[keep] / noise[keep]).mean())
    return out
