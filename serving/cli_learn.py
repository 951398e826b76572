"""Commands that learn: evaluate, train, retrain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from features.errors import UserError
from serving.console import JSON_OPTION, emit, root, say, table, writable


def evaluate(
    path: Annotated[
        str,
        typer.Argument(
            metavar="TABLE", help="A comparison table (.csv or .parquet), or the name of a reference table, e.g. zeng2025."
        ),
    ],
    features: Annotated[str | None, typer.Option("--features", help="Comma-separated columns to use (default: all).")] = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", help="Keep only the rows of this task. May be repeated (default: all).")
    ] = None,
    group: Annotated[str | None, typer.Option("--group", metavar="COL", help="Hold out whole groups of this column.")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", "-m", help="ltc, logistic, configuration, single:COLUMN or best-single. May be repeated."),
    ] = None,
    splits: Annotated[int, typer.Option("--splits", min=1, help="Random splits over checkpoints.")] = 20,
    train_share: Annotated[
        float, typer.Option("--train-share", min=0.05, max=0.95, help="Share of the checkpoints that is fitted on.")
    ] = 0.6,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the splits.")] = 0,
    strata: Annotated[
        str | None,
        typer.Option("--strata", metavar="COLS", help="Columns never scored: how sure to be where a pair agrees."),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="FOLDER", help="Draw accuracy by gap, calibration and importance as PNG files there."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Splits judged at the same time, a core each.")] = 1,
    as_json: JSON_OPTION = False,
) -> None:
    """Honest hold-out figures for a table.

    Checkpoints are held out, never pairs.

    \b
    Example:
      foretune evaluate zeng2025 --method ltc --method best-single
    """
    from ranker.evaluate import evaluate as run
    from ranker.parallel import at_work
    from ranker.table import features_of
    from serving.catalogue import read_table

    frame = read_table(path)
    unknown = [t for t in task or [] if t not in set(frame["task"])]
    if unknown:
        tasks = ", ".join(dict.fromkeys(frame["task"]))
        raise UserError(f"no task {', '.join(map(repr, unknown))}", where=path, remedy=f"tasks: {tasks}")
    if task:
        frame = frame[frame["task"].isin(task)].reset_index(drop=True)
    if group is not None and group not in frame.columns:
        raise UserError(f"no column {group!r} to group by", where=path, remedy=f"columns: {', '.join(frame.columns)}")
    features_of(frame, names(features), where=path)
    if plots is not None:
        writable(plots, folder=True)
    methods = tuple(method or ("ltc", "logistic", "configuration", "best-single"))
    chosen: dict[str, Any] = {"features": names(features), "group": group, "strata": names(strata) or ()}
    with at_work(jobs):
        result = run(frame, methods=methods, splits=splits, train_share=train_share, seed=seed, progress=True, **chosen)
    if plots is not None:
        from ranker import plots as draw
        from ranker.evaluate import fit_whole

        for written in draw.save(result, plots, fit_whole(frame, **chosen)):
            say(str(written))
    emit(result, as_json=as_json, text=_figures(result) + (f"\n\n{result['note']}" if result.get("note") else ""))


def names(text: str | None) -> list[str] | None:
    """``"a, b"`` -> ``["a", "b"]``; None stays None."""
    return None if text is None else [n.strip() for n in text.split(",") if n.strip()]


def _figures(result: dict[str, Any]) -> str:
    """One line per task and method: accuracy with its interval, tau, regret."""
    rows = []
    for task, methods in [*result["tasks"].items(), ("mean", result["mean"])]:
        for name, m in methods.items():
            low, high = m.get("ci95") or (None, None)
            interval = f"[{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
            rows.append(
                (task, name, m.get("accuracy"), m.get("sd"), interval, m.get("pairs"), m.get("kendall_tau"), m.get("top1_regret"))
            )
    return table(rows, ["task", "method", "accuracy", "sd", "95 % interval", "pairs", "tau", "regret@1"])


def train(
    tables: Annotated[
        list[str] | None, typer.Argument(metavar="TABLE...", help="Comparison tables to fit on; none: the default ranker.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name in the MLflow registry.")] = "foretune-ranker",
    as_json: JSON_OPTION = False,
) -> None:
    """Fit a ranker and register it in MLflow; prints the version.

    \b
    Example:
      foretune train table.csv --name foretune-ranker
    """
    from serving.catalogue import is_reference, read_table
    from training.fit import train as run

    given = [read_table(t).assign(zoo=t) if is_reference(t) else t for t in tables or []]
    fitted = run(given, name=name, root=root())
    if fitted.note:
        say(fitted.note)
    if fitted.evaluation and not as_json:
        say(_figures(fitted.evaluation))
        say(
            f"{fitted.name} version {fitted.version}"
            + (", champion" if fitted.champion else "; `foretune retrain` moves the alias champion")
        )
    emit(fitted.to_dict(), as_json=as_json, text=str(fitted))


def retrain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Give the alias champion back to the version before.")] = False,
    name: Annotated[str, typer.Option("--name", help="Name in the MLflow registry.")] = "foretune-ranker",
    margin: Annotated[
        float | None,
        typer.Option("--margin", help="Accuracy that it must win by, from 0 to below 1 (default: 0.01)."),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option("--confidence", help="Probability with which it must be the better, above 0 and below 1 (default: 0.9)."),
    ] = None,
    as_json: JSON_OPTION = False,
) -> None:
    """Fit a challenger from MLflow alone.

    It becomes champion only when it wins on the same held-out checkpoints.

    \b
    Example:
      foretune retrain --dry-run
    """
    from training.retrain import retrain as run

    if dry_run and rollback:
        raise UserError("--dry-run and --rollback exclude each other", remedy="give one of them")
    settings = {key: value for key, value in (("margin", margin), ("confidence", confidence)) if value is not None}
    decision = run(name=name, dry_run=dry_run, rollback=rollback, root=root(), **settings)  # type: ignore[arg-type]
    emit(decision.to_dict(), as_json=as_json, text=str(decision))


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command("evaluate")(evaluate)
    app.command("train")(train)
    app.command("retrain")(retrain)
