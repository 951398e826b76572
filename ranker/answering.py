"""What a fitted ranker answers: probabilities of pairs, one pair with its reasons, a ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from features.errors import DataError
from ranker.blend import probability
from ranker.ensemble import Ensemble
from ranker.explain import NEW_TASK, Comparison, Side, explain, sides
from ranker.pairs import Floats
from ranker.ranking import Ranking, assemble
from ranker.rows import frame
from ranker.standardise import Context, Standardiser
from ranker.strata import Strata, told
from ranker.table import RESERVED
from ranker.vocabulary import resolve


class Answering:
    """The answering half of `ranker.compare.LearningToCompare`, which fits the attributes that are named here."""

    costs: Mapping[str, float] | None
    strata: Sequence[str]
    random_state: int
    standardiser_: Standardiser
    ensemble_: Ensemble
    strata_: Strata | None
    call_from_: float
    importance_: dict[str, float]
    tasks_: list[str]
    feature_names_: list[str]
    feature_names_in_: Any
    _task_code: dict[str, int]

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
        gap = self.ensemble_.strengths(both[0], code) - self.ensemble_.strengths(both[1], code)
        return probability(self.sureness(X_a, X_b)[0] * gap)

    def sureness(self, X_a: pd.DataFrame | Floats, X_b: pd.DataFrame | Floats) -> tuple[Floats, Floats]:
        """(n,) what the difference of two strengths is multiplied by, and (n,) the confidence from which the pair is called: 1
        and `call_from_` but where `strata` tell more.
        """
        self._check_fitted()
        if self.strata_ is None:
            return np.ones(len(X_a)), np.full(len(X_a), self.call_from_)
        a, b = (told(frame(X, list(self.feature_names_in_)), self.strata_.columns) for X in (X_a, X_b))
        return self.strata_.pairs(a, b, self.call_from_)

    def strengths(
        self, X: pd.DataFrame | Floats, *, task: str | None = None, context: pd.DataFrame | Context | None = None
    ) -> Floats:
        """(n,) log-odds strengths of the rows of X: P(a beats b) = sigmoid(strength a - strength b), but for `sureness`. Context
        as in `rank`.
        """
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
        factor, bar = 1.0, self.call_from_
        if self.strata_ is not None:
            factor, bar = self.strata_.common(told(X, self.strata_.columns), bar)
        notes = self.unlike(X, used) + ([NEW_TASK] if code < 0 else [])
        return assemble(
            list(names),
            factor * strength,
            factor * bags,
            bar,
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
        offered = [str(c) for c in X.columns if c not in RESERVED and c not in self.strata]
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


@lru_cache(maxsize=256)
def _measured(known: tuple[str, ...], offered: tuple[str, ...]) -> dict[str, str]:
    """`resolve`, kept: a service is asked with the same few sets of features again and again. Not to be changed."""
    return resolve(known, offered)
