"""Tables that ship as data, and the ranker fitted on them that answers in a new installation.

``zeng2025``: Zeng et al. 2025, "Can pre-training indicators reliably predict fine-tuning outcomes of LLMs?" (arXiv 2504.12491,
Tables 4 and 6): 50 language models of 1B parameters, continually pre-trained on 100B tokens with seven objectives, five learning
rates, six data mixes; five proxies before, three outcomes after supervised fine-tuning. Its known defects (two pairs of twins,
one failed run) are kept as published: `ranker.pairs.twins` and `ranker.pairs.far_out` find them, and fitting handles them.

``foretune2026``: our own zoo of small variants, every feature that we measure, three seeds of every outcome. Its data card is
``foretune2026.md`` beside this file.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from features.errors import UnknownNameError
from features.registry import by_default
from ranker.table import check, proxies_of

if TYPE_CHECKING:
    from ranker.compare import LearningToCompare

TABLES = ("zeng2025", "foretune2026")
PROXIES = ("inv_ppl_clm", "inv_ppl_sc", "kshot_cms", "kshot_rag", "kshot_cbqa")
CONFIGURATION = ("objective", "data_mix", "learning_rate", "domain_tag", "length_filter")
OUTCOMES = ("sft_cms", "sft_rag", "sft_cbqa")
DEFAULT = "+".join(TABLES)  # the version of the ranker that ships
SHARED = ("ppl_clm", "ppl_sc", "kshot_acc")  # what the published table measured as our extractors do


def load(name: str) -> pd.DataFrame:
    """A reference table as a checked comparison table, as it was published.

    ``zeng2025`` has 150 rows (50 checkpoints x tasks sft_cms, sft_rag, sft_cbqa), the five proxies as published (higher is
    better: perplexities inverted, accuracies in percent) and the five configuration columns.

    Raises
    ------
    UnknownNameError : no such table
    """
    table = pd.read_csv(_file(name))
    if name == "zeng2025":
        rows = [
            table[list(CONFIGURATION + PROXIES)].assign(
                task=task, checkpoint=[f"model-{m:02d}" for m in table["model"]], outcome=table[task]
            )
            for task in OUTCOMES
        ]
        table = pd.concat(rows, ignore_index=True)[["task", "checkpoint", "outcome", *CONFIGURATION, *PROXIES]]
    return check(table, where=f"reference table {name}")


def costs(name: str) -> pd.DataFrame:
    """What our own tables cost to measure: `task` ("" for a checkpoint's own features), `name` of a feature or "finetune",
    `seconds` (mean over variants, one thread).

    Raises
    ------
    UnknownNameError : no such table, or one whose costs were not published
    """
    return pd.read_csv(_file(name, "costs"), keep_default_na=False)


def _file(name: str, kind: str = "") -> Path:
    file = Path(__file__).parent / f"{name}{f'.{kind}' if kind else ''}.csv"
    if name not in TABLES or not file.is_file():
        raise UnknownNameError(
            f"no reference table {name!r}{f' with {kind}' if kind else ''}",
            remedy=f"give the path of a table, or one of: {', '.join(TABLES)}",
        )
    return file


def vocabulary(name: str) -> pd.DataFrame:
    """A reference table in the vocabulary of our own extractors, proxies alone: what rankers for other zoos are fitted on.

    ``ppl_clm`` and ``ppl_sc`` are perplexities; ``kshot_acc`` is the k-shot accuracy of the task's own kind, as a share. Sizes
    and recipes are left out: within one of these zoos they are all the same, or mean nothing in another.
    """
    table = load(name)
    if name != "zeng2025":
        table = table.rename(columns={c: "ppl_sc" for c in table if c.startswith("ppl_sc_")})
        keys = [c for c in ("task", "checkpoint", "outcome", "outcome_sd") if c in table]
        return check(table[[*keys, *proxies_of(table)]], where=f"reference table {name}")
    own = {"sft_cms": "kshot_cms", "sft_rag": "kshot_rag", "sft_cbqa": "kshot_cbqa"}
    out = table[["task", "checkpoint", "outcome"]].copy()
    out["ppl_clm"] = 1 / table["inv_ppl_clm"]
    out["ppl_sc"] = 1 / table["inv_ppl_sc"]
    out["kshot_acc"] = [row[own[str(row["task"])]] / 100 for _, row in table.iterrows()]
    return check(out, where="reference table zeng2025")


def default_table() -> pd.DataFrame:
    """What the default ranker is fitted on: the reference tables, each a zoo, with the features whose direction is known, and
    again as `lean` leaves them: a newcomer's question has what `foretune extract` measures when nothing is named.
    """
    from ranker.vocabulary import meaning

    zoos = [zoo for name in TABLES for zoo in lean(vocabulary(name).assign(zoo=name))]
    keys = ["zoo", "task", "checkpoint", "outcome", "outcome_sd"]
    columns = [c for c in dict.fromkeys(c for zoo in zoos for c in proxies_of(zoo)) if meaning(c).direction]
    return check(pd.concat(zoos, ignore_index=True)[[*keys, *columns]], where="the default ranker's table")


def lean(table: pd.DataFrame) -> list[pd.DataFrame]:
    """A table with a column `zoo`, and, as another zoo, what is left of it without features that are measured by name only. Where
    there are none, the table alone. Checkpoints keep their names, and must not stand on two sides of a split.
    """
    dear = [c for c in proxies_of(table) if not by_default(c)]
    if not dear:
        return [table]
    return [table, table.drop(columns=dear).assign(zoo=table["zoo"] + ", measured by default")]


@lru_cache(maxsize=1)
def default_ranker() -> LearningToCompare:
    """The ranker of a new installation, fitted on `default_table` (a few seconds; `ranker.reference.kept` keeps it on disk).

    It meets zoos that are nothing like these, so a feature may only count in its known direction: among the 50 published models
    a LOWER perplexity goes with a worse outcome, which is true of their learning rates and of nothing else. What the choice rests
    on is in docs/studies/variants.md.
    """
    from ranker.compare import LearningToCompare
    from ranker.pairs import codes

    table = default_table()
    ranker = LearningToCompare(signs="strict")
    ranker.fit(
        table[proxies_of(table)],
        table["outcome"],
        task=table["task"],
        group=codes(table["checkpoint"]),
        zoo=table["zoo"],
        outcome_sd=table["outcome_sd"],
    )
    ranker.card_["table"] = DEFAULT
    return ranker
