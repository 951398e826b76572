"""What was aimed at and what was reached: one page from the figures that the other studies wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from features.errors import DataError
from ranker.studies.page import Page, cell, with_interval
from ranker.studies.zeng import EQUAL, TOLD

# Page, key of its figures and name of what could be known at most.
_PROXIES, _PROXIES_EQUAL = ("zeng", "teachable/five proxies", "learnt"), ("zeng", "teachable/five proxies", "learnt, equal")
_CONFIGURED = ("zeng", "teachable/with configurations", "learnt")
_OTHERS, _ARCHITECTURES = ("ceilings", "ibm", "other outcomes"), ("ceilings", "nas/learnable", "learnt")

# (study, key of its figures, what it is, published or simple, aim, what could be known at most where that was measured)
AIMS: tuple[tuple[str, str, str, str, float, tuple[str, str, str] | None], ...] = (
    ("zeng", "proxies/ltc", "Zeng, their protocol, five proxies, mean of three tasks", "LightGBM .744, MLP .714", 0.80, _PROXIES),
    (
        "zeng",
        "proxies/ltc:equal",
        "the same fits, pairs of equal learning rate",
        "default learning to compare .616",
        0.68,
        _PROXIES_EQUAL,
    ),
    ("zeng", f"sure/{TOLD}/{EQUAL}", "the same, told that it is equal", "-", 0.68, _PROXIES_EQUAL),
    ("zeng", "configurations/ltc", "the same, with configurations", "learning rate alone .746", 0.87, _CONFIGURED),
    ("zeng", "handled/proxies/ltc", "five proxies, twins on one side, failed run left out", "-", 0.80, _PROXIES),
    (
        "zeng",
        "handled/with configurations/ltc",
        "with configurations, twins and failed run handled",
        "-",
        0.87,
        _CONFIGURED,
    ),
    ("ibm", "per task/ltc", "IBM, per task within base, uploaders held out", "probe .583", 0.60, _OTHERS),
    ("ibm", "mean of the tasks/ltc", "IBM, mean of the 36 tasks", "probe .690", 0.70, None),
    ("nas", "ltc", "NAS-Bench-BERT, mean GLUE", "pre-training time .806, extra trees .870", 0.88, _ARCHITECTURES),
)


def study(table: str | Path | None = None, *, splits: int = 0, seed: int = 0, command: str = "", quick: bool = False) -> Page:
    """Read ``zeng.json``, ``ibm.json``, ``nas.json`` from the folder `table`; a study that is not there is left out.

    Raises
    ------
    DataError : none of them is there
    """
    folder = Path(table or "docs/studies")
    page = Page("Aims and results", command)
    rows: list[list[Any]] = []
    for name, key, what, simple, aim, most in AIMS:
        path = folder / f"{name}.json"
        if not path.is_file():
            continue
        own, _, kind = key.partition(":")
        found = json.loads(path.read_text(encoding="utf-8"))[own]
        one = found[kind or "all"] if "all" in found else found
        page.figures[f"{name}/{key}"] = {"accuracy": one["accuracy"], "ci95": one["ci95"], "aim": aim, "ece": one["ece"]}
        low, high = one.get("called_ci95") or (None, None)
        right = cell(one.get("called_accuracy")) + ("" if low is None else f" [{cell(low)}, {cell(high)}]")
        met = "yes" if one["accuracy"] >= aim - 5e-4 else "no"
        sure = one["ece"], one.get("ece_task"), one.get("called"), right
        rows.append([what, simple, aim, with_interval(one), one["sd"], met, _most(folder, most), *sure])
    if not rows:
        raise DataError("no figures there", where=str(folder), remedy="run the studies with -o FOLDER/NAME.md first")
    page.text(
        "From the figures beside the other pages. Called pairs should be right 9 times in 10; ECE: expected calibration error, "
        "of all pairs together and within a task (mean of the tasks). "
        "Could be known: from as many training models, by who knows the numbers of the Gaussian process that the world is drawn "
        "from (a method passes it where the world is simpler); for IBM by ridge on the outcomes on the 35 other tasks."
    )
    page.table(
        "Held-out pairwise accuracy",
        [
            "study",
            "published or simple",
            "aim",
            "ltc [95 %]",
            "sd",
            "met",
            "could be known",
            "ECE",
            "within a task",
            "called",
            "right [95 %]",
        ],
        rows,
    )
    page.text("What the outcomes' own scatter leaves to be known: [ceilings.md](ceilings.md), and below for Zeng et al.")
    bounds = _bounds(folder)
    if bounds:
        page.table(
            "Zeng: what anyone could reach, were the world as the Gaussian process has it",
            ["features", "truth known", "equal learning rate", "learnt from 30 models", "equal learning rate"],
            bounds,
            "Details on the page of Zeng et al.; a method passes the last two columns where the truth is simpler than that.",
        )
    best = _best_at(folder)
    if best:
        page.table(
            "Zeng: place of the best true model, of 20 held out (aim 5 / 5 / 5)",
            ["features", "CMS", "RAG", "CBQA"],
            [[label, *(cell(float(v)) for v in values)] for label, values in best],
        )
    return page


def _most(folder: Path, at: tuple[str, str, str] | None) -> float | None:
    """What could be known at most, from another page's figures; None where it was not measured."""
    if at is None or not (folder / f"{at[0]}.json").is_file():
        return None
    page, key, name = at
    found = json.loads((folder / f"{page}.json").read_text(encoding="utf-8"))
    return float(found[key][name]) if key in found else None


def _bounds(folder: Path) -> list[list[Any]]:
    path = folder / "zeng.json"
    figures = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    order = ("truth", "truth, equal", "learnt", "learnt, equal")
    return [
        [key.removeprefix("teachable/"), *(float(one[k]) for k in order)]
        for key, one in figures.items()
        if key.startswith("teachable/")
    ]


def _best_at(folder: Path) -> list[tuple[str, list[float]]]:
    path = folder / "zeng.json"
    if not path.is_file():
        return []
    figures = json.loads(path.read_text(encoding="utf-8"))
    out = []
    for label, key in (("five proxies", "proxies/ltc"), ("with configurations", "configurations/ltc")):
        places = figures[key]["all"]["best_at_tasks"]
        out.append((label, [places[t] for t in ("sft_cms", "sft_rag", "sft_cbqa")]))
    return out
