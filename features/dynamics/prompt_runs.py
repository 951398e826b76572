"""The prompt study along several runs: over the checkpoints of each, does a template's zero-shot score go with the outcome?

One run gives a correlation whose checkpoints are not independent (figure 2 of Vivek et al., benchmark hill climbing); whole
runs of pre-training are, or nearly. So each run's own correlations come with p-values at the effective number of
checkpoints, and what holds in general is tested over runs, one number each. A template is chosen on all runs but one and judged
on that one, beside what needs no choice: the mean over templates, their ensemble, and taking the later checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from features.dynamics.prompts import ALL, CHOSEN, ENSEMBLE, HINDSIGHT, Scores, one_run, scores_of, share_of_checkpoints
from features.dynamics.relatedness import effective_size, holm, p_value
from features.errors import DataError
from features.verdicts import Verdicts

LATER = "the later checkpoint"
LEAST = 3  # runs that a test over runs needs
Trend = Literal["kept", "differences"]
TRENDS: tuple[Trend, ...] = ("kept", "differences")


@dataclass(frozen=True)
class PromptRuns:
    """Result of `along`.

    Attributes
    ----------
    templates : names
    steps : run -> (C,) training steps
    scores : run -> what its checkpoints scored, in the order of `steps`
    runs : one row per run: `run`, `checkpoints`, `first`, `last`, `lowest`, `highest` (outcome), `share` of the outcomes'
        variance that is not the noise of seeds (NaN for a single seed)
    correlations : one row per (run, measure, template, trend): `r` with the outcome, signed so that positive is as it should be,
        `low` and `high` (95 %) and `p_effective` at the `effective` number of checkpoints, `p` as if they were independent,
        `p_adjusted` (`p_effective`, Holm over all tests of the run and trend)
    pooled : one row per (measure, template, trend): over the `runs` in which the score varies, `positive` of them as it should
        be, `r` (mean, by Fisher's z), `low`, `high` and `p` by Student's t over runs, `p_adjusted` (Holm over all of the trend)
    choices : one row per (run, measure, method): the `template` used, `r` and `accuracy`, the share of pairs of the run's
        checkpoints in the order of their outcomes; CHOSEN is chosen on the other runs
    summary : one row per (measure, method): `accuracy` and `over_mean`, its difference to the mean over templates, each with its
        `_low` and `_high` by Student's t over runs
    """

    templates: tuple[str, ...]
    steps: dict[str, np.ndarray]
    scores: dict[str, Scores]
    runs: pd.DataFrame
    correlations: pd.DataFrame
    pooled: pd.DataFrame
    choices: pd.DataFrame
    summary: pd.DataFrame


def along(table: pd.DataFrame) -> PromptRuns:
    """Study the templates of one task over runs.

    Parameters
    ----------
    table : rows of one task: `family` (the run), `step`, `outcome`, and `prompt_MEASURE_TEMPLATE` for two templates or more

    Raises DataError for fewer than two runs, a family that is not one run, and as `features.dynamics.prompts.study` does.
    """
    if not {"family", "step"} <= set(table.columns) or table["family"].nunique() < 2:
        raise DataError(
            "fewer than two runs",
            where="table: family and step",
            remedy="give the checkpoints of two runs or more, as `python -m training.along` writes them",
        )
    steps, scores, rows = {}, {}, []
    for run, own in table.groupby("family", sort=False):
        if not one_run(own):
            raise DataError("two checkpoints have the same step", where=f"run {run}", remedy="keep one checkpoint of each step")
        kept, scores[str(run)] = scores_of(own)
        steps[str(run)] = kept["step"].to_numpy(float)
        outcome = kept["outcome"]
        rows.append(
            {
                "run": str(run),
                "checkpoints": len(kept),
                "first": outcome.iloc[0],
                "last": outcome.iloc[-1],
                "lowest": outcome.min(),
                "highest": outcome.max(),
                "share": share_of_checkpoints(kept),
            }
        )
    correlations = pd.concat([_correlations(run, own, trend) for trend in TRENDS for run, own in scores.items()])
    choices = _choices(scores, correlations)
    templates = next(iter(scores.values())).templates
    return PromptRuns(
        templates, steps, scores, pd.DataFrame(rows), correlations, _pooled(correlations), choices, _summary(choices)
    )


def over_runs(values: Sequence[float] | np.ndarray) -> tuple[float, float, float, float]:
    """Mean of one number per run, its 95 % interval and its two-sided p-value against zero, by Student's t; of fewer than three
    runs, which say next to nothing of their spread, the mean alone (the rest NaN).
    """
    found = np.asarray(values, dtype=float)
    if len(found) < LEAST:
        return (float(found.mean()) if len(found) else float("nan"), float("nan"), float("nan"), float("nan"))
    mean, error = float(found.mean()), float(found.std(ddof=1) / np.sqrt(len(found)))
    if error == 0:
        return mean, mean, mean, 1.0 if mean == 0 else 0.0
    reach = float(stats.t.ppf(0.975, len(found) - 1)) * error
    return mean, mean - reach, mean + reach, float(2 * stats.t.sf(abs(mean) / error, len(found) - 1))


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    flat = any(np.ptp(v) <= 1e-12 * max(1.0, np.abs(v).max()) for v in (x, y))
    return float("nan") if flat else float(np.corrcoef(x, y)[0, 1])


def _fisher(r: np.ndarray | float) -> np.ndarray:
    return np.arctanh(np.clip(r, -0.9999, 0.9999))


def _correlations(run: str, scores: Scores, trend: Trend) -> pd.DataFrame:
    rows = []
    for measure in scores.each:
        for template, score in scores.named(measure).items():
            x, y = (np.diff(v) if trend == "differences" else v for v in (score, scores.outcome))
            r = _correlation(x, y)
            size = effective_size(x, y) if np.isfinite(r) else float("nan")
            reach = 1.96 / np.sqrt(size - 3) if size > 3 else np.inf
            known = np.isfinite(r)
            rows.append(
                {
                    "run": run,
                    "trend": trend,
                    "measure": measure,
                    "template": template,
                    "r": r,
                    "low": float(np.tanh(_fisher(r) - reach)) if known else np.nan,
                    "high": float(np.tanh(_fisher(r) + reach)) if known else np.nan,
                    "effective": size,
                    "p": float(p_value(r, len(x))) if known else np.nan,
                    "p_effective": float(p_value(r, size)) if known else np.nan,
                }
            )
    frame = pd.DataFrame(rows)
    frame["p_adjusted"] = holm(frame["p_effective"].to_numpy(float))
    return frame


def _pooled(correlations: pd.DataFrame) -> pd.DataFrame:
    parts = []
    for trend, own in correlations.groupby("trend", sort=False):
        rows = []
        for (measure, template), group in own.groupby(["measure", "template"], sort=False):
            r = group["r"].dropna().to_numpy(float)
            mean, low, high, p = over_runs(_fisher(r))
            rows.append(
                {
                    "trend": trend,
                    "measure": measure,
                    "template": template,
                    "runs": len(r),
                    "positive": int((r > 0).sum()),
                    **{name: float(np.tanh(v)) for name, v in (("r", mean), ("low", low), ("high", high))},
                    "p": p,
                }
            )
        frame = pd.DataFrame(rows)
        frame["p_adjusted"] = holm(frame["p"].to_numpy(float))
        parts.append(frame)
    return pd.concat(parts, ignore_index=True)


def _right(score: np.ndarray, outcome: np.ndarray) -> float:
    verdicts = Verdicts(len(outcome))
    verdicts.add(np.arange(len(outcome)), score, outcome)
    return float(verdicts.accuracy(np.ones((1, len(outcome))))[0])


def _choices(scores: Mapping[str, Scores], correlations: pd.DataFrame) -> pd.DataFrame:
    kept = correlations[correlations["trend"] == "kept"]
    templates = next(iter(scores.values())).templates
    rows: list[dict[str, object]] = []

    def tell(run: str, measure: str, method: str, template: str, score: np.ndarray) -> None:
        outcome = scores[run].outcome
        told = {"r": _correlation(score, outcome), "accuracy": _right(score, outcome)}
        rows.append({"run": run, "measure": measure, "method": method, "template": template, **told})

    for run, own in scores.items():
        tell(run, "", LATER, "", np.arange(len(own.outcome), dtype=float))
    for measure in next(iter(scores.values())).each:
        right = {t: np.mean([_right(s.named(measure)[t], s.outcome) for s in scores.values()]) for t in templates}
        hindsight = max(templates, key=lambda t: right[t])
        for run, own in scores.items():
            others = kept[(kept["run"] != run) & (kept["measure"] == measure)]
            fits = {t: np.nan_to_num(_fisher(others.loc[others["template"] == t, "r"].to_numpy(float))).mean() for t in templates}
            best, named = max(templates, key=lambda t: fits[t]), own.named(measure)
            for method, template in ((CHOSEN, best), (ALL, ""), (ENSEMBLE, ""), (HINDSIGHT, hindsight)):
                if template or method in named:
                    tell(run, measure, method, template, named[template or method])
    return pd.DataFrame(rows)


def _summary(choices: pd.DataFrame) -> pd.DataFrame:
    wide = choices.set_index(["measure", "method", "run"])["accuracy"].sort_index()
    rows: list[dict[str, object]] = []
    for measure, method in dict.fromkeys(zip(choices["measure"], choices["method"], strict=True)):
        own = wide.loc[measure, method]
        cells: dict[str, object] = {"measure": measure, "method": method}
        compared = {"accuracy": own} | ({"over_mean": own - wide.loc[measure, ALL]} if measure else {})
        for name, values in compared.items():
            mean, low, high, _ = over_runs(values.to_numpy(float))
            low, high = np.clip([low, high], -1.0 if name == "over_mean" else 0.0, 1.0)  # t knows no bounds
            cells |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        rows.append(cells)
    return pd.DataFrame(rows)
