"""Published tables that ship as data, and the ranker fitted on one of them that answers in a new installation.

``zeng2025``: Zeng et al. 2025, "Can pre-training indicators reliably predict fine-tuning outcomes of LLMs?" (arXiv 2504.12491,
Tables 4 and 6): 50 language models of 1B parameters, continually pre-trained on 100B tokens with seven objectives, five learning
rates, six data mixes; five proxies before, three outcomes after supervised fine-tuning. Its known defects (two pairs of twins,
one failed run) are kept as published: `ranker.pairs.twins` and `ranker.pairs.far_out` find them, and fitting handles them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from features.errors import UnknownNameError
from ranker.table import check

if TYPE_CHECKING:
    from ranker.compare import LearningToCompare

TABLES = ("zeng2025",)
PROXIES = ("inv_ppl_clm", "inv_ppl_sc", "kshot_cms", "kshot_rag", "kshot_cbqa")
CONFIGURATION = ("objective", "data_mix", "learning_rate", "domain_tag", "length_filter")
OUTCOMES = ("sft_cms", "sft_rag", "sft_cbqa")


def load(name: str) -> pd.DataFrame:
    """A reference table as a checked comparison table.

    ``zeng2025`` has 150 rows (50 checkpoints x tasks sft_cms, sft_rag, sft_cbqa), the five proxies as published (higher is
    better: perplexities inverted, accuracies in percent) and the five configuration columns.

    Raises
    ------
    UnknownNameError : no such table
    """
    if name not in TABLES:
        raise UnknownNameError(f"no reference table {name!r}", where="ranker.reference", remedy=f"tables: {', '.join(TABLES)}")
    wide = pd.read_csv(Path(__file__).parent / f"{name}.csv")
    rows = [
        wide[list(CONFIGURATION + PROXIES)].assign(
            task=task, checkpoint=[f"model-{m:02d}" for m in wide["model"]], outcome=wide[task]
        )
        for task in OUTCOMES
    ]
    table = pd.concat(rows, ignore_index=True)
    return check(table[["task", "checkpoint", "outcome", *CONFIGURATION, *PROXIES]], where=f"reference table {name}")


def shared_vocabulary() -> pd.DataFrame:
    """``zeng2025`` in the vocabulary of our own extractors: what the default ranker is fitted on.

    ``ppl_clm`` and ``ppl_sc`` are perplexities again; ``kshot_acc`` is the k-shot accuracy of the task's own kind, as a share.
    """
    table = load("zeng2025")
    own = {"sft_cms": "kshot_cms", "sft_rag": "kshot_rag", "sft_cbqa": "kshot_cbqa"}
    out = table[["task", "checkpoint", "outcome"]].copy()
    out["ppl_clm"] = 1 / table["inv_ppl_clm"]
    out["ppl_sc"] = 1 / table["inv_ppl_sc"]
    out["kshot_acc"] = [row[own[str(row["task"])]] / 100 for _, row in table.iterrows()]
    return check(out, where="reference table zeng2025")


@lru_cache(maxsize=1)
def default_ranker() -> LearningToCompare:
    """The ranker of a new installation, fitted on `shared_vocabulary` (about two seconds, once per process).

    It meets zoos that are nothing like its 50 models of one size, so each proxy may only count in its known direction: in that
    table a LOWER perplexity goes with a worse outcome, which is true of its learning rates and of nothing else.
    """
    from ranker.compare import LearningToCompare

    table = shared_vocabulary()
    ranker = LearningToCompare(signs="strict")
    ranker.fit(table[["ppl_clm", "ppl_sc", "kshot_acc"]], table["outcome"], task=table["task"], group=table["checkpoint"])
    ranker.card_["table"] = "zeng2025"
    return ranker
