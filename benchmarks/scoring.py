"""The scoring engine beside lm-evaluation-harness: the same requests, the same model, float32, in one run.

    python benchmarks/scoring.py                                  all four workloads (about 12 minutes on 2 cores)
    python benchmarks/scoring.py --workload few-shot --measure seconds --json a.json
    python benchmarks/scoring.py --table a.json b.json            one table of several runs, those of a workload pooled

The model is a Llama of about 30M parameters with random weights, made on the spot with a tokenizer trained on the standard
library's source; the texts are the standard library's too. Both engines start from strings and end with scores, in turns.
The harness gets batch_size "auto"; its search for a batch size is not counted in its seconds, but shown apart. Seconds are
taken by two clocks, wall and CPU. A run during which other processes took more than 3 % of the machine is done again, unless
--attempts is 1: then take the CPU seconds, with one thread (OMP_NUM_THREADS=1). The table's last line says how many were,
and what others took of those that count. Memory is the peak of the resident set beyond the loaded model, each engine in a
process of its own.

The floor is what the distinct tokens cost in matrix products alone: tokens x 2 x parameters FLOP at the rate of a large
float32 product, measured in the same run. Scores are compared with each other and with the same weights in float64, a row at
a time: 40 requests spread over each workload, and every document of the rolling one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).parents[1]))


from benchmarks.scoring_workloads import WORKLOADS, distinct_tokens, make_model, requests_of, token_pairs

QUIET = 0.03  # a run during which other processes took more of the machine is done again
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Ours:
    """The engine of this project."""

    def __init__(self, folder: Path) -> None:
        from features.model import load

        self.model = load(folder, device="cpu", dtype="float32")

    def run(self, workload: str, requests: list[Any]) -> list[tuple[float, bool]]:
        from features.scoring import Scorer

        scorer = Scorer(self.model)  # a new one each time: its trial pass is counted
        if workload == "rolling":
            return [(scores.logprob, True) for scores in scorer.rolling(requests)]
        return scorer.loglikelihood(requests)


class Harness:
    """lm-evaluation-harness's HFLM with batch_size "auto". Its search runs once; `search` is what it found and what it took.

    `rows` is what the search found before, to go without it.
    """

    def __init__(self, folder: Path, rows: int | None = None) -> None:
        import logging

        from lm_eval.models.huggingface import HFLM

        logging.disable(logging.WARNING)
        self.lm = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size="auto")
        self.search: dict[str, float] = {} if rows is None else {"rows": rows, "wall": 0.0, "cpu": 0.0}
        detect = self.lm._detect_batch_size

        def once(*arguments: Any, **options: Any) -> int:
            if not self.search:
                start = time.perf_counter(), time.process_time()
                rows = detect(*arguments, **options)
                self.search = {
                    "rows": rows,
                    "wall": time.perf_counter() - start[0],
                    "cpu": time.process_time() - start[1],
                }
            return int(self.search["rows"])

        self.lm._detect_batch_size = once

    def run(self, workload: str, requests: list[Any]) -> list[tuple[float, bool]]:
        from lm_eval.api.instance import Instance

        with contextlib.redirect_stdout(sys.stderr):  # it prints what it searches
            if workload == "rolling":
                made = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in requests]
                return [(float(score), True) for score in self.lm.loglikelihood_rolling(made, disable_tqdm=True)]
            made = [Instance("loglikelihood", {}, pair, 0) for pair in requests]
            return self.lm.loglikelihood(made, disable_tqdm=True)


def exact(groups: list[list[tuple[list[int], list[int]]]], folder: Path) -> list[float]:
    """The same weights in float64, one plain forward of a row at a time, sums in float64."""
    import torch

    from features.model import load

    module = load(folder, device="cpu", dtype="float64").module
    found = []
    for group in groups:
        total = 0.0
        for context, targets in group:
            with torch.inference_mode():
                logits = module(input_ids=torch.tensor([(context + targets)[:-1]]), use_cache=False).logits[0, -len(targets) :]
            total += float(logits.log_softmax(-1)[torch.arange(len(targets)), torch.tensor(targets)].sum())
        found.append(total)
    return found


def matmul_rate() -> dict[str, float]:
    """FLOP/s of float32 matrix products, by wall and by CPU seconds: the best of a large square one and of the model's widest."""
    import torch

    best = dict.fromkeys(CLOCKS, 0.0)
    for m, k, n in ((2048, 2048, 2048), (1024, 512, 1408)):
        a, b = torch.randn(m, k), torch.randn(k, n)
        for _ in range(5):
            start = {name: clock() for name, clock in CLOCKS.items()}
            for _ in range(2):
                a @ b
            for name, clock in CLOCKS.items():
                best[name] = max(best[name], 2 * 2 * m * k * n / (clock() - start[name]))
    return best


