"""Published training dynamics through the same code as our own.

    python -m features.dynamics.published pythia TABLE -o docs/studies/pythia.md
    python -m features.dynamics.published cartography TABLE -o docs/studies/cartography.md

`pythia`: a long table `release,model,step,shots,task,acc` of evaluations of checkpoints (EleutherAI/pythia, evals/); which tasks
move together over training, per model and on the mean over models. `cartography`: the coordinates of allenai/cartography; checks
that they are what our definitions allow, and others do not, and splits them into regions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from features.dynamics.cartography import regions
from features.dynamics.relatedness import Relatedness, relatedness
from features.errors import DataError
from features.writing import write_text

TASKS = ("arc_easy", "arc_challenge", "piqa", "sciq", "lambada_openai", "winogrande", "logiqa", "wsc")


def by_model(table: pd.DataFrame, tasks: tuple[str, ...] = TASKS, shots: int = 0) -> dict[str, pd.DataFrame]:
    """For each model (release/name) with every task at ten checkpoints or more: steps x tasks, accuracy."""
    missing = {"release", "model", "step", "shots", "task", "acc"} - set(table.columns)
    if missing:
        raise DataError(f"no column {sorted(missing)[0]!r}", remedy="give release, model, step, shots, task and acc")
    chosen = table[(table["shots"] == shots) & table["task"].isin(tasks)]
    found = {}
    for (release, model), rows in chosen.groupby(["release", "model"]):
        wide = rows.pivot_table(index="step", columns="task", values="acc").reindex(columns=list(tasks)).dropna()
        if len(wide) >= 10:
            found[f"{release}/{model}"] = wide
    return found


def pythia(path: Path | str) -> str:
    """Markdown: relatedness of tasks over Pythia's training, raw and with the trend removed, with both kinds of p-value."""
    models = by_model(pd.read_csv(path))
    if not models:
        raise DataError("no model has ten checkpoints with every task", where=str(path))
    lines = [
        "# Relatedness of tasks over Pythia's training",
        "",
        f"`python -m features.dynamics.published pythia`: zero-shot accuracy of {len(models)} runs at "
        f"{min(map(len, models.values()))} to {max(map(len, models.values()))} checkpoints each.",
        "",
        "Share of pairs of tasks and runs that are significantly correlated (p < .05): as if checkpoints were independent, and",
        "at the effective number of checkpoints after Holm's correction for all pairs.",
        "",
        "| trend | textbook p-value | corrected |",
        "|---|---|---|",
    ]
    tables: dict[str, list[Relatedness]] = {}
    for how in ("none", "linear", "difference"):
        tables[how] = [relatedness(dict(w.items()), w.index.to_numpy(), detrend=how) for w in models.values()]  # type: ignore[arg-type]
        naive, corrected = (_share(tables[how], kind) for kind in ("p_naive", "p_adjusted"))
        lines.append(f"| {_NAMES[how]} | {naive:.2f} | {corrected:.2f} |")
    for how, found in tables.items():
        mean = pd.DataFrame(
            np.nanmean([t.correlation.to_numpy(float) for t in found], axis=0), index=list(TASKS), columns=list(TASKS)
        )
        lines += [
            "",
            f"Mean correlation over runs, trend {_NAMES[how]}:",
            "",
            "| | " + " | ".join(TASKS) + " |",
            "|---|" + "---|" * len(TASKS),
        ]
        lines += [
            f"| {a} | " + " | ".join(f"{mean.iloc[i, j]:.2f}" if j < i else "" for j in range(len(TASKS))) + " |"
            for i, a in enumerate(TASKS)
        ]
    return "\n".join(lines) + "\n"


_NAMES = {"none": "kept", "linear": "removed (line in log step)", "difference": "removed (differences)"}


def _share(tables: list[Relatedness], kind: str) -> float:
    lower = np.tril_indices(len(TASKS), -1)
    values = np.concatenate([getattr(t, kind).to_numpy(float)[lower] for t in tables])
    return float(np.mean(values[~np.isnan(values)] < 0.05))


