"""Pre-train one variant, so that a kill at any moment costs at most a few steps and changes no weight.

Everything that a step depends on is either a pure function of the step's number (batch, learning rate) or in the state file
(weights, optimiser, random generator, losses), which is written beside the old one and renamed over it. On a GPU the forward
pass runs in bfloat16; over several GPUs, under `accelerate launch`, each process takes its share of every batch's rows.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from features.errors import CheckpointError
from training.mixture import Loader
from training.objectives import IGNORE, Specials
from training.recipe import Architecture, Schedule

STATE = "state.safetensors"


@dataclass
class Progress:
    """Where a run stands: `step` of `steps` done, each step's loss in nats a label, wall seconds of training so far (all
    sittings).
    """

    step: int
    steps: int
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def finished(self) -> bool:
        return self.step >= self.steps


class Trainee(nn.Module):
    """A model that gives its mean loss over the labelled places; the output layer is computed at those places alone."""

    def __init__(self, model: Any, kind: str, pad: int) -> None:
        super().__init__()
        self.model, self.kind, self.pad = model, kind, pad

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.kind == "seq2seq":
            return self.model(input_ids=inputs, attention_mask=(inputs != self.pad).long(), labels=labels).loss
        if self.kind == "masked":
            hidden = self.model.bert(input_ids=inputs, attention_mask=(inputs != self.pad).long()).last_hidden_state
            chosen = labels != IGNORE
            return nn.functional.cross_entropy(self.model.cls(hidden[chosen]).float(), labels[chosen])
        # Padding stands at the ends of rows, after everything that has a label: causal attention never sees it, so no
        # mask is needed.
        hidden = self.model.model(input_ids=inputs, use_cache=False).last_hidden_state[:, :-1]
        labels = labels[:, 1:]
        chosen = labels != IGNORE
        return nn.functional.cross_entropy(self.model.lm_head(hidden[chosen]).float(), labels[chosen])


def build_model(shape: Architecture, vocabulary: int, specials: Specials, seed: int) -> Any:
    """The untrained model of a recipe; the same seed gives the same weights, whatever the variant."""
    import transformers

    torch.manual_seed(seed)
    ids = {"pad_token_id": specials.pad, "bos_token_id": specials.bos, "eos_token_id": specials.eos}
    if shape.kind == "causal":
        llama = transformers.LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=shape.width,
            intermediate_size=shape.feed_forward,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            max_position_embeddings=2 * shape.context,
            tie_word_embeddings=True,
            attn_implementation="sdpa",
            **ids,
        )
        return transformers.LlamaForCausalLM(llama)
    if shape.kind == "seq2seq":
        t5 = transformers.T5Config(
            vocab_size=vocabulary,
            d_model=shape.width,
            d_kv=shape.width // shape.heads,
            d_ff=shape.feed_forward,
            num_layers=shape.layers,
            num_heads=shape.heads,
            decoder_start_token_id=specials.pad,
            dropout_rate=0.0,
            **ids,
        )
        return transformers.T5ForConditionalGeneration(t5)
    bert = transformers.BertConfig(
        vocab_size=vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=2 * shape.context,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **ids,
    )
    return transformers.BertForMaskedLM(bert)


def learning_rate(step: int, steps: int, peak: float, schedule: Schedule) -> float:
    """The rate of step `step` (from 0): a linear warm-up, then constant, or a cosine down to a tenth of the peak."""
    warmup = schedule.warmup * steps
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if schedule.schedule == "constant":
        return peak
    done = (step - warmup) / max(1.0, steps - warmup)
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def pretrain(
    loader: Loader,
    shape: Architecture,
    schedule: Schedule,
    peak: float,
    folder: Path,
    tokenizer: Any,
    *,
    seed: int = 0,
    keep_at: list[int] | None = None,
    deadline: float | None = None,
    device: str = "auto",
    on_step: Callable[[Progress], None] | None = None,
) -> Progress:
    """Train one variant to the end of `loader`, or to `deadline`; called again, it goes on where it was.

    Parameters
    ----------
    loader : the run's batches
    shape, schedule, peak : the model, how it is trained, the highest learning rate
    folder : gets ``step-NNNNNN/`` for each step of `keep_at`, as `save_pretrained` writes it, and a state file while it is
        unfinished
    tokenizer : the transformers tokenizer to save beside each checkpoint
    keep_at : steps after which a checkpoint is left; default: the last
    deadline : ``time.time()`` after which to save the state and stop
    device : "auto" (CUDA if there is one) or "cpu"
    on_step : called after each step done here

    Raises
    ------
    CheckpointError : the loss is not finite, or the state file is not of this run
    """
    from accelerate import Accelerator

    cuda = device == "auto" and torch.cuda.is_available()
    accelerator = Accelerator(cpu=not cuda, mixed_precision="bf16" if cuda else "no")
    model = build_model(shape, len(tokenizer), loader.specials, seed)
    trainee = Trainee(model, shape.kind, loader.specials.pad)
    decayed = [p for p in trainee.parameters() if p.ndim >= 2]
    plain = [p for p in trainee.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": schedule.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=peak,
        betas=(0.9, 0.95),
        fused=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    trainee, optimizer = accelerator.prepare(trainee, optimizer)
    accelerator.wait_for_everyone()
    progress = _load_state(folder / STATE, accelerator.unwrap_model(trainee), optimizer, loader.steps)
    marks = set(keep_at or [loader.steps])
    mine = slice(accelerator.process_index, None, accelerator.num_processes)
    trainee.train()
    started, before = time.perf_counter(), progress.seconds
    while not progress.finished:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress.step, loader.steps, peak, schedule)
        inputs, labels = (torch.from_numpy(part[mine]).to(accelerator.device) for part in loader.batch(progress.step))
        with accelerator.autocast():
            loss = trainee(inputs, labels)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trainee.parameters(), schedule.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise CheckpointError(
                f"the loss is {value} at step {progress.step}", where=str(folder), remedy="lower this variant's learning rate"
            )
        progress.step += 1
        progress.losses.append(value)
        progress.seconds = before + time.perf_counter() - started
        late = deadline is not None and _agreed(time.time() > deadline, accelerator)
        if accelerator.is_main_process:
            if progress.step in marks:
                save(
                    accelerator.unwrap_model(trainee).model, tokenizer, folder / f"step-{progress.step:06d}", schedule.save_dtype
                )
            if progress.finished or late or progress.step % schedule.state_every == 0:
                _save_state(folder / STATE, accelerator.unwrap_model(trainee), optimizer, progress)
        if on_step:
            on_step(progress)
        if late:
            break
    return progress


def _agreed(late: bool, accelerator: Any) -> bool:
    """The main process's answer, for all: a process that stopped alone would leave the others waiting for its gradients."""
    if accelerator.num_processes == 1:
        return late
    from accelerate.utils import broadcast

    return bool(broadcast(torch.tensor(int(late), device=accelerator.device)).item())


