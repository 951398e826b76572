"""Where the MLflow store is, and how a call to it fails.

`MLFLOW_TRACKING_URI` wins; else the store is `<root>/mlruns/mlflow.db` with artifacts in `<root>/mlruns/artifacts`, root being
the current folder. No `meta.yaml` is ever written into `mlruns/`: MLflow would take the folder for the file store that it has
retired. MLflow makes its schema in a hundred steps; a new SQLite file therefore appears whole or not at all, by whichever process
comes first.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from features.database import sqlite_file, sqlite_uri
from features.errors import StoreError

EXPERIMENT = "foretune"
_POINTING = threading.Lock()

# MLflow's own defaults would report usage, draw progress bars, print to stdout, and wait minutes for a server that is away.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def _root(root: Path | str | None) -> Path:
    return Path(root if root is not None else Path.cwd()).resolve()


def tracking_uri(root: Path | str | None = None) -> str:
    """The tracking URI in force: the environment's, else the SQLite database under `root` (default: the current folder)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(_root(root) / "mlruns" / "mlflow.db")


@contextmanager
def talking(root: Path | str | None = None) -> Iterator[Any]:
    """An MLflow client on the store in force; MLflow's warnings are silenced and its failures become `StoreError`.

    The process-wide tracking URI is set (MLflow's logging of models needs it) but, unlike MLflow itself, the environment is left
    as it was: otherwise the first root used would win for ever.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    uri = tracking_uri(root)
    if uri.startswith("file:") or "://" not in uri:
        raise StoreError(
            f"MLflow has retired the file store ({uri!r})",
            where="MLFLOW_TRACKING_URI",
            remedy="use sqlite:///PATH/mlflow.db or http://HOST:PORT (mlflow migrate-filestore converts an old folder)",
        )
    file = sqlite_file(uri)
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the folder cannot be made: {error}", where=uri, remedy="set MLFLOW_TRACKING_URI") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
        from sqlalchemy.exc import SQLAlchemyError

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            if file is not None:
                _make_whole(file)
            _point(mlflow, uri)
            yield mlflow.MlflowClient(tracking_uri=uri)
        except (mlflow.MlflowException, SQLAlchemyError, OSError) as error:
            line = (str(error).strip() or repr(error)).splitlines()[0].replace(uri, _shown(uri))[:400]
            remedy = "is the server up, the disk writable, MLFLOW_TRACKING_URI right?"
            if file is not None and ("already exists" in line or "duplicate column" in line):
                remedy = f"its tables were left half made: move {file} away"
            raise StoreError(line, where=f"MLflow at {_shown(uri)}", remedy=remedy) from error


def _make_whole(file: Path) -> None:
    """Make MLflow's database unless it is there: under another name, by one process at a time, and renamed when it is whole."""
    if file.exists() and file.stat().st_size:
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with file.with_name(f".{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if file.exists() and file.stat().st_size:
            return
        draft = file.with_name(f".{file.name}.new")
        for left in file.parent.glob(f"{draft.name}*"):  # of one that was killed here, with SQLite's own files beside it
            left.unlink()
        SqlAlchemyStore(sqlite_uri(draft), str(file.parent / "artifacts")).engine.dispose()
        os.replace(draft, file)


def _point(mlflow: Any, uri: str) -> None:
    with _POINTING:
        before = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(uri)
        if before is None:
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _shown(uri: str) -> str:
    """The URI without a password."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if "@" in rest else uri


def experiment(client: Any, root: Path | str | None = None) -> str:
    """Id of foretune's experiment, created at first use.

    A server decides itself where artifacts go. A database spoken to directly cannot, so they go beside a SQLite file, and to
    `<root>/mlruns/artifacts` for any other database (create the experiment beforehand to put them elsewhere).
    """
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    uri = tracking_uri(root)
    place: str | None = None
    file = sqlite_file(uri)
    if file is not None:
        place = str(file.resolve().parent / "artifacts")
    elif not uri.startswith(("http://", "https://", "databricks")):
        place = str(_root(root) / "mlruns" / "artifacts")
    import mlflow

    try:
        return str(client.create_experiment(EXPERIMENT, artifact_location=place))
    except mlflow.MlflowException:
        found = client.get_experiment_by_name(EXPERIMENT)  # made by another process between the two calls
        if found is None:
            raise
        return str(found.experiment_id)