class Run:
    """A run that is timed: its seconds by each clock, and what other processes took of the machine meanwhile (Linux)."""

    def __init__(self, rates: dict[str, float]) -> None:
        self.rates, self.attempts = rates, 1
        self._start, self._ticks = {name: clock() for name, clock in CLOCKS.items()}, self._read()

    def stop(self, searching: dict[str, float]) -> None:
        """End it; the seconds that the harness spent searching for a batch size do not count."""
        taken = {name: clock() - self._start[name] for name, clock in CLOCKS.items()}
        busy, whole = (after - before for after, before in zip(self._read(), self._ticks, strict=True))
        self.others = max(0.0, busy - taken["cpu"]) / whole
        self.seconds = {name: taken[name] - searching.get(name, 0.0) for name in CLOCKS}

    def __str__(self) -> str:
        return f"{self.seconds['wall']:.2f} s, {self.rates['wall'] / 1e9:.0f} GFLOP/s, others took {self.others:.1%}"

    @staticmethod
    def _read() -> tuple[float, float]:
        """Processor seconds so far, of all processors: busy, and busy or idle."""
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        idle = ticks[3] + ticks[4]
        return tuple(count / os.sysconf("SC_CLK_TCK") for count in (sum(ticks) - idle, sum(ticks)))  # type: ignore[return-value]