def attainable(confidence: np.ndarray, right: np.ndarray, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest population standard deviation that probabilities over epochs can have.

    Parameters
    ----------
    confidence : (N,), their mean
    right : (N,), how many of them are a half or more: of two choices the gold one was chosen there

    Returns
    -------
    (N,) and (N,); NaN where no such probabilities have that mean. The least has those on the far side of a half at a half and the
    rest equal; the greatest, since the sum of squares is convex, has all but one at an end of their range, the right ones first.
    """
    mean, count = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    wrong, total = epochs - count, np.asarray(confidence, dtype=float) * epochs
    near, far = np.where(mean >= 0.5, count, wrong), np.where(mean >= 0.5, wrong, count)
    level = np.divide(total - 0.5 * far, near, out=mean.copy(), where=near > 0)
    least = np.where(near * far > 0, (far * (0.5 - mean) ** 2 + near * (level - mean) ** 2) / epochs, 0.0)
    steps = 2 * total - count  # halves above the least sum
    above, below = np.minimum(steps, count), np.maximum(steps - count, 0)
    squares = 0.25 * count + 0.75 * np.floor(above) + 0.5 * (above % 1) + 0.25 * (above % 1) ** 2
    squares += 0.25 * np.floor(below) + 0.25 * (below % 1) ** 2
    possible = (steps > -1e-9) & (steps < epochs + 1e-9)
    most = squares / epochs - mean**2
    return tuple(np.where(possible, np.sqrt(np.maximum(v, 0)), np.nan) for v in (least, most))  # type: ignore[return-value]


def cartography(path: Path | str, epochs: int = 6) -> str:
    """Markdown: the published coordinates against what our definitions allow, and others would, and the three regions.

    Of two choices the gold one was chosen where its probability was above a half, so that c right epochs of E allow a confidence
    of c / 2E to (c + E) / 2E, and then a variability within `attainable`. Were the published one the sample's standard deviation,
    or that with the confidence interval that allenai/cartography offers, the population's would be another and have to lie there.
    """
    frame = pd.read_json(path, lines=True)
    published = frame["variability"].to_numpy(float)
    definitions = {
        "population's standard deviation (ours)": published,
        f"sample's standard deviation (divided by {epochs - 1})": published * np.sqrt((epochs - 1) / epochs),
        "population's with a confidence interval (`include_ci`)": np.sqrt(
            (np.sqrt(1 + 4 * published**2 / (epochs - 1)) - 1) * (epochs - 1) / 2
        ),
    }
    low, high = attainable(frame["confidence"].to_numpy(float), frame["correctness"].to_numpy(float), epochs)
    odd = int(np.isnan(low).sum())
    outside = {name: int(((v < low - 1e-6) | (v > high + 1e-6)).sum()) for name, v in definitions.items()}
    longer, _ = attainable(frame["confidence"].to_numpy(float), frame["correctness"].to_numpy(float), epochs + 1)
    narrow = float(np.nanmedian(high - low))
    named = regions(frame)
    lines = [
        "# Dataset cartography of WinoGrande",
        "",
        f"`python -m features.dynamics.published cartography`: the published coordinates of {len(frame)} examples over {epochs}",
        "epochs (allenai/cartography). The probabilities that they were made of are not published, so the coordinates cannot be",
        "computed anew. What can be checked of each example is whether any six probabilities at all have its three coordinates.",
        "",
        f"Correctness as the number of epochs in which the gold probability was above a half: {odd} of {len(frame)} contradict",
        f"their confidence ({int(np.isnan(longer).sum())} would, had there been an epoch more). Given both, the variability can",
        f"only lie in a range whose width is {narrow:.3f} in the median. Outside it lie, were the published variability the",
        "",
        "| definition | examples outside |",
        "|---|---|",
        *(f"| {name} | {count} of {len(frame)} |" for name, count in outside.items()),
        "",
        "For one example the six probabilities are known: its coordinates come back in `tests/features/test_dynamics.py`.",
        "",
    ]
    lines += ["| region | examples | confidence | variability | epochs right |", "|---|---|---|---|---|"]
    for name, rows in frame.groupby(named):
        means = rows[["confidence", "variability", "correctness"]].mean()
        lines.append(f"| {name} | {len(rows)} | {means.iloc[0]:.3f} | {means.iloc[1]:.3f} | {means.iloc[2]:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Published training dynamics through our code.")
    parser.add_argument("study", choices=["pythia", "cartography"])
    parser.add_argument("table", type=Path)
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    text = {"pythia": pythia, "cartography": cartography}[arguments.study](arguments.table)
    if arguments.out:
        write_text(arguments.out, text)
    print(text, end="")


if __name__ == "__main__":
    main()
