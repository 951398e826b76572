"""What is known about checkpoints: per task a table of features, from a comparison table or from measured feature rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    import pandas as pd

    from features.zoo import Zoo

# Columns of a comparison table that are neither features nor configurations.
BOOKKEEPING = ("task", "checkpoint", "outcome", "outcome_sd", "zoo", "group")


def read_table(path: str | Path) -> pd.DataFrame:
    """A comparison table with outcomes, from a file, or a reference table by its name (``zeng2025``).

    Raises
    ------
    DataError, UnknownNameError : from the ranker's reader, naming the file or the known names
    """
    if is_reference(path):
        from ranker import reference

        return reference.load(str(path))
    from ranker.table import read

    return read(path)


def read_known(path: str | Path) -> pd.DataFrame:
    """A table to answer from: as `read_table`, but outcomes may be missing, in part or all.

    Raises
    ------
    DataError : no such file, no column task or checkpoint, a checkpoint twice in a task, no feature
    """
    if is_reference(path):
        from ranker import reference

        # Beside the published columns, their form in the vocabulary of our own extractors, which the default ranker is fitted on.
        published, ours = reference.load(str(path)), reference.vocabulary(str(path))
        return published.assign(**{c: ours[c] for c in ours.columns if c not in published.columns})
    from ranker.cells import as_feature, as_names, as_numbers
    from ranker.files import load_frame

    frame = load_frame(path).copy()
    if not len(frame):
        raise DataError("no rows", where=str(path), remedy="give one row per (task, checkpoint)")
    for column in ("task", "checkpoint"):
        if column not in frame.columns:
            raise DataError(
                f"no column {column!r}", where=str(path), remedy="a table has the columns task, checkpoint and one per feature"
            )
        frame[column] = as_names(frame[column])
        if (frame[column] == "").any():
            raise DataError(f"column {column!r} has empty cells", where=str(path), remedy="name every row")
    if "outcome" in frame.columns:
        frame["outcome"] = as_numbers(frame["outcome"], str(path), "outcome", empty=True)
    if "zoo" in frame.columns and as_names(frame["zoo"]).nunique() > 1:
        zoos = as_names(frame["zoo"])
        frame["checkpoint"] = (zoos + "/").where(zoos != "", "") + frame["checkpoint"]
    twice = frame.duplicated(["task", "checkpoint"])
    if twice.any():
        row = frame[twice].iloc[0]
        raise DataError(
            f"checkpoint {row['checkpoint']!r} stands there twice for task {row['task']!r}",
            where=str(path),
            remedy="keep one row",
        )
    columns = [c for c in frame.columns if c not in BOOKKEEPING]
    if not columns:
        raise DataError("no feature column", where=str(path), remedy="add at least one feature known before fine-tuning")
    for column in columns:
        frame[column] = as_feature(frame[column], str(path), column)
    return frame


def is_reference(path: str | Path) -> bool:
    """Whether `path` is a bare name rather than a file."""
    text = str(path)
    return "/" not in text and "." not in text and not Path(text).exists()


@dataclass(frozen=True)
class Catalogue:
    """Checkpoints by name, per task.

    Attributes
    ----------
    name : of the zoo or table
    tables : task -> rows indexed by checkpoint, one column per feature or configuration; NaN or None: not measured
    outcomes : task -> outcome by checkpoint, where they are known
    checkpoints : all names in the order of the manifest or table, those without features included
    """

    name: str
    tables: Mapping[str, pd.DataFrame]
    outcomes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    checkpoints: tuple[str, ...] = ()

    @classmethod
    def of_table(cls, frame: pd.DataFrame, name: str) -> Catalogue:
        """From a checked comparison table (with or without outcomes) or from widened feature rows."""
        columns = [c for c in frame.columns if c not in BOOKKEEPING]
        tables, outcomes = {}, {}
        for task, rows in frame.groupby("task", sort=False):
            rows = rows.assign(checkpoint=rows["checkpoint"].astype(str)).set_index("checkpoint")
            kept = rows[columns]
            tables[str(task)] = kept.loc[:, kept.notna().any()]
            if "outcome" in rows:
                outcomes[str(task)] = {str(k): float(v) for k, v in rows["outcome"].dropna().items()}
        return cls(name, tables, outcomes, tuple(dict.fromkeys(frame["checkpoint"].astype(str))))

    @classmethod
    def of_features(cls, rows: pd.DataFrame, zoo: Zoo, tasks: Sequence[str]) -> Catalogue:
        """From long feature rows (FEATURE_COLUMNS) of `zoo`: a checkpoint's own features are repeated for each of `tasks`.

        A checkpoint of which nothing was measured is known by name alone: what its manifest says of it is no reason to rank it.
        """
        from features.configuration import metadata
        from ranker.table import widen

        said = {(c.name, row.name) for c in zoo.checkpoints for row in metadata(c)}
        given = zip(rows["checkpoint"], rows["name"], rows["error"].fillna(""), strict=True)
        measured = {name for name, feature, error in given if not error and (name, feature) not in said}
        rows = rows[rows["checkpoint"].isin(measured)]
        names = [c.name for c in zoo.checkpoints]
        wide = widen(rows, tasks=list(tasks)) if len(rows) else None
        if wide is None or not len(wide):
            return cls(zoo.name, {}, {}, tuple(names))
        found = cls.of_table(wide, zoo.name)
        return cls(zoo.name, found.tables, {}, tuple(dict.fromkeys([*names, *found.checkpoints])))

    def table(self, task: str | None) -> pd.DataFrame:
        """Rows of one task, indexed by checkpoint.

        Raises
        ------
        UnknownNameError : no such task; or no task was named and there are several
        """
        if task is None and len(self.tables) == 1:
            return next(iter(self.tables.values()))
        if task is None or task not in self.tables:
            found = "no task was named" if task is None else f"task {task!r} is not known"
            raise UnknownNameError(found, where=self.name, remedy=f"tasks: {', '.join(self.tables) or '(none measured yet)'}")
        return self.tables[task]

    def row(self, task: str | None, checkpoint: str) -> dict[str, Any]:
        """Features of one checkpoint on one task, missing ones left out.

        Raises
        ------
        UnknownNameError : no such task, or no such checkpoint on it
        """
        rows = self.table(task)
        if checkpoint not in rows.index:
            if checkpoint in self.checkpoints:
                raise UnknownNameError(
                    f"checkpoint {checkpoint!r} has no features for task {task!r} yet",
                    where=self.name,
                    remedy="measure it: foretune extract, or POST /v1/extract/submit",
                )
            shown = ", ".join(list(rows.index)[:10]) + (", ..." if len(rows) > 10 else "")
            raise UnknownNameError(f"checkpoint {checkpoint!r} is not known", where=self.name, remedy=f"checkpoints: {shown}")
        return plain(rows.loc[checkpoint].to_dict())


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as float, texts as str, missing values left out."""
    kept: dict[str, Any] = {}
    for key, value in row.items():
        if value is None or value != value:
            continue
        kept[str(key)] = value if isinstance(value, str) else float(value)
    return kept
