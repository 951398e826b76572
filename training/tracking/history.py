"""The comparison table, rebuilt from MLflow alone: from the features, outcomes and tables that finished runs keep as artifacts.

Nothing is read from the folder that foretune runs in, so it works the same on another machine, on a tracking server, and years
later.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import DataError
from features.rows import FEATURE_COLUMNS, OUTCOME_COLUMNS
from training.tracking.place import experiment, talking
from training.tracking.runs import DERIVED, DIGEST, KIND

if TYPE_CHECKING:
    import pandas as pd

# which artifact of which kind of run holds what
_FEATURES = {"extract": "features/features.parquet"}
_OUTCOMES = {"finetune": "outcomes/outcomes.parquet", "outcomes": "outcomes/outcomes.parquet"}
_TABLES = {"table": "table/table.parquet", "train": "table/table.parquet"}

# one fine-tuning, one measurement: of two with the same key the later one counts
OUTCOME_KEY = ["zoo", "checkpoint", "digest", "task", "recipe", "seed", "metric"]
FEATURE_KEY = ["zoo", "checkpoint", "digest", "task", "name"]


def _finished(client: Any, root: Path | str | None, kinds: dict[str, str]) -> list[Any]:
    """Finished runs of these kinds, oldest first; of runs with the same table only the last.

    Imported outcomes come after all others: a correction made by hand wins over a fine-tuning that is merely logged again.
    """
    found: list[Any] = []
    for kind in kinds:
        token = None
        while True:
            page = client.search_runs(
                [experiment(client, root)],
                filter_string=f"tags.`{KIND}` = '{kind}' and attributes.status = 'FINISHED'",
                max_results=500,
                page_token=token,
            )
            found += [r for r in page if r.data.tags.get(DERIVED) != "true"]
            token = page.token
            if not token:
                break
    found.sort(key=lambda r: (r.data.tags[KIND] == "outcomes", r.info.end_time or 0, r.info.run_id))

    def same(run: Any) -> str:
        return run.info.run_id if run.data.tags[KIND] == "outcomes" else run.data.tags.get(DIGEST) or run.info.run_id

    last = {same(run): run for run in found}
    return [run for run in found if last[same(run)] is run]


def _tables(kinds: dict[str, str], root: Path | str | None) -> list[tuple[Any, pd.DataFrame]]:
    import pandas as pd

    with talking(root) as client, tempfile.TemporaryDirectory() as temporary:
        import mlflow

        tables = []
        for found in _finished(client, root, kinds):
            file = kinds[found.data.tags[KIND]]
            if not found.data.tags.get(DIGEST):
                continue  # a train run without a table
            folder = Path(temporary) / found.info.run_id
            path = mlflow.artifacts.download_artifacts(run_id=found.info.run_id, artifact_path=file, dst_path=str(folder))
            tables.append((found, pd.read_parquet(path)))
        return tables


def _stacked(tables: list[pd.DataFrame], columns: list[str], key: list[str]) -> pd.DataFrame:
    """All rows, the last of each key; text columns of the key hold "" where they were missing."""
    import pandas as pd

    if not tables:
        return pd.DataFrame(columns=columns)
    whole = pd.concat([t.reindex(columns=columns).dropna(axis=1, how="all") for t in tables], ignore_index=True)
    whole = whole.reindex(columns=columns)
    for column in key:
        whole[column] = whole[column].fillna(0).astype(int) if column == "seed" else whole[column].fillna("").astype(str)
    return whole.drop_duplicates(key, keep="last").reset_index(drop=True)


def recorded_outcomes(*, root: Path | str | None = None) -> pd.DataFrame:
    """Every outcome that MLflow holds (OUTCOME_COLUMNS), the last version of each; failed fine-tunings are left out."""
    whole = _stacked([t for _, t in _tables(_OUTCOMES, root)], OUTCOME_COLUMNS, OUTCOME_KEY)
    return whole[whole["outcome"].notna()].reset_index(drop=True)


def recorded_features(*, root: Path | str | None = None) -> pd.DataFrame:
    """Every measured feature that MLflow holds (FEATURE_COLUMNS), the last measurement of each; failed ones are left out."""
    whole = _stacked([t for _, t in _tables(_FEATURES, root)], FEATURE_COLUMNS, FEATURE_KEY)
    return whole[whole["value"].notna() | whole["text"].notna()].reset_index(drop=True)


def comparison_table(*, root: Path | str | None = None) -> pd.DataFrame:
    """The comparison table of all that MLflow knows: features joined with outcomes, and the tables of earlier train and table
    runs.

    One row per (zoo, task, checkpoint). Where several recipes or metrics were used on a task, the one with the most outcomes
    keeps the task's name and the others are tasks of their own (`films [lora accuracy]`): outcomes of two recipes are never
    averaged. A name whose weights changed is two checkpoints: the earlier weights are called `NAME@DIGEST`. A joined row wins
    over an earlier table's.

    Raises
    ------
    DataError : MLflow holds no comparison yet
    StoreError : MLflow cannot be reached or read
    """
    import pandas as pd

    from ranker.table import check, merge

    earlier = []
    for found, table in _tables(_TABLES, root):
        if "zoo" not in table.columns:
            table = table.assign(zoo=found.data.tags.get("foretune.table", found.info.run_id))
        earlier.append(table)
    features, outcomes = recorded_features(root=root), recorded_outcomes(root=root)
    joined = None
    if len(features) and len(outcomes):
        features, outcomes = _settled(features, outcomes)
        outcomes = outcomes.assign(task=_task_names(outcomes))
        features = _shared(features, outcomes)
        known = set(zip(features["zoo"], features["checkpoint"], strict=True))
        outcomes = outcomes[[pair in known for pair in zip(outcomes["zoo"], outcomes["checkpoint"], strict=True)]]
        if len(outcomes):
            joined = merge(features, outcomes)
            if "zoo" not in joined.columns:
                joined["zoo"] = ""
    parts = earlier + ([joined] if joined is not None and len(joined) else [])
    if not parts:
        raise DataError(
            "MLflow holds no comparison table, and no features and outcomes of the same checkpoints",
            where="history",
            remedy="run `foretune extract` and `foretune finetune` (or `foretune outcomes import`), or `foretune train TABLE`",
        )
    whole = pd.concat([p.dropna(axis=1, how="all") for p in parts], ignore_index=True)
    whole = whole.assign(zoo=whole["zoo"].fillna("").astype(str))
    return check(whole.drop_duplicates(["zoo", "task", "checkpoint"], keep="last").reset_index(drop=True), where="history")


def _settled(features: pd.DataFrame, outcomes: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same rows under names that mean one set of weights each, and outcomes without a zoo or digest given the only ones they
    can have.
    """
    newest = features.drop_duplicates(["zoo", "checkpoint"], keep="last").set_index(["zoo", "checkpoint"])["digest"].to_dict()
    zoo_of: dict[str, set[str]] = {}
    for zoo, name in newest:
        zoo_of.setdefault(name, set()).add(zoo)

    outcomes = outcomes.copy()
    outcomes["zoo"] = [
        next(iter(zoo_of[name])) if not zoo and len(zoo_of.get(name, ())) == 1 else zoo
        for zoo, name in zip(outcomes["zoo"], outcomes["checkpoint"], strict=True)
    ]
    outcomes["digest"] = [
        digest or newest.get((zoo, name), "")
        for digest, zoo, name in zip(outcomes["digest"], outcomes["zoo"], outcomes["checkpoint"], strict=True)
    ]

    def names(rows: pd.DataFrame) -> list[str]:
        return [
            name if not digest or newest.get((zoo, name), digest) == digest else f"{name}@{digest.removeprefix('sha256:')[:8]}"
            for zoo, name, digest in zip(rows["zoo"], rows["checkpoint"], rows["digest"], strict=True)
        ]

    features = features.assign(checkpoint=names(features))
    outcomes = outcomes.assign(checkpoint=names(outcomes))
    return features, outcomes.drop_duplicates(OUTCOME_KEY, keep="last")


def _task_names(outcomes: pd.DataFrame) -> list[str]:
    """The task's name for its commonest (recipe, metric), `task [recipe metric]` for any other."""
    counts = outcomes.groupby(["task", "recipe", "metric"]).size().reset_index(name="n")
    counts = counts.sort_values(["task", "n", "recipe", "metric"], ascending=[True, False, True, True])
    first = {task: (recipe, metric) for task, recipe, metric, _ in counts.drop_duplicates("task").itertuples(index=False)}
    return [
        task if first[task] == (recipe, metric) else f"{task} [{' '.join(filter(None, (recipe, metric)))}]"
        for task, recipe, metric in zip(outcomes["task"], outcomes["recipe"], outcomes["metric"], strict=True)
    ]


def _shared(features: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """The features, those of a task repeated under each name that its outcomes have."""
    import pandas as pd

    extra = sorted({name for name in outcomes["task"] if " [" in name and name.endswith("]")})
    copies = [features[features["task"] == name.rsplit(" [", 1)[0]].assign(task=name) for name in extra]
    return pd.concat([features, *copies], ignore_index=True) if copies else features
