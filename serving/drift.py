"""Drift: how many of the questions lie outside the ranges that the ranker was fitted on, feature by feature.

Only values given under the name that the ranker was fitted with are counted: an alias may be in another unit.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class Drift:
    """Counts per feature; a new ranker begins anew.

    Attributes
    ----------
    ranges : feature -> (lowest, highest) value in training
    seen, outside : feature -> sides of questions that had it, that had it outside the range
    """

    def __init__(self, card: Mapping[str, Any]) -> None:
        self.ranges: dict[str, tuple[float, float]] = dict(card.get("limits", {}))
        self.seen = dict.fromkeys(self.ranges, 0)
        self.outside = dict.fromkeys(self.ranges, 0)
        self.questions = 0
        self._lock = threading.Lock()

    def marks(self, *sides: Mapping[str, Any]) -> tuple[tuple[str, bool], ...]:
        """What `count` needs to know of a question: per side and feature that it has, the name and whether it lies outside."""
        return tuple(
            (name, not low <= value <= high)
            for features in sides
            for name, (low, high) in self.ranges.items()
            if isinstance(value := features.get(name), int | float)
        )

    def count(self, marks: Iterable[tuple[str, bool]]) -> None:
        """Count one question, asked for the first time or again."""
        with self._lock:
            self.questions += 1
            for name, outside in marks:
                self.seen[name] += 1
                self.outside[name] += outside

    def count_rows(self, rows: pd.DataFrame) -> None:
        """Count one ranking of rows of features."""
        marks = {}
        for name, (low, high) in self.ranges.items():
            if name in rows.columns and rows[name].dtype.kind in "fi":
                values = rows[name].dropna()
                marks[name] = (len(values), int(((values < low) | (values > high)).sum()))
        with self._lock:
            self.questions += 1
            for name, (seen, outside) in marks.items():
                self.seen[name] += seen
                self.outside[name] += outside

    def report(self) -> dict[str, Any]:
        """``questions`` and per feature seen: the ``share`` outside, with the training range."""
        features = {
            name: {
                "seen": seen,
                "outside": self.outside[name],
                "share": self.outside[name] / seen,
                "range": list(self.ranges[name]),
            }
            for name, seen in self.seen.items()
            if seen
        }
        return {"questions": self.questions, "features": features}
