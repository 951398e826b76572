"""Pictures of an evaluation: accuracy by gap, calibration, importance per proxy. Drawn without a screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import DataError
from features.writing import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ranker.compare import LearningToCompare


def new_figure(width: float, height: float) -> tuple[Figure, Any]:
    """A figure of so many inches and its axes, drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def accuracy_by_gap(result: dict[str, Any], task: str | None = None) -> Figure:
    """Pairwise accuracy in five equal parts of the pairs by the size of their outcome gap, one line per method.

    Parameters
    ----------
    result : of `ranker.evaluate.evaluate`
    task : of the result; their mean where left out
    """
    figures = _figures(result, task)
    figure, axes = new_figure(5.5, 3.6)
    for name, one in figures.items():
        values = [np.nan if v is None else v for v in one["by_gap"]]
        axes.plot(range(1, 6), values, marker="o", label=name)
    axes.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
    axes.set_xticks(range(1, 6), ["smallest", "2", "3", "4", "largest"])
    axes.set_xlabel("fifth of the pairs by outcome gap")
    axes.set_ylabel("held-out pairs in the right order")
    axes.legend(fontsize=8)
    return figure


def calibration(result: dict[str, Any], task: str | None = None) -> Figure:
    """Share of held-out pairs that were right against the confidence they were given, one line per method."""
    figures = _figures(result, task)
    figure, axes = new_figure(4.2, 4.0)
    axes.plot([0.5, 1], [0.5, 1], color="grey", linewidth=0.8, linestyle=":")
    for name, one in figures.items():
        points = one.get("reliability")
        if points:
            axes.plot(
                [p["confidence"] for p in points],
                [p["right"] for p in points],
                marker="o",
                label=f"{name} (ECE {one['ece']:.3f})",
            )
    axes.set_xlabel("confidence")
    axes.set_ylabel("share right")
    axes.legend(fontsize=8)
    return figure


def importance(ranker: LearningToCompare, most: int = 20) -> Figure:
    """Root mean square contribution of each feature to the log-odds of training pairs."""
    ordered = sorted(ranker.importance_.items(), key=lambda item: item[1])[-most:]
    figure, axes = new_figure(5.5, 0.8 + 0.28 * len(ordered))
    axes.barh([name for name, _ in ordered], [value for _, value in ordered])
    axes.set_xlabel("root mean square contribution to the log-odds")
    return figure


def save(result: dict[str, Any], folder: str | Path, ranker: LearningToCompare | None = None) -> list[Path]:
    """Write the pictures of an evaluation (and of a ranker) as PNG files; their paths."""
    folder = Path(folder)
    drawn = {"accuracy_by_gap": accuracy_by_gap(result), "calibration": calibration(result)}
    if ranker is not None:
        drawn["importance"] = importance(ranker)
    paths = []
    for name, figure in drawn.items():
        paths.append(folder / f"{name}.png")
        with whole(paths[-1]) as draft:
            figure.savefig(draft, dpi=120, format="png")
    return paths


def _figures(result: dict[str, Any], task: str | None) -> dict[str, Any]:
    if task is None:
        return dict(result["mean"])
    if task not in result["tasks"]:
        raise DataError(
            f"no task {task!r} in the evaluation", where="ranker.plots", remedy=f"tasks: {', '.join(result['tasks'])}"
        )
    return dict(result["tasks"][task])
