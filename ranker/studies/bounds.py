"""What could be reached at all: by the sampling of Zeng et al.'s test sets, and in worlds drawn from a Gaussian process."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import norm

from ranker.blend import calibration_error
from ranker.evaluate import grouping, splits_of
from ranker.pairs import Floats, Ints, codes
from ranker.process import Process
from ranker.reference import OUTCOMES
from ranker.scale import standard_outcome
from ranker.standardise import Standardiser
from ranker.studies.page import Page, cell


def ceiling(page: Page, df: pd.DataFrame) -> None:
    """What the sampling noise of the test sets alone lets anyone reach, from their sizes."""
    noise = {"sft_cms": 0.57, "sft_rag": 0.30, "sft_cbqa": 0.45}
    rows = []
    for task in OUTCOMES:
        part = df[df["task"] == task]
        y, lr = part["outcome"].to_numpy(float), part["learning_rate"].to_numpy(float)
        i, j = np.triu_indices(len(y), 1)
        kept: Floats = norm.cdf(np.abs(y[i] - y[j]) / (np.sqrt(2) * noise[task]))
        rows.append([task, noise[task], float(kept.mean()), float(kept[lr[i] == lr[j]].mean())])
        page.figures[f"ceiling/{task}"] = {"all": rows[-1][2], "equal": rows[-1][3]}
    page.table(
        "What the test sets' own sampling leaves to be known",
        ["task", "standard error, points", "all pairs", "equal learning rate"],
        rows,
        "No seeds were published. The standard error of a mean over data sets follows from their sizes and "
        "accuracies (binomial, independent "
        "examples); the columns are the share of pairs whose order would survive new test sets of the same "
        "size. Seeds of the fine-tuning come on top.",
    )


def teachable(page: Page, df: pd.DataFrame, choices: dict[str, list[str]], splits: int, seed: int, worlds: int = 30) -> None:
    """How well one could do who knew the truth, and who had to learn it from 30 models, were the world as the process has it."""
    held = list(splits_of(df, grouping(df, None), None, splits=max(1, splits // 2), train_share=0.6, seed=seed))
    rows = []
    for label, columns in choices.items():
        figures = learnable(df, columns, held, seed, worlds)
        page.figures[f"teachable/{label}"] = figures
        low, high = (figures[f"ece, equal, {side}"] for side in ("low", "high"))
        rows.append([label, *list(figures.values())[:4], f"{cell(low)} to {cell(high)}"])
    page.table(
        "What 30 models can teach",
        [
            "features",
            "truth known",
            "the same, equal learning rate",
            "learnt from 30",
            "the same, equal learning rate",
            "its ECE there",
        ],
        rows,
        f"{worlds} worlds drawn from the Gaussian process fitted on all models (its noise is what the features do not tell), "
        f"{len(held)} splits each, twins on one side, the failed run left out. The first two columns know the true "
        "function and miss only its noise; the last two are the best that can be learnt from the 30 training models by "
        "one who knows the process's numbers. A method beats the latter only where the truth is simpler than the process "
        "holds likely. `its ECE there`: the calibration error at equal learning rate of probabilities that are exact, in 9 of 10 "
        "worlds drawn from the process itself.",
    )


def learnable(
    df: pd.DataFrame, columns: list[str], held: list[tuple[Ints, Ints]], seed: int, worlds: int = 30
) -> dict[str, float]:
    """Accuracy on held-out pairs of who knows the true function ("truth") and of who learns it from the training rows and knows
    the process's numbers ("learnt"), in worlds drawn from the Gaussian process fitted on all of `df`. Where it has a column
    ``learning_rate``, also on pairs of equal learning rate, and the range of the calibration error of exact probabilities there.
    """
    unit, checkpoint = codes(df["task"]), codes(df["checkpoint"])
    lr = df["learning_rate"].to_numpy(float) if "learning_rate" in df else np.full(len(df), np.nan)
    ones = np.ones(len(df))
    Z = Standardiser().fit(df[columns], unit, checkpoint).matrix_within(df[columns], unit)
    t = standard_outcome(df["outcome"].to_numpy(float), unit)
    process = Process().fit(Z, t, ones, unit, unit, checkpoint, np.ones((1, len(t)), bool), seed)
    K, noise = process.covariance(np.nan_to_num(Z), ones, unit, unit, checkpoint)
    solved = np.linalg.solve(K + noise, np.column_stack([t, K]))
    jitter = 1e-6 * np.eye(len(t))
    likely = np.linalg.cholesky(K - K @ solved[:, 1:] + jitter)
    luck = np.linalg.cholesky(noise + jitter)
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {"truth": [], "truth, equal": [], "learnt": [], "learnt, equal": []}
    if np.isnan(lr).all():
        found = {"truth": [], "learnt": []}
    for _ in range(worlds):
        truth = K @ solved[:, 0] + likely @ rng.normal(size=len(t))
        y = truth + luck @ rng.normal(size=len(t))
        for a, b in held:
            learnt = K[np.ix_(b, a)] @ np.linalg.solve((K + noise)[np.ix_(a, a)], y[a])
            for k in np.unique(unit):
                own = np.flatnonzero(unit[b] == k)
                i, j = np.triu_indices(len(own), 1)
                better, same = np.sign(y[b][own][i] - y[b][own][j]), lr[b][own][i] == lr[b][own][j]
                for name, s in (("truth", truth[b][own]), ("learnt", learnt[own])):
                    right = np.sign(s[i] - s[j]) == better
                    found[name].append(float(right.mean()))
                    if same.any():
                        found[f"{name}, equal"].append(float(right[same].mean()))
    figures: dict[str, float] = {k: float(np.mean(v)) for k, v in found.items()}
    if "truth, equal" not in found:
        return figures
    low, high = _exact_error(K, noise, unit, lr, held, 2 * worlds, rng)
    return figures | {"ece, equal, low": low, "ece, equal, high": high}


def _exact_error(
    K: Floats, noise: Floats, unit: Ints, lr: Floats, held: list[tuple[Ints, Ints]], worlds: int, rng: np.random.Generator
) -> tuple[float, float]:
    """5 % and 95 % quantile over worlds of the ECE, at equal learning rate, of the process's own predictive probabilities."""
    whole = K + noise
    prepared = []
    for a, b in held:
        gain = np.linalg.solve(whole[np.ix_(a, a)], whole[np.ix_(a, b)]).T
        V = whole[np.ix_(b, b)] - gain @ whole[np.ix_(a, b)]
        i, j = np.triu_indices(len(b), 1)
        keep = (unit[b][i] == unit[b][j]) & (lr[b][i] == lr[b][j])
        i, j = i[keep], j[keep]
        prepared.append((a, b, gain, i, j, np.sqrt(V[i, i] + V[j, j] - 2 * V[i, j])))
    root = np.linalg.cholesky(whole + 1e-6 * np.eye(len(K)))
    errors = []
    for _ in range(worlds):
        y = root @ rng.normal(size=len(K))
        sure, hit = [], []
        for a, b, gain, i, j, sd in prepared:
            mean = gain @ y[a]
            z = (mean[i] - mean[j]) / sd
            sure.append(norm.cdf(np.abs(z)))
            hit.append((z * (y[b][i] - y[b][j]) > 0).astype(float))
        errors.append(calibration_error(np.concatenate(sure), np.concatenate(hit)))
    return float(np.quantile(errors, 0.05)), float(np.quantile(errors, 0.95))
