"""Measurements in the background: job rows in SQLite, one job at a time per device, each in a process of its own.

A job is a row before its submission is answered, so a restart finds it; what its process had finished is in the feature store, so
going on repeats nothing. The queue has one runner, whoever holds the lock file, so that two servers do not measure twice.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import logging
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from features.database import connect
from features.errors import StoreError, UnknownNameError, UserError

log = logging.getLogger("foretune.jobs")

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, checkpoint TEXT NOT NULL, tasks TEXT NOT NULL, device TEXT NOT NULL DEFAULT '', status TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0, total INTEGER, attempts INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL, executed REAL, completed REAL, error TEXT, result TEXT
)"""
ATTEMPTS = 3


class Jobs:
    """The rows; safe to use from several threads and processes.

    Parameters
    ----------
    path : SQLite database, made if it is not there
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as db:
            db.execute(SCHEMA)

    @contextlib.contextmanager
    def _open(self) -> Any:
        try:
            db = connect(self.path, timeout=30)
        except sqlite3.Error as error:
            raise StoreError(f"the job rows cannot be opened: {error}", where=str(self.path)) from None
        db.row_factory = sqlite3.Row
        try:
            yield db
        except sqlite3.Error as error:
            raise StoreError(f"the job rows cannot be used: {error}", where=str(self.path)) from None
        finally:
            db.close()

    def submit(self, checkpoint: str, tasks: Sequence[str], *, most: int = 10_000) -> dict[str, Any]:
        """A new job; the unfinished job for the same checkpoint and tasks, where there is one.

        Raises
        ------
        UserError : `most` jobs are waiting already
        """
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            same = db.execute(
                "SELECT id FROM jobs WHERE status IN ('pending', 'in_progress') AND checkpoint = ? AND tasks = ?",
                (checkpoint, json.dumps(list(tasks))),
            ).fetchone()
            waiting = db.execute("SELECT count(*) FROM jobs WHERE status = 'pending'").fetchone()[0]
            if same is None and waiting < most:
                job = uuid.uuid4().hex
                db.execute(
                    "INSERT INTO jobs (id, checkpoint, tasks, status, created) VALUES (?, ?, ?, 'pending', ?)",
                    (job, checkpoint, json.dumps(list(tasks)), time.time()),
                )
            db.execute("COMMIT")
        if same is None and waiting >= most:
            raise UserError(f"{waiting} jobs are waiting already", remedy="try again later")
        return self.status(same["id"] if same is not None else job)

    def _row(self, job: str) -> sqlite3.Row:
        with self._open() as db:
            row = db.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
        if row is None:
            raise UnknownNameError(f"job {job[:64]!r} is not known", where="task_id", remedy="take the task_id that submit gave")
        return row

    def status(self, job: str) -> dict[str, Any]:
        """The ``Job`` object.

        Raises
        ------
        UnknownNameError : no such job
        """
        row = self._row(job)
        left = None
        if row["status"] == "in_progress" and row["done"] and row["total"] and row["executed"]:
            left = round((time.time() - row["executed"]) / row["done"] * (row["total"] - row["done"]), 1)
        return {
            "task_id": row["id"],
            "status": row["status"],
            "checkpoint": row["checkpoint"],
            "tasks": json.loads(row["tasks"]),
            "device": row["device"],
            "done": row["done"],
            "total": row["total"],
            "seconds_left": left,
            "created_at": _iso(row["created"]),
            "executed_at": _iso(row["executed"]),
            "completed_at": _iso(row["completed"]),
            "error": row["error"],
        }

    def result(self, job: str) -> dict[str, Any]:
        """What a finished job found.

        Raises
        ------
        UnknownNameError : no such job
        UserError : it is not finished, was canceled, or failed
        """
        row = self._row(job)
        if row["status"] != "completed":
            raise UserError(
                f"job {job} is {row['status'].replace('_', ' ')}" + (f": {row['error']}" if row["error"] else ""),
                where="task_id",
                remedy="ask for its status until it is completed"
                if row["status"] in ("pending", "in_progress")
                else "submit it again",
            )
        return {"task_id": job, "checkpoint": row["checkpoint"], "tasks": json.loads(row["tasks"]), **json.loads(row["result"])}

    def cancel(self, job: str) -> dict[str, Any]:
        """Give a job up; one that is finished stays as it is.

        Raises
        ------
        UnknownNameError : no such job
        """
        self._row(job)
        with self._open() as db:
            db.execute(
                "UPDATE jobs SET status = 'canceled', completed = ? WHERE id = ? AND status IN ('pending', 'in_progress')",
                (time.time(), job),
            )
        return self.status(job)

    def counts(self) -> dict[str, int]:
        """Jobs by status."""
        with self._open() as db:
            found = dict.fromkeys(("pending", "in_progress", "completed", "failed", "canceled"), 0)
            found.update({row[0]: row[1] for row in db.execute("SELECT status, count(*) FROM jobs GROUP BY status")})
            return found

    def requeue(self) -> int:
        """After a restart: jobs that were being measured wait again, or fail when they were tried `ATTEMPTS` times."""
        with self._open() as db:
            db.execute(
                "UPDATE jobs SET status = 'failed', error = 'given up after ' || attempts || ' attempts', completed = ? "
                "WHERE status = 'in_progress' AND attempts >= ?",
                (time.time(), ATTEMPTS),
            )
            return db.execute("UPDATE jobs SET status = 'pending' WHERE status = 'in_progress'").rowcount

    def claim(self, device: str) -> dict[str, Any] | None:
        """Take the job that waits longest for `device`; None when none waits."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            row = db.execute("SELECT id FROM jobs WHERE status = 'pending' ORDER BY created LIMIT 1").fetchone()
            if row is not None:
                db.execute(
                    "UPDATE jobs SET status = 'in_progress', device = ?, executed = ?, done = 0, attempts = attempts + 1, "
                    "error = NULL, result = NULL WHERE id = ?",
                    (device, time.time(), row["id"]),
                )
            db.execute("COMMIT")
        return None if row is None else self.status(row["id"])

    def progress(self, job: str, done: int, total: int) -> None:
        with self._open() as db:
            db.execute("UPDATE jobs SET done = ?, total = ? WHERE id = ? AND status = 'in_progress'", (done, total, job))

    def found(self, job: str, result: dict[str, Any]) -> None:
        """Keep what a job found; it is completed once the service knows it."""
        with self._open() as db:
            text = json.dumps(result, allow_nan=False)
            db.execute("UPDATE jobs SET result = ? WHERE id = ? AND status = 'in_progress'", (text, job))

    def complete(self, job: str) -> None:
        """Call a job completed; without a result it has failed."""
        with self._open() as db:
            db.execute(
                "UPDATE jobs SET status = CASE WHEN result IS NULL THEN 'failed' ELSE 'completed' END, "
                "error = CASE WHEN result IS NULL THEN coalesce(error, 'it found nothing') ELSE error END, "
                "completed = ? WHERE id = ? AND status = 'in_progress'",
                (time.time(), job),
            )

    def fail(self, job: str, error: str) -> None:
        with self._open() as db:
            db.execute(
                "UPDATE jobs SET status = 'failed', completed = ?, error = ? WHERE id = ? AND status = 'in_progress'",
                (time.time(), error[:1000], job),
            )


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds")


