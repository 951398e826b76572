"""Several methods judged on the same held-out pairs, on all of them and on chosen ones, with one fit per split.

`ranker.evaluate` answers for one table and one choice of pairs; a study asks the same fits about several (all pairs, pairs of
equal learning rate), compares methods pair by pair, and has methods that are no sum of strengths (learning to compare as
published).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix, csr_matrix

from ranker import metrics
from ranker.blend import calibration_error, probability
from ranker.pairs import Floats, Ints
from ranker.parallel import each

DRAWS = 1000
Mask = Callable[[pd.DataFrame, Ints, Ints], np.ndarray]


class Comparer(Protocol):
    """A method: fitted on training rows, it gives log-odds of pairs of held-out rows of one zoo and task.

    One that does not call every pair also has `bars(rows, i, j)`: the confidence from which each pair is called.
    """

    def fit(self, train: pd.DataFrame, columns: list[str]) -> Comparer: ...

    def gaps(self, rows: pd.DataFrame, context: pd.DataFrame, i: Ints, j: Ints) -> Floats:
        """(m,) log-odds that row i beats row j."""
        ...

    def order(self, rows: pd.DataFrame, context: pd.DataFrame) -> Floats:
        """(n,) strengths, higher is better."""
        ...


@dataclass
class Judged:
    """What one method did on one choice of pairs.

    Attributes
    ----------
    right, count : (groups, groups) sums over pairs, each pair weighing 1 / pairs of its split and task: their bootstrap is the
    bootstrap
        of the mean over splits and tasks
    accuracy : one row per (split, task)
    called_right, called_count : the same of the pairs that were called, each weighing 1
    p, hit, called : every pair's probability of the favoured side, whether it was right, whether it was called (thinned)
    order : figures of the order, one dict per (split, task)
    """

    right: csr_matrix
    count: csr_matrix
    called_right: csr_matrix
    called_count: csr_matrix
    accuracy: list[dict[str, Any]] = field(default_factory=list)
    p: list[Floats] = field(default_factory=list)
    hit: list[Floats] = field(default_factory=list)
    called: list[np.ndarray] = field(default_factory=list)
    order: list[dict[str, Any]] = field(default_factory=list)

    def add(self, split: int, found: _Piece) -> None:
        hit, i, j, called = found.hit, found.group_i, found.group_j, found.called
        self.accuracy.append({"split": split, "task": found.task, "accuracy": float(hit.mean()), "pairs": len(hit)})
        weight = np.full(len(hit), 1 / len(hit))
        self.right = self.right + self._sums(i, j, weight * hit)
        self.count = self.count + self._sums(i, j, weight)
        self.p.append(found.p)
        self.hit.append(hit[found.kept])
        if found.calls:
            self.called.append(called[found.kept])
            self.called_right = self.called_right + self._sums(i[called], j[called], hit[called])
            self.called_count = self.called_count + self._sums(i[called], j[called], np.ones(int(called.sum())))
        if found.order is not None:
            self.order.append({"task": found.task, **found.order})

    def _sums(self, group_i: Ints, group_j: Ints, values: Floats) -> csr_matrix:
        return coo_matrix((values, (group_i, group_j)), self.right.shape).tocsr()


@dataclass
class Figures:
    """All methods' results on one table.

    Attributes
    ----------
    judged : (method, pairs) -> `Judged`
    draws : (DRAWS, groups) how often the bootstrap drew each group
    """

    judged: dict[tuple[str, str], Judged]
    draws: Ints

    def samples(self, method: str, pairs: str = "all") -> Floats:
        """(DRAWS,) bootstrap over groups of the mean accuracy."""
        one = self.judged[method, pairs]
        return _ratio(one.right, one.count, self.draws)

    def tasks(self, method: str, pairs: str = "all") -> dict[str, float]:
        """Mean accuracy over splits, per task."""
        frame = pd.DataFrame(self.judged[method, pairs].accuracy)
        return {str(k): float(v) for k, v in frame.groupby("task", sort=False)["accuracy"].mean().items()}

    def of(self, method: str, pairs: str = "all", against: str | None = None) -> dict[str, Any]:
        """Figures of a method: accuracy (mean over splits and tasks), sd over splits, ci95, Brier score, calibration error of all
        pairs together (too shy on one task and too bold on another cancel there) and its mean over tasks, calls, order.

        With `against`, the paired difference to that method and its ci95.
        """
        one = self.judged[method, pairs]
        frame = pd.DataFrame(one.accuracy)
        per_split = frame.groupby("split")["accuracy"].mean()
        p, hit = np.concatenate(one.p), np.concatenate(one.hit)
        out: dict[str, Any] = {
            "accuracy": float(frame.groupby("task")["accuracy"].mean().mean()),
            "sd": float(per_split.std(ddof=1)) if len(per_split) > 1 else None,
            "ci95": metrics.interval(self.samples(method, pairs)),
            "tasks": self.tasks(method, pairs),
            "brier": float(np.mean((p - hit) ** 2)),
            "ece": calibration_error(p, hit),
            "ece_task": _within_tasks(one),
        }
        if one.called:
            called = np.concatenate(one.called)
            out["called"] = float(called.mean())
            out["called_accuracy"] = float(hit[called].mean()) if called.any() else None
            out["called_ci95"] = metrics.interval(_ratio(one.called_right, one.called_count, self.draws))
        if one.order:
            order = pd.DataFrame(one.order)
            out.update({str(k): float(v) for k, v in order.groupby("task").mean().mean().items()})
            out["best_at_tasks"] = {str(k): float(v) for k, v in order.groupby("task", sort=False)["best_at"].mean().items()}
        if against is not None:
            difference = self.samples(method, pairs) - self.samples(against, pairs)
            base = float(pd.DataFrame(self.judged[against, pairs].accuracy).groupby("task")["accuracy"].mean().mean())
            out["against"] = {"method": against, "difference": out["accuracy"] - base, "ci95": metrics.interval(difference)}
        return out


def _within_tasks(one: Judged) -> float:
    """Mean over tasks of the calibration error of each."""
    of = [piece["task"] for piece in one.accuracy]
    errors = []
    for task in dict.fromkeys(of):
        p, hit = (np.concatenate([part[k] for k, name in enumerate(of) if name == task]) for part in (one.p, one.hit))
        errors.append(calibration_error(p, hit))
    return float(np.mean(errors))


def _ratio(right: csr_matrix, count: csr_matrix, draws: Ints) -> Floats:
    """Weighted share of right pairs when groups are drawn c times: a pair of two groups counts c_g c_h, "
    "one within a group c_g."""
    total = []
    for matrix in (right, count):
        inside = matrix.diagonal()
        across = matrix - coo_matrix((inside, (range(len(inside)),) * 2), matrix.shape).tocsr()
        total.append(np.einsum("bg,bg->b", draws @ across, draws) + draws @ inside)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(total[0] / total[1], float)


