"""How well a few selected examples rank held-out checkpoints: each selector against random."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from features.dynamics import pictures
from features.dynamics.page import Page
from features.selection.benchmark import side_by_side
from features.selection.study import Study, against_random
from features.studies.material import QUANTITIES, Material, quantity


def selection(found: Material, *, repetitions: int, designed: Collection[str] = (), seed: int = 0) -> Page:
    """The page: each selector against random on held-out final checkpoints and on held-out whole runs.

    `designed` names runs on which a selector was designed: their final checkpoints serve to select, and are never ranked.
    """
    names, sizes = [t.task for t in found.tasks], [len(t.examples) for t in found.tasks]
    page = Page("Ranking held-out checkpoints from a few selected examples")
    page.text(
        "`python -m features.studies selection`. Real checkpoints, scored by the engine, zero-shot:",
        f"{found.final.sum()} final checkpoints of one zoo, and {(~found.final).sum()} earlier checkpoints of",
        f"{len(np.unique(found.runs[~found.final]))} of its runs; {sum(sizes)} examples",
        f"({', '.join(f'{n} {s}' for n, s in zip(names, sizes, strict=True))}).",
    )
    page.text(
        f"Half of the runs are held out, {repetitions} times; examples are selected on the checkpoints of the other half",
        "(earlier ones too), and the held-out checkpoints are ranked from the B selected examples alone. Pairs right: share of",
        "their pairs in the order that all examples give them; a tie counts a half. Intervals: bootstrap over runs, 95 %, paired",
        "with random. A selector in bold beats random by an interval that excludes zero; in italics it loses to it.",
    )
    if designed:
        page.text(
            f"The default selector, kriging, was designed on {', '.join(sorted(designed))}: among the final checkpoints these",
            "are never ranked, and only serve to select from. Along runs they are ranked too, since too few others have earlier",
            "checkpoints: there kriging's figures are not of runs that its designer had not seen; the other selectors' are.",
        )
    fresh = found.final & ~np.isin(found.runs, list(designed))
    alone = np.array([np.sum(found.runs[found.final] == run) == 1 for run in found.runs])
    settings = {
        "Final checkpoints of the zoo": (np.ones(len(found.runs), dtype=bool), fresh),
        "Checkpoints along runs": (np.isin(found.runs, found.runs[~found.final]) & alone, None),
    }
    summary: list[dict[str, object]] = []
    for title, (used, ranked) in settings.items():
        if len(np.unique(found.runs[used if ranked is None else used & ranked])) < 4:
            continue
        page.heading(title)
        studies: dict[str, Study] = {}
        for name, label in QUANTITIES.items():
            tasks = [quantity(t.of_checkpoints(np.flatnonzero(used)), name) for t in found.tasks]
            losses, owner, strata = side_by_side(tasks)
            studies[label] = against_random(
                losses,
                tasks=owner,
                strata=strata,
                groups=list(found.runs[used]),
                ranked=None if ranked is None else ranked[used],
                repetitions=repetitions,
                seed=seed,
            )
            print(f"{title}, {label}: done", file=sys.stderr, flush=True)
        any_study = next(iter(studies.values()))
        page.text(f"{any_study.checkpoints} checkpoints of {any_study.runs} runs are ranked; all tasks share the budget.")
        stem = "selection-final" if ranked is not None else "selection-runs"
        page.picture(
            pictures.budgets({label: study.table for label, study in studies.items()}),
            stem,
            f"{title}: pairs right over the budget; bands are 95 % intervals over runs.",
        )
        for label, study in studies.items():
            page.text(f"Ranking by {label}: pairs right, and the difference to random with its interval.")
            page.table(as_table(study))
            summary += _wins(title, label, study)
    page.heading("What it says")
    for line in _said(summary):
        page.text(line)
    return page


def as_table(study: Study) -> pd.DataFrame:
    """Selectors by budgets: pairs right, and the difference to random with its interval; bold where it excludes zero."""
    rows = []
    for selector, own in study.table.groupby("selector", sort=False):
        cells: dict[str, str] = {"selector": str(selector)}
        for row in own.to_dict("records"):
            text = f"{row['accuracy']:.3f}"
            if selector != "random":
                text += f" ({row['over_random']:+.3f} [{row['over_random_low']:+.3f}, {row['over_random_high']:+.3f}])"
            mark = "**" if row["over_random_low"] > 0 else "*" if row["over_random_high"] < 0 else ""
            cells[f"{row['share']:.0%} ({row['budget']})"] = f"{mark}{text}{mark}"
        rows.append(cells)
    return pd.DataFrame(rows)


def _wins(setting: str, label: str, study: Study) -> list[dict[str, object]]:
    rows = study.table[study.table["selector"] != "random"]
    return [
        {
            "setting": setting,
            "by": label,
            "selector": selector,
            "better": int((own["over_random_low"] > 0).sum()),
            "worse": int((own["over_random_high"] < 0).sum()),
            "of": len(own),
        }
        for selector, own in rows.groupby("selector", sort=False)
    ]


def _said(summary: Sequence[Mapping[str, object]]) -> list[str]:
    frame = pd.DataFrame(summary)
    lines = []
    for selector, own in frame.groupby("selector", sort=False):
        lines.append(
            f"{selector}: better than random, its interval excluding zero, in {own['better'].sum()} of {own['of'].sum()} cases"
            f" (settings, quantities and budgets), worse in {own['worse'].sum()}; "
            + "; ".join(f"{rows['better'].sum()} of {rows['of'].sum()} by {by}" for by, rows in own.groupby("by", sort=False))
            + "."
        )
    return lines
