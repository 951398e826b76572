"""Rows of a task's data: CSV, TSV, JSON, JSONL or Parquet (each also .gz), or a Hub data set. Every mistake names the file and
the line.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import DataError

# A file is in memory before it is parsed, so a limit (131,072 characters a field) saves nothing: a long text is read from CSV as
# it is from JSONL. The csv module has one limit for the whole process: raised once, here, it holds for every thread.
csv.field_size_limit(2**31 - 1)

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row: its fields, its split as the source names it ("" where the source has none) and where it stands, for messages."""

    fields: Mapping[str, Any]
    split: str
    at: str


def format_of(path: Path) -> str:
    """The format that a name's ending says, without .gz. Raises DataError for any other."""
    name = path.name.lower().removesuffix(".gz")
    for ending in FORMATS:
        if name.endswith(ending):
            return ending
    raise DataError(
        f"cannot tell the format of {path.name!r}", where=str(path), remedy=f"name it with one of {', '.join(FORMATS)} (or .gz)"
    )


def read_rows(path: Path, *, split: str = "") -> list[Row]:
    """All rows of a local file. A column `split` gives each row's split, unless the file as a whole is named as one split.

    Raises DataError: no such file, not that format, a line that is not an object, a CSV line with too few or too many fields,
    JSON that Python cannot hold (half of a surrogate pair, a number of thousands of digits, deep nesting), no rows.
    """
    if not path.is_file():
        raise DataError("no such data file", where=str(path), remedy="paths are relative to the file that names them")
    ending = format_of(path)
    try:
        raw = gzip.decompress(path.read_bytes()) if path.name.lower().endswith(".gz") else path.read_bytes()
        if ending == ".parquet":
            found = _parquet(raw)
        else:
            text = raw.decode("utf-8-sig")
            found = (
                _delimited(text, path, "\t" if ending == ".tsv" else _delimiter(text))
                if ending in (".csv", ".tsv")
                else _json(text, path, ending)
            )
        rows = [Row(fields, split or _split(fields), f"{path}: {unit} {number}") for number, unit, fields in found]
    except gzip.BadGzipFile:
        raise DataError("not a gzip file, though its name says so", where=str(path), remedy="name it without .gz") from None
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"cannot be read: {error}", where=str(path), remedy="check the file") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"not UTF-8 text ({error.reason} at byte {error.start})", where=str(path), remedy="save it as UTF-8"
        ) from None
    if not rows:
        raise DataError("the data is empty", where=str(path), remedy="a task needs at least 4 examples")
    return rows


def _split(fields: Mapping[str, Any]) -> str:
    value = fields.get("split")
    return str(value).strip().lower() if value not in (None, "") else ""


def _delimiter(text: str) -> str:
    """What separates the names of a CSV file's header: that which stands there most (many spreadsheets write semicolons)."""
    header = text.lstrip("\r\n").split("\n", 1)[0]
    return max(",;\t", key=header.count)


def _delimited(text: str, path: Path, delimiter: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if len(set(header)) < len(header) or not all(header):
            raise DataError(f"the header is {header}", where=f"{path}: line 1", remedy="give each column a name of its own")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{len(cells)} fields, where the header has {len(header)}",
                    where=f"{path}: line {reader.line_num}",
                    remedy="put text that holds the delimiter or a line break in double quotes",
                )
            yield reader.line_num, "line", dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"not CSV: {error}", where=f"{path}: line {reader.line_num}", remedy="mend the quotes there") from None


def json_value(text: str, where: str, *, strict: bool = True) -> Any:
    """The value of a JSON text, as `json.loads` reads it.

    Raises json.JSONDecodeError for what is not JSON, and DataError for JSON that cannot be worked with: half of a surrogate
    pair (no tokenizer takes it), a number of more digits than Python reads, nesting deeper than its stack.
    """
    try:
        value = json.loads(text, strict=strict)
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError:
        raise
    except UnicodeEncodeError as error:
        before, half = error.object[max(0, error.start - 30) : error.start], ord(error.object[error.start])
        raise DataError(
            f"\\u{half:04x} after {before!r} is half of a surrogate pair, no character",
            where=where,
            remedy="write the whole pair, or \\ufffd in its place",
        ) from None
    except ValueError:
        raise DataError(
            f"a number of more than {sys.get_int_max_str_digits():,} digits", where=where, remedy="write it as text"
        ) from None
    except RecursionError:
        raise DataError("nested too deeply", where=where, remedy="write flat objects") from None
    return value


def _json(text: str, path: Path, ending: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    if ending == ".json" and text.lstrip().startswith("["):
        try:
            items: list[tuple[int, Any]] = list(enumerate(json_value(text, str(path))))
        except json.JSONDecodeError as error:
            raise DataError(f"not JSON: {error.msg}", where=f"{path}: line {error.lineno}", remedy="mend it there") from None
        unit = "item"
    else:
        items, unit = list(_json_lines(text, path)), "line"
    for number, item in items:
        if not isinstance(item, dict):
            raise DataError(
                f"expected an object, found {type(item).__name__}",
                where=f"{path}: {unit} {number}",
                remedy="write one JSON object a line",
            )
        yield number, unit, item


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, value) of each line. Raw line breaks inside a string are forgiven, where the lines together are one value."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        number, line = at + 1, lines[at]
        at += 1
        if not line.strip():
            continue
        try:
            yield number, json_value(line, f"{path}: line {number}")
            continue
        except json.JSONDecodeError as error:
            first = error
        for end in range(at + 1, min(at + 21, len(lines) + 1)):
            try:
                value = json_value("\n".join([line, *lines[at:end]]), f"{path}: line {number}", strict=False)
                break
            except json.JSONDecodeError:
                continue
        else:
            raise DataError(
                f"not JSON: {first.msg} at character {first.pos}",
                where=f"{path}: line {number}",
                remedy="write one JSON object a line",
            ) from None
        at = end
        yield number, value


def _parquet(raw: bytes) -> Iterator[tuple[int, str, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        items = pq.read_table(pa.BufferReader(raw)).to_pylist()
    except pa.ArrowException as error:
        raise OSError(str(error).splitlines()[0]) from None
    for number, item in enumerate(items):
        yield number, "row", item


def read_hub(dataset: str, name: str | None, *, where: str, root: Path, revision: str | None = None) -> list[Row]:
    """All rows of all splits of a Hub data set (or of a folder that `datasets` reads), through the Hub cache.

    Raises DataError when it cannot be had: offline and not in the cache, no such data set or configuration, no rows.
    """
    import datasets

    folder = root / dataset
    try:
        loaded = datasets.load_dataset(str(folder) if folder.is_dir() else dataset, name, revision=revision)
    except Exception as error:  # `datasets` raises many kinds, from HTTP to its own
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"the data set {dataset!r} cannot be had: {first}",
            where=where,
            remedy="check the name; offline, download it first or name a local file with `data:`",
        ) from None
    rows = [Row(item, str(split), f"{dataset}: {split} row {i}") for split, part in loaded.items() for i, item in enumerate(part)]
    if not rows:
        raise DataError("the data is empty", where=where, remedy="a task needs at least 4 examples")
    return rows
