"""Which weights of a checkpoint a recipe trains: all, the last block and the head, or LoRA adapters."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from features.errors import CheckpointError, UserError

RECIPES = ("full", "last-layer", "lora")
# The usual starting points for pre-trained checkpoints of 0.1 to 1 B parameters; tiny ones want more (about 1e-3).
LEARNING_RATES = {"full": 5e-5, "last-layer": 1e-3, "lora": 1e-3}


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint is fine-tuned.

    Attributes
    ----------
    name : full, last-layer or lora: which weights are trained, see `prepare`
    epochs : passes over the training examples
    learning_rate : of AdamW, after a warm-up over the first tenth of the steps, falling linearly to 0
    batch_size : examples a step
    weight_decay : of AdamW
    max_train_examples, max_test_examples : at most so many, drawn once per task and the same for every checkpoint; None: all
    max_length : tokens of prompt and answer, cut from the prompt's beginning; None: what the checkpoint takes
    early_stopping : hold a tenth of the training examples (one at least, of two at least) out, stop after two epochs in a row
        without a lower loss on them, and keep the best epoch's weights. Off by default: it makes outcomes depend on one more
        small sample
    """

    name: str = "full"
    epochs: int = 3
    learning_rate: float = LEARNING_RATES["full"]
    batch_size: int = 16
    weight_decay: float = 0.0
    max_train_examples: int | None = None
    max_test_examples: int | None = None
    max_length: int | None = None
    early_stopping: bool = False

    def __post_init__(self) -> None:
        if self.name not in RECIPES:
            raise UserError(f"no recipe {self.name!r}", where="recipe", remedy=f"use {', '.join(RECIPES)}")
        for field in ("epochs", "batch_size", "max_train_examples", "max_test_examples", "max_length"):
            value = getattr(self, field)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise UserError(f"expected a whole number above 0, found {value!r}", where=field, remedy="correct it")
        if not (isinstance(self.learning_rate, int | float) and 0 < self.learning_rate < 10):
            raise UserError(
                f"expected a number between 0 and 10, found {self.learning_rate!r}", where="learning_rate", remedy="correct it"
            )

    def settings(self) -> dict[str, Any]:
        """All of it as JSON; part of an outcome's key."""
        return asdict(self)


def prepare(module: Any, recipe: str, *, kind: str, name: str, classifier: bool = False) -> Any:
    """`module` with exactly the weights of `recipe` requiring gradients.

    full : every weight
    last-layer : the last transformer block (of the decoder, where there are two stacks), what is computed after it (final norm,
        pooler), and the head. A head that shares its weights with the input embedding gets a copy of its own, so that the
        embedding stays frozen.
    lora : adapters of rank 8 on every linear layer (Hu et al. 2021, arXiv 2106.09685), all else frozen; a new classification head
        is trained whole. The adapters' initial values come from torch's generator.

    Raises
    ------
    CheckpointError : the architecture has no list of blocks, or peft does not know it
    """
    if recipe == "full":
        return module.requires_grad_(True)
    if recipe == "last-layer":
        return _last_layer(module, name)
    return _lora(module, kind, name, classifier)


def finished(module: Any, recipe: str) -> Any:
    """The fine-tuned module as a plain one: LoRA's adapters are merged into the weights."""
    return module.merge_and_unload() if recipe == "lora" else module


def _last_layer(module: Any, name: str) -> Any:
    path = _blocks(module)
    if path is None:
        raise CheckpointError("no list of transformer blocks was found", where=name, remedy="use --recipe full or lora")
    module.requires_grad_(False)
    _untie(module)
    for part in [module.get_submodule(path)[-1], *_computed_after(path, module, name)]:
        part.requires_grad_(True)
    head = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else None
    if head is not None:
        head.requires_grad_(True)
    return module


def _computed_after(path: str, module: Any, name: str) -> list[Any]:
    """The modules that a forward pass comes to after the last of the blocks at `path`, and not before: the order in which a class
    names its parts is not that in which it uses them (OPT's final norm is named before its blocks, BART's first norm after them).
    """
    import torch

    called: list[Any] = []

    def note(part: Any, *_: Any) -> None:
        if part not in seen:
            seen.add(part)
            called.append(part)

    seen: set[Any] = set()
    hooks = [part.register_forward_hook(note) for part in module.modules()]
    before = module.training
    inputs = {"input_ids": torch.zeros((1, 2), dtype=torch.long, device=next(module.parameters()).device)}
    if module.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"]
    try:
        with torch.no_grad():
            module.eval()(**inputs)
        after = called[called.index(module.get_submodule(path)[-1]) + 1 :]
    except Exception as error:
        line = (str(error).splitlines() or [""])[0][:200]
        raise CheckpointError(
            f"its order of computation cannot be seen ({type(error).__name__}: {line})",
            where=name,
            remedy="use --recipe full or lora",
        ) from error
    finally:
        module.train(before)
        for hook in hooks:
            hook.remove()
    steps = path.split(".")
    around = [module.get_submodule(".".join(steps[:n])) for n in range(len(steps))]  # what the blocks are part of ends after them
    return [part for part in after if all(part is not outer for outer in around)]


def _blocks(module: Any) -> str | None:
    """Dotted path of the list of transformer blocks: the longest list of modules of one class; the last one where several are as
    long.
    """
    from torch.nn import ModuleList

    lists = [
        (name, len(child))
        for name, child in module.named_modules()
        if isinstance(child, ModuleList)
        and len(child)
        and len({type(block) for block in child}) == 1
        and _outermost(module, name)
    ]
    if not lists:
        return None
    decoder = [entry for entry in lists if "decoder" in entry[0].split(".")]
    candidates = decoder or lists
    longest = max(length for _, length in candidates)
    return [name for name, length in candidates if length == longest][-1]


def _outermost(module: Any, name: str) -> bool:
    """No list of modules stands above it: a list of experts inside a block is not a list of blocks."""
    from torch.nn import ModuleList

    parts = name.split(".")
    return not any(isinstance(module.get_submodule(".".join(parts[:n])), ModuleList) for n in range(1, len(parts)))


def _untie(module: Any) -> None:
    from torch.nn import Parameter

    head: Any = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else None
    embedding: Any = module.get_input_embeddings()
    if head is not None and head.weight is embedding.weight:
        # The configuration keeps saying that they are tied: some architectures scale what they give such a head.
        head.weight = Parameter(embedding.weight.detach().clone())


def _lora(module: Any, kind: str, name: str, classifier: bool) -> Any:
    import warnings

    from peft import LoraConfig, TaskType, get_peft_model

    task = TaskType.SEQ_CLS if classifier else {"causal": TaskType.CAUSAL_LM, "seq2seq": TaskType.SEQ_2_SEQ_LM}.get(kind)
    settings = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type=task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # e.g. that a Conv1D's weight is transposed, which peft then takes care of
        try:
            return get_peft_model(module, settings)
        except (ValueError, KeyError) as error:
            raise CheckpointError(
                f"peft cannot adapt it: {error}", where=name, remedy="use --recipe full or last-layer"
            ) from None