class Runner:
    """Works the queue off: one thread per device, one process per job (``python -m serving.measure``).

    Parameters
    ----------
    devices : names as `features.model.load` takes them
    environment : variables for the processes
    finished : called after each measurement, before its job is completed, so that who waited for it finds its features known
    """

    def __init__(self, jobs: Jobs, devices: Sequence[str], environment: dict[str, str], finished: Callable[[], None]) -> None:
        self.jobs, self.devices, self.environment, self.finished = jobs, devices, environment, finished
        self._stop = threading.Event()
        self._lock: IO[str] | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin in the background; when another process holds the lock, wait for it to go."""
        self._threads = [threading.Thread(target=self._lead, name="jobs", daemon=True)]
        self._threads[0].start()

    def stop(self) -> None:
        """End the processes; their jobs wait for the next start."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)
        if self._lock is not None:
            self._lock.close()

    def _lead(self) -> None:
        lock = open(self.jobs.path.with_suffix(".lock"), "w")  # noqa: SIM115 held as long as the process lives
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if self._stop.wait(1.0):
                    lock.close()
                    return
        self._lock = lock
        resumed = self.jobs.requeue()
        if resumed:
            log.info("%d interrupted job(s) go on", resumed)
        workers = [
            threading.Thread(target=self._work, args=(device,), name=f"jobs-{device}", daemon=True) for device in self.devices
        ]
        for worker in workers:
            worker.start()
        self._threads += workers

    def _work(self, device: str) -> None:
        while not self._stop.is_set():
            try:
                job = self.jobs.claim(device)
                if job is None:
                    self._stop.wait(0.25)
                    continue
                if self._measure(job["task_id"], device):
                    self.finished()
                    self.jobs.complete(job["task_id"])
            except Exception:
                log.exception("the job queue stumbled")
                self._stop.wait(1.0)

    def _measure(self, job: str, device: str) -> bool:
        """Run one job to its end; kill it when it is canceled or the service stops. Says whether it came to its end."""
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "serving.measure", str(self.jobs.path), job],
                env={**os.environ, **self.environment, "FORETUNE_DEVICE": device},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                close_fds=True,
            )
            try:
                while process.poll() is None:
                    if self._stop.wait(0.2) or self.jobs.status(job)["status"] != "in_progress":
                        return False
            finally:
                if process.poll() is None:
                    process.terminate()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=3)
                    process.kill()
                    process.wait()
            errors.seek(0)
            lines = errors.read().decode("utf-8", "replace").strip().splitlines()
            for line in lines:
                if line.startswith(f"job {job} "):
                    log.warning("%s", line)
            if process.returncode != 0:
                lines = lines or [f"the process ended with code {process.returncode}"]
                self.jobs.fail(job, lines[-1])
                log.error("job %s failed: %s", job, lines[-1])
                return False
            return True
