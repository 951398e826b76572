"""Published training dynamics through the same code as our own.

    python -m features.dynamics.published pythia TABLE -o docs/studies/pythia.md
    python -m features.dynamics.published cartography TABLE -o docs/studies/cartography.md

`pythia`: a long table `release,model,step,shots,task,acc` of evaluations of checkpoints (EleutherAI/pythia, evals/); which tasks
move together over training, per model and on the mean over models. `cartography`: the coordinates of allenai/cartography; checks
that they are what our definitions allow, and splits them into regions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from features.dynamics.cartography import regions
from features.dynamics.relatedness import Relatedness, relatedness
from features.errors import DataError

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


def cartography(path: Path | str, epochs: int = 6) -> str:
    """Markdown: the published coordinates against the limits that our definitions set, and the three regions.

    A mean of probabilities m over E epochs allows a population standard deviation of at most sqrt(m (1 - m)); were the published
    one the sample's, it could exceed that by sqrt(E / (E - 1)). Of two choices the gold one was chosen where its probability was
    above a half, so that c right epochs of E allow a confidence of c / 2E to (c + E) / 2E.
    """
    frame = pd.read_json(path, lines=True)
    limit = np.sqrt(frame["confidence"] * (1 - frame["confidence"]))
    outside = int((frame["variability"] > limit + 1e-9).sum())
    nearest = float((frame["variability"] / limit.where(limit > 0)).max())
    right = frame["correctness"]
    odd = (frame["confidence"] < right / (2 * epochs) - 1e-9) | (frame["confidence"] > (right + epochs) / (2 * epochs) + 1e-9)
    named = regions(frame)
    lines = [
        "# Dataset cartography of WinoGrande",
        "",
        f"`python -m features.dynamics.published cartography`: the published coordinates of {len(frame)} examples over {epochs}",
        "epochs (allenai/cartography). The probabilities that they were made of are not published, so they cannot be computed",
        "anew; what can be checked is whether they are what our definitions allow:",
        "",
        f"- variability as the population's standard deviation: {outside} of {len(frame)} above the greatest possible one, the",
        f"  nearest at {nearest:.3f} of it (a sample's could be at {np.sqrt(epochs / (epochs - 1)):.3f});",
        f"- correctness as the number of epochs in which the gold probability was above a half: {int(odd.sum())} of",
        f"  {len(frame)} contradict their confidence.",
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
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