def measure_seconds(workload: str, folder: Path, repeats: int, rows: int | None, attempts: int) -> dict[str, Any]:
    """Both engines on one workload, in turns: seconds by both clocks, and how far their scores are apart and from float64."""
    from features.model import n_parameters

    engines: dict[str, Any] = {"ours": Ours(folder), "harness": Harness(folder, rows)}
    model = engines["ours"].model
    requests = requests_of(workload, model.tokenizer)
    runs: dict[str, list[Run]] = {name: [] for name in engines}
    scores: dict[str, Any] = {}
    for _ in range(repeats):
        for name, engine in engines.items():
            for attempt in range(attempts):
                run = Run(matmul_rate())
                scores[name] = engine.run(workload, requests)
                run.stop(searching=engine.search if name == "harness" and not runs[name] and not attempt else {})
                print(f"{workload}: {name} {run}", file=sys.stderr, flush=True)
                if run.others <= QUIET:
                    break
            runs[name].append(run)
            run.attempts = attempt + 1
    groups = token_pairs(workload, requests, model)
    tokens, distinct = distinct_tokens(groups)
    # every request would take the naive way's time in float64: a sample of them, but of every document
    sample = range(0, len(groups), 1 if workload == "rolling" else max(1, len(groups) // 40))
    truth = exact([groups[i] for i in sample], folder)
    targets = [sum(len(wanted) for _, wanted in group) for group in groups]
    pairs = list(zip(scores["ours"], scores["harness"], strict=True))
    return {
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "repeats": repeats,
        "requests": len(requests),
        "tokens": tokens,
        "distinct": distinct,
        "parameters": n_parameters(model),
        "rates": {clock: [run.rates[clock] for run in runs["ours"]] for clock in CLOCKS},
        "seconds": {name: {clock: [run.seconds[clock] for run in runs[name]] for clock in CLOCKS} for name in engines},
        "others": max(run.others for group in runs.values() for run in group),
        "attempts": sum(run.attempts for group in runs.values() for run in group),
        "search": engines["harness"].search,
        "difference": max(abs(a[0] - b[0]) for a, b in pairs),
        "difference_per_token": max(abs(a[0] - b[0]) / n for (a, b), n in zip(pairs, targets, strict=True)),
        "from_float64": {
            name: max(abs(scores[name][i][0] - expected) for i, expected in zip(sample, truth, strict=True)) for name in engines
        },
        "greedy_agreement": sum(a[1] == b[1] for a, b in pairs) / len(pairs),
    }


def measure_memory(workload: str, folder: Path, rows: int | None) -> dict[str, Any]:
    """Peak memory (MB, beyond what the loaded model takes) of each engine, alone in a process of its own."""
    found = {}
    for engine in ("ours", "harness"):
        command = [sys.executable, __file__, "--alone", engine, "--workload", workload, "--model", str(folder)]
        command += [] if rows is None else ["--rows", str(rows)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[engine] = json.loads(done.stdout.splitlines()[-1])["mb"]
        print(f"{workload}: {engine} {found[engine]:.0f} MB", file=sys.stderr, flush=True)
    return {"mb": found}


def alone(engine: str, workload: str, folder: Path, rows: int | None) -> dict[str, float]:
    from features.model import load

    requests = requests_of(workload, load(folder, device="cpu").tokenizer)
    built = Ours(folder) if engine == "ours" else Harness(folder, rows)
    before = _resident()
    peak_is_reset = _reset_peak()
    built.run(workload, requests)
    peak = _resident("VmHWM") if peak_is_reset else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"mb": peak - before}


def _resident(field: str = "VmRSS") -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _pooled(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two results of a workload as one: the runs of both, the larger of each distance."""
    found = one | other
    found["search"] = max(one["search"], other["search"], key=lambda search: search["cpu"])
    for name in ("repeats", "attempts"):
        found[name] = one[name] + other[name]
    for name in ("others", "difference", "difference_per_token"):
        found[name] = max(one[name], other[name])
    found["greedy_agreement"] = min(one["greedy_agreement"], other["greedy_agreement"])
    found["rates"] = {clock: one["rates"][clock] + other["rates"][clock] for clock in CLOCKS}
    found["seconds"] = {
        engine: {clock: one["seconds"][engine][clock] + other["seconds"][engine][clock] for clock in CLOCKS}
        for engine in one["seconds"]
    }
    found["from_float64"] = {engine: max(one["from_float64"][engine], other["from_float64"][engine]) for engine in one["seconds"]}
    return found


def table(results: list[dict[str, Any]], clock: str) -> str:
    """Markdown: two tables and a note on how they came about. Results of one workload are pooled; what is missing is said."""
    joined: dict[str, dict[str, Any]] = {}
    for result in results:
        known = joined.setdefault(result["workload"], {})
        joined[result["workload"]] = _pooled(known, result) if "seconds" in known and "seconds" in result else known | result
    ordered = [(name, joined[name]) for name in WORKLOADS if name in joined]
    speed, digits, notes = [], [], []
    for name, found in ordered:
        memory = [f"{found['mb'][engine]:,.0f}" if "mb" in found else "not measured" for engine in ("harness", "ours")]
        if "seconds" not in found:
            speed.append([WORKLOADS[name], *["not measured"] * 7, *memory])
            continue
        harness, ours = (statistics.median(found["seconds"][engine][clock]) for engine in ("harness", "ours"))
        rate = statistics.median(found["rates"][clock])
        floor = found["distinct"] * 2 * found["parameters"] / rate
        cells = [f"{found['tokens']:,}", f"{found['distinct']:,}", f"{harness:.2f}", f"{ours:.2f}", f"**{harness / ours:.1f}x**"]
        speed.append([WORKLOADS[name], *cells, f"{floor:.2f}", f"{ours / floor:.2f}", *memory])
        away = [f"{found['from_float64'][engine]:.1e}" for engine in ("harness", "ours")]
        apart = [f"{found['difference']:.1e}", f"{found['difference_per_token']:.1e}"]
        digits.append([WORKLOADS[name], *apart, *away, f"{found['greedy_agreement']:.1%}"])
        notes.append(
            f"{name}: {found['threads']} threads, {found['repeats']} runs, {rate / 1e9:.0f} GFLOP/s; the harness in batches of "
            f"{found['search']['rows']:.0f} rows, searched for in {found['search'][clock]:.1f} s; other processes took "
            f"{found['others']:.1%} of the machine at most, {found['attempts'] - 2 * found['repeats']} runs were done again"
        )
    heads = (
        ["workload", "tokens", "distinct", "harness s", "ours s", "faster", "floor s", "ours / floor", "harness MB", "ours MB"],
        ["workload", "apart", "apart per token", "harness from float64", "ours from float64", "greedy equal"],
    )
    tables = [
        "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])
        for head, rows in zip(heads, (speed, digits), strict=True)
    ]
    return "\n\n".join([*tables, f"Medians of {clock} seconds. " + ". ".join(notes) + "."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=[*WORKLOADS], action="append")
    parser.add_argument("--measure", choices=["seconds", "memory"], action="append", help="default: both")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, help="the harness's batch size, where its search has found it before")
    parser.add_argument("--attempts", type=int, default=4, help="at a quiet run, at most; 1 where CPU seconds are wanted")
    parser.add_argument("--clock", choices=[*CLOCKS], default="wall", help="whose seconds the table shows")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--table", type=Path, nargs="+", help="print the table of JSON files written before, and measure nothing")
    parser.add_argument("--model", type=Path, help="where the model is, or is to be made; default: a temporary folder")
    parser.add_argument("--alone", choices=["ours", "harness"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.table:
        print(table([result for path in arguments.table for result in json.loads(path.read_text())], arguments.clock))
        return
    if arguments.alone:
        print(json.dumps(alone(arguments.alone, arguments.workload[0], arguments.model, arguments.rows)))
        return
    measures = arguments.measure or ["seconds", "memory"]
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.model or Path(temporary) / "model"
        if not (folder / "config.json").is_file():
            make_model(folder)
        for workload in arguments.workload or WORKLOADS:
            found: dict[str, Any] = {"workload": workload}
            if "seconds" in measures:
                found |= measure_seconds(workload, folder, arguments.repeats, arguments.rows, arguments.attempts)
            if "memory" in measures:
                found |= measure_memory(workload, folder, arguments.rows)
            results.append(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results, arguments.clock))


if __name__ == "__main__":
    main()
