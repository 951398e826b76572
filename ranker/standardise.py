"""Features and outcomes on one scale within each zoo and task, so that one set of weights and trees serves them all.

A number x becomes ``soft((t(x) - centre) / spread)``: t is the form that its name asks for (the logarithm of a perplexity), or
the logarithm where a positive column is far from symmetric; centre and spread are the median and the normal-consistent
interquartile range of the rows that it is compared with; ``soft`` leaves [-2, 2] alone and bends what lies beyond towards 4.

Rows to compare with ("context"): in fitting, the rows of the same zoo and task. In answering, the zoo that the question comes
from: its statistics are mixed with the training ones as if the latter were `_PRIOR` rows more (`_PRIOR_OUTSIDE` where the zoo
lies outside the training range, as perplexities of another corpus do). A zoo of two so borrows most of its spread from the
training zoos, and its difference keeps its sign and size; a zoo of fifty speaks for itself. In a zoo of `_RANKED` or more, that
score is averaged with the normal score of the value's rank in the zoo, which no far-out value can bend.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ranker.cells import is_empty
from ranker.pairs import Floats, Ints
from ranker.scale import normal_scores, soft, spread_of
from ranker.table import is_number
from ranker.vocabulary import Meaning, meaning, resolve
from ranker.words import holds, indicators

_PRIOR = 8.0
_PRIOR_OUTSIDE = 1.0
_LARGEST = 1e100
_RANKED = 8
_RANK_SHARE = 0.5


@dataclass
class Column:
    """One feature as the ranker knows it.

    Attributes
    ----------
    name : as in the training table
    kind : "number" or "text"
    form : of a number: plain, log, inverse
    centre, spread : of the training zoos' rows, on the scale of `form`: median over zoos and tasks
    apart : standard deviation of that centre over the training zoos and tasks; 0 for one
    low, high : 1st and 99th percentile in training, on that scale
    levels : of a text: its indicators, each ``=VALUE`` (is it), ``~PART`` (has it among its parts, cut at + - / _ , and blanks)
        or ``!VALUE`` (is not it: the commonest); only those that at least two checkpoints share, and no two that say the same
    share_missing : share of training rows without it
    """

    name: str
    kind: str = "number"
    form: str = "plain"
    centre: float = 0.0
    spread: float = 1.0
    apart: float = 0.0
    low: float = 0.0
    high: float = 0.0
    levels: list[str] = field(default_factory=list)
    share_missing: float = 0.0

    def numbers(self, values: Floats) -> Floats:
        return Meaning("", self.form).apply(values)


@dataclass(frozen=True)
class Context:
    """Centre, spread and (of a zoo of `_RANKED` or more) sorted values of each number column; made once per zoo, used for
    every question.
    """

    centre: Floats
    spread: Floats
    rows: int
    outside: tuple[str, ...]
    ordered: tuple[Floats, ...] = ()


class Standardiser:
    """Learns the columns of a training table; turns rows into the matrix that the members read.

    Attributes
    ----------
    columns : the features, numbers first to last in table order, then texts
    numbers : names of the features that are numbers
    names : name of each matrix column; a text has one per level, ``name=level``
    feature : index into `columns` of each matrix column
    """

    def __init__(self, max_levels: int = 24) -> None:
        self.max_levels = max_levels
        self.columns: list[Column] = []

    def fit(self, X: pd.DataFrame, unit: Ints, checkpoint: Ints) -> Standardiser:
        """Learn columns from (n, p) features; `unit` and `checkpoint` are codes per row."""
        numbers, texts = [], []
        for name in X.columns:
            column = X[name]
            if is_number(column):
                values = column.to_numpy(float)
                if not np.isfinite(values).any():
                    continue
                numbers.append(_fit_number(str(name), values, unit))
            else:
                levels = indicators(column, checkpoint, self.max_levels)
                if levels:
                    texts.append(Column(str(name), "text", levels=levels, share_missing=float(column.isna().mean())))
        self.columns = numbers + texts
        self._index()
        return self

    def _index(self) -> None:
        self.numbers = tuple(c.name for c in self.columns if c.kind == "number")
        self.n_numbers = len(self.numbers)
        self.names = list(self.numbers)
        feature = list(range(self.n_numbers))
        for k, c in enumerate(self.columns):
            if c.kind == "text":
                self.names += [f"{c.name}{level}" for level in c.levels]
                feature += [k] * len(c.levels)
        self.feature = np.array(feature, np.int64)
        number = [c for c in self.columns if c.kind == "number"]
        # The indicators of one text together weigh as one feature.
        self._share = np.ones(len(self.names))
        for k, c in enumerate(self.columns):
            if c.kind == "text":
                self._share[self.feature == k] = len(c.levels) ** -0.5
        self._centre = np.array([c.centre for c in number])
        self._spread = np.array([c.spread for c in number])
        # Where training zoos lie far apart, their common centre says little of where another one lies.
        self._fixed = np.array([(c.spread / c.apart) ** 2 if c.apart > 0 else np.inf for c in number])
        self._low = np.array([c.low - 2 * c.spread for c in number])
        self._high = np.array([c.high + 2 * c.spread for c in number])
        self._forms = [c.form for c in number]

    # ---- fitting rows: every zoo and task by its own statistics

    def matrix_within(self, X: pd.DataFrame, unit: Ints) -> Floats:
        """(n, d) matrix, each unit standardised by its own rows mixed with the training statistics if it has few."""
        raw = self.raw(X)
        out = np.empty((len(X), len(self.names)))
        for u in np.unique(unit):
            rows = np.flatnonzero(unit == u)
            out[rows] = self.standardise(raw[rows], self._context(raw[rows], own=True))
        return out

    # ---- answering

    def raw(self, X: pd.DataFrame) -> Floats:
        """(n, d) matrix on each column's own scale: forms applied, texts as 0/1 levels (NaN where missing)."""
        found = resolve([c.name for c in self.columns], [str(c) for c in X.columns])
        out = np.full((len(X), len(self.names)), np.nan)
        at = self.n_numbers
        for k, c in enumerate(self.columns):
            column = X[found[c.name]] if c.name in found else None
            if c.kind == "number":
                if column is not None:
                    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
                    out[:, k] = _form_for(c, found[c.name]).apply(_finite(values))
                continue
            width = len(c.levels)
            if column is not None:
                known: dict[str, Floats] = {}
                for row, value in enumerate(column):
                    if is_empty(value):
                        continue
                    word = str(value).strip()
                    if word not in known:
                        known[word] = holds(word, c.levels)
                    out[row, at : at + width] = known[word]
            at += width
        return out

    def raw_row(self, row: Mapping[str, Any], found: Mapping[str, str]) -> Floats:
        """`raw` for one mapping of features, without pandas; `found` is `resolve` of its keys."""
        out = np.full(len(self.names), np.nan)
        numbers, at = self.columns[: self.n_numbers], self.n_numbers
        forms = [
            form if found.get(c.name, c.name) == c.name else _form_for(c, found[c.name]).form
            for c, form in zip(numbers, self._forms, strict=True)
        ]
        out[:at] = _on_scale(_finite(_floats([row.get(found[c.name]) if c.name in found else None for c in numbers])), forms)
        for c in self.columns[at:]:
            value = row.get(found[c.name]) if c.name in found else None
            width = len(c.levels)
            if not is_empty(value):
                out[at : at + width] = holds(str(value).strip(), c.levels)
            at += width
        return out

    def context(self, raw: Floats) -> Context:
        """Statistics of a zoo from the raw rows that stand for it."""
        return self._context(raw, own=False)

    def _context(self, raw: Floats, *, own: bool) -> Context:
        numbers = raw[:, : self.n_numbers]
        n, middle, scale = _middles(numbers)
        with np.errstate(invalid="ignore", divide="ignore"):
            far = (self._spread > 0) & ((middle < self._low) | (middle > self._high))
            prior = np.where(far | own, _PRIOR_OUTSIDE, _PRIOR)
            share = np.where(own & (n >= 5), 1.0, (n - 1) / (n - 1 + prior))
            fixed = np.minimum(prior, self._fixed)
            mixed = np.where(far | own, middle, (n * middle + fixed * self._centre) / (n + fixed))
            centre = np.where(n > 0, mixed, self._centre)
            spread = np.where(scale > 0, np.exp(share * np.log(scale) + (1 - share) * np.log(self._spread)), self._spread)
        outside = [] if own else [self.columns[k].name for k in np.flatnonzero(far)]
        ordered = tuple(np.sort(column[~np.isnan(column)]) for column in numbers.T) if len(raw) >= _RANKED else ()
        return Context(centre, spread, len(raw), tuple(outside), ordered)

    def standardise(self, raw: Floats, context: Context) -> Floats:
        """(n, d) standardised matrix; NaN where a feature is missing."""
        out = raw * self._share
        out[:, : self.n_numbers] = soft((raw[:, : self.n_numbers] - context.centre) / context.spread)
        for k, ordered in enumerate(context.ordered):
            if len(ordered) >= _RANKED:
                out[:, k] = (1 - _RANK_SHARE) * out[:, k] + _RANK_SHARE * normal_scores(raw[:, k], ordered)
        return out

    def training_context(self) -> Context:
        """The training statistics alone: for a question of which no zoo is known."""
        return Context(self._centre, self._spread, 0, ())

    # ---- persistence

    def to_json(self) -> dict[str, Any]:
        return {"max_levels": self.max_levels, "columns": [vars(c) for c in self.columns]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Standardiser:
        out = cls(int(data["max_levels"]))
        out.columns = [Column(**c) for c in data["columns"]]
        out._index()
        return out


def _form_for(column: Column, offered: str) -> Meaning:
    """How to read the offered column as the trained one: an inverse answers for a perplexity and the other way round."""
    if offered == column.name:
        return Meaning("", column.form)
    theirs = meaning(offered)
    trained = meaning(column.name)
    if trained.form in ("log", "inverse") and theirs.form in ("log", "inverse"):
        same = trained.form == theirs.form
        return Meaning("", column.form if same else {"log": "inverse", "inverse": "log"}.get(column.form, column.form))
    return Meaning("", column.form)


def _finite(values: Floats) -> Floats:
    """NaN where there is no number; figures whose squares are no numbers are cut."""
    return np.where(np.isfinite(values), np.clip(values, -_LARGEST, _LARGEST), np.nan)


def _floats(values: Sequence[Any]) -> Floats:
    """(n,) numbers, NaN where a value is missing or none."""
    try:
        out = np.array(values, dtype=float)
    except (TypeError, ValueError, OverflowError):
        out = np.zeros(0)
    return out if out.shape == (len(values),) else np.array([_float(v) for v in values])


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _on_scale(values: Floats, forms: Sequence[str]) -> Floats:
    """(n,) values, each on the scale of its form (see `Meaning.apply`)."""
    out = values.copy()
    for form in ("log", "inverse"):
        at = [k for k, other in enumerate(forms) if other == form]
        out[at] = Meaning("", form).apply(values[at])
    return out


def _middles(numbers: Floats) -> tuple[Ints, Floats, Floats]:
    """(d,) values that each column has, their median and their spread (`spread_of`), NaN where there is none."""
    there = ~np.isnan(numbers)
    n = there.sum(0)
    with np.errstate(invalid="ignore"):
        middle = np.where(there, numbers, 0.0).sum(0) / n
    scale = np.full(len(n), np.nan)
    for k in np.flatnonzero(n > 2):
        values = numbers[there[:, k], k]
        middle[k], scale[k] = np.median(values), spread_of(values)
    pair = n == 2  # the commonest question: two checkpoints of which no zoo is known
    if pair.any():
        scale[pair] = (np.nanmax(numbers[:, pair], 0) - np.nanmin(numbers[:, pair], 0)) / math.sqrt(2)
    return n, middle, scale


def _fit_number(name: str, values: Floats, unit: Ints) -> Column:
    known = meaning(name)
    given = values[np.isfinite(values)]
    form = known.form
    if form != "plain" and (given <= 0).any():
        form = "plain"
    elif form == "plain" and len(given) >= 8 and (given > 0).all() and given.max() / given.min() > 10:
        logs = np.log(given)
        if abs(_lean(logs)) < abs(_lean(given)):
            form = "log"
    x = Meaning("", form).apply(_finite(values))
    centres, spreads = [], []
    for u in np.unique(unit):
        own = x[unit == u]
        own = own[~np.isnan(own)]
        if len(own):
            centres.append(float(np.median(own)))
            scale = spread_of(own)
            if scale > 0:
                spreads.append(scale)
    low, high = np.nanquantile(x, [0.01, 0.99])
    return Column(
        name,
        "number",
        form,
        centre=float(np.median(centres)),
        spread=float(np.exp(np.median(np.log(spreads)))) if spreads else 1.0,
        apart=float(np.std(centres)),
        low=float(low),
        high=float(high),
        share_missing=float(np.isnan(x).mean()),
    )


def _lean(values: NDArray[np.float64]) -> float:
    """Quantile skewness: how much longer the upper tail is than the lower, in units of their sum."""
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return float((high + low - 2 * middle) / (high - low)) if high > low else 0.0


def known_directions(columns: Sequence[Column], given: Mapping[str, int] | None = None) -> NDArray[np.int64]:
    """Direction of each column on its comparing scale: +1, -1 or 0 where unknown; `given` (by column name) wins."""
    out = []
    for c in columns:
        m = meaning(c.name)
        turned = -1 if c.form == "inverse" else 1
        if given and c.name in given:
            out.append(int(np.sign(given[c.name])) * turned)
        else:
            out.append(0 if c.kind == "text" else m.column_direction * turned)
    return np.array(out, np.int64)
