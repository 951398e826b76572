"""Whether zero-shot scores under each template go with fine-tuned outcomes over the course of pre-training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from features.dynamics import pictures
from features.dynamics.page import Page
from features.dynamics.prompt_runs import LATER, LEAST, PromptRuns, along
from features.dynamics.prompts import ALL, CHOSEN, ENSEMBLE, HINDSIGHT, MEASURES

NAMES = {"acc": "accuracy", "nll": "log-likelihood of the gold answer", "prob": "probability of it", "margin": "margin"}


def along_page(tables: Sequence[Path]) -> Page:
    """The page: each table (of one task, from `python -m training.along`) a section named as its file, with figures 1 and 2 of
    the document, a panel or a column for each run.
    """
    page = Page("Do zero-shot prompts follow the fine-tuned outcome along a run of pre-training?")
    page.text(
        "`python -m features.studies prompts-along`. The document's figures 1 and 2: checkpoints of one run, each asked",
        "zero-shot under six verbalised templates and really fine-tuned; there 29 checkpoints of one run on SST-2, r from -.184",
        "to .502, one of six below p = .01. Here several runs: what holds on one can be looked for on the others, and a template",
        "can be chosen on runs that it is not judged on. r: correlation over the checkpoints of a run, signed so that positive",
        "is as it should be. A dash: the score is the same at every checkpoint, as is an accuracy where one answer is always",
        "given.",
    )
    for path in tables:
        _section(page, path.stem, along(pd.read_csv(path)))
    return page


def _section(page: Page, task: str, found: PromptRuns) -> None:
    counts = sorted({len(s) for s in found.steps.values()})
    page.heading(f"{task}: {len(found.steps)} runs, {' or '.join(map(str, counts))} checkpoints each")
    _figures(page, task, found)
    page.text(
        "The outcomes. Share: how much of their variance along the run is not the noise of seeds; no score can correlate by more",
        "than its root.",
    )
    runs = found.runs.copy()
    for name in ("first", "last", "lowest", "highest"):
        runs[name] = runs[name].map("{:.3f}".format)
    runs["share"] = [f"{v:.2f}" if np.isfinite(v) else "-" for v in runs["share"]]
    page.table(runs)
    page.text(
        "Each run (the document's figure 2). Intervals and the second p are at the effective number of checkpoints, which",
        "autocorrelation makes smaller than their number; [-1.00, 1.00] where that is three or fewer. p: as if checkpoints were",
        "independent and this the only test; corrected for autocorrelation; and for all the tests of the run too (Holm, four",
        "measures).",
    )
    own = found.correlations[found.correlations["trend"] == "kept"]
    for run in found.steps:
        page.table(_of_run(own[own["run"] == run], run))
    page.text(
        "All runs together. A whole run gives one number, and these are tested by Student's t: the mean r (by Fisher's z), its",
        "95 % interval, p, and p after Holm's correction for all rows; of fewer than three runs the mean alone. (Runs that start",
        "from the same weights are not wholly independent, which makes p a little too small.) Trend kept: two things that both",
        "grow during training correlate, whatever they are; of differences: whether they grow at the same time.",
    )
    page.table(_pooled(found))
    page.text(
        "Choosing a template: on all runs but one, by its mean correlation there, and judged on that one. Pairs right: pairs of",
        f"the run's checkpoints in the order of their outcomes. `{LATER}` needs no prompt at all; `{HINDSIGHT}` is no method.",
    )
    page.table(_chosen(found))
    page.text("Mean over the held-out runs, with 95 % intervals by Student's t over runs:")
    page.table(_summary(found))
    page.text(said(found))


def _figures(page: Page, task: str, found: PromptRuns) -> None:
    outcomes = {run: s.outcome for run, s in found.scores.items()}
    far = min(float(o.min()) for o in outcomes.values()) < 0  # an outcome that is no accuracy
    for measure, label, unit, apart in (("acc", "accuracy", "", far), ("nll", "loss of the gold answer", ", nats", True)):
        curves = {
            run: {t: MEASURES[measure] * v for t, v in s.named(measure).items() if t in found.templates}
            for run, s in found.scores.items()
        }
        page.picture(
            pictures.by_run(curves, found.steps, label + unit, outcomes, apart=apart),
            f"prompts-along-{task}-{measure}",
            f"Figure 1, {task}: zero-shot {label} by template, and the fine-tuned outcome, over the training of each run.",
        )
    kept = found.correlations[(found.correlations["trend"] == "kept") & (found.correlations["measure"] == "acc")]
    order = [t for t in (*found.templates, ALL, ENSEMBLE) if t in set(kept["template"])]
    page.picture(
        pictures.table_of_correlations(kept, order, list(found.steps), "run"),
        f"prompts-along-{task}-correlations",
        f"Figure 2, {task}: correlation of zero-shot accuracy with the fine-tuned outcome along each run; adjusted p-values.",
    )


def _number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def _range(row: pd.Series, name: str = "r", *, digits: int = 2) -> str:
    low, high = ("low", "high") if name == "r" else (f"{name}_low", f"{name}_high")
    if not np.isfinite(row[name]):
        return "-"
    ends = f" [{_number(row[low], digits)}, {_number(row[high], digits)}]" if np.isfinite(row[low]) else ""
    return f"{_number(row[name], digits)}{ends}"


def _p(*values: float) -> str:
    return "; ".join(f"{p:.2g}" if np.isfinite(p) else "-" for p in values) if np.isfinite(values[0]) else "-"


def _of_run(own: pd.DataFrame, run: str) -> pd.DataFrame:
    by = {measure: rows.set_index("template") for measure, rows in own.groupby("measure", sort=False)}
    rows = []
    for template in by["acc" if "acc" in by else next(iter(by))].index:
        cells = {run: str(template)}
        for measure in (m for m in ("acc", "nll") if m in by):
            row = by[measure].loc[template] if template in by[measure].index else None
            cells[f"{NAMES[measure]}: r [95 %]"] = "" if row is None else _range(row)
            cells[f"{measure}: p"] = "" if row is None else _p(row["p"], row["p_effective"], row["p_adjusted"])
        rows.append(cells)
    return pd.DataFrame(rows)


def _pooled(found: PromptRuns) -> pd.DataFrame:
    trends = {trend: rows.reset_index(drop=True) for trend, rows in found.pooled.groupby("trend", sort=False)}
    kept, moved = trends["kept"], trends["differences"]
    return pd.DataFrame(
        {
            "measure": kept["measure"],
            "template": kept["template"],
            "runs, positive": [f"{n}, {k}" for n, k in zip(kept["runs"], kept["positive"], strict=True)],
            "r, trend kept": [_range(row) for _, row in kept.iterrows()],
            "p; adjusted": [_p(row["p"], row["p_adjusted"]) for _, row in kept.iterrows()],
            "r, of differences": [_range(row) for _, row in moved.iterrows()],
            "p; adjusted ": [_p(row["p"], row["p_adjusted"]) for _, row in moved.iterrows()],
        }
    )


def _chosen(found: PromptRuns) -> pd.DataFrame:
    """A row for each held-out run and measure: the template chosen, and what each way of choosing gets right."""
    rows = []
    later = found.choices[found.choices["method"] == LATER].set_index("run")["accuracy"]
    for (run, measure), own in found.choices[found.choices["measure"] != ""].groupby(["run", "measure"], sort=False):
        by = own.set_index("method")
        cells = {"held-out run": str(run), "measure": str(measure), "chosen": str(by.loc[CHOSEN, "template"])}
        cells["its r there"] = _number(float(by.loc[CHOSEN, "r"]))
        cells |= {m: _number(by["accuracy"].get(m, np.nan)) for m in (CHOSEN, ALL, ENSEMBLE, HINDSIGHT)}
        rows.append({**cells, LATER: _number(later[run])})
    return pd.DataFrame(rows)


def _summary(found: PromptRuns) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "measure": row["measure"],
            "method": row["method"],
            "pairs right [95 %]": _range(row, "accuracy", digits=3),
            "over the mean over templates": _range(row, "over_mean", digits=3) if row["measure"] else "",
        }
        for _, row in found.summary.iterrows()
    )


def said(found: PromptRuns) -> str:
    """What came out, in a few sentences, whichever way it went."""
    own = found.correlations[(found.correlations["trend"] == "kept") & found.correlations["template"].isin(found.templates)]
    own = own.dropna(subset=["r"])
    accuracy = own[own["measure"] == "acc"]
    pooled = found.pooled[found.pooled["template"].isin(found.templates)].dropna(subset=["p"])
    chosen = found.summary[found.summary["method"] == CHOSEN]
    later = found.summary[found.summary["method"] == LATER].iloc[0]
    alone, counted, corrected = (int((own[name] < 0.05).sum()) for name in ("p", "p_effective", "p_adjusted"))
    up = int((found.runs["last"] > found.runs["first"]).sum())
    text = [
        f"What it says. The last checkpoint fine-tunes better than the first on {up} of {len(found.runs)} runs.",
        f"By accuracy, r from {accuracy['r'].min():.2f} to {accuracy['r'].max():.2f} over the templates and runs; by any measure",
        f"{alone} of {len(own)} are significant (p < .05) one by one, {counted} once autocorrelation is counted,",
        f"{corrected} after correction for the tests of their run.",
    ]
    few = len(found.runs) < LEAST
    for trend, words in () if few else (("kept", "Over runs"), ("differences", "Over runs, of differences")):
        part = pooled[pooled["trend"] == trend]
        text.append(
            f"{words}, {int((part['p'] < 0.05).sum())} of {len(part)} templates and measures have a mean r unlike 0 one by one,"
            f" {int((part['p_adjusted'] < 0.05).sum())} after correction."
        )
    picked = found.choices[(found.choices["method"] == CHOSEN) & (found.choices["measure"] == "acc")]["template"]
    if len(picked):
        most = picked.value_counts()
        text.append(f"By accuracy the other runs choose {', '.join(f'{t} ({n} of {len(picked)})' for t, n in most.items())}.")
    right = ", ".join(f"{row['accuracy']:.2f} by {row['measure']}" for _, row in chosen.iterrows())
    gains, losses = int((chosen["over_mean_low"] > 0).sum()), int((chosen["over_mean_high"] < 0).sum())
    compared = (
        f"{len(found.runs)} runs are too few to say whether that is better than the mean over templates"
        if few
        else f"that is better than the mean over templates, its interval excluding zero, by {gains} of {len(chosen)} measures,"
        f" worse by {losses}"
    )
    text.append(
        f"The template so chosen puts {right} of the held-out run's pairs right; {compared}; {LATER} puts"
        f" {later['accuracy']:.2f} right."
    )
    return " ".join(text)
