"""The prompt study: does a template's zero-shot score go with the fine-tuned outcome, and which template should be trusted?

Vivek et al. (benchmark hill climbing, figures 1 and 2) correlate the zero-shot accuracy of six verbalised templates with the
fine-tuned accuracy over the checkpoints of one run and find r from -.184 to .502. Which of six is the best is seen only
afterwards; here the choice is made on other checkpoints than those it is judged on, beside the ensemble that needs no choice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from features.dynamics import pictures
from features.dynamics.page import Page
from features.dynamics.relatedness import effective_size, holm, p_value
from features.errors import DataError
from features.verdicts import Verdicts, interval, resampled

MEASURES = {"acc": 1, "nll": -1, "prob": 1, "margin": 1}  # and which way each should point
CHOSEN, ALL, ENSEMBLE, HINDSIGHT = "chosen on the training side", "mean over templates", "ensemble", "best in hindsight"


@dataclass(frozen=True)
class Scores:
    """What a table of C checkpoints and T templates says, scores signed so that more is better.

    Attributes
    ----------
    templates : names
    outcome : (C,)
    each : measure -> (T, C)
    ensembles : measure -> (C,), of the templates' likelihoods together
    """

    templates: tuple[str, ...]
    outcome: np.ndarray
    each: dict[str, np.ndarray]
    ensembles: dict[str, np.ndarray]

    def named(self, measure: str) -> dict[str, np.ndarray]:
        """The score of every template, of their mean and, where there is one, of their ensemble."""
        values = self.each[measure]
        found = {**dict(zip(self.templates, values, strict=True)), ALL: values.mean(axis=0)}
        return {**found, ENSEMBLE: self.ensembles[measure]} if measure in self.ensembles else found


@dataclass(frozen=True)
class PromptStudy:
    """Result of `study`.

    Attributes
    ----------
    templates : names
    correlations : one row per (measure, template): `r` with the outcome, signed so that positive is as it should be, `low` and
        `high` (95 %, bootstrap over checkpoints), `p` as if checkpoints were independent, `p_adjusted` (at the effective number
        of checkpoints where they are of one run, Holm over all rows), `spearman`
    choices : one row per (measure, method): `accuracy`, the share of pairs of held-out checkpoints in the order of their
        outcomes, and `over_mean`, its difference to the mean over templates, each with `_low` and `_high`
    picked : how often each (measure, template) was chosen
    checkpoints : how many
    """

    templates: tuple[str, ...]
    correlations: pd.DataFrame
    choices: pd.DataFrame
    picked: pd.DataFrame
    checkpoints: int


def templates_of(columns: list[str]) -> tuple[str, ...]:
    """Names of the templates in the columns of a comparison table: NAME of every `prompt_nll_NAME`."""
    return tuple(m[1] for column in columns if (m := re.fullmatch(r"prompt_nll_(.+)", column)))


def study(table: pd.DataFrame, *, repetitions: int = 200, seed: int = 0) -> PromptStudy:
    """Correlate every template with the outcome, and judge ways to choose one on held-out checkpoints.

    Parameters
    ----------
    table : rows of one task: `outcome`, and `prompt_MEASURE_TEMPLATE` for two templates or more; where `step` differs between
        all rows and there is one `family`, they are taken as the successive checkpoints of one run
    repetitions : random halves of the checkpoints; a template is chosen on one half by the correlation of its score with the
        outcome, and the other half is ranked by it

    Raises DataError for fewer than two templates or six checkpoints, and for outcomes that are all the same.
    """
    rows, scores = scores_of(table)
    names = rows["group"].astype(str).to_numpy() if "group" in rows else np.arange(len(rows)).astype(str)
    weights = resampled(names, seed)
    correlations = _correlations(scores, weights, one_run(rows))
    choices, picked = _choices(scores, names, weights, repetitions, seed)
    return PromptStudy(scores.templates, correlations, choices, picked, len(rows))


def scores_of(table: pd.DataFrame) -> tuple[pd.DataFrame, Scores]:
    """The rows of `study`'s table in which nothing is missing, those of one run in order of their steps, and what they say.

    Raises DataError as `study` does.
    """
    templates = templates_of([str(c) for c in table.columns])
    if len(templates) < 2:
        raise DataError(
            f"{len(templates)} templates",
            where="prompt_nll_*",
            remedy="measure `prompt` on a task with `templates:` of two or more",
        )
    needed = ["outcome", *(f"prompt_{m}_{t}" for m in MEASURES for t in templates if f"prompt_{m}_{t}" in table)]
    rows = table.dropna(subset=needed)
    if len(rows) < 6 or rows["outcome"].nunique() < 2:
        raise DataError(
            f"{len(rows)} checkpoints, {rows['outcome'].nunique()} different outcomes",
            where="table",
            remedy="give six checkpoints or more, with outcomes that differ",
        )
    if one_run(rows):
        rows = rows.sort_values("step")
    each = {
        measure: np.stack([sign * rows[f"prompt_{measure}_{t}"].to_numpy(float) for t in templates])
        for measure, sign in MEASURES.items()
        if all(f"prompt_{measure}_{t}" in rows for t in templates)
    }
    ensembles = {"acc": rows["prompt_acc_ensemble"].to_numpy(float)} if "prompt_acc_ensemble" in rows else {}
    return rows, Scores(templates, rows["outcome"].to_numpy(float), each, ensembles)


def one_run(rows: pd.DataFrame) -> bool:
    """Whether the rows are successive checkpoints of one run: of one family, each with a step of its own."""
    same = "family" not in rows or rows["family"].nunique() == 1
    return "step" in rows and same and rows["step"].nunique() == len(rows)


def _correlations(scores: Scores, weights: np.ndarray, successive: bool) -> pd.DataFrame:
    rows, outcome = [], scores.outcome
    for measure in scores.each:
        for template, score in scores.named(measure).items():
            size = effective_size(score, outcome) if successive else float(len(outcome))
            drawn = _weighted_correlation(score, outcome, weights)
            r = drawn[0]
            rows.append(
                {
                    "measure": measure,
                    "template": template,
                    **{k.replace("r_", ""): v for k, v in interval(drawn, "r").items()},
                    "p": float(p_value(r, len(outcome))) if np.isfinite(r) else np.nan,
                    "p_adjusted": float(p_value(r, size)) if np.isfinite(r) else np.nan,
                    "spearman": _spearman(score, outcome),
                }
            )
    frame = pd.DataFrame(rows)
    frame["p_adjusted"] = holm(frame["p_adjusted"].to_numpy(float))
    return frame


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    return float("nan") if np.ptp(x) == 0 or np.ptp(y) == 0 else float(stats.spearmanr(x, y).statistic)


def _weighted_correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(D,) Pearson correlations under (D, C) weights; NaN where one of the two does not vary."""
    w = weights / weights.sum(axis=1, keepdims=True)
    dx, dy = x - (w @ x)[:, None], y - (w @ y)[:, None]
    top = (w * dx * dy).sum(axis=1)
    bottom = np.sqrt((w * dx**2).sum(axis=1) * (w * dy**2).sum(axis=1))
    return np.divide(top, bottom, out=np.full(len(w), np.nan), where=bottom > 1e-12)


