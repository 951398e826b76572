"""Transferability scores beside transformer-ranker, and their memory.

    python benchmarks/transferability.py compare --peer-python peer/bin/python          the two side by side (3 minutes)
    python benchmarks/transferability.py memory                                         peak memory as texts and layers grow

compare: `--peer-python` is the interpreter of an environment with torch, `transformer-ranker==0.2.0`, `datasets<4` and
`scikit-learn`; both sides run in it, each in a process of its own, so that torch and transformers are the same. The texts are
functions of the standard library, labelled by their package (four classes), or `--data`, JSON lines of text and label. The
encoders are two BERTs with random weights, made on the spot, or `--encoder NAME=FOLDER`; the decoders are three of
training/free_zoo, in float32, and a GPT-2 whose tokenizer has no padding token; then comes a list with a broken checkpoint. The
settings are the peer's: mean over words of the mean over their tokens, the average of the layers, LogME, regularised H-score
and 3 nearest neighbours. Seconds begin when all modules are imported and end with the last score;
of several --repeats, in turns, the run of median CPU time counts: a busy machine disturbs that least.

memory: random Llamas of D = 128; peak resident memory of one pass that keeps every layer, and of LogME on each, beyond what the
process held before.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
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

from benchmarks.transferability_inputs import DECODERS, ZOO, checkpoints, read_texts, texts

ESTIMATORS = ("logme", "hscore", "knn")
LIMIT = 240  # seconds of one process


# --- the two sides, each in a process of its own ----------------------------------------------------------------------


def ours(spec: dict[str, Any]) -> dict[str, Any]:
    """Every score from one pass; a checkpoint that fails is a line, and the others go on."""
    import numpy as np

    from features.errors import ForetuneError
    from features.model import load
    from features.representations import represent
    from features.transferability import hscore, knn, logme

    labels = np.array(spec["labels"])
    scores: dict[str, dict[str, float]] = {}
    failed: dict[str, str] = {}
    parts = {"loading": 0.0, "the pass": 0.0, "scores": 0.0}

    def book(part: str, since: float) -> float:
        now = time.process_time()
        parts[part] += now - since
        return now

    started = _now()
    for name in spec["models"]:
        clock = time.process_time()
        try:
            model = load(spec["paths"][name], device="cpu")
            clock = book("loading", clock)
            features = represent(model, spec["texts"], poolings=["words"], layers=["average"]).of("words", "average")
            clock = book("the pass", clock)
            known = {
                "logme": lambda f=features: logme(f, labels),
                "hscore": lambda f=features: hscore(f, labels),
                "knn": lambda f=features: knn(f, labels, k=3, ties="smallest"),
            }
            scores[name] = {estimator: known[estimator]() for estimator in spec["estimators"]}
            book("scores", clock)
        except ForetuneError as error:
            failed[name] = str(error).replace(spec["paths"][name], name)
    return {"scores": scores, "failed": failed, "parts": parts, **_spent(started)}


def peer(spec: dict[str, Any]) -> dict[str, Any]:
    """transformer-ranker: one run for each estimator, as its interface asks."""
    import logging

    import datasets
    from transformer_ranker import TransformerRanker
    from transformer_ranker.estimators import LogME

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    data = datasets.Dataset.from_dict({"text": spec["texts"], "label": spec["labels"]})
    paths = [spec["paths"][name] for name in spec["models"]]
    names = {path: name for name, path in spec["paths"].items()}
    scores: dict[str, dict[str, float]] = {name: {} for name in spec["models"]}
    failed = {}
    started = _now()
    ranker = TransformerRanker(data, text_column="text", label_column="label")
    for estimator in spec["estimators"]:
        try:
            result = ranker.run(
                paths, estimator=estimator, layer_aggregator="layermean", batch_size=32, pre_tokenizer=None, device="cpu"
            )
            for path, value in result.scores.items():
                scores[names.get(path, path)][estimator] = float(value)
        except Exception as error:
            failed["the whole run"] = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    spent = _spent(started)
    if len(spec["estimators"]) == len(ESTIMATORS) and not failed:  # not timed: its LogME with its iteration run to the end
        LogME.fit.__defaults__ = (*LogME.fit.__defaults__[:2], 1000, 1e-9)
        result = ranker.run(paths, estimator="logme", layer_aggregator="layermean", pre_tokenizer=None, device="cpu")
        for path, value in result.scores.items():
            scores[names.get(path, path)]["converged"] = float(value)
    return {"scores": {n: s for n, s in scores.items() if s}, "failed": failed, **spent}


def _now() -> tuple[float, float, float]:
    return time.perf_counter(), time.process_time(), _peak()


def _spent(since: tuple[float, float, float]) -> dict[str, float]:
    """Wall and CPU seconds since, and by how much the peak memory (MB) has risen over what the imports had taken."""
    wall, busy, peak = _now()
    return {"seconds": wall - since[0], "cpu_seconds": busy - since[1], "peak_mb": peak, "beyond_imports_mb": peak - since[2]}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def side(name: str, path: str) -> None:
    """Run one side on a spec and print its result as JSON."""
    import torch
    import transformers.core_model_loading  # noqa: F401

    spec = json.loads(Path(path).read_text(encoding="utf-8"))
    torch.set_num_threads(spec.get("threads", 1))
    for model in spec.get("models", []):  # what both sides import when they first load one, before their clocks start
        kind = json.loads((Path(spec["paths"][model]) / "config.json").read_text(encoding="utf-8"))["model_type"]
        importlib.import_module(f"transformers.models.{kind}.modeling_{kind}")
    found = {"ours": ours, "peer": peer, "memory": one_memory}[name](spec)
    sys.stdout.write("\nRESULT " + json.dumps(found) + "\n")


def run_side(python: str, who: str, spec: dict[str, Any], folder: str) -> dict[str, Any]:
    """What a side printed, or why there is nothing."""
    path = Path(folder) / "spec.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    command = [python, str(Path(__file__).resolve()), "side", who, str(path)]
    threads = str(spec.get("threads", 1))  # numpy's too
    environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT, env=environment)
    except subprocess.TimeoutExpired:
        return {"crashed": f"still running after {LIMIT} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return json.loads(lines[-1][7:]) if lines else {"crashed": (done.stderr.strip().splitlines() or ["no output"])[-1]}


def compare(asked: argparse.Namespace) -> dict[str, Any]:
    """All of it, as one dictionary; of repeated runs the one of median CPU time."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, labels = read_texts(asked.data, asked.texts) if asked.data else texts(asked.texts)
        paths = checkpoints(Path(folder), corpus)
        given = dict(one.split("=", 1) for one in asked.encoder)
        paths |= {name: str(Path(path).resolve()) for name, path in given.items()}
        encoders = list(given) or ["bert-0", "bert-1"]
        decoders = ["gpt2", *DECODERS]
        plan = {
            "encoders, three scores": {"models": encoders, "estimators": ESTIMATORS, "repeats": asked.repeats},
            "encoders, LogME alone": {"models": encoders, "estimators": ESTIMATORS[:1], "repeats": asked.repeats},
            "decoders, three scores": {"models": decoders, "estimators": ESTIMATORS, "repeats": asked.repeats},
            "decoders, LogME alone": {"models": decoders, "estimators": ESTIMATORS[:1], "repeats": asked.repeats},
            "a broken one in the list": {"models": ["bert-0", "broken", "bert-1"], "estimators": ESTIMATORS[:1], "repeats": 1},
        }
        runs: dict[str, dict[str, Any]] = {}
        for what, part in plan.items():
            shared = {"texts": corpus, "labels": labels, "paths": paths, "threads": asked.threads, **part}
            tries: dict[str, list[dict[str, Any]]] = {"peer": [], "ours": []}
            for _ in range(part["repeats"]):
                for who, of in tries.items():
                    of.append(run_side(asked.peer_python, who, shared, folder))
                    print(f"{what}, {who}: {_cpu_seconds(of[-1]):.2f} CPU s", file=sys.stderr, flush=True)
            runs[what] = {
                who: sorted(of, key=lambda run: run.get("cpu_seconds", float("inf")))[(len(of) - 1) // 2]
                for who, of in tries.items()
            }
        return {
            "texts": len(corpus),
            "classes": len(set(labels)),
            "threads": asked.threads,
            "repeats": asked.repeats,
            "runs": runs,
        }


def _cpu_seconds(run: dict[str, Any]) -> float:
    return float(run.get("cpu_seconds", "inf"))  # of a process that ended without a result


def print_comparison(found: dict[str, Any]) -> None:
    """The comparison as Markdown."""
    print(
        f"{found['texts']} texts, {found['classes']} classes, float32, {found['threads']} thread(s), "
        f"median of {found['repeats']} run(s)\n"
    )
    print("| run | side | seconds | CPU seconds | peak MB | beyond imports | failed |\n|---|---|---|---|---|---|---|")
    for what, sides in found["runs"].items():
        for who, run in sides.items():
            if "crashed" in run:
                print(f"| {what} | {who} | | | | | process ended: {run['crashed'][:120]} |")
                continue
            failed = "; ".join(f"{m}: {e[:120]}" for m, e in run["failed"].items())
            failed += f" ({len(run['scores'])} checkpoints scored)" if failed else ""
            spent = f"{run['seconds']:.2f} | {run['cpu_seconds']:.2f} | {run['peak_mb']:.0f} | {run['beyond_imports_mb']:.0f}"
            print(f"| {what} | {who} | {spent} | {failed or '-'} |")
    print("\n| checkpoint | score | peer | ours | difference |\n|---|---|---|---|---|")
    for what in ("encoders, three scores", "decoders, three scores"):
        theirs, own = (found["runs"][what][who].get("scores", {}) for who in ("peer", "ours"))
        for model in own:
            if "converged" in theirs.get(model, {}):
                own[model]["converged"] = own[model]["logme"]
            for estimator, value in own[model].items():
                other = theirs.get(model, {}).get(estimator)
                gap = "-" if other is None else f"{abs(value - other):.0e}"
                shown = "logme, theirs iterated to convergence" if estimator == "converged" else estimator
                print(f"| {model} | {shown} | {'-' if other is None else f'{other:.4f}'} | {value:.4f} | {gap} |")
    print()
    for what, sides in found["runs"].items():
        if not any("crashed" in run or run["failed"] for run in sides.values()):
            units = ("seconds", "cpu_seconds", "peak_mb", "beyond_imports_mb")
            wall, cpu, peak, beyond = (sides["peer"][unit] / sides["ours"][unit] for unit in units)
            print(f"- {what}: {wall:.1f}x the peer's speed ({cpu:.1f}x in CPU time), 1/{peak:.1f} of its peak memory, ", end="")
            print(f"1/{beyond:.1f} of what it takes beyond imports; ours, CPU seconds: ", end="")
            print(", ".join(f"{part} {spent:.2f}" for part, spent in sides["ours"]["parts"].items()))


# --- memory -----------------------------------------------------------------------------------------------------------


def one_memory(spec: dict[str, Any]) -> dict[str, Any]:
    """Peak memory of one pass that keeps all layers, and of LogME on each, beyond what the process held before."""
    import numpy as np

    from features.model import load
    from features.representations import represent
    from features.transferability import logme

    labels = np.array(spec["labels"])
    model = load(spec["path"], device="cpu")
    represent(model, spec["texts"][:8], layers="all")  # code and working memory that any pass needs
    started = _now()
    found = represent(model, spec["texts"], poolings=("mean", "last"), layers="all")
    for layer in range(1, found.depth + 1):
        logme(found.of("mean", layer), labels)
    return {"kept_mb": found.spool.size / 2**20, **_spent(started)}


def memory() -> None:
    """Peak memory against texts x layers, each in a process of its own."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    print("| layers | texts | representations, MB | peak memory added, MB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for layers in (4, 16, 64):
            path = f"{folder}/{layers}"
            tokenizer = AutoTokenizer.from_pretrained(ZOO / DECODERS[0])
            config = LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=128, intermediate_size=128, num_hidden_layers=layers,
                num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=64,
            )  # fmt: skip
            torch.manual_seed(0)
            LlamaForCausalLM(config).save_pretrained(path)
            tokenizer.save_pretrained(path)
            for count in (4000, 16000):
                spec = {"path": path, "texts": [f"text {i}" for i in range(count)], "labels": [i % 4 for i in range(count)]}
                run = run_side(sys.executable, "memory", spec, folder)
                if "crashed" in run:
                    print(f"| {layers} | {count} | | {run['crashed'][:120]} |")
                    continue
                print(f"| {layers} | {count} | {run['kept_mb']:.0f} | {run['beyond_imports_mb']:.0f} |", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    beside = commands.add_parser("compare", help="beside transformer-ranker")
    beside.add_argument("--peer-python", required=True, help="interpreter of an environment with transformer-ranker")
    beside.add_argument("--encoder", action="append", default=[], metavar="NAME=FOLDER", help="real encoders (repeat)")
    beside.add_argument("--data", type=Path, help="JSON lines with text and label, .gz allowed")
    beside.add_argument("--texts", type=int, default=480)
    beside.add_argument("--threads", type=int, default=1)
    beside.add_argument("--repeats", type=int, default=1)
    beside.add_argument("--json", type=Path, help="also write the figures here")
    commands.add_parser("memory", help="peak memory as texts and layers grow")
    one = commands.add_parser("side", help="used by compare")
    one.add_argument("who", choices=("ours", "peer", "memory"))
    one.add_argument("spec")
    asked = parser.parse_args()
    if asked.command == "side":
        side(asked.who, asked.spec)
    elif asked.command == "compare":
        found = compare(asked)
        if asked.json:
            asked.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
        print_comparison(found)
    else:
        memory()


if __name__ == "__main__":
    main()
