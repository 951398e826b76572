"""Commands that answer: rank, compare, serve."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.errors import UnknownNameError, UserError
from features.writing import write_text
from serving.cli_measure import complain, measured, record
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
    need_tasks,
    root,
    say,
    store_path,
    table,
    writable,
    zoo_and_tasks,
)

if TYPE_CHECKING:
    from features.tasks import Task
    from features.zoo import Zoo
    from serving.catalogue import Catalogue

TABLE_OPTION = Annotated[
    str | None, typer.Option("--table", help="A comparison table, or the name of a reference table, that has the checkpoints.")
]


def rank(
    source: Annotated[
        str,
        typer.Argument(metavar="ZOO|TABLE", help="A zoo's manifest (.yaml), a table, or a reference table's name."),
    ],
    task: TASK_OPTION = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="OUT", help="Write the ranking: .csv, .json or .md.")] = None,
    fmt: Annotated[
        str | None, typer.Option("--format", help="csv, json, markdown or pairs (model_a,model_b,winner), whatever the suffix.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="REPORT", help="Write a self-contained HTML report.")] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="Also say how probable it is to be among the first K.")
    ] = None,
    features: Annotated[str | None, typer.Option("--features", help="For a zoo: comma-separated names of extractors.")] = None,
    backend: Annotated[str, typer.Option("--backend", help="For a zoo: inline, process or ray.")] = "inline",
    device: DEVICE_OPTION = "auto",
    dtype: DTYPE_OPTION = "auto",
    limit: LIMIT_OPTION = None,
    examples: EXAMPLES_OPTION = None,
    trust: TRUST_OPTION = None,
    pickle: PICKLE_OPTION = None,
    store: STORE_OPTION = None,
    as_json: JSON_OPTION = False,
) -> None:
    """Rank checkpoints before any fine-tuning.

    A zoo is measured first, as far as it was not measured before, and what was measured is recorded in MLflow. The champion of
    MLflow answers, or the default ranker where there is none.

    \b
    Example:
      foretune rank zoo.yaml --task films.yaml --html report.html
      foretune rank zeng2025 --task sft_cms
    """
    from serving import answers, html_report, report
    from serving.catalogue import Catalogue, read_known
    from serving.champion import current

    if out is not None:
        wanted = report.kind(out, fmt)
    elif fmt is not None:
        raise UserError("--format without --out", remedy="add -o FILE")
    for file in filter(None, (out, html)):
        writable(file)
    extracted = None
    if _is_zoo(source):
        zoo, tasks = zoo_and_tasks(Path(source), task, only=True)
        need_tasks(tasks, Path(source))
        extracted = measured(zoo, tasks, features, backend, None, device, dtype, limit, examples, trust, pickle, store)
        if features is None:  # what was measured by name before speaks too
            catalogue = _of_store(zoo, tasks, limit, dtype, store, examples, pickle)
        else:
            catalogue = Catalogue.of_features(extracted.rows, zoo, [t.name for t in tasks])
        if extracted.failed and (not catalogue.tables or min(map(len, catalogue.tables.values())) < 2):
            record(extracted, features=features or "default", dtype=dtype, backend=backend, limit=limit)
            complain(extracted, source)
        chosen = list(catalogue.tables)
    else:
        catalogue = Catalogue.of_table(read_known(source), Path(source).stem)
        alone = [name for name, rows in catalogue.tables.items() if len(rows) < 2]
        if task or len(alone) == len(catalogue.tables):
            alone = []
        for name in alone:
            say(f"task {name}: one checkpoint, nothing to rank")
        chosen = list(task) if task else [name for name in catalogue.tables if name not in alone]
    snapshot = current(root(), warn=say)
    rankings = [answers.rank_task(snapshot, catalogue, name, top_k=top_k) for name in chosen]
    if out is not None:
        pair_rows = _pairs(snapshot, catalogue, rankings) if wanted == "pairs" else []
        report.write(rankings, out, wanted, pair_rows)
    if html is not None:
        duels = {
            r["task"]: answers.compare_known(snapshot, catalogue, r["task"], *(row["checkpoint"] for row in r["ranking"][:2]))
            for r in rankings
        }
        page = html_report.page(
            f"foretune: {catalogue.name}",
            rankings,
            catalogue.tables,
            duels,
            snapshot.identity,
            getattr(snapshot.ranker, "card_", {}),
        )
        write_text(html, page)
    emit(rankings[0] if len(rankings) == 1 else {"rankings": rankings}, as_json=as_json, text="\n\n".join(map(_show, rankings)))
    if not as_json:
        say(f"\nranked by {snapshot.name}, version {snapshot.version}" + "".join(f"; {p} written" for p in (out, html) if p))
    if extracted is not None:  # the answer is out: recording may take its time
        record(extracted, features=features or "default", dtype=dtype, backend=backend, limit=limit)
        complain(extracted, source)


def _is_zoo(source: str) -> bool:
    return source.lower().endswith((".yaml", ".yml"))


def _pairs(snapshot: Any, catalogue: Any, rankings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Arena-style rows of all tasks."""
    import numpy as np

    from serving import report

    rows = []
    for ranking in rankings:
        frame = catalogue.table(ranking["task"]).loc[[row["checkpoint"] for row in ranking["ranking"]]]
        n = len(frame)
        i, j = np.triu_indices(n, 1)
        matrix = np.full((n, n), 0.5)
        matrix[i, j] = snapshot.ranker.compare(frame.iloc[i], frame.iloc[j], task=ranking["task"], context=frame)
        rows += report.pairs(ranking, matrix)
    return rows


