"""The reference zoo: our own table of variants, put through the questions of Zeng et al. 2025 and those its referees asked.

What each proxy orders, and what learning to compare adds to it; what of that survives at equal learning rate; which factor of
the recipe each proxy detects; what features cost beside fine-tuning; whether a ranker fitted on one zoo answers for another, and
which ranker should therefore install with the product.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.errors import DataError
from ranker import metrics, reference
from ranker.evaluate import evaluate, grouping, splits_of
from ranker.studies import factors, methods
from ranker.studies.default import candidates, new_tasks
from ranker.studies.holdout import Figures, run
from ranker.studies.page import Page, cell, difference, signed, with_interval
from ranker.studies.pictures import bars, cost_against_accuracy, grid, growing
from ranker.studies.zeng import EQUAL, judge
from ranker.table import proxies_of

TABLE = "foretune2026"
SHARES = (0.25, 0.4, 0.6, 0.8, 0.9)
METHODS = ("ltc", "logistic", "best-single", "single:ppl_clm")


def study(table: str | Path | None = None, *, splits: int = 20, seed: int = 0, command: str = "", quick: bool = False) -> Page:
    """The whole page; `table`: another zoo's comparison table in place of the shipped one; `quick`: less of it.

    Raises
    ------
    DataError : the table lacks `ppl_clm` or is no comparison table
    """
    from ranker import plots
    from ranker.table import read

    df = reference.load(TABLE) if table is None else read(table)
    if "ppl_clm" not in df:
        raise DataError("no column 'ppl_clm'", where=str(table), remedy="measure the zoo with the extractor ppl_clm")
    page = Page("The reference zoo: variants of one small model, measured and fine-tuned by us", command)
    proxies = proxies_of(df)
    variants = df["checkpoint"].nunique()
    page.text(
        f"{variants} variants, {df['task'].nunique()} tasks, {len(proxies)} proxies. {splits} splits of the variants "
        "(60 % train); pairs of two held-out variants. Intervals are bootstraps over variants. How the table came to be: its "
        "data card, `ranker/reference/foretune2026.md`."
    )
    _outcomes(page, df)
    _held_out(page, df, proxies, splits, seed)
    whole = evaluate(df, methods=METHODS, features=proxies, splits=splits, seed=seed)
    if not quick:
        _growing(page, df, proxies, splits, seed)
    _headline(page, whole.get("ceiling", {}))
    page.picture("by_gap", plots.accuracy_by_gap(whole), "accuracy by the size of the outcome gap")
    page.picture("calibration", plots.calibration(whole), "calibration on held-out pairs")
    alone = _singles(page, df, proxies, seed, whole)
    if not quick:
        _factors(page, df, alone)
        _costs(page, table, alone)
        candidates(page, seed)
        new_tasks(page, reference.vocabulary(TABLE), seed)
    return page


def _outcomes(page: Page, df: pd.DataFrame) -> None:
    """Do the variants differ by more than their seeds?"""
    rows = []
    for task, group in df.groupby("task", sort=False):
        between = float(group["outcome"].std(ddof=1))
        seed = float(np.sqrt((group["outcome_sd"] ** 2).mean()))
        page.figures[f"outcomes/{task}"] = {"between": between, "seed": seed, "ratio": between / seed}
        lowest, highest = float(group["outcome"].min()), float(group["outcome"].max())
        rows.append([task, len(group), float(group["outcome"].mean()), lowest, highest, between, seed, between / seed])
    page.table(
        "Do variants differ by more than seeds?",
        ["task", "variants", "mean", "lowest", "highest", "sd between variants", "sd of a mean over seeds", "ratio"],
        rows,
        "Outcomes are means over three seeds. Accuracies, but for openbookqa and nq_oracle: log-likelihood of the right answer "
        "in nats a byte.",
    )


def _held_out(page: Page, df: pd.DataFrame, proxies: list[str], splits: int, seed: int) -> None:
    """Their Table 2 on our zoo: proxies alone, with configurations, and both at equal learning rate."""
    recipe = [c for c in factors.FACTORS if c in df and df[c].nunique() > 1]
    tasks = list(dict.fromkeys(df["task"]))
    rows, order = [], []
    sets = {
        "nothing trained": [c for c in proxies if not c.startswith("probe_")],
        "proxies": proxies,
        "with configurations": [*proxies, *recipe],
    }
    for label, columns in sets.items():
        if label == "nothing trained" and columns == proxies:
            continue
        found = judge(df, _makers(label == "with configurations"), columns, splits=splits, seed=seed)
        for kind, pairs in ((label, "all"), (f"{label}, equal learning rate", EQUAL)):
            for method in dict.fromkeys(m for m, _ in found.judged):
                one = found.of(method, pairs, against="best-single")
                one["error_cut"] = _error_cut(found, method, pairs)
                page.figures[f"{kind}/{method}"] = one
                cut = one["error_cut"]
                rows.append(
                    [
                        kind,
                        method,
                        *(one["tasks"].get(t) for t in tasks),
                        with_interval(one),
                        difference(one),
                        f"{signed(cut['share'])} [{', '.join(signed(v) for v in cut['ci95'])}]",
                        one["ece"],
                        one["ece_task"],
                        one.get("called"),
                        one.get("called_accuracy"),
                    ]
                )
                if pairs == "all":
                    order.append(
                        [label, method, *(one["best_at_tasks"].get(t) for t in tasks), one["top5_recall"], one["kendall_tau"]]
                    )
    page.table(
        "Held-out variants",
        [
            "features",
            "method",
            *tasks,
            "mean [95 %]",
            "less best-single [95 %]",
            "error of perplexity cut by [95 %]",
            "ECE",
            "within a task",
            "called",
            "right",
        ],
        rows,
        "`nothing trained`: proxies without short probes. `best-single`: the proxy that was best on the training side, for each "
        "task. `published`: learning to compare as Zeng et al. describe it. Their headline is that it halves the pairwise error "
        "of perplexity (`single:ppl_clm`): a cut of .5. ECE: calibration error of all pairs together, and the mean of the "
        "tasks' own: too shy on one task and too bold on another cancel in the first.",
    )
    page.table(
        "Where the best true variant stands, of those held out",
        ["features", "method", *tasks, "top-5 recall", "Kendall tau"],
        order,
        "Mean place over splits (1: first), and the share of the true best five among the first five.",
    )


def _growing(page: Page, df: pd.DataFrame, proxies: list[str], splits: int, seed: int) -> None:
    """How many variants it takes: the same question with fewer and with more of them to learn from."""
    makers = {name: maker for name, maker in _makers(False).items() if name in ("single:ppl_clm", "best-single", "ltc")}
    groups, rows, curve = grouping(df, None), [], []
    for share in SHARES:
        more = round(splits * max(1.0, 0.4 / (1 - share)))  # as many pairs are judged where fewer are held out
        parts = splits_of(df, groups, None, splits=more, train_share=share, seed=seed)
        found = run(df, makers, parts, columns=proxies, groups=groups, seed=seed)
        known = round(share * df["checkpoint"].nunique())
        of = {name: found.of(name, against="best-single") for name in makers}
        cut = _error_cut(found, "ltc", "all")
        page.figures[f"growing/{known}"] = {**{name: one["accuracy"] for name, one in of.items()}, "error_cut": cut}
        curve.append({"variants": known, **{name: (one["accuracy"], *one["ci95"]) for name, one in of.items()}})
        rows.append(
            [
                known,
                more,
                of["single:ppl_clm"]["accuracy"],
                of["best-single"]["accuracy"],
                with_interval(of["ltc"]),
                difference(of["ltc"]),
                f"{signed(cut['share'])} [{', '.join(signed(v) for v in cut['ci95'])}]",
                of["ltc"]["ece"],
                of["ltc"]["ece_task"],
            ]
        )
    head = ["variants to learn from", "splits", "perplexity", "best-single", "ltc [95 %]", "less best-single [95 %]"]
    page.table(
        "How many variants it takes",
        [*head, "error of perplexity cut by [95 %]", "ECE", "within a task"],
        rows,
        "All proxies, pairs of two held-out variants. The intervals are those of this set of variants: they do not shrink with "
        "the number of splits.",
    )
    page.picture("growing", growing(curve), "accuracy on held-out variants by how many there are to learn from")


def _headline(page: Page, ceiling: dict[str, float]) -> None:
    """What halving perplexity's error would ask for here, and what the outcomes' own noise leaves to be known."""
    perplexity, ours = (page.figures[f"proxies/{method}"]["accuracy"] for method in ("single:ppl_clm", "ltc"))
    most = float(np.mean(list(ceiling.values()))) if ceiling else 1.0
    page.figures["ceiling"] = ceiling
    reached = "reaches" if 1 - ours <= (1 - perplexity) / 2 else "does not reach"
    page.text(
        f"**The headline.** Perplexity alone is right in {cell(perplexity)} of the pairs here (in the paper, where variants were "
        f"trained on from one good model, in .31 to .37). Halving its error asks for {cell(1 - (1 - perplexity) / 2)}; the noise "
        f"of the outcomes leaves {cell(most)} to a perfect ranker; learning to compare has {cell(ours)} and {reached} it "
        f"with 60 % of the variants to learn from{_with_most(page)}."
    )


def _with_most(page: Page) -> str:
    """What becomes of the headline with the most variants to learn from; nothing where that was not asked."""
    grown = {int(key.split("/")[1]): one for key, one in page.figures.items() if key.startswith("growing/")}
    if not grown:
        return ""
    most = max(grown)
    low, high = grown[most]["error_cut"]["ci95"]
    return f"; with {most} of them the error is cut by {cell(grown[most]['error_cut']['share'])} [{cell(low)}, {cell(high)}]"


def _makers(configurations: bool) -> dict[str, methods.Maker]:
    return {
        "single:ppl_clm": methods.single("ppl_clm"),
        "published": methods.Published,
        **methods.baselines(configurations),
        "ltc": methods.Ours,
    }


def _error_cut(found: Figures, method: str, pairs: str) -> dict[str, Any]:
    """1 - error / error of perplexity alone, with its bootstrap interval; None where perplexity makes no error."""
    base = "single:ppl_clm"
    error, theirs = 1 - found.of(method, pairs)["accuracy"], 1 - found.of(base, pairs)["accuracy"]
    with np.errstate(divide="ignore", invalid="ignore"):
        samples = 1 - (1 - found.samples(method, pairs)) / (1 - found.samples(base, pairs))
    return {"share": 1 - error / theirs if theirs else None, "ci95": metrics.interval(samples[np.isfinite(samples)])}


def _singles(page: Page, df: pd.DataFrame, proxies: list[str], seed: int, whole: dict[str, Any]) -> pd.DataFrame:
    """Their Table 1 on our zoo: each proxy alone, as its name says it should point."""
    found = factors.singles(df, proxies, seed=seed)
    for row in found.to_dict("records"):
        page.figures[f"single/{row['feature']}"] = row
    shown = found.sort_values("accuracy", ascending=False)
    tasks = list(dict.fromkeys(df["task"]))
    page.table(
        "Each proxy alone, all pairs",
        ["proxy", *tasks, "mean", "95 %", "equal learning rate"],
        [
            [r["feature"], *(r[t] for t in tasks), r["accuracy"], f"[{cell(r['low'])}, {cell(r['high'])}]", r["equal"]]
            for r in shown.to_dict("records")
        ],
        "Share of pairs that the proxy orders as its direction in docs/features.md says (where it claims none: up).",
    )
    page.picture(
        "singles", bars(shown.head(25), whole["mean"]["ltc"]["accuracy"]), "the 25 best proxies alone, with 95 % intervals"
    )
    return found


def _factors(page: Page, df: pd.DataFrame, alone: pd.DataFrame) -> None:
    """What of the recipe each proxy detects."""
    strongest = list(alone.sort_values("accuracy", ascending=False)["feature"].head(20))
    chosen = list(dict.fromkeys(["ppl_clm", *[c for c in alone["feature"] if c.startswith("ppl_sc")], *strongest]))
    found = factors.detected(df, chosen)
    names = list(factors.FACTORS)
    page.table(
        "Which factor does each detect?",
        ["what", *names],
        [[r["what"], *(f"{cell(r[n])}{'*' if r[f'{n} p'] < 0.01 else ''}" for n in names)] for r in found],
        "Share of the variance between variants that goes with each factor of the recipe (epsilon squared: chance alone gives "
        "0), mean over tasks; `*`: fewer than 1 in 100 shuffles of the variants gave as much.",
    )
    page.figures["factors"] = found
    page.picture("factors", grid(found, names), "share of variance that goes with each factor")


def _costs(page: Page, table: str | Path | None, alone: pd.DataFrame) -> None:
    """What features cost beside what they predict."""
    if table is not None:
        return
    costs = reference.costs(TABLE)
    per_run = float(costs.loc[costs["name"] == "finetune", "seconds"].mean())
    each = costs[costs["name"] != "finetune"].groupby("name", as_index=False)["seconds"].mean()
    merged = alone.merge(each, left_on="feature", right_on="name")
    total = float(each["seconds"].sum())
    page.figures["cost"] = {"finetune": per_run, "all features": total, "share": total / per_run}
    page.text(
        f"**Cost.** One fine-tuning run takes {cell(per_run)} s on one thread (mean over tasks); all {len(each)} features of a "
        f"checkpoint on a task take {cell(total)} s, {total / per_run:.0%} of one run, or {total / (3 * per_run):.0%} of the "
        "three seeds that an outcome is made of."
    )
    page.picture("cost", cost_against_accuracy(merged, per_run), "pairwise accuracy of each proxy against its cost")
