"""Commands on training dynamics: dynamics, select, prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.errors import UserError
from serving.console import (
    JSON_OPTION,
    STORE_OPTION,
    TASK_OPTION,
    emit,
    need_tasks,
    say,
    store_path,
    table,
    writable,
    write_table,
    zoo_and_tasks,
)

if TYPE_CHECKING:
    from features.tasks import Task
    from features.zoo import Zoo

LIMIT = Annotated[int, typer.Option("--limit", min=3, help="Examples of each task at most.")]
TEMPLATE = Annotated[str | None, typer.Option("--template", help="Which of a task's templates (default: its first).")]
DEVICE = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]


def dynamics(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A zoo's manifest; a folder of dynamics_epoch_*.jsonl or of lm-eval samples_*.jsonl; or a trainer_state.json.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the report, the tables and the pictures.")
    ],
    task: TASK_OPTION = None,
    along: Annotated[
        list[Path] | None,
        typer.Option("--along", metavar="ZOO", help="A manifest of earlier checkpoints of these runs. May be repeated."),
    ] = None,
    template: TEMPLATE = None,
    detrend: Annotated[str, typer.Option("--detrend", help="none, linear (in log step) or difference.")] = "none",
    limit: LIMIT = 200,
    store: STORE_OPTION = None,
    device: DEVICE = "auto",
    as_json: JSON_OPTION = False,
) -> None:
    """How tasks and examples behave over the checkpoints of a run: relatedness, maps, cartography, and each checkpoint's course.

    Zero-shot likelihoods that are not stored yet are measured first. A run of `foretune zoo build` has its own manifest under
    trajectories/. FOLDER/features.csv has the course of each checkpoint as feature rows, for `foretune table`.

    \b
    Example:
      foretune dynamics trajectories/clm-a.yaml --task films.yaml --task news.yaml -o dynamics
    """
    from features.dynamics import report

    if detrend not in ("none", "linear", "difference"):
        raise UserError(f"unknown trend removal {detrend!r}", where="--detrend", remedy="use none, linear or difference")
    writable(out, folder=True)
    if source.is_file() and source.suffix == ".json":
        written = report.write_history(source, out)
    elif source.is_dir():
        from features.dynamics.imports import read

        written = report.write(list(read(source).values()), out, detrend=detrend)  # type: ignore[arg-type]
    else:
        from features.dynamics.rows import table as rows_of
        from features.zoo import Zoo

        manifest, chosen = zoo_and_tasks(source, task)
        earlier = [Zoo.read(path) for path in along or ()]
        for one in earlier:
            _measure(one, chosen, limit, store, device)
        found = _trajectories(source, task, template, limit, store, device)
        written = report.write(list(found.values()), out, detrend=detrend)  # type: ignore[arg-type]
        write_table(rows_of(manifest, chosen, store=store_path(store), along=earlier, limit=limit), out / "features.csv")
        written.append(out / "features.csv")
    shown = next((p for p in written if p.name == "report.md"), written[0])
    emit(
        {"out": str(out), "files": [str(p) for p in written]},
        as_json=as_json,
        text=f"{len(written)} files in {out}; read {shown}",
    )


def select(
    task: Annotated[
        list[str], typer.Argument(metavar="TASK...", help="Task files, or names of tasks of the zoo; they share the budget.")
    ],
    zoo: Annotated[
        Path, typer.Option("--zoo", metavar="ZOO", help="Checkpoints to learn from: not those that are to be ranked.")
    ],
    budget: Annotated[int, typer.Option("--budget", min=1, help="How many examples to keep, over all tasks.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="SUBSET", help="Where to write the subset (.json).")],
    selector: Annotated[
        str, typer.Option("--selector", help="random, stratified, anchor-points, high-loss or kriging.")
    ] = "kriging",
    template: TEMPLATE = None,
    limit: LIMIT = 1000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random.")] = 0,
    store: STORE_OPTION = None,
    device: DEVICE = "auto",
    as_json: JSON_OPTION = False,
) -> None:
    """Choose the few examples worth scoring, from how known checkpoints did on all of them.

    The subset is for `foretune extract --examples SUBSET` and `foretune rank --examples SUBSET` on other checkpoints.

    \b
    Example:
      foretune select films.yaml news.yaml --zoo run.yaml --budget 40 -o subset.json
    """
    from features.selection.benchmark import choose

    if out.suffix.lower() != ".json":
        raise UserError(f"suffix {out.suffix!r}", where=str(out), remedy="a subset is a .json file")
    writable(out)
    found = _trajectories(zoo, task, template, limit, store, device)
    made = choose(list(found.values()), budget, selector=selector, seed=seed)
    made.save(out)
    rows = [(s.task, len(s.examples), len(found[s.task].examples)) for s in made.subsets]
    text = (
        table(rows, ["task", "examples", "of"])
        + f"\n\n{made.selector} from {len(made.checkpoints)} checkpoints; written to {out}"
    )
    result = {"out": str(out), "selector": made.selector, "tasks": {name: count for name, count, _ in rows}}
    emit(result, as_json=as_json, text=text)


def prompts(
    comparison: Annotated[
        Path, typer.Argument(metavar="TABLE", help="A comparison table of a task with `templates:`, from `foretune table`.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for report.md, report.html and the tables.")],
    task: Annotated[str | None, typer.Option("--task", "-t", help="Which task of the table (default: its only one).")] = None,
    repetitions: Annotated[int, typer.Option("--repetitions", min=1, help="Random halves to choose and judge on.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random.")] = 0,
    as_json: JSON_OPTION = False,
) -> None:
    """Which template's zero-shot score goes with the fine-tuned outcome, and what choosing one is worth.

    Correlations with intervals and p-values; the template chosen on one half of the checkpoints and judged on the other, beside
    the mean over templates and their ensemble.

    \b
    Example:
      foretune prompts table.csv --task films -o prompts
    """
    from features.dynamics.page import Page
    from features.dynamics.prompts import describe, study
    from ranker.table import read

    writable(out, folder=True)
    rows = read(comparison)
    names = sorted(rows["task"].unique())
    if task is None and len(names) > 1:
        raise UserError(f"tasks {', '.join(names)}", where=str(comparison), remedy="choose one with --task")
    if task is not None and task not in names:
        raise UserError(f"no task {task!r}", where=str(comparison), remedy=f"it has {', '.join(names)}")
    rows = rows[rows["task"] == (task or names[0])]
    found = study(rows, repetitions=repetitions, seed=seed)
    page = Page(f"Prompts of {task or names[0]} and the fine-tuned outcome")
    describe(page, found, rows)
    written = page.write(out / "report.md")
    for name in ("correlations", "choices", "picked"):
        write_table(getattr(found, name), out / f"{name}.csv")
        written.append(out / f"{name}.csv")
    result = {
        "out": str(out),
        "checkpoints": found.checkpoints,
        "correlations": found.correlations.to_dict("records"),
        "choices": found.choices.to_dict("records"),
        "files": [str(p) for p in written],
    }
    shown = found.correlations[["measure", "template", "r", "low", "high", "p", "p_adjusted"]]
    emit(result, as_json=as_json, text=f"{table(shown.itertuples(index=False), list(shown.columns))}\n\nread {out / 'report.md'}")


def _trajectories(
    zoo: Path, tasks: list[str] | None, template: str | None, limit: int, store: Path | None, device: str
) -> dict[str, Any]:
    """Trajectories of the tasks over the zoo; what is missing is measured."""
    from features.examples import trajectories

    manifest, chosen = zoo_and_tasks(zoo, tasks)
    need_tasks(chosen, zoo)
    _measure(manifest, chosen, limit, store, device)
    return trajectories(manifest, chosen, store=store_path(store), template=template, limit=limit)


def _measure(zoo: Zoo, tasks: Sequence[Task], limit: int, store: Path | None, device: str) -> None:
    """Measure zero-shot answers that are not stored yet; say what could not be."""
    from features.extract import extract

    report = extract(zoo, tasks, features="prompt", store=store_path(store), device=device, limit=limit)
    for failure in report.failed:
        say(f"left out: {failure}")


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command("dynamics")(dynamics)
    app.command("select")(select)
    app.command("prompts")(prompts)
