"""LearningToCompare: features of two checkpoints in, the probability that the first is better after fine-tuning out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import lightgbm as lgb
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from features.errors import DataError
from ranker.blend import calibration_error, probability, too_close_below
from ranker.ensemble import SCORERS, Ensemble, Held, Sample, cross_fitted
from ranker.explain import NEW_TASK, Comparison, Side, explain, sides
from ranker.pairs import Floats, Ints, codes, far_out, merge_groups, within
from ranker.ranking import Ranking, assemble
from ranker.rows import frame, labels, row_weights, same_checkpoint, same_features, twin_rows, vector
from ranker.scale import standard_outcome
from ranker.standardise import Context, Standardiser, known_directions
from ranker.table import LARGEST, RESERVED, digest
from ranker.vocabulary import resolve

_SIGNS = ("proven", "strict", "free")
Z90 = 1.6448536269514722


class LearningToCompare(BaseEstimator):
    """Learning to compare: which of two checkpoints will be better after fine-tuning, and how sure.

    Parameters
    ----------
    error_rate : of the pairs that are called, the share that may be wrong; pairs that cannot be called at that rate are "too
        close"
    bags : resamples over checkpoints: each is fitted without a quarter of them and judged on those
    rounds : boosted trees per resample
    signs : "proven" lets a feature of known direction count only in that direction if the training rows agree with it;
        "strict" if or not they agree; "free" never
    directions : direction (+1, -1, 0) per column, over the vocabulary's
    costs : seconds to measure a feature, for what to measure next; over the vocabulary's
    max_pairs : held-out pairs that weights and calibration are learnt from, at most
    random_state : seed of everything random

    Attributes
    ----------
    feature_names_ : columns that are used, numbers first
    booster_ : the trees, as one LightGBM Booster
    card_ : what was learnt from what: held-out figures, digest of the data, training range per feature, twins, far-out outcomes
    classes_ : array([0, 1]): P is of class 1, "a beats b"
    n_features_in_, feature_names_in_ : of X in fit

    Notes
    -----
    Every scorer s_m gives a checkpoint one number; log-odds(a, b) = sum_m c_m (s_m(a) - s_m(b)) with c_m > 0, so that
    P(a, b) + P(b, a) = 1 to the last bit, P(a, a) = 1/2, and the ranking is transitive. Outcomes are compared within a zoo and
    task only.

    References
    ----------
    Zeng et al. 2025 (arXiv 2504.12491).
    """

    def __init__(
        self,
        *,
        error_rate: float = 0.1,
        bags: int = 12,
        rounds: int = 80,
        signs: str = "proven",
        directions: Mapping[str, int] | None = None,
        costs: Mapping[str, float] | None = None,
        max_pairs: int = 200_000,
        random_state: int = 0,
    ) -> None:
        self.error_rate = error_rate
        self.bags = bags
        self.rounds = rounds
        self.signs = signs
        self.directions = directions
        self.costs = costs
        self.max_pairs = max_pairs
        self.random_state = random_state

    # ---- fitting

    def fit(
        self,
        X: pd.DataFrame | Floats,
        y: Sequence[float] | Floats | pd.Series,
        *,
        task: Sequence[str] | pd.Series | None = None,
        group: Sequence[Any] | pd.Series | None = None,
        zoo: Sequence[str] | pd.Series | None = None,
        outcome_sd: Sequence[float] | Floats | pd.Series | None = None,
    ) -> Self:
        """Fit on one row per (task, checkpoint).

        Parameters
        ----------
        X : (n, p) features (numbers, NaN where missing) and configurations (text)
        y : (n,) outcomes, higher is better; compared within a zoo and task only
        task, zoo : (n,) names; one task, one zoo where left out
        group : (n,) what must never stand on two sides of a split: the checkpoint, or its uploader or family. Where left out,
            rows of a zoo with equal features are one checkpoint
        outcome_sd : (n,) standard deviation of the noise in y; a pair inside it weighs little

        Raises
        ------
        DataError : shapes that differ, no usable feature, an outcome that is not a finite number, nothing to compare
        """
        self._check_parameters()
        X = frame(X)
        n = len(X)
        y_ = vector(y, n, "y")
        wrong = ~(np.abs(y_) <= LARGEST)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"the outcome is not a finite number up to {LARGEST:g}",
                where=f"y, row {row + 1}",
                remedy="leave rows without an outcome out",
            )
        sd = None if outcome_sd is None else vector(outcome_sd, n, "outcome_sd")
        tasks = labels(task, n, "task")
        zoos = labels(zoo, n, "zoo")
        unit = codes(zoos, tasks)
        self.tasks_ = sorted(set(tasks))
        self._task_code = {t: i for i, t in enumerate(self.tasks_)}
        task_code = np.array([self._task_code[t] for t in tasks], np.int64)
        same = same_features(X, zoos)
        given = same if group is None else codes(labels(group, n, "group"))
        checkpoint = merge_groups(given, same) if group is None else same_checkpoint(tasks, zoos, given, same)
        groups = merge_groups(given, twin_rows(X, y_, zoos, tasks)) if group is not None else same
        if not any(np.ptp(y_[unit == u]) > 0 for u in np.unique(unit)):
            raise DataError(
                "no task has two checkpoints of different outcome", where="y", remedy="give outcomes that differ within a task"
            )
        if len(np.unique(groups)) < 2:
            raise DataError("all rows are one group", where="group", remedy="give at least two groups, or leave group out")

        self.standardiser_ = Standardiser().fit(X, unit, given)
        if not self.standardiser_.columns:
            raise DataError("no feature with a value", where="X", remedy="give at least one feature known before fine-tuning")
        self.feature_names_ = [c.name for c in self.standardiser_.columns]
        self.feature_names_in_ = np.array(X.columns, dtype=object)
        self.n_features_in_ = X.shape[1]
        self.classes_ = np.array([0, 1])

        Z = self.standardiser_.matrix_within(X, unit)
        t = standard_outcome(y_, unit)
        self.directions_ = known_directions(self.standardiser_.columns, self.directions)
        free, known = np.zeros(Z.shape[1], np.int64), np.zeros(Z.shape[1], np.int64)
        known[: self.standardiser_.n_numbers] = self.directions_[: self.standardiser_.n_numbers]
        sample = Sample(Z, t, row_weights(y_, sd, unit), unit, task_code, checkpoint, groups, y_, sd, free, known)
        sample.sign = self._signs(sample)
        self.ensemble_ = Ensemble()
        held = self.ensemble_.fit(
            sample,
            bags=self.bags,
            rounds=self.rounds,
            seed=self.random_state,
            max_pairs=self.max_pairs,
            smooth=self.signs != "strict",
        )
        self.booster_: lgb.Booster = self.ensemble_.booster
        self._judge(sample, held)
        self._describe(X, y_, sample, tasks, zoos, sd)
        return self

    def _check_parameters(self) -> None:
        problems = {
            "error_rate": not 0 < float(self.error_rate) < 0.5,
            "bags": int(self.bags) < 2,
            "rounds": int(self.rounds) < 1,
            "signs": self.signs not in _SIGNS,
            "max_pairs": int(self.max_pairs) < 100,
        }
        for name, wrong in problems.items():
            if wrong:
                remedy = {
                    "error_rate": "between 0 and 0.5", "bags": "at least 2", "rounds": "at least 1",
                    "signs": f"one of {', '.join(_SIGNS)}", "max_pairs": "at least 100",
                }[name]  # fmt: skip
                raise DataError(f"{name} = {getattr(self, name)!r}", where="LearningToCompare", remedy=f"give {remedy}")

    def _signs(self, sample: Sample) -> Ints:
        """(d,) the direction that a matrix column may only count in."""
        out = np.zeros(sample.Z.shape[1], np.int64)
        if self.signs == "free":
            return out
        m = self.standardiser_.n_numbers
        known = self.directions_[:m]
        if self.signs == "strict":
            out[:m] = known
            return out
        filled = np.nan_to_num(sample.Z[:, :m])
        for k in np.flatnonzero(known):
            x = filled[:, k]
            size = float(np.sqrt((x @ x) * (sample.t @ sample.t)))
            agreement = known[k] * float(x @ sample.t) / size if size > 0 else 0.0
            # Evidence in units of its standard error, rows of one group counted once.
            if agreement * np.sqrt(len(np.unique(sample.group))) > 2.0:
                out[k] = known[k]
        return out

    def _judge(self, sample: Sample, held: Held) -> None:
        """Held-out figures and the confidence from which a pair may be called."""
        nothing = np.zeros(0)
        self.call_from_ = too_close_below(nothing, nothing, nothing, self.error_rate, held.size)
        self.holdout_: dict[str, Any] = {"pairs": len(held.better), "accuracy": None, "ece": None, "brier": None, "called": None}
        if not len(held.better):
            return
        p = cross_fitted(held)
        favoured = np.where(held.better > 0, p, 1 - p)
        right = np.where(favoured == 0.5, 0.5, (favoured > 0.5).astype(float))
        self.call_from_ = too_close_below(p, right, held.weight, self.error_rate, held.size)
        called = np.maximum(p, 1 - p) >= self.call_from_
        w = held.weight
        self.holdout_ = {
            "pairs": len(p),
            "accuracy": float(np.average(right, weights=w)),
            "brier": float(np.average((1 - favoured) ** 2, weights=w)),
            "ece": calibration_error(p, right, w),
            "called": float(np.average(called, weights=w)),
            "called_accuracy": float(np.average(right[called], weights=w[called])) if called.any() else None,
        }

    def _describe(self, X: pd.DataFrame, y: Floats, sample: Sample, tasks: list[str], zoos: list[str], sd: Floats | None) -> None:
        out = far_out(y, sample.unit)
        sizes = np.bincount(sample.group)
        raw = self.standardiser_.raw(X)
        # How far a feature moves the log-odds between two checkpoints of the training zoos: what its measurement is worth.
        spread = self._importances(sample)
        self.importance_ = {c.name: float(spread[k]) for k, c in enumerate(self.standardiser_.columns)}
        self.card_: dict[str, Any] = {
            "rows": len(X),
            "groups": int((sizes > 0).sum()),
            "tasks": self.tasks_,
            "zoos": sorted(set(zoos)),
            "digest": digest(X.assign(**{" task": tasks, " zoo": zoos, " outcome": y})),
            "holdout": self.holdout_,
            "error_rate": float(self.error_rate),
            "call_from": float(self.call_from_),
            "weights": dict(zip(SCORERS, map(float, self.ensemble_.weights), strict=True)),
            "importance": self.importance_,
            "ranges": {
                c.name: [float(np.nanmin(raw[:, k])), float(np.nanmax(raw[:, k]))]
                for k, c in enumerate(self.standardiser_.columns)
                if c.kind == "number"
            },
            "signs": {self.standardiser_.names[k]: int(s) for k, s in enumerate(sample.sign) if s},
            "far_out": [{"row": int(i), "task": tasks[i], "outcome": float(y[i])} for i in np.flatnonzero(out)],
            "noise_known": sd is not None,
        }

    def _importances(self, sample: Sample, most: int = 60) -> Floats:
        """(columns,) root mean square of each feature's contribution to the log-odds of training pairs."""
        out = np.zeros(len(self.standardiser_.columns))
        i, j = within(sample.unit, limit=20 * most, seed=self.random_state)
        chosen = np.random.default_rng(self.random_state).permutation(len(i))[:most]
        for k in chosen:
            task = int(sample.task[i[k]])
            parts = self.ensemble_.shares(sample.Z[[i[k], j[k]]], task)
            shares = self.ensemble_.between(sample.Z[i[k]], sample.Z[j[k]], task, parts[0] - parts[1])
            out += np.bincount(self.standardiser_.feature, shares, minlength=len(out)) ** 2
        return np.sqrt(out / max(len(chosen), 1))

    # ---- answering

    def context(self, X: pd.DataFrame) -> Context:
        """Statistics of the zoo that the rows of X stand for, made once and given as `context` to any number of questions."""
        self._check_fitted()
        return self.standardiser_.context(self.standardiser_.raw(frame(X)))

    def _context(self, context: pd.DataFrame | Context | None, raw: Floats) -> Context:
        if isinstance(context, Context):
            return context
        if context is not None:
            return self.context(context)
        return self.standardiser_.context(raw)

    def _code(self, task: str | None) -> int:
        """Code of a task that was fitted on; -1 (the shared part alone) for another."""
        if task is None and len(self.tasks_) == 1:
            return 0
        return self._task_code.get(str(task), -1)

    def compare(
        self,
        X_a: pd.DataFrame | Floats,
        X_b: pd.DataFrame | Floats,
        *,
        task: str | None = None,
        context: pd.DataFrame | Context | None = None,
    ) -> Floats:
        """(n,) P(a beats b), row by row.

        Parameters
        ----------
        X_a, X_b : (n, p) features; columns may be missing, others are ignored
        task : one that was fitted on gets its own weights; any other the shared ones
        context : rows of the zoo that both come from, or what `context` made of them; None takes the rows of X_a and X_b
            themselves, mixed with the training statistics

        Raises
        ------
        DataError : different numbers of rows, or none of the ranker's features
        """
        self._check_fitted()
        A, B = self._raw(X_a), self._raw(X_b)
        if len(A) != len(B):
            raise DataError(f"{len(A)} and {len(B)} rows", where="compare", remedy="give as many rows for a as for b")
        if not len(A):
            return np.empty(0)
        known = self._context(context, np.vstack([A, B])) if context is not None else None
        code = self._code(task)
        if known is None:
            # A pair whose zoo is not known stands for itself: its answer may not depend on the other pairs asked with it.
            alone = [self.standardiser_.context(np.vstack([x, y])) for x, y in zip(A, B, strict=True)]
            both = [np.vstack([self.standardiser_.standardise(raw[k : k + 1], c) for k, c in enumerate(alone)]) for raw in (A, B)]
        else:
            both = [self.standardiser_.standardise(A, known), self.standardiser_.standardise(B, known)]
        return probability(self.ensemble_.strengths(both[0], code) - self.ensemble_.strengths(both[1], code))

    def strengths(
        self, X: pd.DataFrame | Floats, *, task: str | None = None, context: pd.DataFrame | Context | None = None
    ) -> Floats:
        """(n,) log-odds strengths of the rows of X: P(a beats b) = sigmoid(strength a - strength b). Context as in `rank`."""
        self._check_fitted()
        raw = self._raw(X)
        Z = self.standardiser_.standardise(raw, self._context(context, raw))
        return self.ensemble_.strengths(Z, self._code(task))

    def _raw(self, X: pd.DataFrame | Floats) -> Floats:
        offered = frame(X, list(self.feature_names_in_))
        if not resolve(self.feature_names_, [str(c) for c in offered.columns]):
            raise DataError(
                "none of the features that the ranker knows",
                where="X",
                remedy=f"give some of: {', '.join(self.feature_names_[:20])}",
            )
        return self.standardiser_.raw(offered)

    def answer(
        self,
        a: Mapping[str, Any],
        b: Mapping[str, Any],
        *,
        task: str | None = None,
        context: pd.DataFrame | Context | None = None,
    ) -> Comparison:
        """One comparison with its doubt and its reasons.

        Raises
        ------
        DataError : a or b has none of the ranker's features
        """
        return explain(self, *self.sides({"a": a, "b": b}, task=task, context=context))

    def sides(
        self,
        rows: Mapping[str, Mapping[str, Any]],
        *,
        task: str | None = None,
        context: pd.DataFrame | Context | None = None,
    ) -> list[Side]:
        """What can be known of each row (name -> features) by itself, for `between`; context as in `answer`.

        Sides made with the same context may be made one by one, kept, and put together in any pair.

        Raises
        ------
        DataError : a row has none of the ranker's features
        """
        self._check_fitted()
        raws, found = [], []
        for name, row in rows.items():
            have = _measured(tuple(self.feature_names_), tuple(k for k, v in row.items() if v is not None and v == v))
            if not have:
                raise DataError(
                    "none of the features that the ranker knows",
                    where=name,
                    remedy=f"give some of: {', '.join(self.feature_names_[:20])}",
                )
            found.append(have)
            raws.append(self.standardiser_.raw_row(row, have))
        raw = np.vstack(raws)
        used = self._context(context, raw)
        return sides(self, list(rows.values()), found, self.standardiser_.standardise(raw, used), used, self._code(task))

    def between(self, a: Side, b: Side) -> Comparison:
        """The answer for two sides made with the same context and task: exactly as `answer` would give it."""
        return explain(self, a, b)

    def rank(
        self,
        X: pd.DataFrame | Floats,
        *,
        task: str | None = None,
        names: Sequence[str] | None = None,
        top_k: int | None = None,
        context: pd.DataFrame | Context | None = None,
    ) -> Ranking:
        """The rows of X in order, best first.

        Parameters
        ----------
        X : (n, p) features of the candidates; they are their own context unless another is given
        names : (n,) of the candidates; default: a column ``checkpoint``, else the index
        top_k : the k of ``p_top_k``; default a tenth of the candidates, at least one

        Raises
        ------
        DataError : no candidates, names of another length, or none of the ranker's features
        """
        self._check_fitted()
        X = frame(X, list(self.feature_names_in_))
        if not len(X):
            raise DataError("no candidates", where="rank", remedy="give at least one row")
        if names is None:
            names = [str(v) for v in (X["checkpoint"] if "checkpoint" in X.columns else X.index)]
        if len(names) != len(X):
            raise DataError(f"{len(names)} names for {len(X)} rows", where="rank", remedy="give one name per row")
        raw = self._raw(X)
        used = self._context(context, raw)
        code = self._code(task)
        Z = self.standardiser_.standardise(raw, used)
        blocks = [self.ensemble_.scores(Z[start : start + 4096], code) for start in range(0, len(Z), 4096)]
        strength, bags = np.concatenate([b[0] for b in blocks]), np.hstack([b[1] for b in blocks])
        notes = self.unlike(X, used) + ([NEW_TASK] if code < 0 else [])
        return assemble(
            list(names),
            strength,
            bags,
            self.call_from_,
            top_k or max(1, len(X) // 10),
            self.widening_,
            notes,
            seed=self.random_state,
        )

    @property
    def widening_(self) -> float:
        """From the spread of the resamples to the standard error of their mean: delete-d jackknife, sqrt((n - d) / d)."""
        share = self.ensemble_.left_out
        return float(np.sqrt((1 - share) / share))

    def unlike(self, X: pd.DataFrame, used: Context) -> list[str]:
        """What a person should know of the question's features: missing, ignored, or unlike the training ones."""
        offered = [str(c) for c in X.columns if c not in RESERVED]
        found = resolve(self.feature_names_, offered)
        notes = []
        missing = [f for f in self.feature_names_ if f not in found]
        if missing:
            notes.append(f"not measured: {', '.join(missing)}")
        extra = [c for c in offered if c not in found.values()]
        if extra:
            notes.append(f"not known to the ranker, ignored: {', '.join(extra[:20])}")
        if used.outside:
            notes.append(f"unlike the training checkpoints: {', '.join(used.outside)}")
        return notes

    def _check_fitted(self) -> None:
        if not hasattr(self, "ensemble_"):
            raise DataError("the ranker is not fitted", where="LearningToCompare", remedy="call fit first")

    # ---- persistence

    def save(self, folder: str | Path) -> None:
        """Write the ranker to a folder: ``ranker.json`` and ``booster.txt`` (LightGBM's own text); no pickle."""
        from ranker.artifact import write

        self._check_fitted()
        write(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> LearningToCompare:
        """A ranker that `save` wrote.

        Raises
        ------
        DataError : a file is missing, damaged, of another format, or its digest does not fit
        """
        from ranker.artifact import read

        return read(Path(folder))


@lru_cache(maxsize=256)
def _measured(known: tuple[str, ...], offered: tuple[str, ...]) -> dict[str, str]:
    """`resolve`, kept: a service is asked with the same few sets of features again and again. Not to be changed."""
    return resolve(known, offered)
