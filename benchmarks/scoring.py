"""The scoring engine beside lm-evaluation-harness: the same requests, the same model, float32, in one run.

    python benchmarks/scoring.py                                  all four workloads (about 15 minutes on 2 cores)
    python benchmarks/scoring.py --workload few-shot --json a.json
    python benchmarks/scoring.py --table a.json b.json            one table of several runs

The model is a Llama of about 30M parameters with random weights, made on the spot with a tokenizer trained on the standard
library's source; the texts are the standard library's too. Both engines start from strings and end with scores. The harness
gets the batch size that its own search finds on this machine (the search itself is not counted in its seconds, but shown
apart). The floor is what the distinct tokens cost in matrix products alone: tokens x 2 x parameters FLOP at the rate of a
large float32 product, measured in the same run.

`--clock cpu` counts CPU seconds instead of wall seconds: for a machine that does other work meanwhile. Use one thread then
(OMP_NUM_THREADS=1), so that waiting for the other threads is not counted.
"""

from __future__ import annotations

import argparse
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

import numpy as np

WORKLOADS = {
    "few-shot": "5-shot, 4 choices, 100 questions",
    "templates": "0-shot, 6 templates x 2 verbalisers, 100 texts",
    "rolling": "rolling perplexity, 60 documents of 20 to 2,000 tokens",
    "one-token": "0-shot, 4 choices of one token, 300 questions",
}
TEMPLATES = ("{} This is", "{} It was", "{} Overall, it is", "{} In short,", "{} I find it", "{} The text above is")
WINDOW = 512


def library() -> list[str]:
    """Source of standard library modules, one string each."""
    root = Path(json.__file__).parents[1]
    return [path.read_text(encoding="utf-8", errors="ignore") for path in sorted(root.glob("*.py"))[:120]]


def make_model(folder: Path) -> None:
    """Write a Llama of about 30M parameters with random weights, and a byte-level BPE of 8,192 entries, to `folder`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        library(),
        trainers.BpeTrainer(vocab_size=8192, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=WINDOW,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def requests_of(workload: str, tokenizer: Any) -> list[Any]:
    """The workload's requests: (context, continuation) pairs, or texts for rolling. The same on every call."""
    rng = np.random.default_rng(0)
    # docstring-like lines: words and spaces, 8 to 20 words
    lines = [line.strip() for text in library() for line in text.splitlines()]
    sentences = sorted({line for line in lines if re.fullmatch(r"[A-Za-z][A-Za-z ,.'()-]{40,110}", line)})
    rng.shuffle(sentences)
    take = iter(sentences)

    def question() -> tuple[str, list[str]]:
        choices = [" " + " ".join(next(take).split()[:3]) for _ in range(4)]
        return f"Question: {next(take)} {next(take)}\nAnswer:", choices

    if workload == "few-shot":
        shots = ""
        for _ in range(5):
            text, choices = question()
            shots += f"{text} {next(take)} {choices[0].strip()}\n\n"
        asked = [question() for _ in range(100)]
        return [(shots + text, choice) for text, choices in asked for choice in choices]
    if workload == "templates":
        texts = [f"{next(take)} {next(take)}" for _ in range(100)]
        return [
            (template.format(text), f" {word}") for text in texts for template in TEMPLATES for word in ("positive", "negative")
        ]
    if workload == "one-token":
        asked = [question() for _ in range(300)]
        return [(text, letter) for text, _ in asked for letter in (" a", " b", " c", " d")]
    whole = "\n".join(library())
    ids = tokenizer(whole[:600_000], add_special_tokens=False, verbose=False)["input_ids"]
    lengths = np.exp(rng.uniform(np.log(20), np.log(2000), 60)).astype(int)
    starts = rng.integers(0, len(ids) - 2000, 60)
    return [tokenizer.decode(ids[start : start + length]) for start, length in zip(starts, lengths, strict=True)]


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
    """lm-evaluation-harness's HFLM. batch_size "auto" searches on every call."""

    def __init__(self, folder: Path, batch_size: int | str = 64) -> None:
        import logging

        from lm_eval.models.huggingface import HFLM

        logging.disable(logging.WARNING)
        self.lm = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=batch_size)

    def run(self, workload: str, requests: list[Any]) -> list[tuple[float, bool]]:
        from lm_eval.api.instance import Instance

        if workload == "rolling":
            made = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in requests]
            return [(float(score), True) for score in self.lm.loglikelihood_rolling(made, disable_tqdm=True)]
        made = [Instance("loglikelihood", {}, pair, 0) for pair in requests]
        return self.lm.loglikelihood(made, disable_tqdm=True)


def distinct_tokens(workload: str, requests: list[Any], folder: Path) -> tuple[int, int, int]:
    """(tokens of all requests, distinct ones, parameters): what the naive way computes and what must be computed."""
    from features.model import load, n_parameters
    from features.scoring.encoding import Encoder, rolling_windows
    from features.scoring.tree import build

    model = load(folder)
    encoder = Encoder(model)
    if workload == "rolling":
        documents = encoder.encode(requests)
        pairs = [pair for ids in documents for pair in rolling_windows(ids, [encoder.prefix_id], model.max_length, None)]
    else:
        pairs = encoder.pairs(requests)
    rows = [np.asarray((context + targets)[:-1], dtype=np.int64) for context, targets in pairs]
    unique = list({row.tobytes(): row for row in rows}.values())
    return sum(map(len, rows)), len(build(unique, [np.zeros(0, dtype=np.int64)] * len(unique))), n_parameters(model)


