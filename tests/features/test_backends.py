"""Backends: the same items wherever the jobs run, and a worker that dies takes nobody with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from features.backends import Crash, Inline, Processes, Ray, backend, gpus
from features.errors import UserError
from features.extract import extract


def collected(runner: Any, jobs: list[str]) -> dict[int, list[Any]]:
    """The items of each job; the jobs are expressions."""
    found: dict[int, list[Any]] = {}
    for index, item in runner.map(eval, jobs):
        found.setdefault(index, []).append(item)
    return found


def test_processes_give_what_this_process_gives() -> None:
    jobs = [f"range({i})" for i in range(1, 6)]
    assert collected(Processes(2), jobs) == collected(Inline(), jobs) == {i: list(range(i + 1)) for i in range(5)}


def test_a_worker_that_dies_is_told_and_the_other_jobs_go_on() -> None:
    jobs = [
        "range(2)",
        "__import__('os').kill(__import__('os').getpid(), 9)",
        "range(3)",
        "__import__('os')._exit(3)",
        "range(1)",
    ]
    found = collected(Processes(1), jobs)
    assert [found[i] for i in (0, 2, 4)] == [[0, 1], [0, 1, 2], [0]]
    assert found[1] == [Crash("its worker process ended by signal SIGKILL; if that was for want of memory, use fewer workers")]
    assert "ended with exit code 3" in found[3][0].message


def test_an_error_of_the_work_itself_ends_the_map() -> None:
    with pytest.raises(ZeroDivisionError):
        collected(Processes(2), ["range(2)", "1 / 0"])


def test_each_worker_has_a_gpu_of_its_own_and_its_share_of_the_threads() -> None:
    jobs = ["[(__import__('time').sleep(0.3), __import__('os').environ['CUDA_VISIBLE_DEVICES'])[1]]"] * 6
    assert {item for items in collected(Processes(gpus=["5", "7"]), jobs).values() for item in items} == {"5", "7"}
    ((threads,),) = collected(Processes(1), ["[__import__('os').environ['OMP_NUM_THREADS']]"]).values()
    assert int(threads) >= 1


def test_wrong_numbers_and_devices_are_told() -> None:
    with pytest.raises(UserError, match="--workers: 0 workers; give at least 1"):
        Processes(0)
    assert gpus("cpu") == []
    assert isinstance(backend("inline"), Inline)
    assert backend("process", workers=3, device="cpu").workers == 3


def write(folder: Path, models: Path) -> Path:
    rows = [json.dumps({"query": f"def f{i}(x): return", "choices": ["x", "None"], "gold": i % 2}) for i in range(16)]
    (folder / "sums.jsonl").write_text("\n".join(rows))
    listed = [{"name": name, "model": str(models / name)} for name in ("llama", "bert")] + [{"name": "gone", "model": "./gone"}]
    (folder / "zoo.yaml").write_text(json.dumps({"checkpoints": listed, "tasks": ["sums.jsonl"]}))
    return folder / "zoo.yaml"


NUMBERS = ["checkpoint", "task", "name", "value", "text", "stderr", "count", "error"]


def same(first: Any, second: Any) -> None:
    import pandas as pd

    pd.testing.assert_frame_equal(first.rows[NUMBERS], second.rows[NUMBERS], rtol=1e-4)
    assert [str(failure) for failure in first.failed] == [str(failure) for failure in second.failed]


def test_extraction_in_processes_gives_the_same_rows(models: Path, tmp_path: Path) -> None:
    zoo = write(tmp_path, models)
    options: dict[str, Any] = {"features": "configuration,kshot", "device": "cpu", "progress": False}
    here = extract(zoo, store=tmp_path / "a.db", **options)
    there = extract(zoo, store=tmp_path / "b.db", backend="process", workers=2, **options)
    same(here, there)
    assert (there.measured, there.cached) == (4, 0)
    assert extract(zoo, store=tmp_path / "b.db", backend="process", workers=2, **options).cached == 4


@pytest.mark.ray
def test_extraction_on_ray_gives_the_same_rows_and_keeps_them_here(models: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    zoo = write(tmp_path, models)
    options: dict[str, Any] = {"features": "configuration,kshot", "device": "cpu", "progress": False}
    there = extract(zoo, store=tmp_path / "b.db", backend=Ray(), **options)
    here = extract(zoo, store=tmp_path / "b.db", **options)
    assert (there.measured, here.measured, here.cached) == (4, 0, 4)
    same(here, there)