def run(
    df: pd.DataFrame,
    methods: Mapping[str, Callable[[], Comparer]],
    splits: Iterable[tuple[Ints, Ints]],
    *,
    columns: list[str],
    groups: Ints,
    pairs: Mapping[str, Mask] | None = None,
    seed: int = 0,
    most: int = 4000,
) -> Figures:
    """Fit every method on every split's training rows and judge it on the pairs of two held-out rows of one zoo and task.

    Parameters
    ----------
    df : a comparison table
    methods : name -> maker of an unfitted method
    splits : (train rows, test rows)
    columns : feature columns
    groups : (n,) codes of what the bootstrap draws
    pairs : further choices of pairs, name -> mask of (rows, i, j); "all" is always there
    most : of one split and task, at most so many pairs go into Brier score and calibration (accuracy has all of them)
    """
    size = int(groups.max()) + 1
    rng = np.random.default_rng(seed)
    held = np.unique(groups)
    draws = np.array([np.bincount(rng.choice(held, len(held)), minlength=size) for _ in range(DRAWS)])
    masks: dict[str, Mask | None] = {"all": None, **(pairs or {})}
    empty = csr_matrix((size, size))
    judged = {(m, k): Judged(*(empty.copy() for _ in range(4))) for m in methods for k in masks}
    df = df.assign(**{" code": groups})
    ask = partial(_split, df, methods, masks, columns, most)
    for split, found in enumerate(each(ask, splits, progress=True)):
        for piece in found:
            judged[piece.method, piece.pairs].add(split, piece)
    return Figures(judged, draws)


