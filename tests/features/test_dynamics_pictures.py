"""Every picture of the dynamics is a PNG with something on it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from features.dynamics import pictures
from features.dynamics.cartography import coordinates
from features.dynamics.relatedness import relatedness
from features.dynamics.trajectories import Trajectories


def made(task: str, seed: int) -> Trajectories:
    nll = np.random.default_rng(seed).normal(size=(12, 30)).cumsum(axis=0) ** 2
    names, steps = tuple(f"step{i}" for i in range(12)), np.arange(12) * 100
    return Trajectories(task, names, steps, tuple(map(str, range(30))), nll, np.exp(-nll), nll < 1, labels=("x", "y") * 15)


def test_every_figure_is_drawn_and_written(tmp_path) -> None:
    one, two = made("one", 0), made("two", 1)
    means = {t.task: t.nll.mean(axis=1) for t in (one, two)}
    budgets = {"share": [0.1, 0.3], "selector": "random", "accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 1.0}
    drawn = {
        "courses": pictures.courses(means, one.steps, "mean loss"),
        "matrix": pictures.matrix(relatedness(means, one.steps)),
        "map": pictures.maps([one]),
        "pair": pictures.maps([one, two], most=20),
        "degrees": pictures.degrees([one, two]),
        "cartography": pictures.data_map(coordinates(one.probability, one.correct), title="one"),
        "budgets": pictures.budgets({"by loss": pd.DataFrame(budgets), "by accuracy": pd.DataFrame(budgets)}),
    }
    for name, figure in drawn.items():
        path = pictures.write(figure, tmp_path / "figures" / f"{name}.png")
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 5000
