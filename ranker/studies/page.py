"""A study's results as Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.writing import whole, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Page:
    """What a study writes.

    Attributes
    ----------
    title, command : heading, and the line that regenerates the page
    blocks : Markdown paragraphs and tables, in order
    figures : the same numbers for machines
    pictures : name -> (figure, where its block stands, what it shows)
    """

    title: str
    command: str
    blocks: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, tuple[Figure, int, str]] = field(default_factory=dict)

    def picture(self, name: str, figure: Figure, shows: str) -> None:
        """A picture after what was said so far, written as PNG beside the page."""
        self.pictures[name] = (figure, len(self.blocks), shows)

    def text(self, paragraph: str) -> None:
        self.blocks.append(paragraph)

    def table(self, heading: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> None:
        lines = [f"## {heading}", ""]
        if note:
            lines += [note, ""]
        lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(cell(v) for v in row) + " |" for row in rows]
        self.blocks.append("\n".join(lines))

    def markdown(self) -> str:
        return "\n\n".join([f"# {self.title}", f"Written by `{self.command}`; do not edit.", *self.blocks]) + "\n"

    def write(self, path: Path) -> None:
        """The page at `path` and the figures beside it, as .json."""
        blocks = list(self.blocks)
        for name, (figure, place, shows) in reversed(self.pictures.items()):
            file = path.with_name(f"{path.stem}_{name}.png")
            with whole(file) as draft:
                figure.savefig(draft, dpi=90, format="png")
            blocks.insert(place, f"![{shows}]({file.name})")
        write_text(path, Page(self.title, self.command, blocks).markdown())
        write_text(path.with_suffix(".json"), json.dumps(rounded(self.figures), indent=1, sort_keys=True) + "\n")


def cell(value: Any) -> str:
    """.754 for a share, words as they are, a dash for nothing."""
    if value is None:
        return "-"
    if isinstance(value, float):
        text = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
        return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
    return str(value)


def with_interval(figures: dict[str, Any]) -> str:
    """``.754 [.700, .801]``."""
    low, high = figures["ci95"]
    return f"{cell(figures['accuracy'])} [{cell(low)}, {cell(high)}]"


def difference(figures: dict[str, Any]) -> str:
    """``+.012 [-.003, +.027]`` of a figure's ``against``."""
    one = figures["against"]
    return f"{signed(one['difference'])} [{', '.join(signed(v) for v in one['ci95'])}]"


def signed(value: float | None) -> str:
    if value is None:
        return "-"
    return ("+" if value >= 0 else "-") + cell(abs(float(value)))


def rounded(value: Any) -> Any:
    """Floats to five digits, so that a rerun changes no digit of the JSON for nothing."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {str(k): rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v) for v in value]
    return value
