"""Feature rows and outcome rows: the two long tables that the stages hand to each other."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Feature:
    """One number (or one text, for a configuration) known before fine-tuning.

    Attributes
    ----------
    name : e.g. ``ppl_clm``; formulation and normalisation are part of the name
    value : the number; None for a configuration, or where it could not be measured
    text : a configuration's value (objective, family, ...); None for a number
    stderr : standard error of ``value`` over the units that ``count`` counts (documents, examples, folds), same unit as value
    count : how many units were measured
    seconds : wall seconds that it cost; shared passes are divided among the features they served
    direction : +1 where a higher value should mean a better outcome, -1 where lower should, 0 where unknown
    task : the task it was measured on; "" for a feature of the checkpoint alone
    error : why there is no value; "" otherwise
    """

    name: str
    value: float | None = None
    text: str | None = None
    stderr: float | None = None
    count: int = 0
    seconds: float = 0.0
    direction: int = 0
    task: str = ""
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


# Columns of a FEATURES file (CSV or Parquet), in order: a Feature of one checkpoint of one zoo.
FEATURE_COLUMNS = [
    "zoo", "checkpoint", "digest", "task", "name", "value", "text", "stderr", "count", "seconds", "direction", "error"
]  # fmt: skip

# Columns of an OUTCOMES file, in order: one (checkpoint, task, recipe, seed); higher is better.
OUTCOME_COLUMNS = ["zoo", "checkpoint", "digest", "task", "recipe", "seed", "metric", "outcome", "count", "seconds", "error"]
