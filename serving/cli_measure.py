"""Commands that measure: extract, finetune, table, zoo build, outcomes import, import lm-eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from features.errors import FailedError, UserError
from features.rows import FEATURE_COLUMNS
from serving.console import (
    DEVICE_OPTION,
    DTYPE_OPTION,
    JSON_OPTION,
    STORE_OPTION,
    TASK_OPTION,
    emit,
    need_tasks,
    read_long,
    root,
    say,
    store_path,
    suffix,
    table,
    write_table,
    zoo_and_tasks,
)

ZOO = Annotated[Path, typer.Argument(metavar="ZOO", help="The zoo's manifest, a YAML file.")]


def extract(
    zoo: ZOO,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FEATURES", help="Where to write the feature rows (.csv or .parquet).")
    ],
    task: TASK_OPTION = None,
    features: Annotated[
        str | None, typer.Option("--features", help="Comma-separated names of extractors (default: the standard set).")
    ] = None,
    backend: Annotated[str, typer.Option("--backend", help="inline, process or ray.")] = "inline",
    device: DEVICE_OPTION = "auto",
    dtype: DTYPE_OPTION = "auto",
    examples: Annotated[int | None, typer.Option("--examples", min=1, help="At most so many examples per task.")] = None,
    store: STORE_OPTION = None,
    as_json: JSON_OPTION = False,
) -> None:
    """Measure the checkpoints of a zoo before fine-tuning.

    Finished features are stored at once: a killed run goes on where it was. A broken checkpoint is a row with its error, and exit
    code 1 at the end.

    \b
    Example:
      foretune extract zoo.yaml --task films.yaml -o features.csv
    """
    from features.extract import extract as run

    suffix(out)
    manifest, tasks = zoo_and_tasks(zoo, task)
    report = run(
        manifest,
        tasks,
        features=split(features),
        store=store_path(store),
        backend=backend,
        device=device,
        dtype=dtype,
        examples=examples,
        progress=True,
    )
    write_table(report.rows, out)
    _log("log_extract", report)
    failed = [_failure(f) for f in report.failed]
    measured = report.rows[report.rows["error"].fillna("") == ""]
    result = {
        "zoo": manifest.name,
        "tasks": [t.name for t in tasks],
        "checkpoints": int(report.rows["checkpoint"].nunique()),
        "features": len(measured),
        "failed": failed,
        "out": str(out),
    }
    emit(result, as_json=as_json, text=f"{result['features']} features of {result['checkpoints']} checkpoints written to {out}")
    if failed:
        for item in failed:
            say(f"failed: {item}")
        raise FailedError(
            f"{len(failed)} of {len(manifest.checkpoints)} checkpoints could not be measured in full",
            where=str(zoo),
            remedy="their rows carry the error; mend them and run again",
        )


def finetune(
    zoo: ZOO,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUTCOMES", help="Where to write the outcome rows (.csv or .parquet).")
    ],
    task: TASK_OPTION = None,
    recipe: Annotated[str, typer.Option("--recipe", help="full, last-layer, lora, or a recipe file.")] = "full",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Fine-tuning runs per checkpoint and task.")] = 1,
    device: DEVICE_OPTION = "auto",
    store: STORE_OPTION = None,
    as_json: JSON_OPTION = False,
) -> None:
    """Really fine-tune the checkpoints of a zoo.

    One outcome row per checkpoint, task and seed. Resumable like extract.

    \b
    Example:
      foretune finetune zoo.yaml --task films.yaml -o outcomes.csv --recipe lora --seeds 3
    """
    from training.finetune import finetune as run

    suffix(out)
    manifest, tasks = zoo_and_tasks(zoo, task)
    need_tasks(tasks, zoo)
    rows = run(manifest, tasks, recipe=recipe, seeds=seeds, device=device, store=store_path(store))
    write_table(rows, out)
    failed = rows[rows["error"].fillna("") != ""]
    text = table(
        rows[["checkpoint", "task", "recipe", "seed", "metric", "outcome"]].itertuples(index=False),
        ["checkpoint", "task", "recipe", "seed", "metric", "outcome"],
    )
    emit({"out": str(out), "rows": rows.to_dict("records")}, as_json=as_json, text=f"{text}\n\nwritten to {out}")
    if len(failed):
        raise FailedError(
            f"{len(failed)} of {len(rows)} fine-tuning runs failed", where=str(zoo), remedy="their rows carry the error"
        )


def make_table(
    features: Annotated[Path, typer.Argument(metavar="FEATURES", help="Feature rows, as written by extract.")],
    outcomes: Annotated[Path, typer.Argument(metavar="OUTCOMES", help="Outcome rows, as written by finetune.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="TABLE", help="Where to write the comparison table (.csv or .parquet).")
    ],
    as_json: JSON_OPTION = False,
) -> None:
    """Join features and outcomes into a comparison table.

    One row per task and checkpoint.

    \b
    Example:
      foretune table features.csv outcomes.csv -o table.csv
    """
    from ranker.table import join

    suffix(out)
    joined = join(
        read_long(features, FEATURE_COLUMNS, "FEATURES"), read_long(outcomes, ["checkpoint", "task", "outcome"], "OUTCOMES")
    )
    write_table(joined, out)
    names = [c for c in joined.columns if c not in ("task", "checkpoint", "outcome", "outcome_sd", "zoo", "group")]
    result = {"out": str(out), "rows": len(joined), "tasks": sorted(joined["task"].unique()), "columns": names}
    emit(result, as_json=as_json, text=f"{len(joined)} rows, {len(names)} features and configurations, written to {out}")


def zoo_build(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A zoo recipe, a YAML file.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the checkpoints and their zoo.yaml go.")],
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Variants trained at the same time.")] = 1,
    time_budget: Annotated[float | None, typer.Option("--time-budget", min=0, help="Stop cleanly after so many seconds.")] = None,
    as_json: JSON_OPTION = False,
) -> None:
    """Pre-train a zoo of variants from a recipe.

    Writes their zoo.yaml. Resumable.

    \b
    Example:
      foretune zoo build recipe.yaml -o zoo --time-budget 600
    """
    from training.build import build

    result = build(recipe, out, jobs=jobs, time_budget=time_budget)
    payload = result.to_dict() if hasattr(result, "to_dict") else {"zoo": str(result)}
    emit(payload, as_json=as_json, text="\n".join(f"{key}: {value}" for key, value in payload.items()))


def outcomes_import(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Outcome rows (CSV or Parquet): checkpoint, task, outcome; recipe, seed, metric, ... if known."
        ),
    ],
    as_json: JSON_OPTION = False,
) -> None:
    """Record fine-tuning results in MLflow.

    Checked and deduplicated, ready for the next `foretune retrain`.

    \b
    Example:
      foretune outcomes import outcomes.csv
    """
    from training.outcomes import import_outcomes

    report = import_outcomes(file, root=root()).to_dict()
    emit(report, as_json=as_json, text=", ".join(f"{key} {value}" for key, value in report.items()))


def import_lm_eval(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with results_*.json (and samples_*.jsonl) of lm-evaluation-harness.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FEATURES", help="Where to write the feature rows (.csv or .parquet).")
    ],
    as_json: JSON_OPTION = False,
) -> None:
    """Turn lm-evaluation-harness results into features.

    \b
    Example:
      foretune import lm-eval results/ -o features.csv
    """
    from features.lm_eval import read

    suffix(out)
    if not folder.is_dir():
        raise UserError("no such folder", where=str(folder), remedy="give the --output_path of lm-eval")
    rows = read(folder)
    write_table(rows, out)
    names = sorted(rows["checkpoint"].unique())
    result = {"out": str(out), "rows": len(rows), "checkpoints": names}
    emit(result, as_json=as_json, text=f"{len(rows)} features of {len(names)} checkpoints written to {out}")


def split(names: str | None) -> list[str] | None:
    """``"a, b"`` -> ``["a", "b"]``; None stays None."""
    return None if names is None else [n.strip() for n in names.split(",") if n.strip()]


def _failure(item: Any) -> str:
    return " ".join(str(part) for part in item) if isinstance(item, tuple | list) else str(item)


def _log(function: str, *arguments: Any) -> None:
    """Log a finished stage in MLflow; when that fails the result is still there, so say it and go on."""
    try:
        from training import tracking

        getattr(tracking, function)(*arguments)
    except Exception as error:
        say(f"not logged in MLflow: {str(error).splitlines()[0] if str(error) else type(error).__name__}")


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command("extract")(extract)
    app.command("finetune")(finetune)
    app.command("table")(make_table)
    for name, help_, commands in (
        ("zoo", "Make zoos of checkpoints.", {"build": zoo_build}),
        ("outcomes", "Feed back what fine-tuning gave.", {"import": outcomes_import}),
        ("import", "Take over what other tools measured.", {"lm-eval": import_lm_eval}),
    ):
        group = typer.Typer(name=name, help=help_, no_args_is_help=True, rich_markup_mode=None)
        group.callback()(lambda: None)
        for command, function in commands.items():
            group.command(command)(function)
        app.add_typer(group)
