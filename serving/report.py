"""Rankings on paper: CSV, JSON, Markdown, arena-style pairs. The HTML report is `serving.html_report`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.errors import UserError
from features.writing import write_text

FORMATS = {".csv": "csv", ".json": "json", ".md": "markdown", ".html": "html"}
COLUMNS = ["task", "rank", "checkpoint", "score", "low", "high", "p_best", "tied_with"]


def kind(path: Path, given: str | None) -> str:
    """The format of `path`: the one given, or by suffix.

    Raises
    ------
    UserError : unknown format or suffix
    """
    if given is not None:
        if given not in ("csv", "json", "markdown", "pairs"):
            raise UserError(f"format {given!r} is not known", where="--format", remedy="one of: csv, json, markdown, pairs")
        return given
    found = FORMATS.get(path.suffix.lower())
    if found is None or found == "html":
        raise UserError(
            f"suffix {path.suffix!r} is not known",
            where=str(path),
            remedy="use .csv, .json or .md, or --format pairs; --html makes a report",
        )
    return found


def flat(rankings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One flat row per task and checkpoint (`COLUMNS`); `tied_with` is a JSON list, since names may hold blanks and commas."""
    rows = []
    for ranking in rankings:
        for row in ranking["ranking"]:
            low, high = row["interval"]
            rows.append(
                {
                    "task": ranking["task"],
                    "rank": row["rank"],
                    "checkpoint": row["checkpoint"],
                    "score": row["score"],
                    "low": low,
                    "high": high,
                    "p_best": row["p_best"],
                    "tied_with": json.dumps(row["tied_with"], ensure_ascii=False),
                }
            )
    return rows


def as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Comma-separated rows with a header. A text that a spreadsheet would run as a formula is written with a leading quote."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(columns), lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: ("'" + v if isinstance(v, str) and v[:1] in "=+-@" and v else v) for k, v in row.items()})
    return out.getvalue()


def as_markdown(rankings: Sequence[Mapping[str, Any]]) -> str:
    """One heading and table per task."""
    parts = []
    for ranking in rankings:
        parts += [
            f"## {_cell(ranking['task'])}",
            "",
            "| rank | checkpoint | score | interval | P(best) | tied with |",
            "|---:|---|---:|---|---:|---|",
        ]
        for row in ranking["ranking"]:
            low, high = row["interval"]
            ties = ", ".join(_cell(t) for t in row["tied_with"])
            cells = [
                row["rank"],
                _cell(row["checkpoint"]),
                _num(row["score"]),
                f"{_num(low)} to {_num(high)}",
                _num(row["p_best"]),
                ties,
            ]
            parts.append(f"| {' | '.join(map(str, cells))} |")
        parts.append("")
    return "\n".join(parts)


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _num(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def tie_groups(ranking: Mapping[str, Any]) -> list[tuple[int, int]]:
    """First and last rank of each row's tie group; groups stand one below the other, and a row names only the nearest of its
    own.
    """
    starts: list[int] = []
    before = None
    for row in ranking["ranking"]:
        starts.append(starts[-1] if starts and before in row["tied_with"] else row["rank"])
        before = row["checkpoint"]
    last = {start: row["rank"] for start, row in zip(starts, ranking["ranking"], strict=True)}
    return [(start, last[start]) for start in starts]


def pairs(ranking: Mapping[str, Any], probability: Any) -> list[dict[str, Any]]:
    """Arena-style rows, one per pair: ``model_a, model_b, winner`` (model_a, model_b or tie), P(a beats b), task.

    Parameters
    ----------
    probability : square array in the order of the ranking, P(row beats column)
    """
    rows, group = ranking["ranking"], tie_groups(ranking)
    found = []
    for i, a in enumerate(rows):
        for j in range(i + 1, len(rows)):
            b = rows[j]
            p = float(probability[i][j])
            winner = "tie" if group[i] == group[j] else ("model_a" if p > 0.5 else "model_b")
            found.append(
                {
                    "model_a": a["checkpoint"],
                    "model_b": b["checkpoint"],
                    "winner": winner,
                    "probability": p,
                    "task": ranking["task"],
                }
            )
    return found


def write(rankings: Sequence[Mapping[str, Any]], path: Path, fmt: str, pair_rows: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write `rankings` to `path` as csv, json, markdown or pairs."""
    if fmt == "csv":
        text = as_csv(flat(rankings), COLUMNS)
    elif fmt == "json":
        text = (
            json.dumps(
                rankings[0] if len(rankings) == 1 else {"rankings": list(rankings)}, indent=2, ensure_ascii=False, allow_nan=False
            )
            + "\n"
        )
    elif fmt == "markdown":
        text = as_markdown(rankings)
    else:
        text = as_csv(pair_rows, ["model_a", "model_b", "winner", "probability", "task"])
    write_text(path, text)