def save(model: Any, tokenizer: Any, folder: Path, dtype: str) -> None:
    """Write a checkpoint in 16 bits, as `save_pretrained` does; the folder appears whole or not at all."""
    import copy
    import shutil

    from transformers.utils import logging

    draft = folder.with_name(folder.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # a bar for each checkpoint would break into the build's own
    copy.deepcopy(model).to(getattr(torch, dtype)).eval().save_pretrained(draft)
    if bars:
        logging.enable_progress_bar()
    tokenizer.save_pretrained(draft)
    shutil.rmtree(folder, ignore_errors=True)  # left by a run that was killed between this checkpoint and its next state
    os.replace(draft, folder)


def _save_state(path: Path, trainee: nn.Module, optimizer: Any, progress: Progress) -> None:
    """Write all that the next step depends on, atomically."""
    tensors = {f"model.{name}": value.detach().cpu().clone() for name, value in trainee.named_parameters()}
    names = {id(p): n for n, p in trainee.named_parameters()}
    for parameter, moments in optimizer.state.items():
        for key, value in moments.items():
            tensors[f"optimizer.{key}.{names[id(parameter)]}"] = torch.as_tensor(value).detach().cpu().clone()
    tensors["rng"] = torch.get_rng_state()
    tensors["losses"] = torch.from_numpy(np.array(progress.losses, dtype=np.float64))
    draft = path.with_suffix(".draft")
    save_file(
        tensors,
        draft,
        metadata={"foretune": json.dumps({"step": progress.step, "steps": progress.steps, "seconds": progress.seconds})},
    )
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(draft, path)


def _load_state(path: Path, trainee: nn.Module, optimizer: Any, steps: int) -> Progress:
    """Restore what `_save_state` wrote; a fresh start where there is no state."""
    if not path.exists():
        return Progress(0, steps)
    try:
        with safe_open(path, "pt") as file, torch.no_grad():
            about = json.loads(file.metadata()["foretune"])
            if about["steps"] != steps:
                raise ValueError(f"it is of a run of {about['steps']} steps, this one has {steps}")
            kept = set(file.keys())
            for name, parameter in trainee.named_parameters():
                parameter.copy_(file.get_tensor(f"model.{name}"))
                for key in ("step", "exp_avg", "exp_avg_sq"):
                    if (entry := f"optimizer.{key}.{name}") in kept:
                        value = file.get_tensor(entry)
                        optimizer.state[parameter][key] = value if key == "step" else value.to(parameter.device)
            torch.set_rng_state(file.get_tensor("rng"))
            return Progress(about["step"], steps, file.get_tensor("losses").tolist(), about["seconds"])
    except Exception as error:
        raise CheckpointError(
            f"the state cannot be read ({error})", where=str(path), remedy="delete this variant's folder to start it afresh"
        ) from error
