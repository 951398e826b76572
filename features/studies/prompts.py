"""Whether zero-shot scores under each template go with fine-tuned outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from features.dynamics.page import Page
from features.dynamics.prompts import describe, study


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
        describe(page, study(rows, repetitions=repetitions), rows, stem=f"prompts-{name}")
    return page
