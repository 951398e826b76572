"""Transferability scores beside transformer-ranker, and on a published table.

    python benchmarks/transferability.py compare --peer-python /tmp/peer/bin/python      the two side by side (about 5
    minutes on 2 cores)
    python benchmarks/transferability.py vision --table scores.csv                       pairwise accuracy of nine
    published scores
    python benchmarks/transferability.py scaling --table losses.csv                      selection by extrapolated losses

compare: `--peer-python` is the interpreter of an environment with `transformer-ranker==0.2.0`, `datasets<4` and
`scikit-learn`; both sides
run in it, each in a process of its own, so that torch and transformers are the same. The checkpoints are BERT encoders of
12 layers, 256
wide, with random weights, made on the spot; the texts are functions of the standard library, labelled by their package.
The settings are
the peer's: mean over words of the mean over their tokens, the average of the layers, LogME, regularised H-score and 3
nearest neighbours.
Then both are given a list with a decoder-only checkpoint and a broken one.

vision: columns Dataset, Model, ft_acc and one per score (Zhang et al. 2023, Model Spider: github zhangyikaii/Model-Spider,
MIT).
scaling: columns model, task, loss_ft_N for N examples, loss_zero_shot, outcome_final_loss, n_params (Lin et al. 2024).
"""

from __future__ import annotations

import argparse
import ast
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

PACKAGES = ("email", "unittest")
ESTIMATORS = ("logme", "hscore", "knn")


# --- data and checkpoints -------------------------------------------------------------------------------------------