@dataclass
class _Piece:
    """What one method did on one choice of pairs of one split and task.

    Attributes
    ----------
    hit, group_i, group_j, called : of every pair
    p : of the pairs that are kept for Brier score and calibration; `kept` are their indices
    calls : whether the method calls only some pairs
    order : figures of the order, of all pairs
    """

    method: str
    pairs: str
    task: str
    hit: Floats
    group_i: Ints
    group_j: Ints
    called: np.ndarray
    p: Floats
    kept: Ints
    calls: bool
    order: dict[str, float] | None


def _split(
    df: pd.DataFrame,
    methods: Mapping[str, Callable[[], Comparer]],
    masks: Mapping[str, Mask | None],
    columns: list[str],
    most: int,
    train_rows: Ints,
    test_rows: Ints,
) -> list[_Piece]:
    """Every method fitted on the one side and judged on the other, task by task."""
    train, test = df.iloc[train_rows], df.iloc[test_rows]
    found: list[_Piece] = []
    for name, make in methods.items():
        fitted = make().fit(train, columns)
        for task, of_task in test.groupby("task", sort=False):
            found += _judge(name, fitted, train, of_task, str(task), masks, most)
    return found


def _judge(
    name: str,
    fitted: Comparer,
    train: pd.DataFrame,
    test: pd.DataFrame,
    task: str,
    masks: Mapping[str, Mask | None],
    most: int,
) -> Iterator[_Piece]:
    parts: dict[str, list[tuple[Any, ...]]] = {k: [] for k in masks}
    orders = []
    for zoo, rows in test.groupby("zoo", sort=False) if "zoo" in test else [("", test)]:
        if len(rows) < 2 or rows["outcome"].nunique() < 2:
            continue
        same = train["task"] == task
        context = train[same & (train["zoo"] == zoo)] if "zoo" in train else train[same]
        y, code = rows["outcome"].to_numpy(float), rows[" code"].to_numpy(np.int64)
        i, j = np.triu_indices(len(rows), 1)
        keep = y[i] != y[j]
        i, j = i[keep], j[keep]
        p = probability(fitted.gaps(rows, context, i, j))
        hit = metrics.right(p, np.sign(y[i] - y[j]))
        bars = getattr(fitted, "bars", None)
        called = np.maximum(p, 1 - p) >= bars(rows, i, j) if bars is not None else np.zeros(len(p), bool)
        for kind, mask in masks.items():
            chosen = np.ones(len(i), bool) if mask is None else np.asarray(mask(rows, i, j), bool)
            if chosen.any():
                parts[kind].append((p[chosen], hit[chosen], code[i[chosen]], code[j[chosen]], called[chosen]))
        orders.append((len(rows), metrics.order_figures(fitted.order(rows, context), y)))
    for kind, found in parts.items():
        if not found:
            continue
        p, hit, gi, gj, called = (np.concatenate(column) for column in zip(*found, strict=True))
        thin = np.arange(len(p)) if len(p) <= most else np.linspace(0, len(p) - 1, most).astype(np.int64)
        order = None
        if kind == "all" and orders:
            sizes = [n for n, _ in orders]
            order = {k: float(np.average([o[k] for _, o in orders], weights=sizes)) for k in orders[0][1]}
        sure = np.maximum(p, 1 - p)[thin]
        yield _Piece(name, kind, task, hit, gi, gj, called, sure, thin, hasattr(fitted, "bars"), order)