def _choices(
    scores: Scores, names: np.ndarray, weights: np.ndarray, repetitions: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    templates, outcome = scores.templates, scores.outcome
    units = np.unique(names)
    verdicts = {m: {t: Verdicts(len(outcome)) for t in (*templates, CHOSEN, ALL, ENSEMBLE)} for m in scores.each}
    picked = {m: np.zeros(len(templates)) for m in scores.each}
    for repetition in range(repetitions):
        order = np.random.default_rng([seed, repetition]).permutation(units)
        known = np.isin(names, order[: len(units) // 2])
        held = np.flatnonzero(~known)
        for measure, values in scores.each.items():
            fits = [_weighted_correlation(v[known], outcome[known], np.ones((1, known.sum())))[0] for v in values]
            best = int(np.argmax(np.nan_to_num(fits, nan=-2)))
            picked[measure][best] += 1 / repetitions
            for name, score in {**scores.named(measure), CHOSEN: values[best]}.items():
                verdicts[measure][name].add(held, score[held], outcome[held])
    rows = []
    for measure, own in verdicts.items():
        drawn = {name: v.accuracy(weights) for name, v in own.items() if v.judged.any()}
        hindsight = max(templates, key=lambda t: drawn[t][0])
        for name, values in {**drawn, HINDSIGHT: drawn[hindsight]}.items():
            rows.append(
                {
                    "measure": measure,
                    "method": name,
                    **interval(values, "accuracy"),
                    **interval(values - drawn[ALL], "over_mean"),
                }
            )
    return pd.DataFrame(rows), pd.DataFrame(picked, index=pd.Index(templates, name="template")).reset_index()


def describe(page: Page, found: PromptStudy, table: pd.DataFrame, *, stem: str = "prompts") -> None:
    """Add a study of a table to a page, with figure 2 of the document as STEM-correlations; where its rows are the steps of a run
    also figure 1, STEM-accuracy.
    """
    page.text(
        f"{found.checkpoints} checkpoints, {len(found.templates)} templates. r: correlation of the zero-shot score with the",
        "fine-tuned outcome, signed so that positive is as it should be; interval: bootstrap over checkpoints, 95 %; p as if",
        "checkpoints were independent and this the only test; adjusted: for successive checkpoints of one run, and for all the",
        "tests of this table (Holm). No r: the score is the same at every checkpoint.",
    )
    page.text(_reliability(table))
    if one_run(table):
        ordered = table.sort_values("step")
        curves = {t: ordered[f"prompt_acc_{t}"].to_numpy(float) for t in found.templates if f"prompt_acc_{t}" in ordered}
        steps = ordered["step"].to_numpy(float)
        page.picture(
            pictures.courses({**curves, "fine-tuned": ordered["outcome"].to_numpy(float)}, steps, "accuracy"),
            f"{stem}-accuracy",
            "Zero-shot accuracy by template, and fine-tuned accuracy, over training.",
        )
    told = found.correlations
    rows = [t for t in (*found.templates, ALL, ENSEMBLE) if t in set(told["template"])]
    page.picture(
        pictures.table_of_correlations(told, rows, list(told["measure"].unique()), "measure"),
        f"{stem}-correlations",
        "Correlation of the zero-shot score with the fine-tuned outcome, by template and measure; adjusted p-values.",
    )
    shown = found.correlations.copy()
    shown["r [95 %]"] = [
        f"{r:.2f} [{a:.2f}, {b:.2f}]" if np.isfinite(r) else "-"
        for r, a, b in zip(shown["r"], shown["low"], shown["high"], strict=True)
    ]
    for name in ("p", "p_adjusted"):
        shown[name] = [f"{p:.2g}" if np.isfinite(p) else "-" for p in shown[name]]
    shown["spearman"] = shown["spearman"].round(2)
    page.table(shown[["measure", "template", "r [95 %]", "p", "p_adjusted", "spearman"]])
    page.text(
        "Choosing a template. Pairs of held-out checkpoints in the order of their outcomes; the template is chosen on the other",
        "half of the checkpoints. `best in hindsight` is no method: it says what choosing could gain at most.",
    )
    chosen = found.choices[found.choices["method"].isin((CHOSEN, ALL, ENSEMBLE, HINDSIGHT))]
    page.table(
        pd.DataFrame(
            {
                "measure": chosen["measure"],
                "method": chosen["method"],
                "pairs right [95 %]": _ranges(chosen, "accuracy"),
                "over the mean over templates": _ranges(chosen, "over_mean"),
            }
        )
    )
    page.text("How often each template was chosen:")
    page.table(found.picked.round(2))


def share_of_checkpoints(table: pd.DataFrame) -> float:
    """How much of the outcomes' variance is not the noise of seeds: no score can correlate with them by more than its root. NaN
    where no outcome has an `outcome_sd`.
    """
    if "outcome_sd" not in table or table["outcome_sd"].isna().all():
        return float("nan")
    return max(0.0, 1 - float((table["outcome_sd"] ** 2).mean() / table["outcome"].dropna().var(ddof=1)))


def _reliability(table: pd.DataFrame) -> str:
    outcome, share = table["outcome"].dropna(), share_of_checkpoints(table)
    text = f"Outcomes: mean {outcome.mean():.3f}, {outcome.min():.3f} to {outcome.max():.3f}"
    if np.isnan(share):
        return text + "."
    return f"{text}; seeds apart, {share:.2f} of their variance is of the checkpoints, so that r cannot pass {share**0.5:.2f}."


def _ranges(frame: pd.DataFrame, name: str) -> list[str]:
    return [
        f"{v:.3f} [{a:.3f}, {b:.3f}]" for v, a, b in zip(frame[name], frame[f"{name}_low"], frame[f"{name}_high"], strict=True)
    ]
