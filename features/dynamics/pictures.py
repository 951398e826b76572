"""Pictures of training dynamics, after the figures of Vivek et al. (benchmark hill climbing) and of dataset cartography.

Each function draws one figure and returns it; `write` puts a figure into a PNG. Colours are those of Okabe and Ito, which the
colour-blind can tell apart; classes also differ by marker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.dynamics.cartography import regions
from features.dynamics.points import agreement, correlations, scaling
from features.dynamics.relatedness import Relatedness
from features.dynamics.trajectories import Trajectories
from features.writing import whole

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#000000")
MARKERS = "os^Dv<>P"


def _figure(width: float = 6.0, height: float = 4.0) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def write(figure: Figure, path: Path | str) -> Path:
    """Write a figure as PNG, 120 dots per inch but at most 900 wide; its folder is made."""
    path = Path(path)
    with whole(path) as draft:
        figure.savefig(draft, dpi=min(120.0, 900 / figure.get_figwidth()), format="png")
    return path


def courses(curves: Mapping[str, np.ndarray], steps: np.ndarray, ylabel: str, *, title: str = "") -> Figure:
    """One line per name over the training steps (figures 1 and 3): zero-shot accuracy by prompt, or mean loss by task."""
    figure, axes = _figure()
    order = np.argsort(steps, kind="stable")
    for i, (name, values) in enumerate(curves.items()):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        axes.plot(np.asarray(steps)[order], np.asarray(values)[order], label=name, color=colour, marker=marker, markersize=3.5)
    axes.set(xlabel="training step", ylabel=ylabel, title=title)
    positive = np.sort(steps)[np.sort(steps) > 0]
    if len(positive) > 3 and positive[-1] / positive[0] > 50 and np.median(positive) < 0.25 * positive[-1]:
        axes.set_xscale("symlog" if np.min(steps) <= 0 else "log")  # steps that lie evenly in the logarithm
    axes.legend(frameon=False, fontsize=8)
    return figure


def matrix(related: Relatedness, *, title: str = "Correlation of mean trajectories") -> Figure:
    """The lower triangle of correlations with adjusted p-values; bold where significant (figure 4)."""
    names = list(related.correlation.index)
    figure, axes = _figure(1.6 + 1.1 * len(names), 1.2 + 0.8 * len(names))
    values = related.correlation.to_numpy(dtype=float).copy()
    values[np.triu_indices(len(names), 1)] = np.nan
    image = axes.imshow(values, cmap="RdBu", vmin=-1, vmax=1)
    _cells(axes, values, related.p_adjusted.to_numpy(dtype=float), [(i, j) for i in range(len(names)) for j in range(i)])
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_title(title, fontsize=10)
    figure.colorbar(image, ax=axes, label="Pearson correlation")
    return figure


def table_of_correlations(
    found: pd.DataFrame, rows: Sequence[str], columns: Sequence[str], by: str, *, title: str = ""
) -> Figure:
    """A table of correlations with p-values, bold where significant (figure 2).

    Parameters
    ----------
    found : one row per cell: `template`, the column named `by`, `r` and `p_adjusted`; what it does not have is left blank
    rows, columns : templates and values of `by`, in the order in which they are shown
    """
    cells = found.set_index(["template", by])[["r", "p_adjusted"]].sort_index()
    which = [(i, j) for i, t in enumerate(rows) for j, c in enumerate(columns) if (t, c) in cells.index]
    r, p = np.full((2, len(rows), len(columns)), np.nan)
    for i, j in which:
        r[i, j], p[i, j] = cells.loc[(rows[i], columns[j])]
    figure, axes = _figure(2.6 + 0.85 * len(columns), 1.2 + 0.45 * len(rows))
    image = axes.imshow(r, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    _cells(axes, r, p, which)
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    figure.colorbar(image, ax=axes, label="Pearson correlation")
    return figure


def _cells(axes: Axes, values: np.ndarray, p: np.ndarray, which: Sequence[tuple[int, int]]) -> None:
    """Write r and p into cells of an image, bold below .05."""
    for i, j in which:
        text = "constant" if np.isnan(values[i, j]) else f"{values[i, j]:.2f}\np {p[i, j]:.2g}"
        colour = "white" if abs(values[i, j]) > 0.6 else "black"
        weight = "bold" if p[i, j] < 0.05 else "normal"
        axes.text(j, i, text, ha="center", va="center", fontsize=8, fontweight=weight, color=colour)


def by_run(
    curves: Mapping[str, Mapping[str, np.ndarray]],
    steps: Mapping[str, np.ndarray],
    ylabel: str,
    outcomes: Mapping[str, np.ndarray],
    *,
    apart: bool = False,
) -> Figure:
    """A panel for each run: one line per name over its training steps, and its fine-tuned outcome in black (figure 1), `apart` on
    an axis of its own at the right.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(3, len(curves))
    down = -(-len(curves) // across)
    figure = Figure(figsize=(3.3 * across, 2.5 * down + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (run, own) in enumerate(curves.items()):
        axes = figure.add_subplot(down, across, place + 1)
        axes.spines[["top"]].set_visible(False)
        axes.spines[["right"]].set_visible(apart)
        for i, (name, values) in enumerate(own.items()):
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            axes.plot(steps[run], values, label=name, color=colour, marker=marker, markersize=2.5, linewidth=1)
        second = axes.twinx() if apart else axes
        second.spines[["top"]].set_visible(False)
        second.plot(
            steps[run], outcomes[run], color="black", linewidth=2, label="fine-tuned (right axis)" if apart else "fine-tuned"
        )
        axes.set_xscale("log" if np.min(steps[run]) > 0 else "symlog")
        axes.set_xlabel("training step" if place + across >= len(curves) else "", fontsize=8)
        axes.set_ylabel(ylabel if place % across == 0 else "", fontsize=8)
        axes.tick_params(labelsize=7)
        second.tick_params(labelsize=7)
        axes.set_title(run, fontsize=8)
        if place == 0:
            handles = {**_legend(axes), **_legend(second)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def _legend(axes: Axes) -> dict[str, Any]:
    handles, names = axes.get_legend_handles_labels()
    return dict(zip(names, handles, strict=True))


def scatter(points: np.ndarray, labels: Sequence[str], *, title: str, xlabel: str = "axis 1", ylabel: str = "axis 2") -> Figure:
    """Points of a plane, by class."""
    figure, axes = _figure(5.2, 4.2)
    for i, name in enumerate(sorted(set(labels))):
        chosen = points[[label == name for label in labels]]
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        axes.scatter(chosen[:, 0], chosen[:, 1], label=name, color=colour, marker=marker, s=14, alpha=0.75, linewidths=0)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    return figure


def maps(tasks: Sequence[Trajectories], *, most: int = 1500, seed: int = 0) -> Figure:
    """Examples of one task (figures 5 and 6) or of several (figure 7) by classical scaling of 1 - correlation of their losses."""
    losses = np.concatenate([t.nll for t in tasks], axis=1)
    prefix = [f"{t.task}: " if len(tasks) > 1 else "" for t in tasks]
    labels = [
        p + (t.labels[i] if t.labels else "all") for p, t in zip(prefix, tasks, strict=True) for i in range(len(t.examples))
    ]
    chosen = np.arange(losses.shape[1])
    if len(chosen) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, size=most, replace=False))
    points = scaling(correlations(losses[:, chosen]))
    return scatter(
        points, [labels[i] for i in chosen], title=" and ".join(t.task for t in tasks) + ":\nexamples by their training dynamics"
    )


def degrees(tasks: Sequence[Trajectories]) -> Figure:
    """Agreement of polynomial distances with exact correlations over degrees (figure 8); orthonormal solid, monomial dashed."""
    figure, axes = _figure()
    count = len(tasks[0].checkpoints)
    grid = np.unique(np.linspace(1, count - 1, min(count - 1, 14)).astype(int))
    for i, task in enumerate(tasks):
        for basis, line in (("orthonormal", "-"), ("monomial", "--")):
            values = [agreement(task.nll, task.steps, int(d), basis=basis) for d in grid]  # type: ignore[arg-type]
            label = task.task if basis == "orthonormal" else None
            axes.plot(grid, values, line, color=COLOURS[i % len(COLOURS)], label=label)
    axes.set(xlabel="degree of the polynomial", ylabel="correlation with exact dissimilarity", ylim=(-0.2, 1.05))
    axes.set_title(f"{count} checkpoints; orthonormal basis solid, monomial dashed", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    return figure


def budgets(studies: Mapping[str, pd.DataFrame]) -> Figure:
    """Pairs of held-out checkpoints ranked right over the share of the examples: a panel for each study, a line for each
    selector, bands for its interval. Frames have `share`, `selector`, `accuracy`, `accuracy_low` and `accuracy_high`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(studies), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (title, frame) in enumerate(studies.items()):
        axes = figure.add_subplot(1, len(studies), place + 1)
        axes.spines[["top", "right"]].set_visible(False)
        for i, (name, rows) in enumerate(frame.groupby("selector", sort=False)):
            colour, share = COLOURS[i % len(COLOURS)], 100 * rows["share"]
            axes.plot(share, rows["accuracy"], color=colour, marker=MARKERS[i % len(MARKERS)], markersize=3.5, label=str(name))
            axes.fill_between(share, rows["accuracy_low"], rows["accuracy_high"], color=colour, alpha=0.08, linewidth=0)
        axes.set(xscale="log", xlabel="examples scored, %", ylabel="pairs right" if place == 0 else "")
        axes.set_xticks([1, 2, 5, 10, 20, 30], ["1", "2", "5", "10", "20", "30"], minor=False)
        axes.minorticks_off()
        axes.set_title(title, fontsize=8)
        if place == 0:
            axes.legend(frameon=False, fontsize=8)
    return figure


def data_map(frame: pd.DataFrame, *, title: str) -> Figure:
    """Confidence over variability, by region (dataset cartography, figure 1)."""
    points = frame[["variability", "confidence"]].to_numpy()
    return scatter(points, list(regions(frame)), title=title, xlabel="variability", ylabel="confidence")
