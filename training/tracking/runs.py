"""One run of foretune in MLflow: its kind, parameters, metrics, and the tables that it read or made, each with a digest."""

from __future__ import annotations

import json
import posixpath
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.tracking.place import experiment, talking

if TYPE_CHECKING:
    import pandas as pd

KIND = "foretune.kind"  # extract, finetune, outcomes, table, train
DIGEST = "foretune.table_digest"  # of the run's main table: equal tables are fetched once
DERIVED = "foretune.derived"  # "true": the table was rebuilt from other runs, so history must not read it again


def table_digest(table: pd.DataFrame) -> str:
    """`sha256:...` of a table's columns and cells, whatever the order of its rows and columns and the file it was read from."""
    from ranker.table import digest

    return digest(table)


class Run:
    """A started MLflow run. Every method writes at once, so that a killed process leaves what it had written."""

    def __init__(self, client: Any, run_id: str, root: Path | str | None) -> None:
        self._client, self.id, self._root = client, run_id, root

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters; what is not a plain value is written as JSON."""
        with talking(self._root) as client:
            from mlflow.entities import Param

            texts = {_name(k): v if isinstance(v, str) else json.dumps(v, default=str) for k, v in values.items()}
            found = [Param(key, text[:6000]) for key, text in texts.items()]
            for start in range(0, len(found), 100):
                client.log_batch(self.id, params=found[start : start + 100])

    def metrics(self, values: Mapping[str, float | None]) -> None:
        """Record metrics; None and non-finite values are left out (they are in the tables)."""
        self.history([{key: float(value) for key, value in values.items() if value is not None}])

    def history(self, points: Iterable[Mapping[str, float]]) -> None:
        """Record metrics along steps: each point is `{"step": n, name: value, ...}`."""
        from math import isfinite

        with talking(self._root) as client:
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            metrics = [
                Metric(_name(key), float(value), now, int(point.get("step", 0)))
                for point in points
                for key, value in point.items()
                if key != "step" and isfinite(float(value))
            ]
            for start in range(0, len(metrics), 1000):
                client.log_batch(self.id, metrics=metrics[start : start + 1000])

    def tags(self, values: Mapping[str, Any]) -> None:
        with talking(self._root) as client:
            from mlflow.entities import RunTag

            client.log_batch(self.id, tags=[RunTag(key, str(value)[:5000]) for key, value in values.items()])

    def folder(self, path: Path, name: str) -> None:
        """Keep a folder's files as artifacts under `name/`."""
        with talking(self._root) as client:
            client.log_artifacts(self.id, str(path), name)

    def json(self, value: Any, file: str) -> None:
        with talking(self._root) as client:
            client.log_text(self.id, json.dumps(value, indent=1, default=str), file)

    def table(self, table: pd.DataFrame, name: str, *, context: str, target: str | None = None) -> str:
        """Keep `table` as `name/name.parquet` and record it as an input data set with its digest, which is returned."""
        import pandas as pd

        digest = table_digest(table)
        with talking(self._root) as client:
            import mlflow
            from mlflow.entities import DatasetInput, InputTag

            plain = pd.DataFrame(table).reset_index(drop=True)
            plain.attrs = {}  # attributes may hold what Parquet cannot
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{name}.parquet"
                plain.to_parquet(path, index=False)
                client.log_artifact(self.id, str(path), name)
            # MLflow's schema has no integer that may be missing: numbers are declared as floats
            described = plain.astype(dict.fromkeys(plain.select_dtypes("number").columns, "float64"))
            data = mlflow.data.from_pandas(described, name=name, targets=target, digest=digest.removeprefix("sha256:")[:32])
            inputs = [DatasetInput(dataset=data._to_mlflow_entity(), tags=[InputTag("mlflow.data.context", context)])]
            client.log_inputs(self.id, datasets=inputs)
        return digest


def _name(key: str) -> str:
    """`key` as MLflow takes it: other signs become `_`, and so do slashes where it would be another path than it says."""
    plain = re.sub(r"[^\w\-./ ]", "_", str(key))[:240]
    if plain == posixpath.normpath(plain) and not plain.startswith(("/", ".")):
        return plain
    return "_" + plain.replace("/", "_").lstrip(".")


