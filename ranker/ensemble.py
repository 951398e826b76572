"""The scorers fitted together: resampled by checkpoint, judged on what each resample left out, blended, and kept as one.

Every resample fits all scorers on the checkpoints of all folds but one. Pairs of two left-out checkpoints are the only ones that
weights, calibration and figures are learnt from. The answer is the mean over resamples; their spread gives the interval (delete-d
jackknife).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from ranker.held import SCORERS, Held, group_sizes, weigh_both
from ranker.linear import Linear, Logistic, Signs, Single
from ranker.pairs import Floats, Ints, certainty, within
from ranker.process import Process
from ranker.steepness import steepness
from ranker.trees import Forest, fit, fit_ranknet

_LINEAR: dict[str, type[Linear]] = {"signs": Signs, "single": Single, "linear": Linear, "logistic": Logistic}
_PROCESS, _TREES, _OWN, _OWN_PROCESS = range(4, 8)
_MOST_TASKS_IN_TREES = 40
# With fewer rows a task's own scorers lose to those of all tasks together (docs/studies/choices.md).
_OWN_ROWS, _OWN_ROWS_OF_A_BAG, _OWN_ROUNDS, _OWN_SEEDS = 20, 10, 75, 3
_LARGE = 5000
# What a task never fitted on leaves of the log-odds: on six published tables the best slope there was .53 to 1.11 (geometric mean
# .80) of the one on tasks that were (docs/studies/choices.md); a little less is kept, to be safe. Where one task is all that was
# seen, how far tasks differ is unknown.
_STRANGE, _STRANGE_TO_ONE = 0.7, 0.5


@dataclass
class Sample:
    """The training rows as the scorers see them.

    Attributes
    ----------
    Z : (n, d) standardised features; t, w : (n,) standardised outcomes and weights
    unit, task, checkpoint, group : (n,) codes
    y, sd : (n,) raw outcomes and the noise in them, if known
    sign : (d,) the direction that a column may only count in, 0 where it is free
    """

    Z: Floats
    t: Floats
    w: Floats
    unit: Ints
    task: Ints
    checkpoint: Ints
    group: Ints
    y: Floats
    sd: Floats | None
    sign: Ints
    known: Ints

    def take(self, rows: Ints) -> Sample:
        sd = None if self.sd is None else self.sd[rows]
        code = (self.unit[rows], self.task[rows], self.checkpoint[rows], self.group[rows])
        return Sample(self.Z[rows], self.t[rows], self.w[rows], *code, self.y[rows], sd, self.sign, self.known)

    def shared(self) -> Floats:
        """(n,) targets that borrow from the checkpoint's other tasks: up to half the mean of those, by how well they agree.

        An outcome is the checkpoint's quality and noise of one run; the other tasks' runs say something of the former.
        """
        tasks = np.unique(self.task)
        if len(tasks) < 2:
            return self.t
        names, at = np.unique(self.checkpoint, return_inverse=True)
        total, count = np.bincount(at, self.t, len(names)), np.bincount(at, minlength=len(names))
        others = np.where(count[at] > 1, (total[at] - self.t) / np.maximum(count[at] - 1, 1), self.t)
        out = self.t.copy()
        for k in tasks:
            rows = np.flatnonzero((self.task == k) & (count[at] > 1))
            if len(rows) < 4 or np.ptp(self.t[rows]) == 0 or np.ptp(others[rows]) == 0:
                continue
            agreement = float(np.corrcoef(self.t[rows], others[rows])[0, 1])
            share = 0.5 * max(0.0, agreement)
            out[rows] = (1 - share) * self.t[rows] + share * others[rows]
        return out


@dataclass
class Ensemble:
    """What was learnt.

    Attributes
    ----------
    linears : "single", "linear" and "logistic", one fit per resample and last one of all rows
    process : Gaussian processes of all resamples and last of all rows; None for a table too large for one
    own_processes : those of each task with rows enough, code -> process
    trees : of all tasks together, on outcomes
    own : trees of each task with rows enough, on the order of its pairs
    weights : (2, M) log-odds per unit of each scorer's difference, on a task without and with scorers of its own
    left_out : share of the groups that a resample leaves out
    tasks_in_trees : number of task columns appended to the trees' matrix
    steep : what the log-odds of each task that was fitted on are multiplied by, code -> factor
    strange : the same for a task that was not fitted on (code -1)
    """

    linears: dict[str, list[Linear]] = field(default_factory=dict)
    process: Process | None = None
    own_processes: dict[int, Process] = field(default_factory=dict)
    trees: Forest = field(default_factory=Forest)
    own: Forest = field(default_factory=Forest)
    weights: Floats = field(default_factory=lambda: np.ones((2, len(SCORERS))) / len(SCORERS))
    left_out: float = 0.25
    tasks_in_trees: int = 0
    steep: dict[int, float] = field(default_factory=dict)
    strange: float = _STRANGE
    _stacks: dict[int, Floats] = field(default_factory=dict)

    # ---- fitting

    def fit(self, sample: Sample, *, bags: int, rounds: int, seed: int, max_pairs: int, smooth: bool = True) -> Held:
        rng = np.random.default_rng(seed)
        groups, at = np.unique(sample.group, return_inverse=True)
        folds = int(np.clip(len(groups) // 2, 2, 4))
        repeats = max(1, round((bags if len(sample.t) < _LARGE else 4) / folds))
        n_tasks = len(np.unique(sample.task))
        self.tasks_in_trees = n_tasks if 1 < n_tasks <= _MOST_TASKS_IN_TREES else 0
        self.left_out = 1 / folds
        self.strange = _STRANGE if n_tasks > 1 else _STRANGE_TO_ONE
        place = np.array([(rng.permutation(len(groups)) % folds)[at] for _ in range(repeats)])
        kept = np.array([place[r] != k for r in range(repeats) for k in range(folds)])
        seeds = rng.integers(2**31 - 1, size=len(kept))
        target = sample.shared()
        everything = np.ones((1, len(sample.t)), bool)
        own_tasks = self._with_own(sample, kept)
        if smooth and len(sample.t) < 4 * _LARGE:
            fitted = np.vstack([kept, everything])
            self.process = self._fit_process(sample, np.arange(len(sample.t)), fitted, seed)
            if n_tasks > 1:
                self.own_processes = {
                    k: self._fit_process(sample, np.flatnonzero(sample.task == k), fitted, seed) for k in own_tasks
                }
        self.linears = {name: [] for name in _LINEAR}
        bag_trees: dict[int, list[lgb.Booster]] = {0: []}
        bag_own: dict[int, list[lgb.Booster]] = {k: [] for k in own_tasks}
        found = []
        for b, rows in enumerate(kept):
            train, bag_seed = sample.take(np.flatnonzero(rows)), int(seeds[b])
            self._fit_linears(train, target[rows])
            bag_trees[0].append(self._fit_trees(train, target[rows], rounds, bag_seed))
            for k in own_tasks:
                bag_own[k].append(self._fit_own(train, k, bag_seed))
            last = bag_trees[0][-1], {k: bag_own[k][-1] for k in own_tasks}
            found.append(self._held(sample, np.flatnonzero(~rows), *last, b, max_pairs // len(kept), bag_seed))
        self._fit_linears(sample, target)
        several = range(seed, seed + (2 if len(sample.t) < _LARGE else 1))
        self.trees = Forest.of({0: [self._fit_trees(sample, target, rounds, k) for k in several]}, bag_trees)
        own_seeds = range(seed, seed + _OWN_SEEDS)
        self.own = Forest.of({k: [self._fit_own(sample, k, s) for s in own_seeds] for k in own_tasks}, bag_own)
        columns = [np.concatenate(column) for column in zip(*found, strict=True)]
        members, size = group_sizes(at, sample.checkpoint)
        rarity = members[at] ** -0.5
        gap, better, sure, i, j, fold = columns
        rows_of_own = np.bincount(sample.task)[sample.task[i]] * np.isin(sample.task[i], own_tasks)
        of_task = {int(k): sample.task == k for k in np.unique(sample.task)}
        worth = {k: group_sizes(at[rows], sample.checkpoint[rows])[1] for k, rows in of_task.items()}
        pair = (i, j, fold, rows_of_own, sample.task[i])
        held = Held(gap, better, sure * rarity[i] * rarity[j], *pair, size, worth)
        self.weights = weigh_both(held)
        self.steep = steepness(held, self.weights)
        return held

    @staticmethod
    def _with_own(sample: Sample, kept: NDArray[np.bool_]) -> list[int]:
        """Tasks with something to compare and rows enough, in all and in every resample."""
        found = []
        for k in np.unique(sample.task) if len(sample.t) < _LARGE else []:
            rows = sample.task == k
            differ = any(np.ptp(sample.t[rows & (sample.unit == u)]) > 0 for u in np.unique(sample.unit[rows]))
            if differ and rows.sum() >= _OWN_ROWS and kept[:, rows].sum(1).min() >= _OWN_ROWS_OF_A_BAG:
                found.append(int(k))
        return found

    def _fit_linears(self, train: Sample, target: Floats) -> None:
        for name, kind in _LINEAR.items():
            sign = train.known if kind is Signs else train.sign
            self.linears[name].append(kind().fit(train.Z, target, train.w, train.unit, train.task, sign))

    def _fit_trees(self, train: Sample, target: Floats, rounds: int, seed: int) -> lgb.Booster:
        monotone = np.concatenate([train.sign, np.zeros(self.tasks_in_trees, np.int64)])
        return fit(self._with_task(train.Z, train.task), target, train.w, rounds=rounds, seed=seed, monotone=monotone)

    def _fit_own(self, train: Sample, task: int, seed: int) -> lgb.Booster:
        one = train.take(np.flatnonzero(train.task == task))
        return fit_ranknet(one.Z, one.t, one.w, one.unit, rounds=_OWN_ROUNDS, seed=seed, monotone=one.sign)

    @staticmethod
    def _fit_process(sample: Sample, rows: Ints, fitted: NDArray[np.bool_], seed: int) -> Process:
        part = sample.take(rows)
        return Process().fit(part.Z, part.t, part.w, part.unit, part.task, part.checkpoint, fitted[:, rows], seed)

    def _held(
        self,
        sample: Sample,
        rows: Ints,
        booster: lgb.Booster,
        own: Mapping[int, lgb.Booster],
        bag: int,
        limit: int,
        seed: int,
    ) -> tuple[Any, ...]:
        """Score differences of the pairs that resample `bag` left out."""
        part = sample.take(rows)
        i, j = within(part.unit, limit=limit, seed=seed)
        sure = certainty(part.y, part.sd, i, j)
        keep = (sure > 0) & (part.group[i] != part.group[j])
        i, j, sure = i[keep], j[keep], sure[keep]
        scores = [self.linears[name][bag].score(part.Z, part.task) for name in _LINEAR]
        scores.append(self.process.score(part.Z, part.task)[bag] if self.process is not None else np.zeros(len(part.t)))
        scores.append(np.asarray(booster.predict(self._with_task(part.Z, part.task), num_threads=1)))
        scores += [np.zeros(len(part.t)), np.zeros(len(part.t))]
        for k, trees in own.items():
            of_task = part.task == k
            if of_task.any():
                scores[_OWN][of_task] = trees.predict(part.Z[of_task], num_threads=1)
                if k in self.own_processes:
                    scores[_OWN_PROCESS][of_task] = self.own_processes[k].score(part.Z[of_task], k)[bag]
        S = np.column_stack(scores)
        return S[i] - S[j], np.sign(part.y[i] - part.y[j]), sure, rows[i], rows[j], np.full(len(i), bag)

    def _with_task(self, Z: Floats, task: Ints | int) -> Floats:
        if not self.tasks_in_trees:
            return Z
        code = np.broadcast_to(np.asarray(task), (len(Z),))
        return np.hstack([Z, (code[:, None] == np.arange(self.tasks_in_trees)).astype(float)])

    # ---- answering

    def trusted(self, task: int) -> float:
        """What the log-odds are multiplied by: `steep` of a task that was fitted on, `strange` of another."""
        return self.strange if task < 0 else self.steep.get(task, 1.0)

    def weights_of(self, task: int) -> Floats:
        """(M,) weights of the scorers on a task."""
        return self.weights[int(task in self.own.sections)]

    def _processes(self, task: int) -> list[tuple[float, Process]]:
        weights = self.weights_of(task)
        there = (weights[_PROCESS], self.process), (weights[_OWN_PROCESS], self.own_processes.get(task))
        return [(weight, process) for weight, process in there if process is not None]

    def coefficients(self, task: int) -> Floats:
        """(bags + 1, d) weights of the linear scorers together, in log-odds, those of all rows last; kept after the first use."""
        if task not in self._stacks:
            self._stacks[task] = sum(
                c * np.array([s.vector(task) for s in self.linears[name]])
                for c, name in zip(self.weights_of(task), _LINEAR, strict=False)
            )
        return self._stacks[task]

    def scores(self, Z: Floats, task: int) -> tuple[Floats, Floats]:
        """(n,) log-odds scores, whose differences are the answer, and (bags, n) those of the resamples, whose spread is its
        doubt.
        """
        weights = self.weights_of(task)
        out = self.coefficients(task) @ np.nan_to_num(Z).T
        for weight, process in self._processes(task):
            out = out + weight * process.score(Z, task)
        matrix = self._with_task(Z, task)
        whole = out[-1] + weights[_TREES] * self.trees.score(matrix) + weights[_OWN] * self.own.score(Z, task)
        bags = out[:-1] + weights[_TREES] * self.trees.each(matrix) + weights[_OWN] * self.own.each(Z, task)
        return self.trusted(task) * whole, self.trusted(task) * bags

    def apart(self, Z: Floats, task: int) -> Floats:
        """(n, M) what each scorer says, on its own scale."""
        code = np.full(len(Z), task)
        return np.column_stack([
            *(fits[-1].score(Z, code) for fits in self.linears.values()),
            self.process.score(Z, task, last=True)[0] if self.process is not None else np.zeros(len(Z)),
            self.trees.score(self._with_task(Z, task)),
            self.own.score(Z, task),
            self.own_processes[task].score(Z, task, last=True)[0] if task in self.own_processes else np.zeros(len(Z)),
        ])  # fmt: skip

    def strengths(self, Z: Floats, task: int) -> Floats:
        """(n,) log-odds scores, block by block."""
        weights, out = self.weights_of(task), np.empty(len(Z))
        for start in range(0, len(Z), 4096):
            block = Z[start : start + 4096]
            one = self.coefficients(task)[-1] @ np.nan_to_num(block).T
            for weight, process in self._processes(task):
                one = one + weight * process.score(block, task, last=True)[0]
            one = one + weights[_TREES] * self.trees.score(self._with_task(block, task))
            out[start : start + 4096] = one + weights[_OWN] * self.own.score(block, task)
        return self.trusted(task) * out

    def shares(self, Z: Floats, task: int) -> Floats:
        """(n, d) what each matrix column adds to the trees' part of the score (TreeSHAP); the task columns are spread evenly."""
        weights = self.weights_of(task)
        found = self.trees.parts(self._with_task(Z, task))
        d = Z.shape[1]
        own = weights[_OWN] * self.own.parts(Z, task)
        return weights[_TREES] * (found[:, :d] + found[:, d:].sum(1, keepdims=True) / d) + own

    def between(self, za: Floats, zb: Floats, task: int, trees_part: Floats) -> Floats:
        """(d,) shares of each matrix column in the log-odds of row za over row zb; `trees_part` is the difference of their
        `shares`.
        """
        out = self.coefficients(task)[-1] * (np.nan_to_num(za) - np.nan_to_num(zb)) + trees_part
        for weight, process in self._processes(task):
            out = out + weight * process.between(za, zb, task)
        return self.trusted(task) * out

    # ---- persistence (the boosters' texts apart)

    def to_json(self) -> dict[str, Any]:
        return {
            "linears": {name: [s.to_json() for s in fits] for name, fits in self.linears.items()},
            "process": None if self.process is None else self.process.to_json(),
            "own processes": {str(k): process.to_json() for k, process in self.own_processes.items()},
            "trees": self.trees.sections,
            "own trees": self.own.sections,
            "weights": self.weights.tolist(),
            "left_out": self.left_out,
            "tasks_in_trees": self.tasks_in_trees,
            "steep": {str(k): factor for k, factor in self.steep.items()},
            "strange": self.strange,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], trees: tuple[str, str], own: tuple[str, str]) -> Self:
        """`trees`, `own`: what `Forest.texts` gave."""
        return cls(
            {name: [_LINEAR[name].from_json(s) for s in fits] for name, fits in data["linears"].items()},
            None if data["process"] is None else Process.from_json(data["process"]),
            {int(k): Process.from_json(process) for k, process in data["own processes"].items()},
            Forest.from_texts(*trees, data["trees"]),
            Forest.from_texts(*own, data["own trees"]),
            np.array(data["weights"], float),
            float(data["left_out"]),
            int(data["tasks_in_trees"]),
            {int(k): float(factor) for k, factor in data.get("steep", {}).items()},
            float(data["strange"]),
        )
