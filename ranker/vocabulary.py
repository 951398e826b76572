"""What a feature's name says: which quantity it is, in which form, which way it should point, what it costs to measure.

A ranker fitted on one zoo answers for another only where both mean the same by a column. The published table of Zeng et al. has
``inv_ppl_clm`` = 1 / perplexity; our extractors measure ``ppl_clm``: both are read here as the logarithm of the same perplexity.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one column is.

    Attributes
    ----------
    quantity : name shared by all columns that measure the same thing, e.g. ``ppl_sc`` for every span-corruption formulation
    form : "plain" (the number itself), "log" (compare on the log scale) or "inverse" (the column is 1 / quantity; log scale too)
    direction : of the QUANTITY; +1 where more of it should mean a better outcome, -1 less, 0 unknown
    seconds : typical cost of measuring it on one small checkpoint; only the order matters (what to measure next)
    configuration : known from the training recipe or the architecture, without a forward pass
    """

    quantity: str
    form: str = "plain"
    direction: int = 0
    seconds: float = 30.0
    configuration: bool = False

    @property
    def column_direction(self) -> int:
        """Direction of the column as it is written: an inverse points the other way."""
        return -self.direction if self.form == "inverse" else self.direction

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The quantity on its comparing scale; a value that its form cannot take (log of a negative) becomes NaN."""
        if self.form == "plain":
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(values > 0, np.log(np.where(values > 0, values, 1.0)), np.nan)
        return -logs if self.form == "inverse" else logs


# (pattern of the whole name, quantity or None for the name itself, form, direction, seconds, configuration); the first that fits
# wins.
_RULES: tuple[tuple[str, str | None, str, int, float, bool], ...] = (
    (r"inv_ppl_sc(_.*)?", "ppl_sc", "inverse", -1, 40, False),
    (r"inv_ppl_clm(_.*)?", "ppl_clm", "inverse", -1, 20, False),
    (r"inv_(ppl.*|perplexity.*)", None, "inverse", -1, 20, False),
    (r"ppl_sc(_.*)?", "ppl_sc", "log", -1, 40, False),
    (r"ppl_clm(_.*)?", "ppl_clm", "log", -1, 20, False),
    (r"(ppl|perplexity|word_perplexity|byte_perplexity)(_.*)?", None, "log", -1, 20, False),
    (r"(bpb|bits_per_byte)(_.*)?|.*_(bpb|bits_per_byte)", None, "plain", -1, 20, False),
    (r"kshot_(cms|rag|cbqa|acc)(_acc)?(_\d+shot)?", "kshot_acc", "plain", 1, 60, False),
    (r"kshot_(margin|gold|loglik|prob).*|kshot_.*(margin|gold|prob).*", None, "plain", 1, 60, False),
    (r"kshot_.*nll.*", None, "plain", -1, 60, False),
    (r"kshot_acc_norm.*", None, "plain", 1, 60, False),
    (r"prompt_(acc|margin|prob).*|.*prompt.*_acc.*|zero_?shot_acc.*", None, "plain", 1, 30, False),
    (r"linear_probe_.*_(r2|acc)|rankme(_.*)?", None, "plain", 1, 60, False),
    (r"weights_.*", None, "plain", 0, 5, False),
    (r"probe_.*_acc", None, "plain", 1, 120, False),
    (r".*_depth", None, "plain", 0, 50, False),
    (r"(curve|dynamics)_(level|forecast)", None, "plain", -1, 30, False),
    (r"dynamics_confidence", None, "plain", 1, 30, False),
    (r".*nll.*|(.*_)?loss(_.*)?", None, "plain", -1, 30, False),
    (r"(logme|h_?score|reg_h_?score|transrate|parc|leep|nleep|nce|knn|gbc|pactran)(_.*)?|.*_(logme|knn|hscore)", None, "plain",
    1, 50, False), (r"(mnli|probe|linear_probe)(_lp|_acc)?|.*_(lp|probe|probe_acc)", None, "plain", 1, 120, False),
    (r"(n_)?(params|parameters)|num(ber)?_?(of_)?_?parameters|n_params|model_size", "n_parameters", "log", 1, 0.1, True),
    (r"(train(ed|ing)?_)?tokens|n_tokens|tokens_seen", "tokens", "log", 1, 0.1, True),
    (r"lr|learning_rate|peak_lr|max_lr", "learning_rate", "log", 0, 0.1, True),
    (r"step|steps|ckpt_step", "step", "plain", 1, 0.1, True),
    (
        r"(n_)?layers?|n_layer|(hidden_size|width|d_model)|(n_)?heads?.*|vocab(ulary)?(_size)?|vocab_size|n_vocab|max_length|context_length"
        r"|size|ff_.*|n_(sa|lt|dsc)|from_flax|from_tf|classification|domain_tag|weight_decay|batch_size|dropout|seed|epochs?",
        None, "plain", 0, 0.1, True,
    ),
)  # fmt: skip
_COMPILED = tuple((re.compile(rule[0], re.IGNORECASE), rule) for rule in _RULES)


@lru_cache(maxsize=4096)
def meaning(name: str) -> Meaning:
    """What the column `name` is; an unknown name is its own quantity, plain, of unknown direction."""
    key = name.strip().lower().replace(" ", "_")
    for pattern, (_, quantity, form, direction, seconds, configuration) in _COMPILED:
        if pattern.fullmatch(key):
            own = key.removeprefix("inv_") if form == "inverse" else key
            return Meaning(quantity or own, form, direction, seconds, configuration)
    return Meaning(name)


def resolve(known: Iterable[str], offered: Iterable[str]) -> dict[str, str]:
    """For each feature that a ranker knows, the offered column that measures it.

    The same name wins; else the first offered column of the same quantity (``ppl_sc`` is answered by ``ppl_sc_t5``), provided the
    quantity stands for one feature of the ranker only. Features that nothing measures are left out.
    """
    known, offered = list(known), list(offered)
    have = set(offered)
    by_quantity: dict[str, list[str]] = {}
    for column in offered:
        by_quantity.setdefault(meaning(column).quantity, []).append(column)
    count: dict[str, int] = {}
    for name in known:
        count[meaning(name).quantity] = count.get(meaning(name).quantity, 0) + 1
    found: dict[str, str] = {}
    for name in known:
        if name in have:
            found[name] = name
        elif count[meaning(name).quantity] == 1 and (columns := by_quantity.get(meaning(name).quantity)):
            found[name] = columns[0]
    return found
