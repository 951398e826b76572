"""Pictures of the studies, drawn without a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ranker.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def bars(singles: pd.DataFrame, learnt: float) -> Figure:
    """Pairwise accuracy of proxies alone (rows of `factors.singles`, best first), with intervals; a line where all are."""
    figure, axes = new_figure(6.5, 1 + 0.24 * len(singles))
    rows = singles.iloc[::-1]
    middle = rows["accuracy"].to_numpy(float)
    reach = np.clip([middle - rows["low"].to_numpy(float), rows["high"].to_numpy(float) - middle], 0, None)
    axes.barh(rows["feature"], middle, xerr=reach, color="#9bb8d3", ecolor="#555555", error_kw={"linewidth": 0.8})
    axes.axvline(learnt, color="#b3432f", linewidth=1.2, label="learning to compare, held out")
    axes.axvline(0.5, color="grey", linewidth=0.8, linestyle=":")
    axes.set_xlim(0.3, 1)
    axes.set_xlabel("pairs in the right order")
    axes.tick_params(axis="y", labelsize=7)
    axes.legend(fontsize=8, loc="lower right")
    return figure


def grid(rows: list[dict[str, Any]], columns: list[str]) -> Figure:
    """A heat map of shares, one row per `what`."""
    values = np.array([[row[c] for c in columns] for row in rows], float)
    figure, axes = new_figure(5.5, 1 + 0.24 * len(rows))
    image = axes.imshow(values, aspect="auto", cmap="Blues", vmin=0, vmax=max(0.6, float(values.max())))
    axes.set_xticks(range(len(columns)), [c.replace("_", " ") for c in columns], fontsize=8)
    axes.set_yticks(range(len(rows)), [row["what"] for row in rows], fontsize=7)
    figure.colorbar(image, ax=axes, label="share of variance")
    return figure


def cost_against_accuracy(rows: pd.DataFrame, finetuning: float) -> Figure:
    """Accuracy of each proxy (`feature`, `accuracy`) against its `seconds`; a line at the seconds of one fine-tuning run."""
    figure, axes = new_figure(6.5, 4.2)
    axes.scatter(rows["seconds"].clip(lower=1e-3), rows["accuracy"], s=14, color="#33658a")
    for row in rows.nlargest(10, "accuracy").to_dict("records"):
        axes.annotate(
            row["feature"], (max(row["seconds"], 1e-3), row["accuracy"]), fontsize=6, xytext=(3, 2), textcoords="offset points"
        )
    axes.axvline(finetuning, color="#b3432f", linewidth=1, label="one fine-tuning run")
    axes.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlabel("seconds for one checkpoint on one task")
    axes.set_ylabel("pairs in the right order")
    axes.legend(fontsize=8)
    return figure


def growing(rows: list[dict[str, Any]]) -> Figure:
    """Accuracy of each method (`method: (accuracy, low, high)`) against the number of `variants` that it was fitted on."""
    figure, axes = new_figure(5.5, 3.6)
    at = [row["variants"] for row in rows]
    colours = {"single:ppl_clm": "#888888", "best-single": "#33658a", "ltc": "#b3432f"}
    for method, colour in colours.items():
        middle, low, high = np.array([row[method] for row in rows], float).T
        axes.plot(at, middle, marker="o", markersize=4, color=colour, label=method)
        axes.fill_between(at, low, high, color=colour, alpha=0.12)
    axes.set_xlabel("variants to learn from")
    axes.set_ylabel("held-out pairs in the right order")
    axes.legend(fontsize=8, loc="lower right")
    return figure
