"""The scorers fitted together: resampled by checkpoint, judged on what each resample left out, blended, and kept as one.

Every resample fits all scorers on the checkpoints of all folds but one. Pairs of two left-out checkpoints are the only ones that
weights, calibration and figures are learnt from. The answer is the mean over resamples; their spread gives the interval (delete-d
jackknife).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import lightgbm as lgb
import numpy as np

from ranker import trees
from ranker.blend import probability, weights
from ranker.linear import Linear, Single
from ranker.pairs import Floats, Ints, certainty, codes, within

SCORERS = ("single", "linear", "trees")


@dataclass
class Sample:
    """The training rows as the scorers see them: Z (n, d), t, w (n,), unit, task, group codes (n,), raw outcomes y and their
    noise; sign (d,) is the direction that a matrix column may only count in, 0 where it is free."""

    Z: Floats
    t: Floats
    w: Floats
    unit: Ints
    task: Ints
    group: Ints
    y: Floats
    sd: Floats | None
    sign: Ints

    def take(self, rows: Ints) -> Sample:
        return Sample(
            self.Z[rows], self.t[rows], self.w[rows], self.unit[rows], self.task[rows], self.group[rows], self.y[rows],
            None if self.sd is None else self.sd[rows], self.sign,
        )  # fmt: skip


@dataclass
class Held:
    """Held-out pairs of all resamples.

    Attributes
    ----------
    gap : (n, M) score differences of each scorer
    better : (n,) +1 or -1
    weight : (n,) certainty, divided by how often the pair occurs
    task : (n,) task code
    fold : (n,) which resample left the two out
    """

    gap: Floats
    better: Floats
    weight: Floats
    task: Ints
    fold: Ints


@dataclass
class Ensemble:
    """What was learnt.

    Attributes
    ----------
    linears : "single" and "linear", one fit per resample
    booster : the trees of all resamples as one LightGBM model; tree_counts of each
    weights : (M,) log-odds per unit of each scorer's difference, pooled over tasks
    task_weights : task code -> (M,)
    left_out : share of the groups that a resample leaves out
    tasks_in_trees : number of task columns appended to the trees' matrix
    """

    linears: dict[str, list[Linear]] = field(default_factory=dict)
    booster: lgb.Booster | None = None
    tree_counts: list[int] = field(default_factory=list)
    weights: Floats = field(default_factory=lambda: np.ones(len(SCORERS)) / len(SCORERS))
    task_weights: dict[int, Floats] = field(default_factory=dict)
    left_out: float = 0.25
    tasks_in_trees: int = 0
    leaf_values: Floats = field(default_factory=lambda: np.zeros((0, 1)))
    _stacks: dict[int, Floats] = field(default_factory=dict)

    # ---- fitting

    def fit(self, sample: Sample, *, bags: int, rounds: int, seed: int, max_pairs: int) -> Held:
        rng = np.random.default_rng(seed)
        groups = np.unique(sample.group)
        folds = int(np.clip(len(groups) // 2, 2, 4))
        n_tasks = len(np.unique(sample.task))
        self.tasks_in_trees = n_tasks if 1 < n_tasks <= 40 else 0
        self.linears = {"single": [], "linear": []}
        boosters, found = [], []
        repeats = max(1, round(bags / folds))
        self.left_out = 1 / folds
        for r in range(repeats):
            place = dict(zip(rng.permutation(groups), np.arange(len(groups)) % folds, strict=True))
            fold = np.array([place[g] for g in sample.group])
            for k in range(folds):
                seed_k = int(rng.integers(2**31 - 1))
                train = sample.take(np.flatnonzero(fold != k))
                fitted, booster = self._fit_once(train, rounds, seed_k)
                for name, scorer in fitted.items():
                    self.linears[name].append(scorer)
                boosters.append(booster)
                test = np.flatnonzero(fold == k)
                part = sample.take(test)
                i, j = within(part.unit, limit=max_pairs // (repeats * folds), seed=seed_k)
                keep = (certainty(part.y, part.sd, i, j) > 0) & (part.group[i] != part.group[j])
                i, j = i[keep], j[keep]
                scores = np.column_stack(
                    [
                        *(s.score(part.Z, part.task) for s in fitted.values()),
                        np.asarray(booster.predict(self._with_task(part.Z, part.task))),
                    ]
                )
                found.append(
                    (
                        scores[i] - scores[j],
                        np.sign(part.y[i] - part.y[j]),
                        certainty(part.y, part.sd, i, j),
                        part.task[i],
                        np.full(len(i), r * folds + k),
                    )
                )
        self.booster = trees.merge(boosters)
        self.tree_counts = [b.num_trees() for b in boosters]
        self.leaf_values = trees.leaf_values(self.booster)
        held = Held(*(np.concatenate(column) for column in zip(*found, strict=True)))
        self._weigh(sample, held)
        return held

    def _fit_once(self, train: Sample, rounds: int, seed: int) -> tuple[dict[str, Linear], lgb.Booster]:
        arguments = (train.Z, train.t, train.w, train.unit, train.task, train.sign)
        fitted: dict[str, Linear] = {"single": Single().fit(*arguments), "linear": Linear().fit(*arguments)}
        return fitted, trees.fit(
            self._with_task(train.Z, train.task), train.t, train.w, rounds=rounds, seed=seed,
            monotone=np.concatenate([train.sign, np.zeros(self.tasks_in_trees, np.int64)]),
        )  # fmt: skip

    def _with_task(self, Z: Floats, task: Ints | int) -> Floats:
        if not self.tasks_in_trees:
            return Z
        code = np.broadcast_to(np.asarray(task), (len(Z),))
        return np.hstack([Z, (code[:, None] == np.arange(self.tasks_in_trees)).astype(float)])

    def _weigh(self, sample: Sample, held: Held) -> None:
        self.weights, self.task_weights = weigh(held, sample)

    # ---- answering

    def coefficients(self, task: int) -> Floats:
        """(bags, d) weights of the linear scorers together, in log-odds; kept after the first use."""
        if task not in self._stacks:
            c = self.task_weights.get(task, self.weights)
            self._stacks[task] = sum(
                c[m] * np.array([s.vector(task) for s in self.linears[name]]) for m, name in enumerate(("single", "linear"))
            )
        return self._stacks[task]

    def bag_scores(self, Z: Floats, task: int) -> Floats:
        """(bags, n) log-odds scores: their differences are the log-odds of one resample."""
        c = self.task_weights.get(task, self.weights)
        out = self.coefficients(task) @ np.nan_to_num(Z).T
        assert self.booster is not None
        return out + c[-1] * trees.per_bag(self.booster, self.leaf_values, self._with_task(Z, task), self.tree_counts)

    def parts(self, Z: Floats, task: int) -> Floats:
        """(n, d) shares of each matrix column in the log-odds score (mean over resamples); the trees' task columns are spread evenly."""
        c = self.task_weights.get(task, self.weights)
        out = self.coefficients(task).mean(0) * np.nan_to_num(Z)
        assert self.booster is not None
        shap = trees.parts(self.booster, self._with_task(Z, task))
        d = Z.shape[1]
        return out + c[-1] * (shap[:, :d] + shap[:, d:].sum(1, keepdims=True) / d)


def weigh(held: Held, sample: Sample) -> tuple[Floats, dict[int, Floats]]:
    """Pooled blend weights and, where there are several tasks, each task's own, shrunk to them."""
    prior = np.array([1.0, 2.0, 2.0])
    size = float(len(np.unique(sample.group)))
    pooled = weights(held.gap, held.better, held.weight, size * np.sqrt(len(np.unique(sample.task))), prior)
    return pooled, {}


def cross_fitted(held: Held, sample: Sample, folds: int = 4) -> Floats:
    """P of each held-out pair, from weights learnt on the other resamples' pairs: the figures that may be quoted."""
    out = np.empty(len(held.better))
    part = held.fold % folds
    for k in np.unique(part):
        rest = part != k
        other = Held(held.gap[rest], held.better[rest], held.weight[rest], held.task[rest], held.fold[rest])
        pooled, own = weigh(other, sample) if rest.any() else weigh(held, sample)
        for t in np.unique(held.task[part == k]):
            rows = (part == k) & (held.task == t)
            out[rows] = probability(held.gap[rows] @ own.get(int(t), pooled))
    return out


__all__ = ["SCORERS", "Ensemble", "Held", "Sample", "codes", "cross_fitted", "weigh"]
