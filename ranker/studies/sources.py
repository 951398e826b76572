"""Published tables, read from their authors' files into comparison tables. None of them ships with "
"the product but Zeng et al.'s."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from features.errors import DataError
from ranker import reference
from ranker.table import check, load_frame

# What each objective of Zeng et al. trains on: causal text, masked spans, prefixes, several corruptions at once.
OBJECTIVE_PARTS = {
    "CLM": ("clm",),
    "SC": ("sc",),
    "PLM": ("prefix",),
    "SC+CLM": ("sc", "clm"),
    "UL2": ("sc", "prefix", "mixture"),
    "UL2R": ("sc", "prefix"),
    "UL2R+CLM": ("sc", "prefix", "clm"),
}
GLUE = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst", "sts")
FILES = {
    "zeng": "zeng2025.csv",
    "ibm": "models_fully_finetuned_wide.csv",
    "nas": "flexibert500_tidy.csv",
    "rectified": "rectified_scaling_tidy.csv",
    "amuro": "olmo1b_ckpt_tidy.csv",
    "vision": "model_spider_10models_8datasets.csv",
}


def find(table: str | Path | None, name: str) -> Path:
    """The file of table `name`: the path itself, or searched for by its published name below a folder.

    Raises
    ------
    DataError : no path given, or nothing there
    """
    if table is None:
        raise DataError("no table given", where=f"ranker.studies {name}", remedy=f"give --table PATH of {FILES[name]}")
    path = Path(table)
    if path.is_file():
        return path
    found = sorted(path.rglob(FILES[name])) if path.is_dir() else []
    if not found:
        raise DataError(f"no {FILES[name]} there", where=str(path), remedy="give the file, or a folder that holds it")
    return found[0]


def _wide(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    wide = load_frame(path)
    missing = [c for c in needed if c not in wide.columns]
    if missing:
        raise DataError(f"no column {missing[0]!r}", where=str(path), remedy="give the table as its authors published it")
    return wide


def zeng(table: str | Path | None = None, *, parts: bool = True) -> pd.DataFrame:
    """Zeng et al. 2025: 50 checkpoints x 3 tasks. The shipped table unless a path is given.

    With `parts`, the objective is also taken apart (`OBJECTIVE_PARTS`) into 0/1 columns, and so is whether the mix or the length
    filter is another than the default: known from the recipe, like the words that they are made from.
    """
    if table is None:
        df = reference.load("zeng2025")
    else:
        wide = _wide(find(table, "zeng"), (*reference.CONFIGURATION, *reference.PROXIES, *reference.OUTCOMES, "model"))
        kept = wide[[*reference.CONFIGURATION, *reference.PROXIES]]
        name = [f"model-{m:02d}" for m in wide["model"]]
        df = pd.concat([kept.assign(task=t, checkpoint=name, outcome=wide[t]) for t in reference.OUTCOMES], ignore_index=True)
    if parts:
        for part in ("clm", "sc", "prefix", "mixture"):
            df[f"trains_{part}"] = [float(part in OBJECTIVE_PARTS.get(str(o), ())) for o in df["objective"]]
        df["other_mix"] = (df["data_mix"] != "DC-0").astype(float)
        df["filtered"] = (df["length_filter"] != "all").astype(float)
    return check(df, where="zeng")


def failed_runs(df: pd.DataFrame) -> pd.Series:
    """True where the published figures are those of a failed run or a slip of scale (model 4 on CBQA: "
    ".15 where all others exceed 34)."""
    return (df["task"] == "sft_cbqa") & (df["outcome"] < 1)


def ibm(table: str | Path | None, *, t5: bool = False) -> pd.DataFrame:
    """IBM model recycling: one row per (checkpoint, classification task); zoo = base architecture, group = uploader.

    Features: the MNLI linear probe; what the Hub says (classification head, converted weights, years since 2020 of the last
    change, parameters) and the words of the checkpoint's name (``name_squad`` is 1 where it stands there; words that five
    uploaders use), which do not include the uploader's; ``name_says_task``: the name has the task's own. The noise is that of
    the 20 seeds of each vanilla base, from the file of baselines beside the table, if it is there.
    """
    path = find(table, "ibm")
    wide = _wide(path, ("model_name", "uploader", "base_model", "mnli_lp", "classification"))
    wide = wide[t5 | ~wide["base_model"].str.contains("t5")].drop_duplicates("model_name").reset_index(drop=True)
    tasks = list(wide.columns[wide.columns.get_loc("mnli_lp") + 1 :])
    features = pd.DataFrame({"mnli_lp": wide["mnli_lp"].astype(float), "classification": wide["classification"].astype(float)})
    for flag in ("from_flax", "from_tf", "size"):
        if flag in wide.columns:
            features[flag] = wide[flag].astype(float)
    if "last_modified" in wide.columns:
        age = pd.to_datetime(wide["last_modified"], utc=True, errors="coerce") - pd.Timestamp("2020-01-01", tz="UTC")
        features["modified"] = (age.dt.total_seconds() / (365.25 * 86400)).to_numpy(float)
    words = [set(re.findall(r"[a-z]+\d?", str(m).lower().split("/")[-1])) for m in wide["model_name"]]
    users: dict[str, set[str]] = {}
    for found, uploader in zip(words, wide["uploader"], strict=True):
        for word in found:
            users.setdefault(word, set()).add(str(uploader))
    for word in sorted(w for w, who in users.items() if len(who) >= 5 and len(w) > 1):
        features[f"name_{word}"] = [float(word in found) for found in words]
    noise = _seed_noise(path.with_name("pretrained_baselines_20seeds.csv"))
    keys = wide["base_model"].str.replace(r"[/\-.]", "_", regex=True)
    rows = []
    for task in tasks:
        says = [float(bool(found & set(task.split("_")))) for found in words]
        row = features.assign(
            name_says_task=says,
            task=task,
            checkpoint=wide["model_name"],
            outcome=wide[task],
            zoo=wide["base_model"],
            group=wide["uploader"],
        )
        if noise:
            row["outcome_sd"] = [noise.get((base, task), np.nan) for base in keys]
        rows.append(row[row["outcome"].notna()])
    return check(pd.concat(rows, ignore_index=True), where=str(path))


def _seed_noise(path: Path) -> dict[tuple[str, str], float]:
    """(base, task) -> robust standard deviation over seeds."""
    if not path.is_file():
        return {}
    frame = load_frame(path)
    out = {}
    for (base, task), scores in frame.groupby(["base_model", "task"])["ft_score"]:
        out[str(base), str(task)] = float(1.4826 * np.median(np.abs(scores - scores.median())))
    return out


def mean_over_tasks(df: pd.DataFrame, name: str = "mean") -> pd.DataFrame:
    """One row per checkpoint: features as in its first row (those that change with the task left out), outcome = mean over tasks.

    Only checkpoints with an outcome on every task; the noise of the mean, where known, is that of independent runs.
    """
    keys = [c for c in ("zoo", "checkpoint") if c in df.columns]
    changing = [c for c in df.columns if c.startswith("name_says_task")]
    grouped = df.groupby(keys, sort=False)
    first = grouped.first().drop(columns=changing)
    first["outcome"] = grouped["outcome"].mean()
    if "outcome_sd" in df:
        first["outcome_sd"] = grouped["outcome_sd"].apply(lambda s: float(np.sqrt((s**2).sum()) / len(s)))
    full = grouped["task"].count() == df["task"].nunique()
    out = first[full].reset_index()
    out["task"] = name
    return check(out, where=name)


def nas(table: str | Path | None, *, tasks: tuple[str, ...] = ("glue",)) -> pd.DataFrame:
    """NAS-Bench-BERT: 500 small architectures; features are their shape, pre-training time and 14 scores at initialisation."""
    path = find(table, "nas")
    wide = _wide(path, ("model", "ft_glue", "time_to_train"))
    features = wide[[c for c in wide.columns if not c.startswith("ft_") and c not in ("model", "ID")]]
    rows = [features.assign(task=t, checkpoint=wide["model"], outcome=wide[f"ft_{t}"]) for t in tasks]
    return check(pd.concat(rows, ignore_index=True), where=str(path))


def rectified(table: str | Path | None, *, samples: int = 6400, gains: bool = True) -> pd.DataFrame:
    """Rectified scaling law: 30 models x 3 tasks, outcome = minus the loss after 1.6 million samples.

    Features: parameters, architecture, the zero-shot loss and the losses after fine-tuning on up to `samples` samples; with
    `gains`,
    also how much of the loss each doubling took away, in logarithms: two models are compared by where they are going, not only
    by where they are (their tokenizers differ, so the losses themselves do not compare well).
    """
    path = find(table, "rectified")
    wide = _wide(path, ("model", "task", "loss_zero_shot", "outcome_final_loss", "n_params", "arch"))
    steps = [200 * 2**k for k in range(13) if 200 * 2**k <= samples]
    names = ["loss_zero_shot", *(f"loss_ft_{n}" for n in steps)]
    df = wide[["task", *names]].copy()
    df["checkpoint"], df["outcome"] = wide["model"], -wide["outcome_final_loss"]
    df["n_params"], df["arch"] = wide["n_params"].astype(float), wide["arch"]
    if gains:
        for a, b in pairwise(names):
            df[f"gain_{b.removeprefix('loss_ft_')}"] = np.log(wide[a]) - np.log(wide[b])
    return check(df, where=str(path))


def amuro(table: str | Path | None) -> pd.DataFrame:
    """Amuro & Char: 8 checkpoints of one OLMo-1B run, 4 data sets; features are the step and the 4-shot score before tuning."""
    path = find(table, "amuro")
    wide = _wide(path, ("ckpt_step", "ft_dataset", "eval_dataset", "base_4shot", "ft_perf"))
    same = [str(b).startswith(str(a)[:4]) for a, b in zip(wide["ft_dataset"], wide["eval_dataset"], strict=True)]
    own = wide[np.array(same)]
    step = own["ckpt_step"].astype(str)
    df = pd.DataFrame(
        {
            "task": own["eval_dataset"],
            "checkpoint": step,
            "outcome": own["ft_perf"].astype(float),
            "step": step.replace("main", "739000").astype(float),
            "kshot_acc": own["base_4shot"].astype(float),
        }
    )
    return check(df.dropna(subset=["outcome"]).drop_duplicates(["task", "checkpoint"]), where=str(path))


def vision(table: str | Path | None) -> pd.DataFrame:
    """Model Spider's baselines: 10 ImageNet networks x 8 data sets, 9 transferability scores."""
    path = find(table, "vision")
    wide = _wide(path, ("Dataset", "Model", "ft_acc"))
    return check(wide.rename(columns={"Dataset": "task", "Model": "checkpoint", "ft_acc": "outcome"}), where=str(path))
