"""Outcomes: every checkpoint of a zoo really fine-tuned on every task, with several seeds.

A causal or seq2seq checkpoint is trained on the gold continuation given the prompt, through the head that it was pre-trained
with, and is measured through the scoring engine: so every such checkpoint can do every kind of task. A masked checkpoint gets a
new classification head where the task has fixed labels (what one would do with it in practice); on other tasks it learns the
masked tokens of the gold continuation and is measured by its pseudo-likelihood. Features of `test` examples never exist, and no
`test` example is trained on.

Each finished (checkpoint, task, recipe, seed) is on disk before the next begins. Its key is made of the weights' digest, the very
texts that are trained on and measured, the recipe, the seed, the precision and the version of this code; a run that was killed
repeats nothing, and another metric of a finished fine-tuning costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import CheckpointError, ForetuneError, UserError
from features.rows import OUTCOME_COLUMNS
from features.store import default_path
from training.exam import Exam
from training.measurement import by_classifier, by_likelihood
from training.outcomes import OutcomeStore
from training.progress import Bar
from training.supervision import Row, prompts, rows
from training.trainable import LEARNING_RATES, Recipe

if TYPE_CHECKING:
    import pandas as pd

    from features.model import Model
    from features.tasks import Example, Task
    from features.zoo import Checkpoint, Zoo

VERSION = 2  # raised whenever the code would give another outcome


def finetune(
    zoo: Zoo | Path | str,
    tasks: Sequence[Task | Path | str] | None = None,
    recipe: str = "full",
    *,
    seeds: int | Sequence[int] = 3,
    epochs: int = 3,
    learning_rate: float | None = None,
    batch_size: int = 16,
    weight_decay: float = 0.0,
    max_train_examples: int | None = None,
    max_test_examples: int | None = None,
    max_length: int | None = None,
    early_stopping: bool = False,
    metric: str = "auto",
    store: Path | str | None = None,
    device: str = "auto",
    trust_remote_code: Collection[str] = (),
    allow_pickle: Collection[str] = (),
    progress: bool = True,
) -> pd.DataFrame:
    """Fine-tune every checkpoint of `zoo` on every task and measure it on the task's test examples.

    Parameters
    ----------
    zoo : a manifest, or its path
    tasks : tasks, or paths of task files, each with a name of its own; None takes those of the manifest
    recipe : full, last-layer or lora
    seeds : how many (0, 1, ...), or which. A seed decides the order of the examples, dropout and new weights; the examples stay
        the same
    learning_rate : None takes the recipe's usual one (full 5e-5, last-layer and lora 1e-3); see `Recipe` for it and for what
        follows
    metric : auto (accuracy for choices, exact_match for generation) or one of `training.measurement.METRICS`
    store : SQLite file of finished fine-tunings; default `outcomes.db` beside the MLflow store, as the features'
    device : auto (CUDA where there is one), cpu or cuda
    trust_remote_code, allow_pickle : names of the checkpoints that may run code of their own, or that may be unpickled
    progress : a bar with the time left on stderr

    Returns
    -------
    DataFrame : OUTCOME_COLUMNS, one row per (checkpoint, task, seed); a failed one has no outcome and says why in `error`.
        `.attrs["parameters"]` holds the settings, for MLflow

    Raises
    ------
    ManifestError, DataError, UserError : zoo, tasks or settings cannot be used; raised before any work is done
    StoreError : the store cannot be written
    """
    import pandas as pd

    from features.tasks import read_tasks
    from features.zoo import Zoo

    zoo = zoo if isinstance(zoo, Zoo) else Zoo.read(zoo)
    read = read_tasks(zoo.tasks if tasks is None else tasks)
    if not read:
        raise UserError("no task", where=zoo.name, remedy="name one with --task, or list tasks in the manifest")
    chosen = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    if not chosen or min(chosen) < 0 or len(set(chosen)) < len(chosen):
        raise UserError(f"{seeds!r} are no seeds", where="seeds", remedy="give a number above 0, or different seeds")
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"no device {device!r}", where="device", remedy="use auto, cpu or cuda")
    how = Recipe(
        recipe,
        epochs,
        learning_rate if learning_rate is not None else LEARNING_RATES.get(recipe, 1.0),
        batch_size,
        weight_decay,
        max_train_examples,
        max_test_examples,
        max_length,
        early_stopping,
    )
    for named in {*trust_remote_code, *allow_pickle}:
        zoo[named]  # a name that is not in the zoo is a mistake
    exams = [Exam.of(task, how, metric) for task in read]
    kept = OutcomeStore(store if store is not None else default_path().with_name("outcomes.db"))
    with Bar(zoo, exams, how, len(chosen), progress) as bar:
        made = [
            row
            for checkpoint in zoo.checkpoints
            for row in _checkpoint(
                checkpoint,
                zoo.name,
                exams,
                how,
                chosen,
                kept,
                device,
                bar,
                code=checkpoint.name in trust_remote_code,
                pickle=checkpoint.name in allow_pickle,
            )
        ]
    table = pd.DataFrame(made, columns=OUTCOME_COLUMNS)
    table.attrs["parameters"] = {
        "zoo": zoo.name,
        "tasks": [exam.task.name for exam in exams],
        "task_digests": [exam.digest for exam in exams],
        "checkpoints": len(zoo.checkpoints),
        "seeds": chosen,
        **how.settings(),
    }
    return table


def _checkpoint(
    checkpoint: Checkpoint,
    zoo: str,
    exams: Sequence[Exam],
    recipe: Recipe,
    seeds: Sequence[int],
    store: OutcomeStore,
    device: str,
    bar: Bar,
    *,
    code: bool,
    pickle: bool,
) -> list[dict[str, Any]]:
    """The rows of one checkpoint. It is loaded at the first fine-tuning that is not in the store; what fails is a row with an
    error.
    """
    from features.model import load, weights_digest

    found: list[dict[str, Any]] = []
    model: Model | None = None
    digest, broken = "", ""
    told: set[str] = set()
    try:
        digest = weights_digest(checkpoint.location, checkpoint.gguf_file, revision=checkpoint.revision, allow_pickle=pickle)
    except CheckpointError as error:
        broken = str(error)
    for exam in exams:
        for seed in seeds:
            row: dict[str, Any] = {
                "zoo": zoo,
                "checkpoint": checkpoint.name,
                "digest": digest,
                "task": exam.task.name,
                "recipe": recipe.name,
                "seed": seed,
                "metric": exam.metric,
                "outcome": math.nan,
                "count": 0,
                "seconds": 0.0,
                "error": broken,
            }
            key = _key(digest, exam, recipe, seed, device)
            result = None if broken else store.get(key)
            if result is None and not broken:
                bar.says(f"{checkpoint.name} on {exam.task.name}, seed {seed}")
                start = time.perf_counter()
                try:
                    if model is None:
                        model = load(
                            checkpoint.location,
                            revision=checkpoint.revision,
                            gguf_file=checkpoint.gguf_file,
                            device="cpu",
                            dtype="float32",
                            trust_remote_code=code,
                            allow_pickle=pickle,
                            name=checkpoint.name,
                        )
                    figures = _one(model, exam, recipe, seed, device, bar)
                except (KeyboardInterrupt, SystemExit, MemoryError):
                    raise
                except ForetuneError as error:
                    row["error"] = str(error)
                    broken = row["error"] if model is None else ""
                except Exception as error:  # whatever a strange architecture raises is this checkpoint's failure, not the run's
                    line = (str(error).strip().splitlines() or [""])[0][:300]
                    row["error"] = f"{checkpoint.name}: fine-tuning failed ({type(error).__name__}: {line})"
                else:
                    result = {"figures": figures, "count": len(exam.test), "seconds": round(time.perf_counter() - start, 3)}
                    store.put(key, result)
            if result is not None:
                row |= {"outcome": result["figures"][exam.metric], "count": result["count"], "seconds": result["seconds"]}
            elif row["error"] not in told:
                told.add(row["error"])
                bar.write(f"foretune: {row['error']}")
            bar.unit_done()
            found.append(row)
    return found


def _key(digest: str, exam: Exam, recipe: Recipe, seed: int, device: str) -> str:
    content = {
        "version": VERSION,
        "checkpoint": digest,
        "data": exam.digest,
        "recipe": recipe.settings(),
        "seed": seed,
        "precision": "bfloat16" if _cuda(device) else "float32",
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _cuda(device: str) -> bool:
    if device == "cpu":
        return False
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no CUDA device", where="device", remedy="use auto or cpu")
    return bool(torch.cuda.is_available())


def _one(model: Model, exam: Exam, recipe: Recipe, seed: int, device: str, bar: Bar) -> dict[str, float]:
    """Fine-tune once and measure."""
    from features.scoring import encode
    from training.tuning import tune

    most = min(model.max_length, recipe.max_length or model.max_length)
    target = "cuda" if _cuda(device) else "cpu"
    if model.kind == "masked" and exam.classified:
        module = tune(
            model,
            _prompts(model, exam, exam.train, most),
            recipe,
            seed,
            labels=len(exam.task.labels),
            device=device,
            on_step=bar.step,
        )
        sizes = [max(len(text.encode()), 1) for text in exam.test[0].choices]
        return by_classifier(module.to(target), model, _prompts(model, exam, exam.test, most), sizes)
    if model.headless:
        raise CheckpointError(
            "it has no output layer to fine-tune on this task", where=model.name, remedy="leave it out of the zoo"
        )
    fitted = replace(model, max_length=most)
    examples = encode(fitted, [exam.gold(example) for example in exam.train])
    module = tune(model, rows(model.kind, examples, most), recipe, seed, device=device, on_step=bar.step)
    tuned = replace(fitted, module=module.to(target), device=next(module.parameters()).device)
    return by_likelihood(tuned, exam.task, exam.test)


def _prompts(model: Model, exam: Exam, examples: Sequence[Example], most: int) -> list[Row]:
    contexts = [exam.task.prompt(example)[0][0] for example in examples]
    ids = model.tokenizer(contexts, return_attention_mask=False, return_token_type_ids=False, verbose=False)["input_ids"]
    return prompts(ids, [example.gold or 0 for example in examples], most)