def _show(ranking: Mapping[str, Any]) -> str:
    rows = [
        (
            r["rank"],
            r["checkpoint"],
            r["score"],
            f"[{r['interval'][0]:.3f}, {r['interval'][1]:.3f}]",
            r["p_best"],
            _ties(r["tied_with"]),
        )
        for r in ranking["ranking"]
    ]
    return f"task {ranking['task']}\n" + table(rows, ["rank", "checkpoint", "score", "interval", "P(best)", "tied with"])


def _ties(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f", +{len(names) - 4}" if len(names) > 4 else "")


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A checkpoint's name.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another's.")],
    task: Annotated[str | None, typer.Option("--task", "-t", help="The task: its name, or for a zoo its YAML file.")] = None,
    table_: TABLE_OPTION = None,
    zoo: Annotated[
        Path | None, typer.Option("--zoo", help="The zoo's manifest; both are measured as far as they were not measured before.")
    ] = None,
    limit: LIMIT_OPTION = None,
    device: DEVICE_OPTION = "auto",
    dtype: DTYPE_OPTION = "auto",
    store: STORE_OPTION = None,
    as_json: JSON_OPTION = False,
) -> None:
    """Which of two will be better, how sure, and why.

    Without --table and --zoo, what was measured here before and is kept in MLflow answers.

    \b
    Example:
      foretune compare small large --task films.yaml --zoo zoo.yaml
      foretune compare model-01 model-15 --task sft_cms --table zeng2025
    """
    from serving import answers
    from serving.catalogue import Catalogue, read_known
    from serving.champion import current
    from serving.remembered import both

    if table_ is not None and zoo is not None:
        raise UserError("--table and --zoo exclude each other", remedy="give the one that knows both checkpoints")
    name, extracted = task, None
    if table_ is not None:
        catalogue = Catalogue.of_table(read_known(table_), Path(table_).stem)
    elif zoo is None:
        catalogue = both(root(), a, b)
    else:
        manifest, tasks = zoo_and_tasks(zoo, [task] if task else None, only=True)
        need_tasks(tasks, zoo)
        for checkpoint in (a, b):
            if checkpoint not in {c.name for c in manifest.checkpoints}:
                raise UnknownNameError(
                    f"checkpoint {checkpoint!r} is not in the zoo",
                    where=str(zoo),
                    remedy=f"one of: {', '.join(c.name for c in manifest.checkpoints)}",
                )
        pair = dataclasses.replace(manifest, checkpoints=tuple(c for c in manifest.checkpoints if c.name in (a, b)))
        extracted = measured(pair, tasks, None, "inline", None, device, dtype, limit, None, None, None, store)
        catalogue = _of_store(manifest, tasks, limit, dtype, store)
        if not catalogue.tables or not all({a, b} <= set(known.index) for known in catalogue.tables.values()):
            complain(extracted, str(zoo))
        name = next(iter(catalogue.tables)) if len(catalogue.tables) == 1 else task
    snapshot = current(root(), warn=say)
    result = answers.compare_known(snapshot, catalogue, name, a, b)
    emit(result, as_json=as_json, text=_verdict(result))
    if extracted is not None:
        record(extracted, features="default", dtype=dtype, backend="inline", limit=limit)


