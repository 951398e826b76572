"""What every command shares: results on stdout, everything else on stderr, files by suffix, names of places."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.errors import DataError, UnknownNameError, UserError
from features.writing import whole

if TYPE_CHECKING:
    import pandas as pd

    from features.tasks import Task
    from features.zoo import Zoo

JSON_OPTION = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout, and nothing else.")]
TASK_OPTION = Annotated[
    list[str] | None,
    typer.Option("--task", "-t", help="A task: its YAML file, or its name in the zoo or table. May be repeated."),
]
STORE_OPTION = Annotated[
    Path | None, typer.Option("--store", help="The feature store (default: features.db beside the MLflow store).")
]
DEVICE_OPTION = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
LIMIT_OPTION = Annotated[int | None, typer.Option("--limit", min=1, help="Examples of each task at most (default: 200).")]
EXAMPLES_OPTION = Annotated[
    Path | None, typer.Option("--examples", metavar="FILE", help="Measure on the examples that foretune select chose.")
]
TRUST_OPTION = Annotated[
    list[str] | None,
    typer.Option("--trust-remote-code", metavar="NAME", help="A checkpoint whose own code may run. May be repeated."),
]
PICKLE_OPTION = Annotated[
    list[str] | None,
    typer.Option("--allow-pickle", metavar="NAME", help="A checkpoint whose pickled weights may be read. May be repeated."),
]
TEXTS = ("zoo", "checkpoint", "digest", "task", "name", "recipe", "metric", "error")  # columns of FEATURES and OUTCOMES
DTYPE_OPTION = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")]


def root() -> Path:
    """The folder under which ``mlruns/`` holds everything that foretune writes by itself: the current one."""
    return Path.cwd()


def store_path(store: Path | None) -> Path:
    """The feature store: `store`, or the one beside the MLflow store; its folder is made."""
    from features.store import default_path

    path = store or root() / default_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def say(text: str) -> None:
    """A line for the person, on stderr: stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def finite(value: Any) -> Any:
    """`value` ready for strict JSON: numpy scalars unpacked, NaN and infinities as null."""
    kind = type(value)
    if kind is float:  # the commonest first: every answer goes through here
        return value if math.isfinite(value) else None
    if kind is str or value is None:
        return value
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def emit(result: Any, *, as_json: bool, text: str) -> None:
    """Print `result` as one JSON document, or `text` for a person."""
    print(json.dumps(finite(result), indent=2, ensure_ascii=False, allow_nan=False) if as_json else text)


def table(rows: Iterable[Sequence[Any]], header: Sequence[str]) -> str:
    """Rows as aligned text; numbers to the right."""
    cells = [[_cell(c) for c in row] for row in rows]
    widths = [max(len(h), *(len(r[i]) for r in cells)) if cells else len(h) for i, h in enumerate(header)]
    numeric = [bool(cells) and all(_is_number(r[i]) for r in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)).rstrip()

    return "\n".join([line(list(header)), line(["-" * w for w in widths]), *(line(r) for r in cells)])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if not math.isfinite(value) else f"{value:.3f}" if abs(value) < 1e9 else f"{value:.3e}"
    return "" if value is None else str(value)


def _is_number(text: str) -> bool:
    try:
        return not text or math.isfinite(float(text.removesuffix("%")))
    except ValueError:
        return False


def read_long(path: Path, columns: Sequence[str], what: str) -> pd.DataFrame:
    """A long file (FEATURES or OUTCOMES; CSV or Parquet by suffix) with at least `columns`, text columns without NaN.

    Raises
    ------
    DataError : missing or unreadable file, wrong suffix, missing columns
    """
    from ranker.files import load_frame

    suffix(path)
    frame = load_frame(path, (*TEXTS, "text"))
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise DataError(
            f"column {missing[0]!r} is missing", where=str(path), remedy=f"a {what} file has the columns {', '.join(columns)}"
        )
    for column in TEXTS:
        if column in frame.columns:
            frame[column] = frame[column].fillna("").astype(str)
    return frame


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """CSV or Parquet by suffix, whole or not at all."""
    kind = suffix(path)
    with whole(path) as draft:
        if kind == ".parquet":
            frame.to_parquet(draft, index=False)
        else:
            frame.to_csv(draft, index=False)


def writable(path: Path, *, folder: bool = False) -> None:
    """Refuse a file (or `folder`) that cannot be written, before hours go into what it should hold; makes nothing.

    Raises
    ------
    UserError : names what is in the way
    """
    if path.exists() and path.is_dir() != folder:
        found, remedy = ("is a file", "name a folder") if folder else ("is a folder", "name a file in it")
        raise UserError(found, where=str(path), remedy=remedy)
    there = path if path.exists() else next(p for p in (path.absolute().parents) if p.exists())
    if not path.exists() and not there.is_dir():
        raise UserError(f"cannot be written: {there} is no folder", where=str(path), remedy="name another place")
    if not os.access(there, os.W_OK):
        raise UserError(
            f"cannot be written: no permission to write to {there}",
            where=str(path),
            remedy="name another place, or change its mode",
        )


def suffix(path: Path) -> str:
    """``.csv`` or ``.parquet``; anything else is a DataError."""
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise DataError(f"suffix {path.suffix!r} is not known", where=str(path), remedy="use .csv or .parquet")
    return path.suffix.lower()


def zoo_and_tasks(manifest: Path, tasks: Sequence[str] | None, *, only: bool = False) -> tuple[Zoo, list[Task]]:
    """The zoo of `manifest` and the tasks that are meant.

    ``--task`` NAME chooses among the zoo's tasks; ``--task`` FILE adds one, or replaces the zoo's of the same name. With
    `only`, nothing but what is named counts, as a question about one task asks for it.

    Raises
    ------
    UnknownNameError : neither a file nor the name of a task of the zoo
    """
    from features.extract import resolve_tasks
    from features.zoo import Zoo

    zoo = Zoo.read(manifest)
    own = resolve_tasks(zoo)
    if not tasks:
        return zoo, own
    known = {task.name for task in own}
    names = [t for t in tasks if t in known]
    files = [t for t in tasks if t not in known]
    for text in files:
        if not Path(text).is_file():
            raise UnknownNameError(
                f"task {text!r} is not known",
                where=str(manifest),
                remedy=f"give a task file, or one of: {', '.join(known) or '(the zoo lists none)'}",
            )
    found = resolve_tasks(zoo, files)
    if names or only:
        added = {task.name for task in found[len(found) - len(files) :]} if files else set()
        found = [task for task in found if task.name in names or task.name in added]
    return zoo, found


def need_tasks(tasks: Sequence[Any], manifest: Path) -> None:
    """Refuse to go on without a task."""
    if not tasks:
        raise UserError(
            "no task is named", where=str(manifest), remedy="list it under `tasks:` in the zoo, or add --task TASK.yaml"
        )


def group(app: typer.Typer, name: str, help_: str, commands: Mapping[str, Callable[..., None]]) -> None:
    """Add a command that has commands of its own to `app`."""
    made = typer.Typer(name=name, help=help_, no_args_is_help=True, rich_markup_mode=None)
    made.callback()(lambda: None)
    for command, function in commands.items():
        made.command(command)(function)
    app.add_typer(made)
