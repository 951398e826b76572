"""Commands that turn rows into rows, and measure nothing: table, outcomes import, import lm-eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from features.errors import UserError
from features.rows import FEATURE_COLUMNS
from serving.console import JSON_OPTION, emit, group, read_long, root, suffix, writable, write_table


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
    writable(out)
    joined = join(
        read_long(features, FEATURE_COLUMNS, "FEATURES"), read_long(outcomes, ["checkpoint", "task", "outcome"], "OUTCOMES")
    )
    write_table(joined, out)
    names = [c for c in joined.columns if c not in ("task", "checkpoint", "outcome", "outcome_sd", "zoo", "group")]
    result = {"out": str(out), "rows": len(joined), "tasks": sorted(joined["task"].unique()), "columns": names}
    emit(result, as_json=as_json, text=f"{len(joined)} rows, {len(names)} features and configurations, written to {out}")


def outcomes_import(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Outcome rows (CSV, Parquet, JSONL): checkpoint, task, outcome; recipe, seed, ... if known.",
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
    emit(report, as_json=as_json, text=", ".join(f"{key} {value}" for key, value in report.items() if value != ""))


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
    from features.imports import lm_eval

    suffix(out)
    writable(out)
    if not folder.is_dir():
        raise UserError("no such folder", where=str(folder), remedy="give the --output_path of lm-eval")
    rows = lm_eval(folder)
    write_table(rows, out)
    names = sorted(rows["checkpoint"].unique())
    result = {"out": str(out), "rows": len(rows), "checkpoints": names}
    emit(result, as_json=as_json, text=f"{len(rows)} features of {len(names)} checkpoints written to {out}")


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command("table")(make_table)
    group(app, "outcomes", "Feed back what fine-tuning gave.", {"import": outcomes_import})
    group(app, "import", "Take over what other tools measured.", {"lm-eval": import_lm_eval})
