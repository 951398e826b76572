"""Whether zero-shot scores under each template go with fine-tuned outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from features.dynamics.page import Page
from features.dynamics.prompts import CHOSEN, PromptStudy, describe, study


def prompt_page(tables: Sequence[Path], *, repetitions: int = 200) -> Page:
    """The page: each comparison table a section, named by its zoo."""
    page = Page("Does a prompt's zero-shot score go with the fine-tuned outcome?")
    page.text(
        "`python -m features.studies prompts`. Six verbalised templates on SST-2, as in the founding document, whose figure 2",
        "has r from -.184 to .502 over the 29 checkpoints of one run.",
    )
    for path in tables:
        rows = pd.read_csv(path)
        name = str(rows["zoo"].iloc[0]) if "zoo" in rows else path.stem
        page.heading(name)
        found = study(rows, repetitions=repetitions)
        describe(page, found, rows, stem=f"prompts-{name}")
        page.text(_said(found))
    return page


def _said(found: PromptStudy) -> str:
    """The study in two sentences: what is significant, and whether choosing is worth it."""
    alone = found.correlations[found.correlations["template"].isin(found.templates)].dropna(subset=["r"])
    best = alone.loc[alone["r"].idxmax()]
    chosen = found.choices[found.choices["method"] == CHOSEN]
    gains = int((chosen["over_mean_low"] > 0).sum())
    right = ", ".join(f"{row.accuracy:.2f} by {row.measure}" for row in chosen.itertuples())
    return (
        f"What it says: r from {alone['r'].min():.2f} to {best['r']:.2f} ({best['template']}, by {best['measure']}); "
        f"{int((alone['p'] < 0.05).sum())} of {len(alone)} significant (p < .05) one by one, "
        f"{int((alone['p_adjusted'] < 0.05).sum())} after correction. A template chosen on the training side ranks {right} of "
        f"the held-out pairs right; that is better than the mean over templates, its interval excluding zero, by {gains} of "
        f"{len(chosen)} measures."
    )
