"""A checkpoint's own course, as features: where it stands, where it goes, how it got there.

`course` for a few measured checkpoints, each exact; `smoothed` for a training history of many noisy losses.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit


def course(steps: np.ndarray, values: np.ndarray, *, horizon: float | None = None, degree: int = 3) -> dict[str, float]:
    """Describe a trajectory up to and including its last checkpoint.

    Parameters
    ----------
    steps : (C,), increasing training steps
    values : (C,), mean negative log-likelihood (lower is better)
    horizon : step to forecast to; by default twice the last step
    degree : highest degree of the polynomial coefficients

    Returns
    -------
    `level` (last value), `slope` and `curvature` (of a parabola in log step over the last half, at the last step), `peak_step`
    (where it was best), `fallback` (last minus best), `variability` (standard deviation of the residuals of that parabola),
    `poly_1` to `poly_degree` (coefficients on Chebyshev polynomials over the whole course), `forecast` (at the horizon, by
    `power_law`). What too short a course cannot say is NaN: slope needs two checkpoints, curvature three, poly_k needs k + 1,
    forecast four.
    """
    t, y = np.log1p(np.asarray(steps, dtype=float)), np.asarray(values, dtype=float)
    n = len(y)
    result = {"level": float(y[-1]), "peak_step": float(np.asarray(steps)[y.argmin()]), "fallback": float(y[-1] - y.min())}
    late = slice(max(0, min(n // 2, n - 3)), n)
    x, z = t[late] - t[-1], y[late]
    order = min(2, len(x) - 1)
    fit = np.polynomial.Polynomial.fit(x, z, order).convert().coef if order else np.array([z[-1]])
    fit = np.pad(fit, (0, 3 - len(fit)))
    result["slope"] = float(fit[1]) if n >= 2 else float("nan")
    result["curvature"] = float(2 * fit[2]) if n >= 3 else float("nan")
    residual = z - np.polynomial.polynomial.polyval(x, fit)
    result["variability"] = float(np.sqrt((residual @ residual) / (len(x) - 3))) if len(x) > 3 else float("nan")
    span = 2 * (t - t[0]) / (t[-1] - t[0]) - 1 if n > 1 else np.zeros(n)
    usable = min(degree, n - 1)
    coefficients = np.polynomial.chebyshev.chebfit(span, y, usable) if usable else np.array([y[0]])
    for k in range(1, degree + 1):
        result[f"poly_{k}"] = float(coefficients[k]) if k <= usable else float("nan")
    end = 2 * float(np.asarray(steps)[-1]) if horizon is None else horizon
    result["forecast"] = power_law(np.asarray(steps, dtype=float), y, end)
    return result


def smoothed(
    steps: np.ndarray, losses: np.ndarray, *, horizon: float | None = None, degree: int = 3
) -> tuple[dict[str, float], dict[str, float]]:
    """Describe a training history, whose every loss is of one batch.

    Parameters
    ----------
    steps : (n,), increasing, n of 8 or more
    losses : (n,), as logged
    horizon : step to forecast to; by default twice the last step
    degree : highest degree of the polynomial coefficients

    Returns
    -------
    values : `level`, `slope` and `curvature` (value and derivatives, at the last step, of a parabola in log step over the last
        half of the rows), `noise` (standard deviation of its residuals), `drop` (mean of the first eighth less level), `mean`
        (over the whole history, each row the same), `poly_1` to `poly_degree` (least squares on Chebyshev polynomials in log
        step) and `forecast` (`power_law`, on the means of at most 16 pieces that are even in log step)
    errors : standard errors of level, slope and curvature, by least squares
    """
    t, y = np.log1p(np.asarray(steps, dtype=float)), np.asarray(losses, dtype=float)
    n = len(y)
    half = slice(n // 2, n)
    x = t[half] - t[-1]
    design = np.stack([np.ones_like(x), x, x**2], axis=1)
    fit, *_ = np.linalg.lstsq(design, y[half], rcond=None)
    residual = y[half] - design @ fit
    noise = float(np.sqrt(residual @ residual / (len(x) - 3)))
    covariance = np.linalg.pinv(design.T @ design) * noise**2
    level, slope, bend = (float(v) for v in fit)
    values = {"level": level, "slope": slope, "curvature": 2 * bend, "noise": noise}
    values["drop"] = float(y[: max(1, n // 8)].mean()) - level
    values["mean"] = float(y.mean())
    coefficients = np.polynomial.chebyshev.chebfit(2 * (t - t[0]) / (t[-1] - t[0]) - 1, y, degree)
    values |= {f"poly_{k}": float(coefficients[k]) for k in range(1, degree + 1)}
    pieces = np.minimum((16 * (t - t[0]) / (t[-1] - t[0])).astype(int), 15)
    groups = [np.flatnonzero(pieces == k) for k in np.unique(pieces)]
    places, means = (np.array([series[g].mean() for g in groups]) for series in (np.asarray(steps, dtype=float), y))
    end = 2 * float(np.asarray(steps)[-1]) if horizon is None else horizon
    values["forecast"] = power_law(places, means, end)
    spread = np.sqrt(np.diag(covariance))
    errors = {"level": spread[0], "slope": spread[1], "curvature": 2 * spread[2]}
    return values, {name: float(error) for name, error in errors.items()}


def power_law(steps: np.ndarray, values: np.ndarray, at: float) -> float:
    """Forecast a loss by a saturating power law, floor + scale * (1 + step) ** -rate, rate in [0.01, 2]; NaN under four points.

    Where the values do not fall, or the law cannot be fitted, the last value is the forecast: the honest one for a flat course.
    """
    if len(values) < 4:
        return float("nan")
    if values[-1] >= values[0]:
        return float(values[-1])
    x = 1 + steps

    def law(s: np.ndarray, floor: float, scale: float, rate: float) -> np.ndarray:
        return floor + scale * s**-rate

    start = (values.min() * 0.9, max(values[0] - values.min(), 1e-6) * x[0] ** 0.3, 0.3)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)
            fitted, _ = curve_fit(law, x, values, p0=start, bounds=([-np.inf, 0, 0.01], [np.inf, np.inf, 2]), maxfev=5000)
    except (RuntimeError, ValueError):
        return float(values[-1])
    return float(law(np.array([1 + at]), *fitted)[0])
