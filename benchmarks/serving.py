"""How fast the service answers, beside a bare BentoML endpoint that echoes the same body. On loopback, two minutes at most.

    python benchmarks/serving.py            # both services in one run; needs wrk (Debian: apt-get install wrk)
    python benchmarks/serving.py --swaps    # a hundred champions, moved in MLflow under load

Both run under uvicorn in one process each, asked in alternating rounds by wrk over 8 connections on one thread. `same question`
repeats one body (answered from memory after the first time); `new questions` changes a feature each time: all are computed.
`cpu_ms` is the server's processor time per request, which tells more than the rate where the machine has other work.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
A = {"name": "a", "features": {"ppl_clm": 12.0, "ppl_sc": 9.1, "kshot_acc": 0.61}}
B = {"name": "b", "features": {"ppl_clm": 31.0, "ppl_sc": 7.7, "kshot_acc": 0.42}}
BODY = json.dumps({"task": "cms", "a": A, "b": B})

ECHO = """
from typing import Any
import bentoml

@bentoml.service(name="echo")
class Echo:
    @bentoml.api(route="/v1/compare")
    def compare(self, task: str, a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
        return {"task": task, "a": a, "b": b}

service: Any = Echo
"""
RUN_ECHO = """
import os, socket, sys, uvicorn
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
print("echo answers on http://127.0.0.1:%d" % listener.getsockname()[1], file=sys.stderr, flush=True)
from echo import service
uvicorn.Server(uvicorn.Config(service.to_asgi(), log_config=None, access_log=False)).run(sockets=[listener])
"""


def started(command: list[str], folder: Path, **environment: str) -> tuple[subprocess.Popen[bytes], str]:
    """A service as a process, ready; (process, address)."""
    log = folder / f"{len(list(folder.glob('*.log')))}.log"
    variables = os.environ | {
        "PYTHONPATH": f"{ROOT}:{folder}",
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(folder / "home"),
    }
    with log.open("wb") as err:
        process = subprocess.Popen(command, cwd=folder, env=variables | environment, stdout=subprocess.DEVNULL, stderr=err)
    for _ in range(600):
        found = re.search(r"answers on (http://\S+)", log.read_text(errors="replace"))
        if found:
            try:
                urllib.request.urlopen(found[1] + "/readyz", timeout=5).close()
                return process, found[1]
            except OSError:
                pass
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"{command} did not start:\n{log.read_text(errors='replace')[-3000:]}")


def wrk(url: str, folder: Path, seconds: int, *, new: bool) -> dict[str, float]:
    """Requests per second and latencies (milliseconds) of one round; errors are counted and must be none."""
    template = json.dumps(
        {"task": "cms", "a": {"name": "a", "features": {"ppl_sc": 9.1, "kshot_acc": 0.61, "ppl_clm": 0}}, "b": B}
    )
    body = (
        "string.gsub(template, '\"ppl_clm\": 0}', string.format('\"ppl_clm\": %.13f}', 5 + math.random() * 20))"
        if new
        else "template"
    )
    script = folder / "ask.lua"
    script.write_text(
        # A seed of its own for each round: the same numbers again would be answered from memory.
        f"math.randomseed({time.time_ns() % 2**31})\n"
        f"template = [==[{template if new else BODY}]==]\n"
        "wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\n"
        f"request = function() local body = {body} return wrk.format(nil, nil, nil, body) end\n"
        "done = function(s, l, r) io.write(string.format('RESULT %f %f %f %d %d\\n', s.requests / s.duration * 1e6, "
        "l:percentile(50) / 1e3, l:percentile(99) / 1e3, s.requests, "
        "s.errors.status + s.errors.connect + s.errors.read + s.errors.timeout)) end\n"
    )
    said = subprocess.run(
        ["wrk", "-t1", "-c8", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), url + "/v1/compare"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rate, p50, p99, requests, errors = map(float, re.search(r"RESULT (\S+) (\S+) (\S+) (\S+) (\S+)", said.stdout).groups())  # type: ignore[union-attr]
    assert errors == 0, said.stdout
    return {"rate": rate, "p50": p50, "p99": p99, "requests": requests}


def processor_seconds(process: subprocess.Popen[bytes]) -> float:
    """Of a process so far, all its threads together."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def throughput(folder: Path, rounds: int, seconds: int) -> dict[str, Any]:
    """Alternating rounds against both services; medians over rounds."""
    (folder / "echo.py").write_text(ECHO)
    (folder / "metrics").mkdir()
    echo, echo_url = started([sys.executable, "-c", RUN_ECHO, str(folder / "metrics")], folder)
    ours, our_url = started([sys.executable, "-m", "serving.cli", "serve", "--port", "0"], folder)
    kinds = {
        "bare echo": (echo, echo_url, False),
        "foretune, same question": (ours, our_url, False),
        "foretune, new questions": (ours, our_url, True),
    }
    try:
        for _, url, new in kinds.values():
            wrk(url, folder, 1, new=new)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
        for _ in range(rounds):
            for name, (process, url, new) in kinds.items():
                wrk(url, folder, 1, new=new)  # while one is asked the other's memory may be reclaimed: wake it up first
                before, spent = from_memory(our_url), processor_seconds(process)
                run = wrk(url, folder, seconds, new=new)
                run["cpu_ms"] = (processor_seconds(process) - spent) / run["requests"] * 1e3
                found[name].append(run)
                print(f"{name}: {run['rate']:.0f} a second, p99 {run['p99']:.1f} ms", file=sys.stderr, flush=True)
                assert not new or from_memory(our_url) == before, "a new question was answered from memory"
        result: dict[str, Any] = {
            name: {key: round(statistics.median(r[key] for r in runs), 2) for key in ("rate", "p50", "p99", "cpu_ms")}
            for name, runs in found.items()
        }
        bare = result["bare echo"]
        for name in list(kinds)[1:]:
            result[name] |= {
                "share_of_bare": round(result[name]["rate"] / bare["rate"], 2),
                "p99_ratio": round(result[name]["p99"] / bare["p99"], 2),
                "cpu_share": round(result[name]["cpu_ms"] / bare["cpu_ms"], 2),
            }
        many = [
            {"name": f"c{i}", "features": {"ppl_clm": 8 + (i * 7919 % 1000) / 40, "ppl_sc": 9.0, "kshot_acc": 0.3 + i / 3000}}
            for i in range(1000)
        ]
        times = []
        for k in range(5):
            many[0]["features"]["ppl_sc"] = 9.1 + k  # type: ignore[index]
            began = time.perf_counter()
            assert ask(our_url, "/v1/rank", {"task": "cms", "candidates": many})["total"] == 1000
            times.append(time.perf_counter() - began)
        result["rank of 1,000 candidates, seconds"] = {
            "median": round(statistics.median(times), 3),
            "worst": round(max(times), 3),
        }
        return result
    finally:
        for process in (echo, ours):
            process.terminate()
            process.wait()


def from_memory(url: str) -> float:
    """How many answers the service has taken from memory so far."""
    with urllib.request.urlopen(url + "/metrics", timeout=30) as answer:
        return float(re.search(r"(?m)^foretune_answers_from_memory_total (\S+)", answer.read().decode())[1])  # type: ignore[index]


def ask(url: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        url + path, data=None if body is None else json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def swaps(folder: Path, times: int = 100) -> dict[str, Any]:
    """Move the champion's alias `times` times between two rankers in MLflow while four clients ask without pause."""
    import numpy as np
    import pandas as pd

    from ranker import LearningToCompare
    from training import tracking

    rng = np.random.default_rng(0)
    expected: dict[str, float] = {}
    for seed in (1, 2):
        skill = rng.normal(size=12)
        rows = pd.DataFrame(
            {"ppl_clm": np.exp(3 - 0.3 * skill), "ppl_sc": np.exp(2 + rng.normal(size=12)), "kshot_acc": 0.5 + 0.1 * skill}
        )
        ranker = LearningToCompare(bags=4, rounds=10, random_state=seed).fit(
            rows, skill + rng.normal(0, 0.3, 12), task=["cms"] * 12
        )
        version = tracking.register_ranker(ranker, root=folder)
        expected[version] = ranker.answer(A["features"], B["features"], task="cms").probability
    first, second = expected
    tracking.move_alias("foretune-ranker", first, expected=None, root=folder)
    process, url = started([sys.executable, "-m", "serving.cli", "serve", "--port", "0"], folder, FORETUNE_POLL_SECONDS="0.05")
    answers: list[tuple[str, float]] = []
    failed: list[str] = []
    done = threading.Event()

    def load(place: int) -> None:
        asked = 0
        while not done.is_set():
            asked += 1
            # Every other question is new: answered by the ranker, not from memory.
            name = f"a{place}-{asked}" if asked % 2 else "a"
            try:
                answer = ask(url, "/v1/compare", {"task": "cms", "a": A | {"name": name}, "b": B})
                answers.append((answer["ranker"]["version"], answer["probability"]))
            except OSError as error:
                failed.append(str(error))

    clients = [threading.Thread(target=load, args=(place,)) for place in range(4)]
    try:
        for client in clients:
            client.start()
        began, here = time.perf_counter(), first
        for _ in range(times):
            there = second if here == first else first
            assert tracking.move_alias("foretune-ranker", there, expected=here, root=folder)
            here = there
            while ask(url, "/v1/model")["ranker"]["version"] != here:
                time.sleep(0.02)
        seconds = time.perf_counter() - began
        done.set()
        for client in clients:
            client.join()
        mixed = sum(abs(p - expected[v]) > 1e-9 for v, p in answers)
        taken = ask(url, "/v1/model")["swaps"]
        return {"swaps": taken, "answers": len(answers), "failed": len(failed), "mixed": mixed, "seconds": round(seconds, 1)}
    finally:
        done.set()
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--swaps", action="store_true", help="the hot swaps instead of the throughput")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=5)
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        if given.swaps:
            result = swaps(Path(folder))
        elif shutil.which("wrk") is None:
            raise SystemExit("wrk is not here (Debian: apt-get install wrk)")
        else:
            result = throughput(Path(folder), given.rounds, given.seconds)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