@contextmanager
def run(
    kind: str,
    *,
    name: str | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    root: Path | str | None = None,
) -> Iterator[Run]:
    """A run of `kind` (extract, finetune, outcomes, table or train); finished, or failed if the body raises.

    A process killed inside leaves the run RUNNING; `comparison_table` reads finished runs only, so half a run is never used.

    Raises
    ------
    StoreError : MLflow cannot be reached or written
    """
    with talking(root) as client:
        started = client.create_run(experiment(client, root), run_name=name, tags={KIND: kind, **_texts(tags)})
    current = Run(client, started.info.run_id, root)
    try:
        if params:
            current.params(params)
        yield current
    except BaseException as error:
        _end(root, current.id, "FAILED", {"foretune.error": f"{type(error).__name__}: {error}"[:500]})
        raise
    _end(root, current.id, "FINISHED", {})


def _texts(tags: Mapping[str, Any] | None) -> dict[str, str]:
    return {key: str(value) for key, value in (tags or {}).items()}


def _end(root: Path | str | None, run_id: str, status: str, tags: dict[str, str]) -> None:
    with talking(root) as client:
        for key, value in tags.items():
            client.set_tag(run_id, key, value)
        client.set_terminated(run_id, status)


def log_extract(report: Any, *, params: Mapping[str, Any] | None = None, root: Path | str | None = None) -> str:
    """Record an extraction (`features.extract.ExtractReport`, or its rows): the features table, counts, seconds. Returns the
    run's id.
    """
    rows = getattr(report, "rows", report)
    failed = getattr(report, "failed", [])
    with run("extract", name="extract", params=params or rows.attrs.get("parameters"), root=root) as current:
        digest = current.table(rows, "features", context="measured")
        current.tags({DIGEST: digest, "foretune.zoos": ",".join(sorted(rows["zoo"].astype(str).unique()))})
        current.metrics(
            {
                "rows": len(rows),
                "checkpoints": rows["checkpoint"].nunique(),
                "seconds": float(rows["seconds"].fillna(0).sum()),
                "failed": len(failed),
            }
        )
        return current.id


def is_recorded(kind: str, table: pd.DataFrame, *, root: Path | str | None = None) -> bool:
    """Whether a finished run of `kind` has this very table as its main one."""
    with talking(root) as client:
        told = f"tags.`{KIND}` = '{kind}' and tags.`{DIGEST}` = '{table_digest(table)}' and attributes.status = 'FINISHED'"
        return bool(client.search_runs([experiment(client, root)], filter_string=told, max_results=1))


def log_outcomes(
    outcomes: pd.DataFrame, *, kind: str = "finetune", params: Mapping[str, Any] | None = None, root: Path | str | None = None
) -> str:
    """Record outcome rows (OUTCOME_COLUMNS): the table, and per task and checkpoint the mean and the spread over seeds.

    `kind` is `finetune` where foretune did the fine-tuning and `outcomes` where they were brought in. `params` defaults to what
    `finetune()` left in `outcomes.attrs["parameters"]`. Returns the run's id.
    """
    with run(kind, name=kind, params=params or outcomes.attrs.get("parameters"), root=root) as current:
        digest = current.table(outcomes, "outcomes", context="outcomes")
        good = outcomes[outcomes["outcome"].notna()]
        current.tags({DIGEST: digest, "foretune.zoos": ",".join(sorted(outcomes["zoo"].fillna("").astype(str).unique()))})
        figures: dict[str, float | None] = {
            "rows": len(outcomes),
            "failed": int(outcomes["outcome"].isna().sum()),
            "seconds": float(outcomes["seconds"].fillna(0).sum()),
        }
        for (task, checkpoint), part in good.groupby(["task", "checkpoint"]):
            figures[f"outcome.{task}.{checkpoint}"] = part["outcome"].mean()
            figures[f"outcome_sd.{task}.{checkpoint}"] = part["outcome"].std()
        current.metrics(figures)
        return current.id


def log_pretrain(record: Mapping[str, Any], *, root: Path | str | None = None) -> str:
    """Record one pre-training: `record["parameters"]`, `record["metrics"]` and `record["history"]` ({step, loss, ...}). Returns
    the run's id.
    """
    with run("pretrain", name=str(record.get("name", "pretrain")), params=record.get("parameters"), root=root) as current:
        current.metrics({k: v for k, v in record.get("metrics", {}).items() if isinstance(v, int | float)})
        current.history(record.get("history", []))
        return current.id


def log_table(
    table: pd.DataFrame, *, name: str = "table", params: Mapping[str, Any] | None = None, root: Path | str | None = None
) -> str:
    """Record a comparison table brought from elsewhere, so that retraining can use it. Returns the run's id."""
    with run("table", name=name, params=params, root=root) as current:
        digest = current.table(table, "table", context="training", target="outcome")
        current.tags({DIGEST: digest, "foretune.table": name})
        current.metrics({"rows": len(table), "checkpoints": table["checkpoint"].nunique(), "tasks": table["task"].nunique()})
        return current.id
