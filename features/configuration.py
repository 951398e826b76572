"""What a checkpoint says of itself, and what the manifest says of it: sizes as numbers, names as configurations.

These cost nothing and say nothing about quality, yet a ranker must be seen to beat them: the configuration-only baseline is
made of them.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from features.corpora import Corpora
from features.registry import Session
from features.rows import Feature
from features.tasks import Task
from features.zoo import Checkpoint

_FIELDS = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "width": ("hidden_size", "n_embd", "d_model"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
}


class Configuration:
    """`parameters`, `layers`, `width`, `heads`, `vocabulary`, `window` (tokens seen at once) as numbers; `kind` and
    `architecture`
    (transformers' model type) as text.
    """

    name: ClassVar[str] = "configuration"
    version: ClassVar[int] = 1
    scope: ClassVar[Literal["checkpoint", "task"]] = "checkpoint"
    produces: ClassVar[tuple[str, ...]] = ("parameters", *_FIELDS, "vocabulary", "window", "kind", "architecture")

    def settings(self) -> dict[str, Any]:
        return {}

    def data_digest(self, task: Task | None, corpora: Corpora) -> str:
        return ""

    def applies(self, kind: str, task: Task | None) -> bool:
        return True

    def measure(self, session: Session) -> list[Feature]:
        from features.model import n_parameters

        model = session.model
        config = model.config.get_text_config()
        rows = [Feature("parameters", float(n_parameters(model)), count=1)]
        for name, keys in _FIELDS.items():
            value = next((v for key in keys if isinstance(v := getattr(config, key, None), int)), None)
            if value is not None:
                rows.append(Feature(name, float(value), count=1))
        vocabulary = getattr(config, "vocab_size", None) or len(model.tokenizer)
        rows.append(Feature("vocabulary", float(vocabulary), count=1))
        rows.append(Feature("window", float(model.max_length), count=1))
        rows.append(Feature("kind", text=model.kind, count=1))
        rows.append(Feature("architecture", text=str(getattr(config, "model_type", "") or "unknown"), count=1))
        return rows


def metadata(checkpoint: Checkpoint) -> list[Feature]:
    """The manifest's `family`, `step` and `meta` as rows. They are not of the weights, so they are never kept in the store."""
    named: dict[str, Any] = {"family": checkpoint.family, "step": checkpoint.step, **checkpoint.meta}
    rows = []
    for name, value in named.items():
        if isinstance(value, bool | int | float):
            rows.append(Feature(name, float(value), count=1))
        elif value is not None:
            rows.append(Feature(name, text=str(value), count=1))
    return rows