def matmul_rate(clock: Any) -> float:
    """FLOP/s of float32 matrix products: the best of a large square one and of the model's own widest shape."""
    import torch

    best = 0.0
    for m, k, n in ((2048, 2048, 2048), (1024, 512, 1408)):
        a, b = torch.randn(m, k), torch.randn(k, n)
        for _ in range(8):
            start = clock()
            for _ in range(4):
                a @ b
            best = max(best, 4 * 2 * m * k * n / (clock() - start))
    return best


def measure(workload: str, folder: Path, repeats: int, clock_name: str, memory: bool) -> dict[str, Any]:
    """Both engines on one workload, in turns; medians, the largest difference of a score, the peaks of their memory."""
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[clock_name]
    requests = requests_of(workload, Ours(folder).model.tokenizer)
    engines: dict[str, Any] = {"ours": Ours(folder), "harness": Harness(folder)}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    scores: dict[str, Any] = {}
    rates = []
    for _ in range(repeats):
        rates.append(matmul_rate(clock))
        for name, engine in engines.items():
            start = clock()
            scores[name] = engine.run(workload, requests)
            seconds[name].append(clock() - start)
            print(f"{workload}: {name} {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    naive, distinct, parameters = distinct_tokens(workload, requests, folder)
    rate = statistics.median(rates)
    pairs = list(zip(scores["ours"], scores["harness"], strict=True))
    # a rolling score sums thousands of tokens in float32: compare it per token
    scale = [len(text.split()) if workload == "rolling" else 1 for text in requests]
    apart = {name: in_process(name, workload, folder) for name in engines} if memory else {}
    return {
        "workload": workload,
        "clock": clock_name,
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "repeats": repeats,
        "requests": len(requests),
        "tokens": naive,
        "distinct": distinct,
        "parameters": parameters,
        "gflops": rate / 1e9,
        "floor_s": distinct * 2 * parameters / rate,
        "ours_s": statistics.median(seconds["ours"]),
        "harness_s": statistics.median(seconds["harness"]),
        "seconds": seconds,
        "harness_auto_s": apart["harness"]["seconds"] if apart else float("nan"),
        "ours_mb": apart["ours"]["mb"] if apart else float("nan"),
        "harness_mb": apart["harness"]["mb"] if apart else float("nan"),
        "max_difference": max(abs(a[0] - b[0]) for a, b in pairs),
        "max_difference_per_word": max(abs(a[0] - b[0]) / max(1, n) for (a, b), n in zip(pairs, scale, strict=True)),
        "greedy_agreement": sum(a[1] == b[1] for a, b in pairs) / len(pairs),
    }


def in_process(engine: str, workload: str, folder: Path) -> dict[str, float]:
    """Seconds and peak memory (MB, beyond what the loaded model takes) of one engine alone in a process; the harness on auto."""
    command = [sys.executable, __file__, "--alone", engine, "--workload", workload, "--model", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def alone(engine: str, workload: str, folder: Path) -> dict[str, float]:
    built = Ours(folder) if engine == "ours" else Harness(folder, "auto")
    from features.model import load

    requests = requests_of(workload, load(folder).tokenizer)
    before = _resident()
    peak_is_reset = _reset_peak()
    start = time.perf_counter()
    built.run(workload, requests)
    seconds = time.perf_counter() - start
    peak = _resident("VmHWM") if peak_is_reset else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "mb": peak - before}


def _resident(field: str = "VmRSS") -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _known(figure: float) -> str:
    return "not measured" if figure != figure else f"{figure:,.0f}"


def table(results: list[dict[str, Any]]) -> str:
    head = (
        "| workload | tokens | distinct | harness s | ours s | faster | floor s | ours / floor "
        "| harness MB | ours MB | max difference | greedy equal |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|\n"
    )
    lines = [
        f"| {WORKLOADS[r['workload']]} | {r['tokens']:,} | {r['distinct']:,} | {r['harness_s']:.2f} | {r['ours_s']:.2f} "
        f"| **{r['harness_s'] / r['ours_s']:.1f}x** | {r['floor_s']:.2f} | {r['ours_s'] / r['floor_s']:.2f} "
        f"| {_known(r['harness_mb'])} | {_known(r['ours_mb'])} | {r['max_difference']:.1e} | {r['greedy_agreement']:.1%} |"
        for r in results
    ]
    rates = ", ".join(f"{r['workload']} {r['gflops']:.0f}" for r in results)
    search = ", ".join(f"{r['workload']} {_known(r['harness_auto_s'])}" for r in results)
    how = ", ".join(sorted({f"{r['clock']} seconds, {r['threads']} threads, median of {r['repeats']}" for r in results}))
    notes = (
        f"{how}. GFLOP/s of a matrix product: {rates}. Wall seconds of the harness with its search for a batch size: {search}."
    )
    return head + "\n".join(lines) + "\n\n" + notes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=[*WORKLOADS], action="append")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--no-memory", action="store_true", help="leave out the runs of each engine in a process of its own")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--table", type=Path, nargs="+", help="print the table of JSON files written before, and measure nothing")
    parser.add_argument("--model", type=Path, help="where the model is, or is to be made; default: a temporary folder")
    parser.add_argument("--alone", choices=["ours", "harness"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.table:
        print(table([result for path in arguments.table for result in json.loads(path.read_text())]))
        return
    if arguments.alone:
        print(json.dumps(alone(arguments.alone, arguments.workload[0], arguments.model)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.model or Path(temporary) / "model"
        if not (folder / "config.json").is_file():
            make_model(folder)
        results = [
            measure(workload, folder, arguments.repeats, arguments.clock, not arguments.no_memory)
            for workload in arguments.workload or WORKLOADS
        ]
    print(table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
