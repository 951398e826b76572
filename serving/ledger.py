"""What was answered and what became of it: past answers, outcomes, and how often the answers were right.

Answers are collected in memory and written by a thread, so that no request waits for the disk; a crash may lose the last second.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from features.database import connect

log = logging.getLogger("foretune.ledger")

SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    ranker TEXT NOT NULL, version TEXT NOT NULL, task TEXT NOT NULL, a TEXT NOT NULL, b TEXT NOT NULL,
    probability REAL NOT NULL, too_close INTEGER NOT NULL, PRIMARY KEY (ranker, version, task, a, b)
);
CREATE TABLE IF NOT EXISTS outcomes (
    checkpoint TEXT NOT NULL, task TEXT NOT NULL, recipe TEXT NOT NULL, seed INTEGER NOT NULL, metric TEXT NOT NULL,
    outcome REAL NOT NULL, PRIMARY KEY (checkpoint, task, recipe, seed, metric)
);
"""

# Mean outcome per checkpoint under one recipe and metric; an answer is judged where both sides have one under the same.
JUDGED = """
WITH means AS (
    SELECT checkpoint, task, recipe, metric, avg(outcome) AS outcome FROM outcomes GROUP BY checkpoint, task, recipe, metric
)
SELECT r.ranker, r.version, r.probability, r.too_close, x.outcome - y.outcome
FROM answers r JOIN means x ON x.task = r.task AND x.checkpoint = r.a
JOIN means y ON y.task = r.task AND y.checkpoint = r.b AND y.recipe = x.recipe AND y.metric = x.metric
WHERE x.outcome <> y.outcome
"""


class Ledger:
    """Past answers and outcomes.

    Parameters
    ----------
    path : SQLite database, made if it is not there
    most : answers that are kept; the oldest go
    """

    def __init__(self, path: Path, most: int = 200_000) -> None:
        self.path, self.most = path, most
        self._pending: dict[tuple[str, str, str, str, str], tuple[float, int]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._judgement: dict[str, Any] = {"judged": 0, "accuracy": None, "brier": None, "outcomes": 0, "by_version": {}}
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as db:
            db.executescript(SCHEMA)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(connect(self.path, timeout=30)) as db:
            db.isolation_level = "DEFERRED"
            with db:
                yield db

    def start(self) -> None:
        self._judge()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self.flush()

    def answered(self, answer: Mapping[str, Any]) -> None:
        """Remember a ``compare`` object; kept in the order of its names, so that asking the other way round counts once."""
        a, b, p = answer["a"], answer["b"], answer["probability"]
        if a == b:
            return
        if a > b:
            a, b, p = b, a, 1.0 - p
        ranker = answer["ranker"]
        with self._lock:
            if len(self._pending) < 50_000:
                self._pending[(ranker["name"], ranker["version"], answer["task"], a, b)] = (p, int(answer["too_close"]))

    def outcomes(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Record outcomes; the same checkpoint, task, recipe, seed and metric again replaces."""
        with self._open() as db:
            db.executemany(
                "INSERT OR REPLACE INTO outcomes VALUES (:checkpoint, :task, :recipe, :seed, :metric, :outcome)",
                [dict(row) for row in rows],
            )
        self.flush()
        self._judge()

    def flush(self) -> None:
        """Write what waits in memory."""
        with self._lock:
            waiting, self._pending = self._pending, {}
        if not waiting:
            return
        with self._open() as db:
            # An answer given again keeps its row's number: by these the newest `most` are told from the rest.
            db.executemany(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
                "SET probability = excluded.probability, too_close = excluded.too_close",
                [(*key, *value) for key, value in waiting.items()],
            )
            db.execute("DELETE FROM answers WHERE rowid <= (SELECT max(rowid) FROM answers) - ?", (self.most,))

    def judgement(self) -> dict[str, Any]:
        """How past answers fared where both outcomes are known: ``judged``, ``accuracy``, ``brier`` score, ``by_version``."""
        return self._judgement

    def _judge(self) -> None:
        with self._open() as db:
            rows = db.execute(JUDGED).fetchall()
            outcomes = db.execute("SELECT count(*) FROM outcomes").fetchone()[0]
        versions: dict[str, list[tuple[float, float]]] = {}
        for ranker, version, probability, _, difference in rows:
            truth = float(difference > 0)
            right = 0.5 if probability == 0.5 else float((probability > 0.5) == (truth == 1.0))
            versions.setdefault(f"{ranker}/{version}", []).append((right, (probability - truth) ** 2))
        every = [pair for pairs in versions.values() for pair in pairs]
        self._judgement = {
            "outcomes": outcomes,
            **_scores(every),
            "by_version": {v: _scores(pairs) for v, pairs in versions.items()},
        }

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            try:
                self.flush()
            except sqlite3.Error as error:
                log.warning("past answers could not be written: %s", error)


def _scores(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    n = len(pairs)
    return {
        "judged": n,
        "accuracy": sum(p[0] for p in pairs) / n if n else None,
        "brier": sum(p[1] for p in pairs) / n if n else None,
    }
