"""Commands on training dynamics: dynamics, select."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from features.errors import UserError
from serving.console import JSON_OPTION, STORE_OPTION, TASK_OPTION, emit, need_tasks, say, store_path, table, zoo_and_tasks

ZOO = Annotated[Path, typer.Argument(metavar="ZOO", help="The zoo's manifest: steps of one run, or any checkpoints.")]
LIMIT = Annotated[int, typer.Option("--limit", min=3, help="Examples of each task at most.")]
TEMPLATE = Annotated[str | None, typer.Option("--template", help="Which of a task's templates (default: its first).")]
DEVICE = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]


def dynamics(
    zoo: ZOO,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for report.md, the tables and the pictures.")
    ],
    task: TASK_OPTION = None,
    template: TEMPLATE = None,
    detrend: Annotated[str, typer.Option("--detrend", help="none, linear (in log step) or difference.")] = "none",
    limit: LIMIT = 200,
    store: STORE_OPTION = None,
    device: DEVICE = "auto",
    as_json: JSON_OPTION = False,
) -> None:
    """How tasks and examples behave over the checkpoints of a run: relatedness, maps, cartography, and each checkpoint's course.

    Zero-shot likelihoods that are not stored yet are measured first. A run of `foretune zoo build` has its own manifest under
    trajectories/.

    \b
    Example:
      foretune dynamics trajectories/clm-a.yaml --task films.yaml --task news.yaml -o dynamics
    """
    from features.dynamics.report import write

    found = _trajectories(zoo, task, template, limit, store, device)
    written = write(list(found.values()), out, detrend=detrend)  # type: ignore[arg-type]
    emit(
        {"out": str(out), "files": [str(p) for p in written]},
        as_json=as_json,
        text=f"{len(written)} files in {out}; read {out / 'report.md'}",
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


def _trajectories(
    zoo: Path, tasks: list[str] | None, template: str | None, limit: int, store: Path | None, device: str
) -> dict[str, Any]:
    """Trajectories of the tasks over the zoo; what is missing is measured."""
    from features.examples import trajectories
    from features.extract import extract

    manifest, chosen = zoo_and_tasks(zoo, tasks)
    need_tasks(chosen, zoo)
    report = extract(manifest, chosen, features="prompt", store=store_path(store), device=device, limit=limit)
    for failure in report.failed:
        say(f"left out: {failure}")
    return trajectories(manifest, chosen, store=store_path(store), template=template, limit=limit)


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command("dynamics")(dynamics)
    app.command("select")(select)
