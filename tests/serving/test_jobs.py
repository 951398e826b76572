"""Measurements in the background: the queue's rules, and a real measurement that survives kill -9 of the service."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from features.errors import UnknownNameError, UserError
from served import TOKEN, Server
from serving.client import Client
from serving.jobs import ATTEMPTS, Jobs
from training.tracking.history import recorded_features


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path / "jobs.db")


def test_jobs_are_claimed_in_order_and_once(jobs: Jobs) -> None:
    submitted = [jobs.submit(f"c{i}", ["t"])["task_id"] for i in range(8)]
    claimed: list[str] = []
    lock = threading.Lock()

    def work() -> None:
        while (job := jobs.claim("cpu")) is not None:
            with lock:
                claimed.append(job["task_id"])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(submitted)
    first, second = jobs.submit("x", ["t"])["task_id"], jobs.submit("y", ["t"])["task_id"]
    assert [jobs.claim("cpu")["task_id"], jobs.claim("cpu")["task_id"]] == [first, second]  # type: ignore[index]


def test_asking_twice_for_what_waits_or_runs_is_one_job(jobs: Jobs) -> None:
    running = jobs.submit("r", ["t"])["task_id"]
    jobs.claim("cpu")
    assert jobs.submit("r", ["t"])["task_id"] == running
    assert jobs.submit("c", ["t"])["task_id"] == jobs.submit("c", ["t"])["task_id"]
    assert jobs.submit("c", ["t", "u"])["task_id"] != jobs.submit("c", ["t"])["task_id"]
    with pytest.raises(UserError, match="waiting already"):
        jobs.submit("d", ["t"], most=2)


def test_progress_gives_the_seconds_left(jobs: Jobs) -> None:
    job = jobs.submit("c", ["t"])["task_id"]
    jobs.claim("cpu")
    time.sleep(0.05)
    jobs.progress(job, 5, 10)
    status = jobs.status(job)
    assert (status["done"], status["total"], status["status"]) == (5, 10, "in_progress")
    assert status["seconds_left"] >= 0
    jobs.found(job, {"features": [], "failed": []})
    assert jobs.status(job)["status"] == "in_progress"
    jobs.complete(job)
    assert jobs.result(job)["checkpoint"] == "c"
    assert jobs.cancel(job)["status"] == "completed"


def test_a_restart_puts_an_interrupted_job_back_until_it_was_tried_too_often(jobs: Jobs) -> None:
    job = jobs.submit("c", ["t"])["task_id"]
    for _ in range(ATTEMPTS):
        assert jobs.claim("cpu")["task_id"] == job  # type: ignore[index]
        left = jobs.requeue()
    assert left == 0
    assert jobs.status(job)["status"] == "failed"
    assert "attempts" in jobs.status(job)["error"]


def test_a_canceled_job_is_not_claimed_and_its_process_cannot_complete_it(jobs: Jobs) -> None:
    waiting, running = jobs.submit("a", ["t"])["task_id"], jobs.submit("b", ["t"])["task_id"]
    jobs.cancel(waiting)
    assert jobs.claim("cpu")["task_id"] == running  # type: ignore[index]
    jobs.cancel(running)
    jobs.found(running, {"features": []})
    jobs.complete(running)
    assert jobs.status(running)["status"] == "canceled"
    with pytest.raises(UserError, match="canceled"):
        jobs.result(running)
    with pytest.raises(UnknownNameError):
        jobs.status("nope")


def test_a_measurement_killed_with_the_service_goes_on_after_a_restart(
    zoo_folder: Path, mlflow_root: Path, kept_default: Path
) -> None:
    shutil.copytree(kept_default, mlflow_root / "mlruns" / "default-ranker")
    server = Server(mlflow_root, token=TOKEN, environment={"FORETUNE_LIMIT": "8", "FORETUNE_REQUEST_SECONDS": "250"})
    arguments = ("--zoo", str(zoo_folder / "zoo.yaml"), "--task", str(zoo_folder / "films.yaml"))
    try:
        client = Client(server.start(*arguments).url, token=TOKEN)
        assert client.checkpoints() == [{"name": n, "measured": [], "listed": True} for n in ("llama", "gpt2")]
        first = client.submit("llama")["task_id"]
        status = _until(client, first, lambda s: s["done"] > 0 or s["status"] == "completed")
        server.stop(kill=True)
        kept = status["done"]

        client = Client(server.start(*arguments).url, token=TOKEN)
        code, found = server.ask("POST", "/v1/extract", {"checkpoint": "llama", "tasks": ["films"]})  # joins it, and waits
        assert (code, found["task_id"]) == (200, first)
        assert client.result(first) == found
        assert client.checkpoints()[0] == {"name": "llama", "measured": ["films"], "listed": True}
        names = {f["name"] for f in found["features"]}
        assert {"ppl_clm", "kshot_acc"} <= names
        assert client.status(first)["done"] >= kept
        answer = client.compare("films", "llama", {"name": "other", "features": {"ppl_clm": 900.0, "kshot_acc": 0.5}})
        assert answer["reasons"][0]["a"] in [f["value"] for f in found["features"]]
        recorded = recorded_features(root=mlflow_root)  # where the next retraining looks
        assert set(recorded["name"]) == names
        assert set(recorded["checkpoint"]) == {"llama"}
    finally:
        server.stop()


def _until(client: Client, job: str, reached: Any, seconds: float = 200) -> Any:
    end = time.monotonic() + seconds
    while not reached(status := client.status(job)):
        assert time.monotonic() < end, status
        assert status["status"] in ("pending", "in_progress"), status
        time.sleep(0.1)
    return status
