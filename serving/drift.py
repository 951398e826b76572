"""Drift: how many of the questions lie outside the ranges that the ranker was fitted on, feature by feature.

Only values given under the name that the ranker was fitted with are counted: an alias may be in another unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Drift:
    """Counts per feature; a new ranker begins anew.

    Attributes
    ----------
    ranges : feature -> (lowest, highest) value in training
    seen, outside : feature -> sides of questions that had it, that had it outside the range
    """

    def __init__(self, card: Mapping[str, Any]) -> None:
        self.ranges: dict[str, tuple[float, float]] = {}
        for name, limits in (card.get("ranges") or {}).items():
            low, high = (limits[0], limits[1]) if isinstance(limits, list | tuple) else (limits.get("min"), limits.get("max"))
            if isinstance(low, int | float) and isinstance(high, int | float):
                self.ranges[name] = (float(low), float(high))
        self.seen = dict.fromkeys(self.ranges, 0)
        self.outside = dict.fromkeys(self.ranges, 0)
        self.questions = 0

    def saw(self, *sides: Mapping[str, Any]) -> None:
        """Count the sides of one question."""
        self.questions += 1
        for features in sides:
            for name, (low, high) in self.ranges.items():
                value = features.get(name)
                if isinstance(value, int | float):
                    self.seen[name] += 1
                    if not low <= value <= high:
                        self.outside[name] += 1

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
