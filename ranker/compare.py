"""LearningToCompare: features of two checkpoints in, the probability that the first is better after fine-tuning out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import lightgbm as lgb
import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.base import BaseEstimator
from threadpoolctl import threadpool_limits

from features.errors import DataError
from ranker.answering import Answering
from ranker.card import allowed_signs, check_parameters, describe, holdout, importances
from ranker.ensemble import Ensemble, Sample
from ranker.held import Held, cross_fitted
from ranker.pairs import Floats, codes, merge_groups
from ranker.rows import features, frame, labels, rarity, row_weights, same_checkpoint, same_features, twin_rows, vector
from ranker.scale import standard_outcome
from ranker.standardise import Standardiser, known_directions
from ranker.strata import Strata, Told, told
from ranker.table import LARGEST

Z90 = 1.6448536269514722


class LearningToCompare(Answering, BaseEstimator):
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
    strata : columns of X that are never scored but say how sure: pairs that agree in one (the learning rate, say) get a
        steepness and a bar for being called that held-out pairs which agree in it taught; pairs of which it is not told get the
        general ones
    max_pairs : held-out pairs that weights and calibration are learnt from, at most
    random_state : seed of everything random

    Attributes
    ----------
    feature_names_ : columns that are used, numbers first
    booster_ : the trees of all tasks together, as one LightGBM Booster
    strata_ : what pairs that agree in one of `strata` taught; None without
    card_ : what was learnt from what: held-out figures, digest of the data, lowest and highest value per feature, far-out
        outcomes
    classes_ : array([0, 1]): P is of class 1, "a beats b"
    n_features_in_, feature_names_in_ : of X in fit

    Notes
    -----
    Every scorer s_m gives a checkpoint one number; log-odds(a, b) = sum_m c_m (s_m(a) - s_m(b)) with c_m > 0 (times a factor > 0
    of the task, and one of what the two share, with `strata`), so that P(a, b) + P(b, a) = 1 to the last bit, P(a, a) = 1/2, and
    the ranking is transitive. Outcomes are compared within a zoo and task only.

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
        strata: Sequence[str] = (),
        max_pairs: int = 200_000,
        random_state: int = 0,
    ) -> None:
        self.error_rate = error_rate
        self.bags = bags
        self.rounds = rounds
        self.signs = signs
        self.directions = directions
        self.costs = costs
        self.strata = strata
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
        check_parameters(self)
        X = given_X = features(frame(X))
        absent = [c for c in self.strata if c not in X.columns]
        if absent:
            raise DataError(f"no column {absent[0]!r}", where="strata", remedy=f"columns: {', '.join(map(str, X.columns))}")
        X = X.drop(columns=list(self.strata))
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
        self.feature_names_in_ = np.array(given_X.columns, dtype=object)
        self.n_features_in_ = given_X.shape[1]
        self.classes_ = np.array([0, 1])

        Z = self.standardiser_.matrix_within(X, unit)
        t = standard_outcome(y_, unit)
        self.directions_ = known_directions(self.standardiser_.columns, self.directions)
        free, known = np.zeros(Z.shape[1], np.int64), np.zeros(Z.shape[1], np.int64)
        known[: self.standardiser_.n_numbers] = self.directions_[: self.standardiser_.n_numbers]
        w = row_weights(y_, sd, unit) * rarity(given, same, unit)
        sample = Sample(Z, t, w, unit, task_code, checkpoint, groups, y_, sd, free, known)
        sample.sign = allowed_signs(self.signs, self.directions_[: self.standardiser_.n_numbers], sample)
        self.ensemble_, self.strata_ = Ensemble(), None
        # Matrices are small: several threads would spin more than they compute, and decide the last digit.
        with threadpool_limits(1, "blas"):
            held = self.ensemble_.fit(
                sample,
                bags=self.bags,
                rounds=self.rounds,
                seed=self.random_state,
                max_pairs=self.max_pairs,
                smooth=self.signs != "strict",
            )
            self._judge(sample, held, told(given_X, self.strata))
        assert self.ensemble_.trees.whole is not None
        self.booster_: lgb.Booster = self.ensemble_.trees.whole
        self.importance_ = importances(self, sample)
        self.card_: dict[str, Any] = describe(self, X, y_, sample, tasks, zoos, sd)
        return self

    def _judge(self, sample: Sample, held: Held, known: Told) -> None:
        """Held-out figures and the confidence from which a pair may be called."""
        p = cross_fitted(held)
        self.call_from_, self.holdout_ = holdout(held, p, self.error_rate)
        if self.strata:
            pairs = (logit(np.clip(p, 1e-12, 1 - 1e-12)), held.better, held.weight, held.size, known[held.i], known[held.j])
            self.strata_ = Strata(tuple(self.strata)).fit(*pairs, self.error_rate)

    # ---- persistence

    def save(self, folder: str | Path) -> None:
        """Write the ranker to a folder: ``ranker.json`` and LightGBM's own text of its trees; no pickle."""
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
