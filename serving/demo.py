"""`foretune demo`: the whole story, offline, with the product's own commands on the zoo of eight checkpoints that ships.

Every line that starts with `$` is a command that you could have typed in the demo's folder; what follows is its own output.
Nothing is faked and nothing is tuned: where the prediction is wrong, the last table says so. Run again, it goes on where it
stopped.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.database import sqlite_uri
from features.errors import FailedError
from serving.console import table

TASKS = ("kinds",)
FEATURES = "ppl_clm,ppl_sc,ppl_task,prompt,kshot,transferability"


def demo(folder: Path) -> None:
    """Run the story in `folder` (made if need be); everything that it writes is there.

    Raises ForetuneError where a step fails; what was finished is kept.
    """
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["MLFLOW_TRACKING_URI"] = sqlite_uri((folder / "mlruns" / "mlflow.db").resolve())
    with _inside(folder):
        _chapter("1. The default ranker: fitted on the tables that ship, judged on held-out checkpoints, registered in MLflow")
        if Path("mlruns/.champion").exists():
            print("registered by an earlier run of the demo")
        else:
            _run("train")
            Path("mlruns/.champion").touch()

        _chapter("2. A zoo: the eight tiny checkpoints that ship, really pre-trained with seven objectives on free text")
        from training import demo_tasks, shipped

        print(f"copied {shipped.copy(Path('zoo'))}; `foretune zoo build RECIPE` makes more")
        demo_tasks.write("tasks", TASKS, train=800, test=300, features=120)
        tasks = " ".join(f"--task tasks/{name}.yaml" for name in TASKS)

        _chapter("3. Measure each checkpoint before any fine-tuning, and rank")
        _run(f"extract zoo/zoo.yaml {tasks} --features {FEATURES} -o features.csv")
        ranks = {}
        for name in TASKS:
            command = f"rank zoo/zoo.yaml --task tasks/{name}.yaml --features {FEATURES} --html report-{name}.html --json"
            ranks[name] = json.loads(_run(command, quiet=True))["ranking"]

        _chapter("4. Now pay: fine-tune them all, and compare the prediction with the truth")
        _run(f"finetune zoo/zoo.yaml {tasks} --seeds 2 --learning-rate 1e-3 -o outcomes.csv", quiet=True)
        _run("table features.csv outcomes.csv -o table.csv")
        _verdict(ranks, pd.read_csv("outcomes.csv"))

        _chapter("5. Ask over HTTP")
        first, *_, last = (row["checkpoint"] for row in ranks[TASKS[0]])
        _ask("zoo/zoo.yaml", TASKS[0], first, last)

        _chapter("6. Learn from the outcomes: a challenger, fitted from MLflow alone, against the champion")
        _run("retrain")

    print(f"\nDone in {time.perf_counter() - started:.0f} s. Read {folder}/report-{TASKS[0]}.html, and see every run in MLflow:")
    print(f"  mlflow ui --backend-store-uri sqlite:///{folder}/mlruns/mlflow.db")


def _verdict(ranks: dict[str, list[dict[str, Any]]], outcomes: pd.DataFrame) -> None:
    """Print predicted against true order, and how many pairs were right."""
    for name, ranking in ranks.items():
        own = outcomes[(outcomes["task"] == name) & outcomes["outcome"].notna()]
        truth = own.groupby("checkpoint")["outcome"].agg(["mean", "std", "count"])
        known = [row for row in ranking if row["checkpoint"] in truth.index]
        true_rank = truth["mean"].rank(ascending=False, method="min").astype(int)
        print(f"\n{name}: accuracy after fine-tuning, mean and spread over seeds")
        print(
            table(
                [
                    (
                        r["checkpoint"],
                        r["rank"],
                        true_rank[r["checkpoint"]],
                        truth["mean"][r["checkpoint"]],
                        truth["std"][r["checkpoint"]],
                        r["p_best"],
                    )
                    for r in known
                ],
                ["checkpoint", "predicted", "true", "accuracy", "spread", "P(best)"],
            )
        )
        right, told, clear, clear_right = pair_accuracy([r["checkpoint"] for r in known], truth)
        print(f"pairs in the right order: {right} of {told} ({right / max(told, 1):.2f})", end="")
        print(f"; of the {clear} pairs that differ by more than twice the seed noise: {clear_right}" if clear else "")


def pair_accuracy(predicted: Sequence[str], truth: pd.DataFrame) -> tuple[int, int, int, int]:
    """Pairs in the right order, pairs that differ, pairs beyond twice the noise of their difference, and those of them right.

    Parameters
    ----------
    predicted : checkpoints, best first
    truth : `mean`, `std`, `count` of the outcome over seeds, by checkpoint
    """
    right = told = clear = clear_right = 0
    variance = (truth["std"].pow(2) / truth["count"]).mean()
    for i, a in enumerate(predicted):
        for b in predicted[i + 1 :]:
            gap = float(truth["mean"][a] - truth["mean"][b])
            if gap:
                told += 1
                right += gap > 0
                if abs(gap) > 2 * np.sqrt(2 * variance):
                    clear += 1
                    clear_right += gap > 0
    return right, told, clear, clear_right


def _ask(zoo: str, task: str, a: str, b: str) -> None:
    """Start the real service, ask it one question over HTTP, print the answer, stop it."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["serve", "--port", str(port), "--zoo", zoo, "--task", f"tasks/{task}.yaml"]
    print(f"$ foretune {shlex.join(arguments)} &", flush=True)
    log = Path("service.log")
    with log.open("w") as stream:
        service = subprocess.Popen(
            [sys.executable, "-m", "serving.cli", *arguments], stdout=stream, stderr=stream, env=_environment()
        )
        try:
            body = {"task": task, "a": a, "b": b}
            _until_ready(f"http://127.0.0.1:{port}/readyz", service, log)
            print(f"$ curl -s http://127.0.0.1:{port}/v1/compare -H 'Content-Type: application/json' -d '{json.dumps(body)}'")
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/compare", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                found = json.load(answer)
            found["reasons"] = [*found["reasons"][:3], "..."] if len(found["reasons"]) > 3 else found["reasons"]
            print(json.dumps(found, indent=1))
        finally:
            service.terminate()
            service.wait(timeout=30)


def _until_ready(url: str, service: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and service.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.3)
    last = (log.read_text().strip().splitlines() or ["it said nothing"])[-1]
    raise FailedError(f"the service did not start: {last}", where=str(log), remedy="read the log and run the demo again")


def _environment() -> dict[str, str]:
    """The environment of a child process that finds these packages wherever it runs."""
    here = str(Path(__file__).resolve().parents[1])
    return os.environ | {"PYTHONPATH": os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])}


def _run(command: str, *, quiet: bool = False) -> str:
    """Run one of our own commands in this process; print the command and what it prints (unless `quiet`), and return that."""
    import contextlib
    import io

    from serving.cli import app

    print(f"\n$ foretune {command}", flush=True)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        app(shlex.split(command), standalone_mode=False)
    if not quiet:
        print(said.getvalue().rstrip(), flush=True)
    return said.getvalue()


def _chapter(title: str) -> None:
    print(f"\n{title}\n{'=' * len(title)}", flush=True)


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
