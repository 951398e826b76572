"""Commands that measure, and make what is measured: extract, finetune, zoo build."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.errors import FailedError, ForetuneError
from serving.console import (
    DEVICE_OPTION,
    DTYPE_OPTION,
    EXAMPLES_OPTION,
    JSON_OPTION,
    LIMIT_OPTION,
    PICKLE_OPTION,
    STORE_OPTION,
    TASK_OPTION,
    TRUST_OPTION,
    emit,
    finite,
    group,
    need_tasks,
    say,
    store_path,
    suffix,
    table,
    writable,
    write_table,
    zoo_and_tasks,
)

if TYPE_CHECKING:
    from features.extract import ExtractReport
    from features.tasks import Task
    from features.zoo import Zoo

ZOO = Annotated[Path, typer.Argument(metavar="ZOO", help="The zoo's manifest, a YAML file.")]


def extract(
    zoo: ZOO,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FEATURES", help="Where to write the feature rows (.csv or .parquet).")
    ],
    task: TASK_OPTION = None,
    features: Annotated[
        str | None, typer.Option("--features", help="Comma-separated names of features (default: the standard set).")
    ] = None,
    backend: Annotated[str, typer.Option("--backend", help="inline, process or ray.")] = "inline",
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes of the backend.")] = None,
    device: DEVICE_OPTION = "auto",
    dtype: DTYPE_OPTION = "auto",
    limit: LIMIT_OPTION = None,
    examples: EXAMPLES_OPTION = None,
    memory_budget: Annotated[
        float | None,
        typer.Option("--memory-budget", min=1, help="MB that a batch may take beyond the weights (default: by device)."),
    ] = None,
    trust: TRUST_OPTION = None,
    pickle: PICKLE_OPTION = None,
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
    suffix(out)
    writable(out)
    manifest, tasks = zoo_and_tasks(zoo, task)
    report = measured(
        manifest, tasks, features, backend, workers, device, dtype, limit, examples, trust, pickle, store, memory_budget
    )
    write_table(report.rows, out)
    log("log_extract", report, params={"features": features or "default", "dtype": dtype, "backend": backend, "limit": limit})
    good = report.rows[report.rows["error"].fillna("") == ""]
    result = {
        "zoo": manifest.name,
        "tasks": [t.name for t in tasks],
        "checkpoints": int(report.rows["checkpoint"].nunique()),
        "features": len(good),
        "measured": report.measured,
        "cached": report.cached,
        "seconds": round(report.seconds, 1),
        "splits": report.splits,
        "failed": [str(f) for f in report.failed],
        "out": str(out),
    }
    text = f"{result['features']} features of {result['checkpoints']} checkpoints written to {out}"
    emit(result, as_json=as_json, text="\n".join([*report.splits, text]))
    complain(report, str(zoo))


def measured(
    zoo: Zoo,
    tasks: Sequence[Task],
    features: str | None,
    backend: str,
    workers: int | None,
    device: str,
    dtype: str,
    limit: int | None,
    examples: Path | None,
    trust: list[str] | None,
    pickle: list[str] | None,
    store: Path | None,
    memory_budget: float | None = None,
) -> ExtractReport:
    """Extract with the options of the command line; those left out are left to `features.extract`."""
    from features.extract import LIMIT, extract

    return extract(
        zoo,
        tasks,
        features=features,
        store=store_path(store),
        backend=backend,
        workers=workers,
        device=device,
        dtype=dtype,
        limit=LIMIT if limit is None else limit,
        examples=examples,
        memory_budget_mb=memory_budget,
        trust_remote_code=trust or (),
        allow_pickle=pickle or (),
    )


def record(report: ExtractReport, **params: Any) -> None:
    """Log what was measured in MLflow, unless that very table is there already, for retraining to find."""
    from training.tracking import is_recorded

    try:
        known = not report.measured and is_recorded("extract", report.rows)
    except ForetuneError as error:
        say(f"not logged in MLflow: {error}")
        return
    if not known:
        log("log_extract", report, params=params)


def complain(report: ExtractReport, where: str) -> None:
    """Say what could not be measured, and end with exit code 1 if there is something."""
    for failure in report.failed:
        say(f"failed: {failure}")
    if report.failed:
        raise FailedError(
            f"{len(report.failed)} measurement(s) failed",
            where=where,
            remedy="their rows carry the error; mend them and run again",
        )


def finetune(
    zoo: ZOO,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUTCOMES", help="Where to write the outcome rows (.csv or .parquet).")
    ],
    task: TASK_OPTION = None,
    recipe: Annotated[str, typer.Option("--recipe", help="full, last-layer or lora.")] = "full",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Fine-tuning runs per checkpoint and task.")] = 3,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the training examples.")] = 3,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Default: the recipe's usual one.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Examples per step.")] = 16,
    train_examples: Annotated[int | None, typer.Option("--max-train-examples", min=1, help="Default: all.")] = None,
    test_examples: Annotated[int | None, typer.Option("--max-test-examples", min=1, help="Default: all.")] = None,
    max_length: Annotated[
        int | None, typer.Option("--max-length", min=1, help="Tokens of prompt and answer. Default: what the checkpoint takes.")
    ] = None,
    metric: Annotated[str, typer.Option("--metric", help="auto: accuracy for choices, exact match for generation.")] = "auto",
    early_stopping: Annotated[bool, typer.Option("--early-stopping", help="Stop a run that gets no better.")] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    store: Annotated[
        Path | None, typer.Option("--store", help="Finished runs (default: outcomes.db beside the MLflow store).")
    ] = None,
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
    writable(out)
    manifest, tasks = zoo_and_tasks(zoo, task)
    need_tasks(tasks, zoo)
    rows = run(
        manifest,
        tasks,
        recipe,
        seeds=seeds,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        max_train_examples=train_examples,
        max_test_examples=test_examples,
        max_length=max_length,
        metric=metric,
        early_stopping=early_stopping,
        device=device,
        store=store,
    )
    write_table(rows, out)
    log("log_outcomes", rows)
    failed = rows[rows["error"].fillna("") != ""]
    shown = ["checkpoint", "task", "recipe", "seed", "metric", "outcome"]
    text = table(rows[shown].itertuples(index=False), shown)
    emit({"out": str(out), "rows": rows.to_dict("records")}, as_json=as_json, text=f"{text}\n\nwritten to {out}")
    if len(failed):
        raise FailedError(
            f"{len(failed)} of {len(rows)} fine-tuning runs failed", where=str(zoo), remedy="their rows carry the error"
        )


def zoo_build(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A zoo recipe (YAML), or a shipped one: demo, free, pilot, reference.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the checkpoints and their zoo.yaml go.")],
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Variants trained at the same time.")] = 1,
    time_budget: Annotated[float | None, typer.Option("--time-budget", min=0, help="Stop cleanly after so many minutes.")] = None,
    corpora: Annotated[Path | None, typer.Option("--corpora", help="Folder of the recipe's corpus files.")] = None,
    device: DEVICE_OPTION = "auto",
    as_json: JSON_OPTION = False,
) -> None:
    """Pre-train a zoo of variants from a recipe.

    Writes their zoo.yaml. Resumable.

    \b
    Example:
      foretune zoo build recipe.yaml -o zoo --time-budget 10
    """
    from training.build import build

    writable(out, folder=True)
    report = build(
        recipe,
        out,
        jobs=jobs,
        time_budget=time_budget,
        corpora=corpora,
        device=device,
        on_variant=lambda record: log("log_pretrain", record),
    )
    result = finite(dataclasses.asdict(report))
    emit(result, as_json=as_json, text="\n".join(f"{key}: {value}" for key, value in result.items() if value))
    if report.failed:
        raise FailedError(f"{len(report.failed)} variant(s) failed", where=str(out), remedy="mend the recipe and run again")


def log(function: str, *arguments: Any, **settings: Any) -> None:
    """Log a finished stage in MLflow; when that fails the result is still there, so say it and go on."""
    try:
        from training import tracking

        getattr(tracking, function)(*arguments, **settings)
    except ForetuneError as error:
        say(f"not logged in MLflow: {error}")


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command("extract")(extract)
    app.command("finetune")(finetune)
    group(app, "zoo", "Make zoos of checkpoints.", {"build": zoo_build})