def texts(count: int) -> tuple[list[str], list[int]]:
    """Functions of two packages of the standard library, cut to 400 characters, and which package each is from."""
    found: list[tuple[str, int]] = []
    for label, package in enumerate(PACKAGES):
        folder = Path(importlib.import_module(package).__file__ or "").parent
        functions = []
        for path in sorted(folder.rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
            functions += [(ast.get_source_segment(source, node) or "")[:400] for node in nodes]
        found += [(text, label) for text in functions[: count // len(PACKAGES)]]
    order = sorted(range(len(found)), key=lambda i: (i * 7919) % len(found))
    return [found[i][0] for i in order], [found[i][1] for i in order]


def checkpoints(folder: Path, corpus: list[str]) -> dict[str, str]:
    """Two BERT encoders, a GPT-2 and a folder whose weights are cut off."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    raw.train_from_iterator(corpus, trainers.WordPieceTrainer(vocab_size=4000, special_tokens=specials, show_progress=False))
    raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        model_max_length=512,
    )  # fmt: skip
    made = {}
    for seed in (0, 1):
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=256, num_hidden_layers=12, num_attention_heads=4, intermediate_size=1024
        )
        made[f"bert-{seed}"] = str(folder / f"bert-{seed}")
        BertForMaskedLM(config).save_pretrained(made[f"bert-{seed}"])
        tokenizer.save_pretrained(made[f"bert-{seed}"])
    raw.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    plain = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="[UNK]", eos_token="[SEP]", bos_token="[CLS]", model_max_length=512
    )
    torch.manual_seed(2)
    made["gpt2"] = str(folder / "gpt2")
    GPT2LMHeadModel(GPT2Config(vocab_size=len(plain), n_embd=256, n_layer=12, n_head=4, n_positions=512)).save_pretrained(
        made["gpt2"]
    )
    plain.save_pretrained(made["gpt2"])
    made["broken"] = str(folder / "broken")
    tokenizer.save_pretrained(made["broken"])
    source = Path(made["bert-0"])
    (folder / "broken" / "config.json").write_bytes((source / "config.json").read_bytes())
    weights = (source / "model.safetensors").read_bytes()
    (folder / "broken" / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    return made


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
    started, busy = time.perf_counter(), time.process_time()
    for name in spec["models"]:
        try:
            model = load(spec["paths"][name], device="cpu")
            pooling = "words" if model.kind == "masked" else "last"
            features = represent(model, spec["texts"], poolings=[pooling], layers=["average"]).of(pooling, "average")
            known = {
                "logme": lambda f=features: logme(f, labels),
                "hscore": lambda f=features: hscore(f, labels),
                "knn": lambda f=features: knn(f, labels, k=3, ties="smallest"),
            }
            scores[name] = {estimator: known[estimator]() for estimator in spec["estimators"]}
        except ForetuneError as error:
            failed[name] = str(error)
    return {"scores": scores, "failed": failed, **_spent(started, busy)}


def peer(spec: dict[str, Any]) -> dict[str, Any]:
    """transformer-ranker: one run for each estimator, as its interface asks."""
    import logging

    import datasets
    from transformer_ranker import TransformerRanker

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    data = datasets.Dataset.from_dict({"text": spec["texts"], "label": spec["labels"]})
    paths = [spec["paths"][name] for name in spec["models"]]
    names = {path: name for name, path in spec["paths"].items()}
    scores: dict[str, dict[str, float]] = {name: {} for name in spec["models"]}
    failed = {}
    started, busy = time.perf_counter(), time.process_time()
    ranker = TransformerRanker(data, text_column="text", label_column="label")
    for estimator in spec["estimators"]:
        try:
            result = ranker.run(
                paths, estimator=estimator, layer_aggregator="layermean", batch_size=32, pre_tokenizer=None, device="cpu"
            )
            for path, value in result._results.items() if hasattr(result, "_results") else result.results.items():
                scores[names.get(path, path)][estimator] = float(value)
        except Exception as error:
            failed["the whole run"] = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    return {"scores": {n: s for n, s in scores.items() if s}, "failed": failed, **_spent(started, busy)}


def _spent(started: float, busy: float) -> dict[str, float]:
    """Wall and CPU seconds since; the second says the same on a busy machine."""
    return {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - busy}


def side(name: str, path: str) -> None:
    """Run one side on a spec and print its result and peak memory as JSON."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    found = {"ours": ours, "peer": peer}[name](json.loads(Path(path).read_text(encoding="utf-8")))
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write("\nRESULT " + json.dumps(found) + "\n")


def compare(python: str, count: int) -> dict[str, Any]:
    """All of it, as one dictionary."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, labels = texts(count)
        paths = checkpoints(Path(folder), corpus)
        berts = ["bert-0", "bert-1"]
        runs: dict[str, dict[str, Any]] = {}
        plan = {
            "three scores": {"models": berts, "estimators": ESTIMATORS},
            "one score": {"models": berts, "estimators": ESTIMATORS[:1]},
            "decoder-only": {"models": ["gpt2"], "estimators": ESTIMATORS[:1]},
            "a broken one": {"models": ["bert-0", "broken"], "estimators": ESTIMATORS[:1]},
        }
        for what, part in plan.items():
            spec = Path(folder) / "spec.json"
            spec.write_text(json.dumps({"texts": corpus, "labels": labels, "paths": paths, **part}), encoding="utf-8")
            for who in ("peer", "ours"):
                command = [python, str(Path(__file__).resolve()), "side", who, str(spec)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
                tail = (done.stderr.strip().splitlines() or ["no output"])[-1]
                runs.setdefault(what, {})[who] = json.loads(lines[-1][7:]) if lines else {"crashed": tail}
        return {"texts": len(corpus), "python": python, "runs": runs}


def print_comparison(found: dict[str, Any]) -> None:
    """The comparison as Markdown."""
    print(f"{found['texts']} texts, float32, {os.environ.get('OMP_NUM_THREADS', '1')} thread(s)\n")
    print("| run | side | seconds | CPU seconds | peak MB | scores | failed |\n|---|---|---|---|---|---|---|")
    for what, sides in found["runs"].items():
        for who, run in sides.items():
            if "crashed" in run:
                print(f"| {what} | {who} | | | | | process ended: {run['crashed'][:120]} |")
                continue
            shown = "; ".join(f"{m} " + ", ".join(f"{e} {v:.4f}" for e, v in s.items()) for m, s in run["scores"].items())
            failed = "; ".join(f"{m}: {e[:120]}" for m, e in run["failed"].items())
            spent = f"{run['seconds']:.1f} | {run['cpu_seconds']:.1f} | {run['peak_mb']:.0f}"
            print(f"| {what} | {who} | {spent} | {shown} | {failed} |")
    main = found["runs"]["three scores"]
    gaps = [abs(main["ours"]["scores"][m][e] - main["peer"]["scores"][m][e]) for m in main["peer"]["scores"] for e in ESTIMATORS]
    print(f"\nLargest difference of a score: {max(gaps):.1e}")
    for what in ("three scores", "one score"):
        sides = found["runs"][what]
        wall, cpu = (sides["peer"][unit] / sides["ours"][unit] for unit in ("seconds", "cpu_seconds"))
        print(f"{what}: {wall:.1f}x the peer's speed, {cpu:.1f}x by CPU seconds")


# --- published tables -------------------------------------------------------------------------------------------------


def pairwise(score: Any, outcome: Any) -> float:
    """Share of pairs that the score orders as the outcome does; equal scores count 1/2, equal outcomes are left out."""
    import numpy as np

    above = np.triu_indices(len(outcome), k=1)
    true = np.sign(outcome[:, None] - outcome[None, :])[above]
    said = np.sign(score[:, None] - score[None, :])[above]
    return float(np.where(said == 0, 0.5, said == true)[true != 0].mean())


def vision(path: Path) -> None:
    """Pairwise accuracy of each score per data set, with bootstrap intervals over models; and of what is learnt, with
    models held out."""
    import numpy as np
    import pandas as pd

    from ranker.evaluate import evaluate

    table = pd.read_csv(path)
    scores = [column for column in table.columns if column not in ("Dataset", "Model", "ft_acc")]
    pivots = {s: table.pivot(index="Model", columns="Dataset", values=s).to_numpy() for s in [*scores, "ft_acc"]}
    rng = np.random.default_rng(0)

    def accuracy(score: str, models: Any) -> float:
        with np.errstate(invalid="ignore"):
            parts = [pairwise(pivots[score][models, j], pivots["ft_acc"][models, j]) for j in range(pivots[score].shape[1])]
        return float(np.nanmean(parts))

    count = len(pivots["ft_acc"])
    print("| score | pairwise accuracy | 95 % over models |\n|---|---|---|")
    for score in sorted(scores, key=lambda s: -accuracy(s, np.arange(count))):
        draws = [accuracy(score, rng.integers(0, count, count)) for _ in range(500)]
        low, high = np.nanpercentile(draws, [2.5, 97.5])
        print(f"| {score} | {accuracy(score, np.arange(count)):.3f} | {low:.3f} to {high:.3f} |")
    renamed = {s: f"score_{s.replace('-', '_').lower()}" for s in scores}
    long = table.rename(columns={"Dataset": "task", "Model": "checkpoint", "ft_acc": "outcome", **renamed})
    learnt = evaluate(long, methods=("ltc", "logistic", "best-single"), splits=20)["mean"]
    print("\nModels held out (60 % of the models train, pairs among the others are judged, 20 splits):\n")
    print("| method | pairwise accuracy | 95 % |\n|---|---|---|")
    for method, figures in learnt.items():
        interval = figures.get("ci95") or [float("nan")] * 2
        print(f"| {method} | {figures['accuracy']:.3f} | {interval[0]:.3f} to {interval[1]:.3f} |")


def scaling(path: Path) -> None:
    """Pearson correlation with the final loss of what is predicted from at most a share of the data."""
    import numpy as np
    import pandas as pd

    from features.datalaw import accept_then_stop, fit

    table = pd.read_csv(path)
    sizes = np.array(sorted(int(c.removeprefix("loss_ft_")) for c in table.columns if c.startswith("loss_ft_")))
    full = int(sizes.max())
    tasks = sorted(table["task"].unique())
    print("Pearson correlation (in %) with the loss on all data; " + ", ".join(tasks) + "\n")
    print("| share of the data | accept-then-stop | data law | largest loss measured |\n|---|---|---|---|")
    for part in (8, 16, 32, 64, 128, 256, 512):
        used = sizes[sizes <= full / part]
        cells: list[list[str]] = [[], [], []]
        for task in tasks:
            rows = table[table["task"] == task]
            losses, final = rows[[f"loss_ft_{n}" for n in used]].to_numpy(), rows["outcome_final_loss"].to_numpy()
            ats = [accept_then_stop(used, of, full) for of in losses]
            law = [float(fit(used, of).predict(full)) for of in losses] if len(used) >= 4 else None
            for cell, said in zip(cells, (ats, law, losses[:, -1]), strict=True):
                cell.append("-" if said is None else f"{100 * np.corrcoef(said, final)[0, 1]:.1f}")
        print(f"| 1/{part} | " + " | ".join(" / ".join(cell) for cell in cells) + " |")
    zero = [table[table["task"] == t] for t in tasks]
    print(
        "\nZero-shot loss: "
        + " / ".join(f"{100 * np.corrcoef(r['loss_zero_shot'], r['outcome_final_loss'])[0, 1]:.1f}" for r in zero)
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    beside = commands.add_parser("compare", help="beside transformer-ranker")
    beside.add_argument("--peer-python", required=True, help="interpreter of an environment with transformer-ranker")
    beside.add_argument("--texts", type=int, default=200)
    beside.add_argument("--json", type=Path, help="also write the figures here")
    for name in ("vision", "scaling"):
        commands.add_parser(name).add_argument("--table", type=Path, required=True)
    one = commands.add_parser("side", help="used by compare")
    one.add_argument("who", choices=("ours", "peer"))
    one.add_argument("spec")
    asked = parser.parse_args()
    if asked.command == "side":
        side(asked.who, asked.spec)
    elif asked.command == "compare":
        found = compare(asked.peer_python, asked.texts)
        if asked.json:
            asked.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
        print_comparison(found)
    else:
        {"vision": vision, "scaling": scaling}[asked.command](asked.table)


if __name__ == "__main__":
    main()
