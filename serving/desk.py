"""The desk: takes questions in the form of `serving.schema`, gives answers; all state of the running service is here."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from features.errors import ForetuneError, UnknownNameError, UserError
from serving import answers, book
from serving.book import Book
from serving.catalogue import Catalogue, plain
from serving.champion import Snapshot, Watch
from serving.console import finite
from serving.drift import Drift
from serving.jobs import Jobs, Runner
from serving.ledger import Ledger
from serving.schema import Checkpoint
from serving.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from ranker.explain import Side

log = logging.getLogger("foretune.desk")


class Desk:
    """Answers questions.

    Parameters
    ----------
    settings : what the operator set

    Attributes
    ----------
    watch : which ranker answers
    book : which checkpoints and tasks are known by name
    jobs, ledger, drift : measurements; past answers; questions outside the training ranges
    decided : counts of answers by decision: a, b, too_close
    """

    CACHE = 10_000

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        place = settings.mlruns / "service"
        self.watch = Watch(
            settings.root,
            name=settings.ranker_name,
            folder=settings.ranker,
            keep=place / "champion",
            seconds=settings.poll_seconds,
        )
        self.ledger = Ledger(place / "ledger.db")
        self.jobs = Jobs(place / "jobs.db")
        self.runner = Runner(self.jobs, settings.devices, settings.environment(), self.refresh)
        self.book = Book(Catalogue("", {}))
        self.decided = {"a": 0, "b": 0, "too_close": 0}
        self.rankings = self.hits = 0
        self.ready = False
        self._drift = (-1, Drift({}))
        self._cache: OrderedDict[Any, tuple[bytes, str, tuple[tuple[str, bool], ...]]] = OrderedDict()
        self._rank_cache: OrderedDict[Any, tuple[dict[str, Any], pd.DataFrame]] = OrderedDict()
        self._known: tuple[Any, dict[str, Any], dict[tuple[str, str], Side]] = (None, {}, {})
        self._reloading = threading.Lock()

    def start(self) -> None:
        """Read what is known, look for the champion, begin the background work."""
        self.reload()
        self.watch.start()
        self.ledger.start()
        if self.settings.zoo is not None:
            self.runner.start()
        # What is loaded stays: collecting garbage among it would hold requests up for a good part of a second. Nor is it worth
        # half a second to look through all that open connections hold for the few hundred objects that only a full collection
        # finds: those of the younger generations find the rest.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 1_000)
        self.ready = True

    def stop(self) -> None:
        self.ready = False
        self.runner.stop()
        self.watch.stop()
        self.ledger.stop()

    def reload(self) -> None:
        """Read the zoo's stored features, or the table, anew."""
        with self._reloading:
            self.book = book.read(self.settings, self.book.revision + 1)

    def refresh(self) -> None:
        """As `reload`, but what was known stays known when the zoo cannot be read any more."""
        try:
            self.reload()
        except ForetuneError as error:
            log.error("what is known stays as it was: %s", error)

    @property
    def drift(self) -> Drift:
        """Counts for the ranker that answers now."""
        return self._drift_of(self.watch.snapshot)

    def _drift_of(self, snapshot: Snapshot) -> Drift:
        """Counts for the ranker that a request began with: a swap in between must not mix two rankers' ranges."""
        known = self._drift
        if known[0] != snapshot.generation:
            known = (snapshot.generation, Drift(snapshot.ranker.card_))
            if snapshot.generation > self._drift[0]:
                self._drift = known
        return known[1]

    def compare(self, task: str, a: str | Checkpoint, b: str | Checkpoint) -> bytes:
        """Answer ``POST /v1/compare`` as JSON; from memory where the same was asked of the same ranker.

        Raises
        ------
        ForetuneError : names that are not known, features that say nothing
        """
        snapshot, book = self.watch.snapshot, self.book
        key = (snapshot.generation, book.revision, task, _key(a), _key(b))
        found = self._cache.get(key)
        if found is None:
            left, right = self._sides(snapshot, book, task, a, b)
            names = [c if isinstance(c, str) else c.name for c in (a, b)]
            answer = answers.between(snapshot, (names[0], left), (names[1], right), task=task)
            text = json.dumps(answer, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
            decision = "too_close" if answer["too_close"] else ("a" if answer["probability"] > 0.5 else "b")
            found = (text, decision, self._drift_of(snapshot).marks(left.features, right.features))
            self._cache[key] = found
            if len(self._cache) > self.CACHE:
                self._cache.popitem(last=False)
            self.ledger.answered(answer)
        else:
            self.hits += 1
        self._drift_of(snapshot).count(found[2])
        self.decided[found[1]] += 1
        return found[0]

    def _sides(self, snapshot: Snapshot, book: Book, task: str, a: str | Checkpoint, b: str | Checkpoint) -> list[Side]:
        """Both sides of a question. A checkpoint known by name is looked at once per ranker and book: a new pair of known ones
        costs next to nothing. Two given by their features are each other's only context.
        """
        if not isinstance(a, str) and not isinstance(b, str):
            return answers.sides(snapshot, {"a": plain(a.features), "b": plain(b.features)}, task=task)
        key = (snapshot.generation, book.revision)
        if self._known[0] != key:
            self._known = (key, {}, {})
        _, contexts, known = self._known
        if task not in contexts:
            contexts[task] = snapshot.ranker.context(book.catalogue.table(task))
        found = []
        for place, side in (("a", a), ("b", b)):
            if not isinstance(side, str):
                found += answers.sides(snapshot, {place: plain(side.features)}, task=task, context=contexts[task])
                continue
            if (task, side) not in known:
                row = {side: book.catalogue.row(task, side)}
                (known[(task, side)],) = answers.sides(snapshot, row, task=task, context=contexts[task])
            found.append(known[(task, side)])
        return found

    def rank(
        self,
        task: str,
        candidates: Sequence[str | Checkpoint] | None,
        zoo: str | None,
        top_k: int | None,
        offset: int,
        limit: int,
    ) -> dict[str, Any]:
        """Answer ``POST /v1/rank``: one page.

        Raises
        ------
        ForetuneError : names that are not known or stand there twice, too many candidates, features that say nothing
        """
        snapshot, book = self.watch.snapshot, self.book
        if zoo is not None and candidates is not None:
            raise UserError("both candidates and a zoo are given", where="body.zoo", remedy="give one of them")
        if zoo is not None and zoo != book.catalogue.name:
            raise UnknownNameError(
                f"zoo {zoo!r} is not known", where="body.zoo", remedy=f"the service knows {book.catalogue.name!r}"
            )
        if candidates is not None and len(candidates) > self.settings.max_candidates:
            raise UserError(
                f"{len(candidates)} candidates",
                where="body.candidates",
                remedy=f"at most {self.settings.max_candidates} in one ranking",
            )
        key = (snapshot.generation, book.revision, task, top_k, None if candidates is None else tuple(map(_key, candidates)))
        found = self._rank_cache.get(key)
        if found is None:
            rows = book.catalogue.table(task) if candidates is None else _rows(book.catalogue, task, candidates)
            found = (answers.rank(snapshot, rows, list(rows.index), task=task, top_k=top_k), rows)
            self._rank_cache[key] = found
            while len(self._rank_cache) > 32:
                self._rank_cache.popitem(last=False)
        whole, rows = found
        if offset == 0:  # the pages that follow belong to the same question
            self._drift_of(snapshot).count_rows(rows)
        self.rankings += 1
        page = whole["ranking"][offset : offset + limit]
        following = offset + limit
        return {
            **whole,
            "ranking": page,
            "total": len(whole["ranking"]),
            "offset": offset,
            "next_offset": following if following < len(whole["ranking"]) else None,
            "ranker": snapshot.identity,
        }

    def submit(self, checkpoint: str, tasks: Sequence[str] | None) -> dict[str, Any]:
        """Put a measurement in the queue.

        Raises
        ------
        UnknownNameError : the operator's zoo does not list the checkpoint or a task
        """
        book = self.book
        if checkpoint not in book.listed:
            raise UnknownNameError(
                f"checkpoint {checkpoint!r} is not in the operator's zoo",
                where="body.checkpoint",
                remedy=f"one of: {', '.join(book.listed[:10])}" if book.listed else "this service was started without a zoo",
            )
        chosen = list(book.tasks) if tasks is None else list(dict.fromkeys(tasks))
        for task in chosen:
            if task not in book.tasks:
                raise UnknownNameError(
                    f"task {task!r} is not in the operator's zoo",
                    where="body.tasks",
                    remedy=f"one of: {', '.join(book.tasks[:10])}",
                )
        return self.jobs.submit(checkpoint, chosen, most=1_000)

    def outcomes(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Record outcomes in MLflow and judge past answers by them.

        Raises
        ------
        UserError, StoreError : rows that contradict themselves; MLflow away
        """
        from training.outcomes import import_outcomes, read_outcomes

        checked = read_outcomes([dict(row) for row in rows])
        report = import_outcomes(checked, root=self.settings.root)
        self.ledger.outcomes(checked.to_dict("records"))
        return dict(report.to_dict())

    def model(self) -> dict[str, Any]:
        """The answer of ``GET /v1/model``."""
        watch, snapshot = self.watch, self.watch.snapshot
        return finite(
            {
                "ranker": snapshot.identity,
                "source": snapshot.source,
                "since": snapshot.since,
                "swaps": watch.swaps,
                "features": list(snapshot.ranker.feature_names_),
                "card": snapshot.ranker.card_,
                "mlflow": {
                    "reachable": watch.reachable,
                    "checked": watch.checked,
                    "error": watch.error,
                    "refused": watch.refused,
                },
                "drift": self.drift.report(),
                "feedback": self.ledger.judgement(),
                "answers": dict(self.decided),
            }
        )

    def checkpoints(self) -> dict[str, Any]:
        """The answer of ``GET /v1/checkpoints``."""
        book = self.book
        names = dict.fromkeys([*book.listed, *book.catalogue.checkpoints])
        measured = {name: [t for t, rows in book.catalogue.tables.items() if name in rows.index] for name in names}
        return {
            "zoo": book.catalogue.name,
            "checkpoints": [{"name": n, "measured": measured[n], "listed": n in book.listed} for n in names],
        }

    def tasks(self) -> dict[str, Any]:
        """The answer of ``GET /v1/tasks``."""
        catalogue = self.book.catalogue
        rows = [
            {
                "name": task,
                "checkpoints": len(catalogue.tables.get(task, ())),
                "features": [str(c) for c in catalogue.tables[task].columns] if task in catalogue.tables else [],
                "outcomes": len(catalogue.outcomes.get(task, {})),
            }
            for task in dict.fromkeys([*self.book.tasks, *catalogue.tables])
        ]
        return {"zoo": catalogue.name, "tasks": rows}

    def table(self, task: str) -> dict[str, Any]:
        """The answer of ``GET /v1/table``: features and, where known, outcomes of a task's checkpoints."""
        catalogue = self.book.catalogue
        rows, outcomes = catalogue.table(task), catalogue.outcomes.get(task, {})
        found = [
            {"checkpoint": str(name), "features": plain(row), "outcome": outcomes.get(str(name))}
            for name, row in zip(rows.index, rows.to_dict("records"), strict=True)
        ]
        return {"task": task, "rows": found}


def _key(candidate: str | Checkpoint) -> Any:
    """A name, or a digest of name and features: a fixed size, so that large questions do not fill the memory."""
    if isinstance(candidate, str):
        return candidate
    told = repr((candidate.name, sorted(candidate.features.items())))
    return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _rows(catalogue: Catalogue, task: str, candidates: Sequence[str | Checkpoint]) -> pd.DataFrame:
    """Feature rows of mixed candidates, indexed by name."""
    import pandas as pd

    rows: dict[str, dict[str, Any]] = {}
    for candidate in candidates:
        name = candidate if isinstance(candidate, str) else candidate.name
        if name in rows:
            raise UserError(f"checkpoint {name!r} stands there twice", where="body.candidates", remedy="name each once")
        rows[name] = catalogue.row(task, candidate) if isinstance(candidate, str) else plain(candidate.features)
    frame = pd.DataFrame.from_records(list(rows.values()), index=list(rows))
    for column in frame.columns:
        kinds = {type(v) for v in frame[column] if v is not None and v == v}
        if kinds == {str, float}:
            raise UserError(
                f"feature {column!r} is a number here and a text there", where="body.candidates", remedy="give one kind"
            )
        if kinds == {float}:
            frame[column] = frame[column].astype(float)
    return frame
