"""One short fine-tuning: a copy of the checkpoint, a few hundred examples once, measured at growing subsets."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from features.errors import CheckpointError
from features.model import Model, n_parameters
from features.probe.budget import Budget
from features.probe.loss import losses_of, measured, parts_of, rows_of

if TYPE_CHECKING:
    from features.tasks import Example, Task

RECIPES = ("full", "last-layer", "lora")


@dataclass(frozen=True)
class Curve:
    """A probe's run.

    Attributes
    ----------
    examples : training examples seen at each measurement, shape (M,), beginning with 0
    losses : mean NLL per token of the gold continuation (nats) of each measured example, shape (M, n)
    gradients : L2 norm of the gradient of the mean loss at each step, before clipping, shape (steps,)
    right : whether each of the examples that were scored at the end was answered right
    """

    examples: NDArray[np.int64]
    losses: NDArray[np.float64]
    gradients: NDArray[np.float64]
    right: NDArray[np.bool_]


def short_run(
    model: Model,
    task: Task,
    train: Sequence[Example],
    held_out: Sequence[Example],
    budget: Budget,
    *,
    recipe: str = "full",
    learning_rate: float | None = None,
    seed: int = 0,
) -> Curve:
    """Fine-tune a copy of the checkpoint on `train` in their order, one pass, and measure on `held_out`.

    Parameters
    ----------
    recipe : full (all weights), last-layer (the output layer; a tied one gets weights of its own), or lora (rank 8 on all
    linear layers)
    learning_rate : of AdamW, reached after a tenth of the steps; None is 5e-5 at 100 M parameters, more for smaller
    checkpoints by the square
        root, at most 1e-3; ten times that for last-layer and lora

    Raises
    ------
    CheckpointError : no output layer, a loss that is not finite, or an architecture that peft does not know
    """
    import torch

    if model.headless:
        raise CheckpointError("has no output layer to fine-tune", where=model.name, remedy="use features of its representations")
    rate = default_rate(model, recipe) if learning_rate is None else learning_rate
    torch.manual_seed(seed)
    module = _trainable(copy.deepcopy(model.module).float(), model, recipe)
    device = model.device
    rows = rows_of(model, [gold(task, example) for example in train])
    watched = rows_of(model, [gold(task, example) for example in held_out[: budget.measured]])
    weights = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
    last, warm = budget.steps[-1], max(1, round(0.1 * budget.steps[-1]))
    generator = torch.Generator().manual_seed(seed)
    losses, gradients = [measured(module, model, watched)], []
    for step in range(1, last + 1):
        batch = rows[(step - 1) * budget.batch : step * budget.batch]
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, step / warm)
        optimiser.zero_grad(set_to_none=True)
        for part in parts_of(batch, module):
            (losses_of(module, model, part, device, generator).sum() / len(batch)).backward()
        norm = float(torch.nn.utils.clip_grad_norm_(weights, 1.0))
        if not np.isfinite(norm):
            raise CheckpointError(f"its gradient is not finite at step {step} of the probe", where=model.name)
        gradients.append(norm)
        optimiser.step()
        if step in budget.steps:
            losses.append(measured(module, model, watched))
    tuned = replace(model, module=module.merge_and_unload() if recipe == "lora" else module, dtype=torch.float32)
    right = _answered(tuned, task, held_out[: budget.chosen])
    seen = np.array(budget.steps) * budget.batch
    return Curve(seen, np.stack(losses), np.array(gradients), right)


def default_rate(model: Model, recipe: str) -> float:
    """5e-5 x sqrt(1e8 / parameters), between 2e-5 and 1e-3; ten times that where few weights are trained, at most 1e-2."""
    rate = float(np.clip(5e-5 * np.sqrt(1e8 / n_parameters(model)), 2e-5, 1e-3))
    return rate if recipe == "full" else min(10 * rate, 1e-2)


def gold(task: Task, example: Example) -> tuple[str, str]:
    """(context, gold continuation) of an example, without shots."""
    pairs = task.prompt(example)
    return pairs[example.gold or 0] if task.kind == "multiple_choice" else pairs[0]


def _trainable(module: Any, model: Model, recipe: str) -> Any:
    """The module in eval mode (no dropout: a probe is to be repeatable) with the recipe's weights asking for gradients."""
    import warnings

    import torch

    module.eval()
    if recipe == "full":
        return module.requires_grad_(True)
    if recipe == "last-layer":
        module.requires_grad_(False)
        head = module.get_output_embeddings()
        if head.weight is module.get_input_embeddings().weight:
            head.weight = torch.nn.Parameter(head.weight.detach().clone())
        head.requires_grad_(True)
        return module
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a Conv1D's weight is transposed, which peft takes care of
        try:
            return get_peft_model(module, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear")).eval()
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"peft cannot adapt it: {error}", where=model.name) from None


def _answered(model: Model, task: Task, examples: Sequence[Example]) -> NDArray[np.bool_]:
    """Whether each example's gold choice is the likeliest, or, in generation, greedy decoding writes an answer."""
    from features.scoring import Scorer

    if not examples:
        return np.zeros(0, dtype=bool)
    requests = task.requests(examples)
    scores = requests.grouped(Scorer(model).loglikelihood(requests))
    if task.kind == "generate":
        return np.array([any(greedy for _, greedy in of) for of in scores])
    return np.array([int(np.argmax([value for value, _ in of])) == e.gold for of, e in zip(scores, examples, strict=True)])
