"""Questions and answers: the one place where `foretune compare`, `foretune rank` and the HTTP service ask a ranker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from features.errors import DataError, UserError
from serving.catalogue import Catalogue
from serving.champion import Snapshot
from serving.console import finite

if TYPE_CHECKING:
    from ranker.explain import Side


def compare(
    snapshot: Snapshot,
    a: tuple[str, Mapping[str, Any]],
    b: tuple[str, Mapping[str, Any]],
    *,
    task: str | None,
    context: Any = None,
) -> dict[str, Any]:
    """The ``compare`` object: which of two is better on `task`, how sure, and why.

    Parameters
    ----------
    a, b : name and features
    context : rows of the zoo that both come from, for standardising within it; None takes the training statistics

    Raises
    ------
    DataError : the two share no feature that the ranker knows
    """
    rows = {a[0]: a[1], b[0]: b[1]} if a[0] != b[0] else {"a": a[1], "b": b[1]}
    left, right = sides(snapshot, rows, task=task, context=context)
    return between(snapshot, (a[0], left), (b[0], right), task=task)


def sides(snapshot: Snapshot, rows: Mapping[str, Mapping[str, Any]], *, task: str | None, context: Any = None) -> list[Side]:
    """What the ranker can say of each row (name -> features) by itself; see `LearningToCompare.sides`.

    Raises
    ------
    DataError : a row has no feature that the ranker knows, or a text where it knows a number
    """
    for name, features in rows.items():
        _numbers_are_numbers(snapshot, name, features)
    return snapshot.ranker.sides(rows, task=task, context=context)


def between(snapshot: Snapshot, a: tuple[str, Side], b: tuple[str, Side], *, task: str | None) -> dict[str, Any]:
    """The ``compare`` object of two sides (name, side) made with the same context."""
    found = snapshot.ranker.between(a[1], b[1])
    return finite(
        {
            "a": a[0],
            "b": b[0],
            "task": task,
            "winner": None if found.winner is None else a[0] if found.winner == "a" else b[0],
            "probability": found.probability,
            "interval": list(found.interval),
            "too_close": found.too_close,
            "reasons": found.reasons,
            "missing": found.missing,
            "ranker": snapshot.identity,
        }
    )


def _numbers_are_numbers(snapshot: Snapshot, name: str, features: Mapping[str, Any]) -> None:
    """Refuse a text where the ranker knows a number: left alone it would count as not measured."""
    texts = {key for key, value in features.items() if isinstance(value, str)}
    if not texts:
        return
    from ranker.vocabulary import resolve

    wrong = set(resolve(snapshot.ranker.standardiser_.numbers, tuple(features)).values()) & texts
    if wrong:
        feature = min(wrong)
        found = f"{features[feature]!r} is a text, the ranker knows a number"
        raise DataError(found, where=f"{name}.features.{feature}", remedy="give a number")


def rank(snapshot: Snapshot, rows: Any, names: Sequence[str], *, task: str | None, top_k: int | None = None) -> dict[str, Any]:
    """The ``rank`` object for feature rows (a DataFrame) of checkpoints `names`.

    Raises
    ------
    UserError : fewer than two checkpoints
    DataError : no feature that the ranker knows
    """
    if len(names) < 2:
        raise UserError(f"{len(names)} checkpoint(s) to rank", where=f"task {task}", remedy="a ranking takes at least two")
    for column in rows.columns:
        if rows[column].dtype == object or str(rows[column].dtype).startswith("str"):
            first = next((v for v in rows[column] if isinstance(v, str)), None)
            _numbers_are_numbers(snapshot, "rows", {str(column): first})
    ranking = snapshot.ranker.rank(rows, task=task, names=list(names), top_k=top_k)
    left_out = () if top_k is not None else ("p_top_k",)
    return finite({"task": task, "ranking": [{k: v for k, v in row.items() if k not in left_out} for row in ranking.rows]})


def rank_task(snapshot: Snapshot, catalogue: Catalogue, task: str | None, *, top_k: int | None = None) -> dict[str, Any]:
    """Rank all that `catalogue` knows about `task`."""
    rows = catalogue.table(task)
    return rank(snapshot, rows, list(rows.index), task=task, top_k=top_k)


def compare_known(snapshot: Snapshot, catalogue: Catalogue, task: str | None, a: str, b: str) -> dict[str, Any]:
    """Compare two checkpoints of `catalogue`, standardised within it."""
    if task is None and len(catalogue.tables) == 1:
        task = next(iter(catalogue.tables))
    return compare(snapshot, (a, catalogue.row(task, a)), (b, catalogue.row(task, b)), task=task, context=catalogue.table(task))
