"""What signals are worth: the pairs of checkpoints that each puts in their true order, beside what it costs.

    python benchmarks/signals.py vision --table scores.csv                              nine published scores
    python benchmarks/signals.py scaling --table losses.csv                             selection by extrapolated losses
    python benchmarks/signals.py zoo --rows FOLDER                                      every feature of a zoo, and the ranker
    python benchmarks/signals.py zoo --features FEATURES... --outcomes OUTCOMES...      the same, from files
    python benchmarks/signals.py zoo --table TABLE                                      the same, from a comparison table

vision: columns Dataset, Model, ft_acc and one per score (Zhang et al. 2023, Model Spider: github zhangyikaii/Model-Spider,
MIT).
scaling: columns model, task, loss_ft_N for N examples, loss_zero_shot, outcome_final_loss, n_params (Lin et al. 2024).
zoo: FEATURES and OUTCOMES are what `foretune extract` and `foretune finetune` write (CSV or Parquet); FOLDER holds
`*.features.csv` and `*.outcomes.csv`, as `python -m training.reference` leaves them. Costs come from FEATURES, or from the
TABLE.costs.csv beside TABLE.csv. `--no-ranker` leaves out the hold-out evaluation (minutes).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

DRAWS = 1000  # of the bootstrap over checkpoints
CONFIGURATION = ("parameters", "layers", "width", "heads", "vocabulary", "window", "kshot_shots", "probe_full_share")
SIGNALS = ("logme", "hscore", "knn", "transrate", "parc", "leep", "nce", "rankme", "linear_probe", "weights", "fisher", "probe")


# --- published tables -------------------------------------------------------------------------------------------------


def pairwise(score: Any, outcome: Any) -> float:
    """Share of pairs that the score orders as the outcome does; equal scores count 1/2, equal outcomes are left out."""
    above = np.triu_indices(len(outcome), k=1)
    true = np.sign(outcome[:, None] - outcome[None, :])[above]
    said = np.sign(score[:, None] - score[None, :])[above]
    return float(np.where(said == 0, 0.5, said == true)[true != 0].mean())


def vision(path: Path) -> None:
    """Pairwise accuracy of each score per data set, with bootstrap intervals over models; and of what is learnt, with
    models held out."""
    from ranker.evaluate import evaluate

    table = pd.read_csv(path)
    scores = [column for column in table.columns if column not in ("Dataset", "Model", "ft_acc")]
    pivots = {s: table.pivot(index="Model", columns="Dataset", values=s).to_numpy() for s in [*scores, "ft_acc"]}
    rng = np.random.default_rng(0)

    def accuracy(score: str, models: Any) -> float:
        with np.errstate(invalid="ignore"):
            parts = [pairwise(pivots[score][models, j], pivots["ft_acc"][models, j]) for j in range(pivots[score].shape[1])]
        return float(np.nanmean(parts))

    count = len(pivots["ft_acc"])
    print("| score | pairwise accuracy | 95 % over models |\n|---|---|---|")
    for score in sorted(scores, key=lambda s: -accuracy(s, np.arange(count))):
        draws = [accuracy(score, rng.integers(0, count, count)) for _ in range(500)]
        low, high = np.nanpercentile(draws, [2.5, 97.5])
        print(f"| {score} | {accuracy(score, np.arange(count)):.3f} | {low:.3f} to {high:.3f} |")
    renamed = {s: f"score_{s.replace('-', '_').lower()}" for s in scores}
    long = table.rename(columns={"Dataset": "task", "Model": "checkpoint", "ft_acc": "outcome", **renamed})
    learnt = evaluate(long, methods=("ltc", "logistic", "best-single"), splits=20)["mean"]
    print("\nModels held out (60 % of the models train, pairs among the others are judged, 20 splits):\n")
    print("| method | pairwise accuracy | 95 % |\n|---|---|---|")
    for method, figures in learnt.items():
        interval = figures.get("ci95") or [float("nan")] * 2
        print(f"| {method} | {figures['accuracy']:.3f} | {interval[0]:.3f} to {interval[1]:.3f} |")


def scaling(path: Path) -> None:
    """Pearson correlation with the final loss of what is predicted from at most a share of the data."""
    from features.datalaw import accept_then_stop, fit

    table = pd.read_csv(path)
    sizes = np.array(sorted(int(c.removeprefix("loss_ft_")) for c in table.columns if c.startswith("loss_ft_")))
    full = int(sizes.max())
    tasks = sorted(table["task"].unique())
    print("Pearson correlation (in %) with the loss on all data; " + ", ".join(tasks) + "\n")
    print("| share of the data | accept-then-stop | data law | largest loss measured |\n|---|---|---|---|")
    for part in (8, 16, 32, 64, 128, 256, 512):
        used = sizes[sizes <= full / part]
        cells: list[list[str]] = [[], [], []]
        for task in tasks:
            rows = table[table["task"] == task]
            losses, final = rows[[f"loss_ft_{n}" for n in used]].to_numpy(), rows["outcome_final_loss"].to_numpy()
            ats = [accept_then_stop(used, of, full) for of in losses]
            law = [float(fit(used, of).predict(full)) for of in losses] if len(used) >= 4 else None
            for cell, said in zip(cells, (ats, law, losses[:, -1]), strict=True):
                cell.append("-" if said is None else f"{100 * np.corrcoef(said, final)[0, 1]:.1f}")
        print(f"| 1/{part} | " + " | ".join(" / ".join(cell) for cell in cells) + " |")
    zero = [table[table["task"] == t] for t in tasks]
    print(
        "\nZero-shot loss: "
        + " / ".join(f"{100 * np.corrcoef(r['loss_zero_shot'], r['outcome_final_loss'])[0, 1]:.1f}" for r in zero)
    )


# --- a zoo of our own -------------------------------------------------------------------------------------------------


@dataclass
class Judged:
    """A feature's pairs over the tasks that have it.

    Attributes
    ----------
    tasks : accuracy on each task; draws : mean over these tasks in each bootstrap draw, shape (DRAWS,)
    seconds : mean over (checkpoint, task); a feature of the checkpoint alone is divided by the number of tasks
    direction : as the feature claims it; 0 is judged as if higher were better
    """

    tasks: dict[str, float]
    draws: Any
    seconds: float | None
    direction: int

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.tasks.values())))


def right_pairs(values: Any, outcome: Any) -> tuple[Any, Any]:
    """(right, judged): (n, n) matrices over pairs i < j; right is 1, or 1/2 where values are equal; a pair of equal outcomes, or
    with a value missing, is not judged."""
    true, said = (np.sign(x[:, None] - x[None, :]) for x in (outcome, values))
    judged = np.triu((true != 0) & np.isfinite(true) & np.isfinite(said), 1)
    with np.errstate(invalid="ignore"):
        right = np.where(said == 0, 0.5, (said == true).astype(float))
    return np.where(judged, right, 0.0), judged.astype(float)


def judge(table: pd.DataFrame, column: str, direction: int, seconds: float | None, draws: Any) -> Judged:
    """Pairwise accuracy of one column per task, in the direction that it claims, and over resampled checkpoints."""
    tasks: dict[str, float] = {}
    resampled = []
    for task, rows in table.groupby("task"):
        values = rows[column].to_numpy(float) * (direction or 1)
        right, judged = right_pairs(values, rows["outcome"].to_numpy(float))
        if not judged.sum():
            continue
        tasks[str(task)] = float(right.sum() / judged.sum())
        weights = draws[:, rows["place"].to_numpy()]
        with np.errstate(invalid="ignore", divide="ignore"):
            resampled.append(((weights @ right) * weights).sum(axis=1) / ((weights @ judged) * weights).sum(axis=1))
    return Judged(tasks, np.nanmean(resampled, axis=0) if resampled else np.array([np.nan]), seconds, direction)


def read(files: list[Path]) -> pd.DataFrame:
    """Rows of CSV or Parquet files, one after the other."""
    return pd.concat([pd.read_parquet(f) if f.suffix == ".parquet" else pd.read_csv(f) for f in files], ignore_index=True)


def costs(rows: pd.DataFrame, tasks: int) -> dict[str, float]:
    """Seconds for one checkpoint on one task, of each feature; `rows` have `name`, `task` and `seconds`."""
    share = np.where(rows["task"].isna() | (rows["task"] == ""), 1 / tasks, 1.0)
    return {str(name): float(mean) for name, mean in (rows["seconds"] * share).groupby(rows["name"]).mean().items()}


def zoo(asked: argparse.Namespace) -> None:
    """The tables as Markdown."""
    from ranker.evaluate import evaluate
    from ranker.table import check, features_of, is_number, join
    from ranker.vocabulary import meaning

    if asked.rows:
        done = sorted(file.name.removesuffix(".outcomes.csv") for file in asked.rows.glob("*.outcomes.csv"))
        asked.features = [asked.rows / f"{name}.features.csv" for name in done]
        asked.outcomes = [asked.rows / f"{name}.outcomes.csv" for name in done]
    features = read(asked.features) if asked.features else None
    if asked.table:
        table = read([asked.table])
    elif features is not None and asked.outcomes:
        table = join(features, read(asked.outcomes))
    else:
        sys.exit("zoo: give --rows, --table, or --features with --outcomes")
    table = check(table)
    names = sorted(table["checkpoint"].unique())
    table["place"] = table["checkpoint"].map({name: place for place, name in enumerate(names)})
    tasks = [str(task) for task in sorted(table["task"].unique())]
    rng = np.random.default_rng(0)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS).astype(float)
    beside = asked.table.with_suffix(".costs.csv") if asked.table else None
    if features is not None:
        measured = features[features["value"].notna()]
    else:
        measured = read([beside]) if beside and beside.exists() else pd.DataFrame(columns=["name", "task", "seconds"])
    known = costs(measured, len(tasks))
    columns = [c for c in features_of(table, None) if is_number(table[c]) and c != "place"]
    found = {}
    for column in columns:
        if (table.groupby("task")[column].agg(np.ptp) > 1e-9 * table[column].abs().max()).any():  # else it orders nothing
            judged = judge(table, column, meaning(column).column_direction, known.get(column), draws)
            if judged.tasks:
                found[column] = judged
    print(f"{len(names)} checkpoints on {', '.join(tasks)}. Share of the pairs put in their true order; mean over the tasks that")
    print(
        "have the feature (compare like with like), 95 % by bootstrap over checkpoints; seconds for one checkpoint on one task.\n"
    )
    print(f"| feature | mean | 95 % | {' | '.join(tasks)} | seconds |\n|{'---|' * (len(tasks) + 4)}")
    for column, of in sorted(found.items(), key=lambda pair: -pair[1].mean):
        low, high = np.nanpercentile(of.draws, [2.5, 97.5])
        each = " | ".join(f"{of.tasks[task]:.3f}" if task in of.tasks else "-" for task in tasks)
        cost = "-" if of.seconds is None else f"{of.seconds:.3f}"
        mark = "" if of.direction else " *"
        print(f"| `{column}`{mark} | {of.mean:.3f} | {low:.3f} to {high:.3f} | {each} | {cost} |")
    print("\n\\* claims no direction: judged as if higher were better; well below 1/2 it is right the other way round.\n")
    if asked.no_ranker:
        return
    print(f"Checkpoints held out (60 % train, pairs among the others are judged, {asked.splits} splits, mean of the tasks):\n")
    print("| columns | method | pairwise accuracy | 95 % | less the best single [95 %] |\n|---|---|---|---|---|")
    plain = table.drop(columns="place")
    sets = {
        "all": features_of(plain, None),
        "measured only": [c for c in columns if known.get(c, 1) and c not in CONFIGURATION],
        "of this page": [c for c in columns if c.startswith(SIGNALS)],
    }
    for what, chosen in sets.items():
        methods = ("ltc", "logistic", "best-single", *(("configuration",) if what == "all" else ()))
        judged = evaluate(plain, methods=methods, features=chosen, splits=asked.splits)
        for method, figures in judged["mean"].items():
            low, high = figures["ci95"]
            versus = figures.get("against_best_single")
            bounds = ", ".join(f"{bound:+.3f}" for bound in versus["ci95"]) if versus else ""
            beside = f"{versus['difference']:+.3f} [{bounds}]" if versus else ""
            print(
                f"| {what} ({len(chosen)}) | {method} | {figures['accuracy']:.3f} | {low:.3f} to {high:.3f} | {beside} |",
                flush=True,
            )
    if judged.get("ceiling"):
        each = ", ".join(f"{task} {share:.3f}" for task, share in sorted(judged["ceiling"].items()))
        print(f"\nWhat the noise of the outcomes leaves to a perfect ranker: {each} (mean ", end="")
        print(f"{np.mean(list(judged['ceiling'].values())):.3f}).")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("vision", "scaling"):
        commands.add_parser(name).add_argument("--table", type=Path, required=True)
    own = commands.add_parser("zoo", help="every feature of a zoo, and the ranker")
    own.add_argument("--rows", type=Path, help="a folder of *.features.csv and *.outcomes.csv")
    own.add_argument("--table", type=Path)
    own.add_argument("--features", type=Path, nargs="+")
    own.add_argument("--outcomes", type=Path, nargs="+")
    own.add_argument("--splits", type=int, default=20)
    own.add_argument("--no-ranker", action="store_true")
    asked = parser.parse_args()
    if asked.command == "zoo":
        zoo(asked)
    else:
        {"vision": vision, "scaling": scaling}[asked.command](asked.table)


if __name__ == "__main__":
    main()
