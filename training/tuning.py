"""One fine-tuning: a loaded checkpoint, a task's training examples, a recipe and a seed in; a fine-tuned module out.

The work is done by transformers' Trainer (AdamW, warm-up, linear decay, gradient clipping at 1) and by peft for LoRA. Nothing is
reported anywhere and nothing is written outside a temporary folder.
"""

from __future__ import annotations

import copy
import logging
import math
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from features.errors import CheckpointError
from training.supervision import Row, collator
from training.trainable import Recipe, finished, prepare

if TYPE_CHECKING:
    from features.model import Model

HELD_OUT = 0.1  # share of the training examples that early stopping looks at
PATIENCE = 2  # epochs without a lower loss before it stops


def tune(
    model: Model,
    rows: Sequence[Row],
    recipe: Recipe,
    seed: int,
    *,
    labels: int | None = None,
    device: str = "auto",
    on_step: Callable[[], None] = lambda: None,
) -> Any:
    """A fine-tuned copy of `model.module`, in eval mode; `model` itself is left as it was.

    The seed decides the order of the examples, dropout, the initial values of a new head and of adapters. On the CPU the same
    seed gives the same weights; on CUDA training runs in bfloat16 autocast over float32 weights.

    Parameters
    ----------
    rows : training examples, see `training.supervision`; early stopping needs two
    labels : number of labels of a new classification head; None trains the language-model head
    device : auto (CUDA where there is one), cpu or cuda
    on_step : called after each optimiser step

    Raises
    ------
    CheckpointError : the loss or the weights are no longer finite, or the recipe does not fit the architecture
    """
    import torch
    from transformers import set_seed

    cuda = device != "cpu" and torch.cuda.is_available()
    set_seed(seed)
    module = copy.deepcopy(model.module) if labels is None else with_classifier(model, labels)
    module = prepare(module, recipe.name, kind=model.kind, name=model.name, classifier=labels is not None)
    _train(module, model, list(rows), recipe, seed, labels is not None, cuda, on_step)
    module = finished(module, recipe.name).eval()
    if not all(bool(torch.isfinite(p).all()) for p in module.parameters()):
        raise CheckpointError(
            "fine-tuning diverged: its weights are no longer finite", where=model.name, remedy="lower the learning rate"
        )
    return module.requires_grad_(False)


def with_classifier(model: Model, labels: int) -> Any:
    """The checkpoint's body under a new classification head (`AutoModelForSequenceClassification`), with random initial values.

    Raises
    ------
    CheckpointError : the architecture has no such head
    """
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(model.config)
    config.num_labels = labels
    try:
        module = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise CheckpointError(f"no classification head: {str(error).splitlines()[0][:200]}", where=model.name) from None
    found = module.base_model.load_state_dict(model.module.base_model.state_dict(), strict=False)
    lost = [key for key in found.missing_keys if not key.startswith("pooler")]
    if lost or found.unexpected_keys:
        raise CheckpointError(
            f"its body does not fit under a classification head ({(lost or found.unexpected_keys)[0]})", where=model.name
        )
    return module


def _train(
    module: Any,
    model: Model,
    rows: list[Row],
    recipe: Recipe,
    seed: int,
    classifier: bool,
    cuda: bool,
    on_step: Callable[[], None],
) -> None:
    from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    class Step(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            on_step()

    held: list[Row] | None = None
    if recipe.early_stopping:
        order = random.Random(seed).sample(range(len(rows)), len(rows))
        cut = max(1, round(HELD_OUT * len(rows)))
        held, rows = [rows[i] for i in order[:cut]], [rows[i] for i in order[cut:]]
    tokenizer = model.tokenizer
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0
    if classifier:
        module.config.pad_token_id = pad
    steps = math.ceil(len(rows) / recipe.batch_size) * recipe.epochs
    with tempfile.TemporaryDirectory(prefix="foretune-") as folder, _quiet():
        stopping: dict[str, Any] = {}
        if held:
            stopping = {
                "eval_strategy": "epoch",
                "save_strategy": "epoch",
                "save_total_limit": 1,
                "load_best_model_at_end": True,
                "metric_for_best_model": "eval_loss",
                "per_device_eval_batch_size": recipe.batch_size,
            }
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=recipe.epochs,
            per_device_train_batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            warmup_steps=max(1, round(0.1 * steps)),
            lr_scheduler_type="linear",
            train_sampling_strategy="group_by_length",
            seed=seed,
            data_seed=seed,
            bf16=cuda,
            use_cpu=not cuda,
            dataloader_pin_memory=cuda,
            dataloader_num_workers=0,
            remove_unused_columns=False,
            label_names=["labels"],
            logging_strategy="no",
            logging_nan_inf_filter=False,
            report_to="none",
            disable_tqdm=True,
            **({"save_strategy": "no"} | stopping),
        )
        trainer = Trainer(
            model=module,
            args=arguments,
            train_dataset=rows,
            eval_dataset=held,
            data_collator=collator("classifier" if classifier else model.kind, pad=pad, mask=tokenizer.mask_token_id),
            callbacks=[Step(), *([EarlyStoppingCallback(PATIENCE)] if held else [])],
        )
        trainer.remove_callback(PrinterCallback)
        module.train()
        loss = trainer.train().training_loss
    if not math.isfinite(loss):
        raise CheckpointError("fine-tuning diverged: its loss is not finite", where=model.name, remedy="lower the learning rate")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' and accelerate's advice: what matters of it is raised."""
    from transformers.utils import logging as transformers_logging

    before, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    accelerate = logging.getLogger("accelerate")
    level = accelerate.level
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    accelerate.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(before)
        if bars:
            transformers_logging.enable_progress_bar()
        accelerate.setLevel(level)
