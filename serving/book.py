"""What the service knows of checkpoints: the operator's zoo as far as it is measured, and a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serving.catalogue import Catalogue, read_known
from serving.settings import Settings


@dataclass(frozen=True)
class Book:
    """What the desk knows of checkpoints at one moment; replaced whole, never changed."""

    catalogue: Catalogue
    listed: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    revision: int = 0


def read(settings: Settings, revision: int) -> Book:
    """The zoo's stored features and the table as they are now; without either, the reference table.

    Raises
    ------
    ForetuneError : zoo, tasks or table cannot be read
    """
    if settings.zoo is not None:
        return _of_zoo(settings, revision)
    name = settings.table or "zeng2025"
    return Book(Catalogue.of_table(read_known(name), Path(name).stem), revision=revision)


def _of_zoo(settings: Settings, revision: int) -> Book:
    from features.extract import resolve_tasks, stored
    from features.zoo import Zoo

    assert settings.zoo is not None
    assert settings.store is not None
    zoo = Zoo.read(settings.zoo)
    tasks = resolve_tasks(zoo, settings.tasks)
    names = [c.name for c in zoo.checkpoints]
    task_names = [t.name for t in tasks]
    rows = stored(zoo, tasks, store=settings.store, limit=settings.limit)
    catalogue = Catalogue.of_features(rows, zoo, task_names)
    if settings.table is not None:
        known = Catalogue.of_table(read_known(settings.table), zoo.name)
        catalogue = Catalogue(
            zoo.name,
            {**known.tables, **catalogue.tables},
            known.outcomes,
            tuple(dict.fromkeys([*catalogue.checkpoints, *known.checkpoints])),
        )
    return Book(catalogue, tuple(names), tuple(task_names), revision)
