"""A page of text, tables and pictures, written as Markdown beside its pictures and as one HTML file that holds them."""

from __future__ import annotations

import base64
import html
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from features.dynamics import pictures
from features.writing import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;font-size:.9em;display:block;overflow-x:auto}td,th{border:1px solid #ccc;padding:.2rem .5rem}"
    "figure{margin:1.5rem 0}img{max-width:100%}figcaption{color:#555}code{background:#f3f3f3}"
)


@dataclass
class Page:
    """Blocks in the order in which they are added; `write` makes the files."""

    title: str
    _markdown: list[str] = field(default_factory=list)
    _html: list[str] = field(default_factory=list)
    _pictures: list[tuple[str, Figure]] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """A heading of the second level."""
        self._markdown += [f"## {text}", ""]
        self._html.append(f"<h2>{_inline(text)}</h2>")

    def text(self, *lines: str) -> None:
        """A paragraph; `code` in backquotes."""
        self._markdown += [*lines, ""]
        self._html.append(f"<p>{_inline(' '.join(lines))}</p>")

    def table(self, frame: pd.DataFrame) -> None:
        """A table; numbers as they are, so round them first."""
        self._markdown += [markdown(frame), ""]
        cells = "".join(
            "<tr>" + "".join(f"<td>{_inline(_cell(cell))}</td>" for cell in row) + "</tr>"
            for row in frame.itertuples(index=False)
        )
        head = "".join(f"<th>{_inline(str(column))}</th>" for column in frame.columns)
        self._html.append(f"<table><tr>{head}</tr>{cells}</table>")

    def picture(self, figure: Figure, name: str, caption: str) -> None:
        """A picture, to be written as NAME.png."""
        self._pictures.append((name, figure))
        self._markdown += [f"![{caption}]({name}.png)", "", caption, ""]
        self._html.append(f"<figure><!--{name}--><figcaption>{_inline(caption)}</figcaption></figure>")

    def write(self, path: Path | str, *, within: str = "", as_html: bool = True) -> list[Path]:
        """Write PATH (Markdown), its pictures (beside it, or in the folder `within` beside it) and, as_html, PATH's .html."""
        path = Path(path)
        folder = path.parent / within
        path.parent.mkdir(parents=True, exist_ok=True)
        files, body, text = [path], "\n".join(self._html), "\n".join([f"# {self.title}", "", *self._markdown])
        for name, figure in self._pictures:
            file = pictures.write(figure, folder / f"{name}.png")
            files.append(file)
            if within:
                text = text.replace(f"]({name}.png)", f"]({within}/{name}.png)")
            data = base64.b64encode(file.read_bytes()).decode()
            body = body.replace(f"<!--{name}-->", f'<img alt="{html.escape(name)}" src="data:image/png;base64,{data}">')
        write_text(path, text.rstrip("\n") + "\n")
        if as_html:
            head = f'<meta charset="utf-8"><title>{html.escape(self.title)}</title><style>{_STYLE}</style>'
            body = f"<h1>{html.escape(self.title)}</h1>{body}"
            page = f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'
            write_text(path.with_suffix(".html"), page)
            files.append(path.with_suffix(".html"))
        return files


def markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table, without its index."""
    head = "| " + " | ".join(map(str, frame.columns)) + " |\n|" + "---|" * len(frame.columns)
    return "\n".join([head, *("| " + " | ".join(map(_cell, row)) + " |" for row in frame.itertuples(index=False))])


def _cell(value: object) -> str:
    return "" if value is None or (isinstance(value, float) and pd.isna(value)) else str(value)


def _inline(text: str) -> str:
    escaped = html.escape(text)
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escaped)
