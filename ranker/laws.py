"""Laws from a loss to an accuracy, or from one loss to another, fitted by least squares and judged by what they predict.

    linear        acc = a + b L                                 the post "loss predicts accuracy"
    power         acc = a - b L^c          (saturating)          Abnar et al. 2021, with L the error before fine-tuning
    exponential   acc = 1 - (e - k exp(-g L))                    Gadre et al. 2024 (arXiv 2403.08540), error = e - k exp(-g L)
    sigmoid       acc = a / (1 + exp(-k (L - L0))) + b           DataDecide (arXiv 2504.11393)
    shifted       L1  = K (L0 - E0)^p + E1                       loss to loss

A law is fitted on the checkpoints that it is given and judged on others: `judge` holds checkpoints out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import spearmanr

from features.errors import DataError
from ranker.pairs import Floats

_MOST_STARTS = 6


@dataclass(frozen=True)
class Form:
    """A law's formula: `value(x, theta)`, the number of its parameters and starting points made from the data."""

    name: str
    size: int
    value: Callable[[Floats, Floats], Floats]
    starts: Callable[[Floats, Floats], list[list[float]]]


@dataclass(frozen=True)
class Law:
    """A fitted law.

    Attributes
    ----------
    name : of the form
    theta : its parameters, in the order of the formula
    residual : root mean square of what it leaves over, in the unit of y
    r2 : share of the variance that it explains on the points it was fitted on
    aic : Akaike's criterion, corrected for small samples; infinite where there are too few points for the parameters
    """

    name: str
    theta: tuple[float, ...]
    residual: float
    r2: float
    aic: float

    def predict(self, x: Floats) -> Floats:
        """(n,) values of the law at x."""
        return FORMS[self.name].value(np.asarray(x, float), np.array(self.theta))


def _linear(x: Floats, t: Floats) -> Floats:
    return t[0] + t[1] * x


def _power(x: Floats, t: Floats) -> Floats:
    return t[0] - t[1] * np.maximum(x, 1e-12) ** t[2]


def _exponential(x: Floats, t: Floats) -> Floats:
    return 1 - (t[0] - t[1] * np.exp(-np.clip(t[2] * x, -50, 50)))


def _sigmoid(x: Floats, t: Floats) -> Floats:
    return t[0] / (1 + np.exp(np.clip(-t[1] * (x - t[2]), -50, 50))) + t[3]


def _shifted(x: Floats, t: Floats) -> Floats:
    return t[0] * np.maximum(x - t[1], 1e-9) ** t[2] + t[3]


def _line(x: Floats, y: Floats) -> tuple[float, float]:
    slope, intercept = np.polyfit(x, y, 1)
    return float(intercept), float(slope)


def _spread(x: Floats) -> float:
    return max(float(np.ptp(x)), 1e-9)


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("linear", 2, _linear, lambda x, y: [list(_line(x, y))]),
        Form(
            "power", 3, _power, lambda x, y: [[y.max(), (y.max() - y.min()) / max(x.max(), 1e-9) ** c, c] for c in (0.5, 1, 2, 4)]
        ),
        Form(
            "exponential",
            3,
            _exponential,
            lambda x, y: [[1 - y.min(), np.ptp(y) * np.exp(g * x.min()), g] for g in (0.3, 1.0, 2.0)],
        ),
        Form(
            "sigmoid",
            4,
            _sigmoid,
            lambda x, y: [[np.ptp(y), s * k / _spread(x), np.median(x), y.min()] for k in (4, 10) for s in (-1, 1)],
        ),
        Form(
            "shifted",
            4,
            _shifted,
            lambda x, y: [[_line(x, y)[1], x.min() - 0.1 * _spread(x), p, y.min() - 0.05 * _spread(y)] for p in (0.7, 1.0, 1.3)],
        ),
    )
}


def fit(name: str, x: Floats, y: Floats) -> Law:
    """The law of that name that is nearest to the points, in least squares.

    Parameters
    ----------
    x, y : (n,) loss and outcome of each checkpoint; rows with a missing value are left out

    Raises
    ------
    DataError : no such law, or fewer points than parameters, or a loss that never changes
    """
    if name not in FORMS:
        raise DataError(f"no law {name!r}", where="ranker.laws", remedy=f"laws: {', '.join(FORMS)}")
    form = FORMS[name]
    x, y = np.asarray(x, float), np.asarray(y, float)
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = x[kept], y[kept]
    if len(x) < form.size:
        raise DataError(
            f"{len(x)} points for the {form.size} parameters of {name!r}", where="ranker.laws", remedy="give more checkpoints"
        )
    if np.ptp(x) == 0:
        raise DataError("the loss is the same everywhere", where="ranker.laws", remedy="give checkpoints that differ")
    best = None
    for start in form.starts(x, y)[:_MOST_STARTS]:
        found = least_squares(lambda t: form.value(x, t) - y, np.array(start, float), method="trf", max_nfev=400)
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None
    n, k = len(x), form.size + 1
    rss = max(2 * float(best.cost), 1e-300)
    total = float(((y - y.mean()) ** 2).sum())
    aic = n * np.log(rss / n) + 2 * k + (2 * k * (k + 1) / (n - k - 1) if n > k + 1 else np.inf)
    return Law(name, tuple(map(float, best.x)), float(np.sqrt(rss / n)), 1 - rss / total if total > 0 else 0.0, float(aic))


def compare(x: Floats, y: Floats) -> list[Law]:
    """Every law that the points allow, the best by the corrected Akaike criterion first."""
    laws = [fit(name, x, y) for name, form in FORMS.items() if np.isfinite(np.asarray(x, float)).sum() > form.size + 1]
    return sorted(laws, key=lambda law: law.aic)


def judge(name: str, x: Floats, y: Floats, *, splits: int = 20, train_share: float = 0.6, seed: int = 0) -> dict[str, float]:
    """How well a law predicts held-out checkpoints: root mean square error, that of the training mean, Spearman correlation."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    rng = np.random.default_rng(seed)
    n = len(x)
    k = int(np.clip(round(train_share * n), FORMS[name].size if name in FORMS else 2, n - 2))
    errors, base, ranks = [], [], []
    for _ in range(splits):
        order = rng.permutation(n)
        train, test = order[:k], order[k:]
        predicted = fit(name, x[train], y[train]).predict(x[test])
        errors.append(np.mean((predicted - y[test]) ** 2))
        base.append(np.mean((y[train].mean() - y[test]) ** 2))
        if np.ptp(predicted) > 0 and np.ptp(y[test]) > 0:
            ranks.append(float(spearmanr(predicted, y[test]).statistic))
    return {
        "rmse": float(np.sqrt(np.mean(errors))),
        "rmse_of_mean": float(np.sqrt(np.mean(base))),
        "spearman": float(np.mean(ranks)) if ranks else 0.0,
    }