def _of_store(
    zoo: Zoo,
    tasks: Sequence[Task],
    limit: int | None,
    dtype: str,
    store: Path | None,
    examples: Path | None = None,
    pickle: list[str] | None = None,
) -> Catalogue:
    """All of a zoo that is measured by now: what a checkpoint is like is said beside the others."""
    from features.extract import LIMIT, stored
    from serving.catalogue import Catalogue

    rows = stored(
        zoo,
        tasks,
        store=store_path(store),
        examples=examples,
        limit=LIMIT if limit is None else limit,
        dtype=None if dtype == "auto" else dtype,
        allow_pickle=pickle or (),
    )
    return Catalogue.of_features(rows, zoo, [t.name for t in tasks])


SHOWN = 6  # reasons, and features not measured, that a person is shown; --json has them all


def _verdict(result: Mapping[str, Any]) -> str:
    p = result["probability"]
    low, high = result["interval"]
    sure = max(p, 1 - p)
    odds = f"P({result['a']} beats {result['b']}) = {p:.3f} [{low:.3f}, {high:.3f}]"
    head = (
        f"too close to call: {odds}"
        if result["too_close"]
        else f"{result['winner']} will be better on {result['task']}, with probability {sure:.3f}; {odds}"
    )
    lines = [(r["feature"], r["a"], r["b"], r["contribution"]) for r in result["reasons"][:SHOWN]]
    if others := result["reasons"][SHOWN:]:
        lines.append((f"{len(others)} more", None, None, sum(r["contribution"] for r in others)))
    text = head + ("\n\n" + table(lines, ["feature", result["a"], result["b"], f"speaks for {result['a']}"]) if lines else "")
    if result["missing"]:
        more = len(result["missing"]) - SHOWN
        text += f"\n\nnot measured: {', '.join(result['missing'][:SHOWN])}{f' and {more} more' if more > 0 else ''}"
    ranker = result["ranker"]
    return text + f"\n\nranker {ranker['name']}, version {ranker['version']}"


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on.")] = 3000,
    zoo: Annotated[Path | None, typer.Option("--zoo", help="Zoo whose checkpoints the service knows and may measure.")] = None,
    task: Annotated[
        list[Path] | None, typer.Option("--task", "-t", help="A task file beside those of the zoo. May be repeated.")
    ] = None,
    table_: TABLE_OPTION = None,
    store: STORE_OPTION = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File with the bearer token (or FORETUNE_TOKEN in the environment).")
    ] = None,
) -> None:
    """Answer over HTTP, with a web page at /.

    The newest champion of MLflow is taken over while running.

    \b
    Example:
      foretune serve --zoo zoo.yaml --port 3000
    """
    from serving.settings import Settings
    from serving.start import start

    tasks = os.pathsep.join(map(str, task)) if task else None
    settings = Settings.read(zoo=zoo, tasks=tasks, table=table_, store=store, token_file=token_file)
    start(settings, host, port)


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command("rank")(rank)
    app.command("compare")(compare)
    app.command("serve")(serve)
