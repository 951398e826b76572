"""How far anyone could get: what the outcomes' own scatter, and so few checkpoints, leave to be known."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np

from ranker import reference
from ranker.evaluate import grouping, splits_of
from ranker.pairs import Floats
from ranker.studies import bounds, ibm, sources
from ranker.studies.page import Page, cell
from ranker.table import proxies_of


def study(table: str | Path | None = None, *, splits: int = 0, seed: int = 0, command: str = "", quick: bool = False) -> Page:
    """NAS-Bench-BERT, IBM model recycling and our zoo; Zeng et al. have theirs on their own page."""
    page = Page("Ceilings: what the outcomes' own scatter leaves to be known", command)
    page.text(
        "A method can be judged by how far it is from 1, or from what could be reached at all. Zeng et al.: see "
        "[zeng.md](zeng.md), two tables at its end."
    )
    rows = []
    for label, tasks in (("mean GLUE", _GLUE), ("mean GLUE without RTE", tuple(t for t in _GLUE if t != "rte"))):
        for kind in ("points", "standardised"):
            reliability, agree, perfect = halves(_outcomes(table, tasks), standard=kind == "standardised")
            page.figures[f"nas/{label}/{kind}"] = {"reliability": reliability, "halves agree": agree, "perfect": perfect}
            rows.append([label, kind, reliability, agree, perfect])
    page.table(
        "NAS-Bench-BERT: halves of the tasks",
        ["outcome", "tasks averaged in", "reliability", "halves agree on pairs", "a perfect ranker"],
        rows,
        "One fine-tuning per architecture and task, one failed run left out. The tasks are halved in every way; from the "
        "correlation of the halves follows the reliability of the whole mean (Spearman and Brown 1910), and from it what a "
        "ranker would reach that knew all that the tasks share, by the normal's arcsine law. What one task alone asks for counts "
        "as noise here, so that a ranker may pass it a little. The published mean is of points, in which CoLA (deviation 13.8) "
        "and STS-B (9.1) outweigh the rest (2 to 4).",
    )
    _nas(page, table, seed)
    df = sources.ibm(table)
    others, (copies, base, ratio, perfect) = ibm.from_other_outcomes(df), ibm.copies(df)
    page.figures["ibm"] = {"other outcomes": others, "copies": copies, "noise share": ratio, "perfect": perfect}
    page.table(
        "IBM model recycling, per task within a base",
        ["who knows", "accuracy"],
        [
            ["the outcomes on the 35 other tasks (ridge, uploaders held out)", others],
            [f"the truth ({copies} copies of {base} scatter with {cell(ratio)} of the deviation of all)", perfect],
        ],
        "Seeing how a checkpoint came out on every other task, after fine-tuning it there, tells more of it than anything known "
        "before. The copies have the probe of their base to the last digit; their deviation over that of all checkpoints of the "
        "base is the median over tasks, and the truth's accuracy follows from it were both normal.",
    )
    _our_zoo(page, seed)
    return page


def _nas(page: Page, table: str | Path | None, seed: int) -> None:
    """What 60 % of the architectures can teach of mean GLUE, were the world as the Gaussian process has it."""
    df = sources.nas(table)
    columns = [c for c in df.columns if c not in ("task", "checkpoint", "outcome")]
    held = list(splits_of(df, grouping(df, None), None, splits=10, train_share=0.6, seed=seed))
    page.figures["nas/learnable"] = found = bounds.learnable(df, columns, held, seed)
    page.table(
        "NAS-Bench-BERT: what 60 % of the architectures can teach",
        ["truth known", "learnt"],
        [[found["truth"], found["learnt"]]],
        "Mean GLUE in points, in 30 worlds drawn from the Gaussian process fitted on all architectures, as below. A method that "
        "passes these has found what the process takes for noise.",
    )


def _our_zoo(page: Page, seed: int) -> None:
    """What so many variants can teach, were the world as the Gaussian process has it."""
    own = reference.load("foretune2026")
    columns, groups, variants = proxies_of(own), grouping(own, None), own["checkpoint"].nunique()
    rows = []
    for share, splits in ((0.6, 10), (0.9, 40)):
        held = list(splits_of(own, groups, None, splits=splits, train_share=share, seed=seed))
        found = bounds.learnable(own, columns, held, seed)
        learnt_from = round(share * variants)
        page.figures[f"foretune2026/{learnt_from}"] = found
        rows.append([learnt_from, *(found[k] for k in ("truth", "learnt", "truth, equal", "learnt, equal"))])
    page.table(
        "The reference zoo: what so many variants can teach",
        [
            "variants to learn from",
            "truth known",
            "learnt",
            "truth known, equal learning rate",
            "learnt, equal learning rate",
        ],
        rows,
        "30 worlds drawn from the Gaussian process fitted on all variants and proxies; its noise is what these do not tell, of "
        "which the seeds' is the smaller part. `learnt` is the best that can be done from that many variants by one who knows "
        "the process's numbers; a method beats it only where the truth is simpler than the process holds likely. What ours "
        "reaches is in [variants.md](variants.md).",
    )


_GLUE = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst", "sts")


def _outcomes(table: str | Path | None, tasks: tuple[str, ...]) -> Floats:
    df = sources.nas(table, tasks=tasks)
    wide = df.pivot(index="checkpoint", columns="task", values="outcome")
    return wide[(wide > 0).all(axis=1)].to_numpy(float)


def halves(Y: Floats, *, standard: bool) -> tuple[float, float, float]:
    """Of (n, k) outcomes: reliability of their mean, how often halves of the tasks agree on a pair, what a perfect ranker of the
    shared part would reach."""
    X = (Y - Y.mean(0)) / Y.std(0) if standard else Y
    k = X.shape[1]
    i, j = np.triu_indices(len(X), 1)
    correlations, agreed = [], []
    for some in combinations(range(k), k // 2):
        if 2 * len(some) == k and 0 not in some:
            continue  # its other half is listed
        u, v = X[:, list(some)].mean(1), np.delete(X, some, axis=1).mean(1)
        correlations.append(float(np.corrcoef(u, v)[0, 1]))
        agreed.append(float((np.sign(u[i] - u[j]) == np.sign(v[i] - v[j])).mean()))
    r = float(np.mean(correlations))
    reliability = 2 * r / (1 + r)
    return reliability, float(np.mean(agreed)), 0.5 + float(np.arcsin(np.sqrt(max(0.0, reliability)))) / np.pi
