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


def related(
    runs: Sequence[Zoo], tasks: Sequence[Path], store: Path, *, pairs: Sequence[tuple[str, str]], apart: str, figures: str = ""
) -> Page:
    """The page: which tasks move together over each run, whether those of each pair do so more than either with `apart`, and the
    figures of the document on the run named `figures` (default: the first).
    """
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
    count: dict[tuple[str, str], dict[str, int]] = {pair: {} for pair in pairs}
    for name, label in (("nll", QUANTITIES["nll"]), ("choice", QUANTITIES["choice"])):
        for detrend in ("none", "difference"):
            rows = []
            way = f"{label}{'' if detrend == 'none' else ' (differences)'}"
            for run, own in found.items():
                means = {t.task: quantity(t, name).nll.mean(axis=1) for t in own}
                result = relatedness(means, own[0].steps, detrend=detrend)  # type: ignore[arg-type]
                cells: dict[str, str] = {"run": run}
                for a, b in [(x, y) for i, x in enumerate(means) for y in list(means)[:i]]:
                    r, p, naive = (float(f.loc[a, b]) for f in (result.correlation, result.p_adjusted, result.p_naive))
                    cells[f"{b} ~ {a}"] = f"{r:.2f} ({p:.1g} [{naive:.1g}])"
                rows.append(cells)
                for one, other in pairs:
                    beside = max(float(result.correlation.loc[task, apart]) for task in (one, other))
                    holds = float(result.correlation.loc[one, other]) > beside
                    count[one, other][way] = count[one, other].get(way, 0) + holds
            page.heading(f"By {label}, {'trend kept' if detrend == 'none' else 'of differences between checkpoints'}")
            page.table(pd.DataFrame(rows))
    page.heading("What it says")
    for (one, other), ways in count.items():
        page.text(
            f"{one} and {other} correlate more with each other than either with {apart} on this many of {len(found)} runs: "
            + "; ".join(f"{met} by {way}" for way, met in ways.items())
            + "."
        )
    run = figures or next(iter(found))
    _figures(page, run, found[run])
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
    many = [t for t in tasks if len(set(t.labels)) > 2]
    maps = [("5", tasks[:1]), *(("6", [t]) for t in many), ("7", tasks[:2])]
    for number, shown in [*maps, *([("7", many)] if len(many) > 1 else [])]:
        names = [t.task for t in shown]
        together = " together" if len(shown) > 1 else ""
        page.picture(
            pictures.maps(shown),
            f"relatedness-map-{'-'.join(names)}",
            f"Figure {number}: examples of {' and '.join(names)}{together}, by class.",
        )
    page.picture(pictures.degrees(tasks), "relatedness-degrees", "Figure 8: agreement of polynomial distances with exact ones.")
    rows = []
    for t in tasks:
        cells: dict[str, str | float] = {"task": t.task}
        for name in ("nll", "choice"):
            groups = cluster(coefficients(quantity(t, name).nll, t.steps, len(steps) - 1), max(2, len(set(t.labels))))
            cells[QUANTITIES[name]] = round(against_labels(groups, np.array(t.labels))["adjusted_rand"], 2)
        rows.append(cells)
    page.text(
        "Clusters of the polynomial coefficients, as many as there are classes, against class labels: adjusted Rand index (1",
        "equal, 0 chance). The examples of a class share the word whose likelihood is measured, so that figures 5 to 7 show",
        "above all how likely each word is: that classes fall apart does not say that the checkpoints can tell them.",
    )
    page.table(pd.DataFrame(rows))
