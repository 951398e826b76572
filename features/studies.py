"""Studies of training dynamics on checkpoints of one's own, each written as a page with its pictures.

    python -m features.studies selection ZOO --along RUN... --task TASK... --store STORE -o docs/studies/selection.md
    python -m features.studies relatedness RUN... --task TASK... --store STORE -o docs/studies/relatedness.md

What is not in the store is measured first. `selection` says how well a few selected examples rank held-out checkpoints, each
selector against random; `relatedness` which tasks move together over the checkpoints of each run, with the document's figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from features.dynamics import pictures
from features.dynamics.page import Page
from features.dynamics.points import against_labels, cluster, coefficients
from features.dynamics.relatedness import relatedness
from features.dynamics.rows import digests_of, place
from features.dynamics.trajectories import Trajectories, shared
from features.errors import ForetuneError
from features.examples import trajectories
from features.extract import extract
from features.selection.benchmark import side_by_side
from features.selection.study import Study, against_random
from features.zoo import Zoo

QUANTITIES = {
    "nll": "log-likelihood of the gold answer",
    "choice": "log-probability of the gold answer among the choices",
    "error": "accuracy",
}
LIMIT = 500


def quantity(task: Trajectories, name: str) -> Trajectories:
    """The trajectories with `nll` replaced by what QUANTITIES names, lower being better."""
    values = {"nll": task.nll, "choice": -np.log(np.maximum(task.probability, 1e-9)), "error": 1 - task.correct}
    return replace(task, nll=values[name])


def measured(zoos: Sequence[Zoo], tasks: Sequence[Path], store: Path) -> list[dict[str, Trajectories]]:
    """For each zoo the trajectories of the tasks, on LIMIT examples each; measured where they are not in the store."""
    for zoo in zoos:
        for failure in extract(zoo, tasks, features="prompt", store=store, limit=LIMIT).failed:
            print(f"left out: {failure}", file=sys.stderr)
    return [trajectories(zoo, tasks, store=store, limit=LIMIT) for zoo in zoos]


@dataclass(frozen=True)
class Material:
    """Checkpoints of a zoo and of its runs side by side.

    Attributes
    ----------
    tasks : trajectories of C checkpoints
    runs : (C,) name of the run of each
    final : (C,) whether it is one of the zoo, rather than an earlier checkpoint of a run
    """

    tasks: list[Trajectories]
    runs: np.ndarray
    final: np.ndarray


def material(zoo: Zoo, along: Sequence[Zoo], tasks: Sequence[Path], store: Path, most: int) -> Material:
    """The checkpoints of a zoo and of the runs that lead to them, each once, on at most `most` examples of each task."""
    found = measured([zoo, *along], tasks, store)
    digests = digests_of(c for z in (zoo, *along) for c in z.checkpoints)
    run_of = {digests.get(place(c), ""): z.name for z in along for c in z.checkpoints}
    finals = {digests.get(place(c), ""): c.name for c in zoo.checkpoints}
    parts, runs, final = [], [], []
    for z, own in zip((zoo, *along), found, strict=True):
        own_tasks = shared(list(own.values()))
        names = {c.name: digests.get(place(c), "") for c in z.checkpoints}
        kept = [i for i, name in enumerate(own_tasks[0].checkpoints) if z is zoo or names[name] not in finals]
        parts.append([task.of_checkpoints(kept) for task in own_tasks])
        for i in kept:
            name = own_tasks[0].checkpoints[i]
            runs.append(run_of.get(names[name], name) if z is zoo else z.name)
            final.append(z is zoo)
    joined = [_stacked([part[i] for part in parts]) for i in range(len(parts[0]))]
    rng = np.random.default_rng(0)
    chosen = [t.of_examples(np.sort(rng.permutation(len(t.examples))[:most])) for t in joined]
    return Material(chosen, np.array(runs), np.array(final))


def _stacked(parts: Sequence[Trajectories]) -> Trajectories:
    first = parts[0]
    return replace(
        first,
        checkpoints=tuple(name for part in parts for name in part.checkpoints),
        steps=np.concatenate([part.steps for part in parts]),
        nll=np.concatenate([part.nll for part in parts]),
        probability=np.concatenate([part.probability for part in parts]),
        correct=np.concatenate([part.correct for part in parts]),
    )


def selection(found: Material, *, repetitions: int, seed: int = 0) -> Page:
    """The page: each selector against random on held-out final checkpoints and on held-out whole runs."""
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
    alone = np.array([np.sum(found.runs[found.final] == run) == 1 for run in found.runs])
    settings = {
        "Final checkpoints of the zoo": (np.ones(len(found.runs), dtype=bool), found.final),
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
            page.table(_table(study))
            summary += _wins(title, label, study)
    page.heading("What it says")
    page.text(*_said(summary))
    return page


def _table(study: Study) -> pd.DataFrame:
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
            f" (settings, quantities and budgets), worse in {own['worse'].sum()}."
        )
    return lines


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


def main() -> None:
    """The command line; see the top of this module."""
    parser = argparse.ArgumentParser(prog="python -m features.studies", description="Training dynamics on one's own checkpoints.")
    commands = parser.add_subparsers(dest="study", required=True)
    for name in ("selection", "relatedness"):
        command = commands.add_parser(name)
        if name == "selection":
            command.add_argument("zoo", type=Path)
            command.add_argument("--along", type=Path, nargs="*", default=[])
            command.add_argument("--repetitions", type=int, default=20)
            command.add_argument("--most", type=int, default=250, help="examples of each task")
        else:
            command.add_argument("runs", type=Path, nargs="+")
            command.add_argument("--pair", nargs=2, default=("sst2", "imdb"))
            command.add_argument("--apart", default="onestopenglish")
        command.add_argument("--task", type=Path, nargs="+", required=True)
        command.add_argument("--store", type=Path, required=True)
        command.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    try:
        if given.study == "selection":
            along = [Zoo.read(path) for path in given.along]
            found = material(Zoo.read(given.zoo), along, given.task, given.store, given.most)
            page = selection(found, repetitions=given.repetitions)
        else:
            runs = [Zoo.read(path) for path in given.runs]
            page = related(runs, given.task, given.store, pair=tuple(given.pair), apart=given.apart)
        page.write(given.out, as_html=False)
    except ForetuneError as error:
        print(f"{error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
