"""Which tasks move together over training, with the figures of the founding document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from features.dynamics import pictures
from features.dynamics.page import Page
from features.dynamics.points import against_labels, cluster, coefficients
from features.dynamics.relatedness import relatedness
from features.dynamics.trajectories import Trajectories, shared
from features.studies.material import QUANTITIES, measured, quantity
from features.zoo import Zoo


def related(runs: Sequence[Zoo], tasks: Sequence[Path], store: Path, *, pair: tuple[str, str], apart: str) -> Page:
    """The page: which tasks move together over each run, and whether `pair` do so more than either does with `apart`."""
    found = {zoo.name: shared(list(own.values())) for zoo, own in zip(runs, measured(runs, tasks, store), strict=True)}
    first = next(iter(found.values()))
    page = Page("Which tasks move together over training")
    page.text(
        f"`python -m features.studies relatedness`: {len(found)} runs of our own, {len(first[0].checkpoints)} checkpoints each",
        f"(steps {first[0].steps.min()} to {first[0].steps.max()}); zero-shot,",
        f"{', '.join(f'{len(t.examples)} examples of {t.task}' for t in first)}.",
        "r: Pearson correlation of mean trajectories. p: at the effective number of checkpoints, Holm-corrected over all pairs",
        "of a run; in brackets as if checkpoints were independent.",
    )
    count = {}
    for name, label in (("nll", QUANTITIES["nll"]), ("choice", QUANTITIES["choice"])):
        for detrend in ("none", "difference"):
            rows, met = [], 0
            for run, own in found.items():
                means = {t.task: quantity(t, name).nll.mean(axis=1) for t in own}
                result = relatedness(means, own[0].steps, detrend=detrend)  # type: ignore[arg-type]
                cells: dict[str, str] = {"run": run}
                for a, b in [(x, y) for i, x in enumerate(means) for y in list(means)[:i]]:
                    r, p, naive = (float(f.loc[a, b]) for f in (result.correlation, result.p_adjusted, result.p_naive))
                    cells[f"{b} ~ {a}"] = f"{r:.2f} ({p:.2g} [{naive:.1g}])"
                others = [float(result.correlation.loc[one, apart]) for one in pair]
                holds = bool(result.correlation.loc[pair[0], pair[1]] > max(others))
                met += holds
                rows.append({**cells, f"{pair[0]} ~ {pair[1]} above both with {apart}": "yes" if holds else "no"})
            count[name, detrend] = met
            page.heading(f"By {label}, {'trend kept' if detrend == 'none' else 'of differences between checkpoints'}")
            page.table(pd.DataFrame(rows))
    page.heading("What it says")
    page.text(
        f"{pair[0]} and {pair[1]} correlate more with each other than either with {apart} on this many of {len(found)} runs: "
        + "; ".join(f"{count[n, d]} by {QUANTITIES[n]}{' (differences)' if d != 'none' else ''}" for n, d in count)
        + "."
    )
    _figures(page, next(reversed(found)), found[next(reversed(found))])
    return page


def _figures(page: Page, run: str, tasks: Sequence[Trajectories]) -> None:
    """Figures 3 to 8 of the document, on one run."""
    page.heading(f"The figures of the document, on the run {run}")
    steps = tasks[0].steps
    means = {t.task: t.nll.mean(axis=1) for t in tasks}
    page.picture(
        pictures.courses(means, steps, "mean loss of the gold answer, nats"), "relatedness-courses", "Figure 3: mean loss."
    )
    page.picture(pictures.matrix(relatedness(means, steps)), "relatedness-matrix", "Figure 4: correlation of mean trajectories.")
    page.picture(pictures.maps(tasks[:1]), "relatedness-map-one", f"Figure 5: examples of {tasks[0].task}, by class.")
    page.picture(pictures.maps(tasks[-1:]), "relatedness-map-many", f"Figure 6: examples of {tasks[-1].task}, by class.")
    page.picture(pictures.maps(tasks[:2]), "relatedness-map-two", f"Figure 7: {tasks[0].task} and {tasks[1].task} together.")
    page.picture(pictures.degrees(tasks), "relatedness-degrees", "Figure 8: agreement of polynomial distances with exact ones.")
    rows = []
    for t in tasks:
        groups = cluster(coefficients(t.nll, t.steps, len(steps) - 1), max(2, len(set(t.labels))))
        rows.append({"task": t.task, **{k: round(v, 2) for k, v in against_labels(groups, np.array(t.labels)).items()}})
    page.text("Clusters of the polynomial coefficients, as many as there are classes, against class labels (1 equal, 0 chance):")
    page.table(pd.DataFrame(rows))
