"""A ranking as one HTML page that needs nothing else: tables, inline SVG, no script, no address of anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from serving.report import tie_groups

STYLE = Path(__file__).parent / "page" / "report.css"


def page(
    title: str,
    rankings: Sequence[Mapping[str, Any]],
    tables: Mapping[str, Any],
    comparisons: Mapping[str, Mapping[str, Any]],
    ranker: Mapping[str, Any],
    card: Mapping[str, Any],
) -> str:
    """The page: per task the ranking as chart and table, why the first beats the second, the features; the ranker's card.

    Parameters
    ----------
    tables : task -> DataFrame of features indexed by checkpoint
    comparisons : task -> the ``compare`` object of the first against the second
    ranker, card : who answered, and its hold-out figures
    """
    by = f"Ranked before fine-tuning by {_safe(ranker['name'])}, version {_safe(ranker['version'])}."
    body = [
        f"<h1>{_safe(title)}</h1>",
        f"<p class=sub>{by} The score is the share of the others that "
        "one is expected to beat, a bar its 90 % interval; those in green are too close to the first to call.</p>",
    ]
    for ranking in rankings:
        task = ranking["task"]
        body += [f"<h2>{_safe(task)}</h2>", chart(ranking), _ranking(ranking)]
        if task in comparisons:
            body.append(_why(comparisons[task]))
        if task in tables:
            body.append(_features(tables[task], [row["checkpoint"] for row in ranking["ranking"]]))
    if card:
        shown = _safe(json.dumps(card, indent=2, ensure_ascii=False, default=str)[:20000])
        body += ["<h2>The ranker</h2>", f"<details><summary>Its card</summary><pre>{shown}</pre></details>"]
    head = (
        "<meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{_safe(title)}</title><style>{STYLE.read_text(encoding='utf-8')}</style>"
    )
    return f"<!doctype html>\n<html lang=en><head>{head}</head><body><main>{''.join(body)}</main></body></html>\n"


def chart(ranking: Mapping[str, Any], *, width: int = 760, row: int = 22, label: int = 200) -> str:
    """Scores with their intervals as SVG, best on top; sizes in user units."""
    rows = ranking["ranking"]
    low = min(r["interval"][0] for r in rows)
    span = (max(r["interval"][1] for r in rows) - low) or 1.0

    def x(value: float) -> str:
        return f"{label + 10 + (value - low) / span * (width - label - 30):.1f}"

    marks = []
    groups = tie_groups(ranking)
    for i, r in enumerate(rows):
        y = i * row + row / 2 + 4
        near = "near" if groups[i] == groups[0] else "far"
        name = r["checkpoint"] if len(r["checkpoint"]) <= 28 else r["checkpoint"][:27] + "…"
        words = f"{r['checkpoint']}: {r['score']:.3f}, P(best) {r['p_best']:.3f}"
        marks += [
            f"<text x={label} y={y + 4:.1f} text-anchor=end>{_safe(name)}</text>",
            f"<line x1={x(r['interval'][0])} x2={x(r['interval'][1])} y1={y:.1f} y2={y:.1f} class={near} />",
            f"<circle cx={x(r['score'])} cy={y:.1f} r=4 class={near}><title>{_safe(words)}</title></circle>",
        ]
    return f"<svg viewBox='0 0 {width} {len(rows) * row + 8}' role=img aria-label='Scores with intervals'>{''.join(marks)}</svg>"


def _table(header: Iterable[str], rows: Iterable[Iterable[tuple[str, bool]]]) -> str:
    """A table of ready-made cells: (HTML, is it a number)."""
    rows = [list(row) for row in rows]
    numbers = [number for _, number in rows[0]] if rows else []
    head = "".join(f"<th class=n>{h}" if number else f"<th>{h}" for h, number in zip(header, numbers, strict=False))
    body = "".join("<tr>" + "".join(f"<td class=n>{cell}" if number else f"<td>{cell}" for cell, number in row) for row in rows)
    return f"<table><thead><tr>{head}</thead><tbody>{body}</tbody></table>"


def _ranking(ranking: Mapping[str, Any]) -> str:
    rows = [
        [
            (str(r["rank"]), True),
            (_safe(r["checkpoint"]), False),
            (f"{r['score']:.3f}", True),
            (f"{r['interval'][0]:.3f} to {r['interval'][1]:.3f}", True),
            (f"{r['p_best']:.3f}", True),
            (f"{start} to {end}" if start < end else "–", True),
        ]
        for r, (start, end) in zip(ranking["ranking"], tie_groups(ranking), strict=True)
    ]
    return _table(["rank", "checkpoint", "score", "interval", "P(best)", "too close among"], rows)


def _why(comparison: Mapping[str, Any]) -> str:
    """First against second: the probability and a bar per feature."""
    reasons = comparison["reasons"][:12]
    largest = max((abs(r["contribution"]) for r in reasons), default=1.0) or 1.0
    a, b = _safe(comparison["a"]), _safe(comparison["b"])
    rows = [
        [(_safe(r["feature"]), False), (_value(r["a"]), True), (_value(r["b"]), True), (_bar(r["contribution"] / largest), False)]
        for r in reasons
    ]
    verdict = "too close to call" if comparison["too_close"] else "called"
    return (
        f"<h3>Why {a} before {b}?</h3><p>P({a} beats {b}) = {comparison['probability']:.3f}, {verdict}. "
        f"Bars to the right speak for {a}.</p>" + _table(["feature", a, b, "weight"], rows)
    )


def _bar(share: float) -> str:
    """A bar from -1 (left) to 1 (right)."""
    left, width = 100 + min(0.0, share) * 95, abs(share) * 95
    kind = "pro" if share > 0 else "con"
    return (
        f"<svg viewBox='0 0 200 12' class=bar role=img aria-label='{share:+.2f}'><line x1=100 x2=100 y1=0 y2=12 class=axis />"
        f"<rect x={left:.1f} y=2 width={width:.1f} height=8 class={kind} /></svg>"
    )


def _features(frame: Any, order: Sequence[str]) -> str:
    columns = list(frame.columns)
    rows = [
        [(_safe(name), False), *((_value(frame.at[name, c]), not isinstance(frame.at[name, c], str)) for c in columns)]
        for name in order
        if name in frame.index
    ]
    table = _table(["checkpoint", *map(_safe, columns)], rows)
    return f"<details><summary>{len(columns)} features and configurations</summary><div class=wide>{table}</div></details>"


def _value(value: Any) -> str:
    if value is None or value != value:
        return "–"
    return _safe(value) if isinstance(value, str) else f"{float(value):.4g}"


def _safe(text: Any) -> str:
    return escape(str(text))
