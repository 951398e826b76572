"""The ranker's registry: versions of `foretune-ranker` and the alias `champion`.

A version is registered with its Booster as MLflow's own LightGBM model (native text, for whoever looks with MLflow's tools) and
with the ranker's folder (JSON and LightGBM text) as the artifact `ranker/` of its run. Only that folder is ever loaded: nothing
that comes out of the registry is unpickled, and its digest must be the one in the version's tags.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import StoreError, UnknownNameError, UserError
from training.tracking.place import talking
from training.tracking.runs import DERIVED, DIGEST, run, table_digest

if TYPE_CHECKING:
    import pandas as pd

    from ranker import LearningToCompare

RANKER = "foretune-ranker"
CHAMPION = "champion"
RANKER_DIGEST = "foretune.ranker_digest"


def folder_digest(folder: Path) -> str:
    """`sha256:...` of a folder's files: names and content."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        total.update(path.read_bytes())
    return "sha256:" + total.hexdigest()


def register_ranker(
    ranker: LearningToCompare,
    table: pd.DataFrame | None = None,
    metrics: Mapping[str, float | None] | None = None,
    name: str = RANKER,
    *,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    report: Any = None,
    derived: bool = False,
    root: Path | str | None = None,
) -> str:
    """Log a train run with the fitted ranker and register it. The alias `champion` stays where it is.

    Parameters
    ----------
    table : the comparison table it was fitted on; kept as an artifact, so that retraining needs only MLflow
    metrics : hold-out figures
    tags : tags of the version
    report : a JSON value kept beside (the whole evaluation)
    derived : the table was rebuilt from other runs; history will not read it again

    Returns
    -------
    str : the version
    """
    import lightgbm

    with run("train", name=name, params=params, tags={DERIVED: str(derived).lower()}, root=root) as current:
        digest = ""
        if table is not None:
            digest = current.table(table, "table", context="training", target="outcome")
            current.tags({DIGEST: digest, "foretune.table": name})
        if report is not None:
            current.json(report, "evaluation.json")
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "ranker"
            ranker.save(folder)
            ranker_digest = folder_digest(folder)
            current.folder(folder, "ranker")
        current.tags({RANKER_DIGEST: ranker_digest})
        with talking(root):
            import mlflow
            import mlflow.lightgbm

            with mlflow.start_run(run_id=current.id, nested=mlflow.active_run() is not None, log_system_metrics=False):
                model = mlflow.lightgbm.log_model(
                    ranker.booster_, name="booster", pip_requirements=[f"lightgbm=={lightgbm.__version__}"]
                )
        if metrics:  # last: MLflow would ask for the history of each to repeat it at the model
            current.metrics(metrics)
    with talking(root) as client:
        ensure(client, name)
        version = client.create_model_version(
            name,
            model.model_uri,
            run_id=current.id,
            model_id=model.model_id,
            tags={RANKER_DIGEST: ranker_digest, DIGEST: digest, **{k: str(v)[:5000] for k, v in (tags or {}).items()}},
        )
    return str(version.version)


def ensure(client: Any, name: str) -> None:
    """Make the registered model if it is not there."""
    import mlflow

    try:
        client.create_registered_model(name, description="Learning to compare: which of two checkpoints fine-tunes better.")
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def alias_version(name: str = RANKER, alias: str = CHAMPION, *, root: Path | str | None = None) -> str | None:
    """The version that `alias` points to; None where there is no such ranker or alias. Cheap: for watching."""
    with talking(root) as client:
        import mlflow

        try:
            return str(client.get_model_version_by_alias(name, alias).version)
        except mlflow.MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def find_version(name: str, version: str, *, root: Path | str | None = None) -> Any:
    """MLflow's record of a version: `.run_id`, `.tags`, `.creation_timestamp`.

    Raises
    ------
    UnknownNameError : no such ranker or version
    """
    with talking(root) as client:
        import mlflow

        try:
            return client.get_model_version(name, version)
        except mlflow.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    raise UnknownNameError(f"no version {version} of {name!r}", where="registry", remedy="see the versions with `mlflow ui`")


def versions(name: str = RANKER, *, root: Path | str | None = None) -> list[Any]:
    """Every version of a ranker, the newest first."""
    with talking(root) as client:
        found: list[Any] = []
        token = None
        while True:
            page = client.search_model_versions(f"name = '{name}'", max_results=200, page_token=token)
            found += page
            token = page.token
            if not token:
                return sorted(found, key=lambda v: int(v.version), reverse=True)


def tag_version(name: str, version: str, tags: Mapping[str, Any], *, root: Path | str | None = None) -> None:
    """Set tags on a version."""
    with talking(root) as client:
        for key, value in tags.items():
            client.set_model_version_tag(name, version, key, str(value)[:5000])


def load_version(name: str, version: str, *, root: Path | str | None = None) -> tuple[LearningToCompare, dict[str, str]]:
    """A ranker and `{"name", "version", "run_id"}`, read from its JSON and text folder alone.

    Raises
    ------
    UnknownNameError : no such version
    StoreError : its folder is missing, or is not what was registered
    DataError, FailedError : the ranker itself refuses the folder (another format, a field it does not know)
    """
    from ranker import LearningToCompare

    found = find_version(name, version, root=root)
    with tempfile.TemporaryDirectory() as temporary:
        with talking(root):
            import mlflow

            folder = Path(mlflow.artifacts.download_artifacts(run_id=found.run_id, artifact_path="ranker", dst_path=temporary))
        expected = found.tags.get(RANKER_DIGEST)
        if expected and folder_digest(folder) != expected:
            raise StoreError(
                "its files are not those that were registered",
                where=f"{name} version {version}",
                remedy="roll back with `foretune retrain --rollback`, or train again",
            )
        ranker = LearningToCompare.load(folder)
    return ranker, {"name": name, "version": str(found.version), "run_id": found.run_id}


def champion(name: str = RANKER, *, root: Path | str | None = None) -> tuple[LearningToCompare, dict[str, str]]:
    """The ranker under the alias `champion`, with `{"name", "version", "run_id"}`.

    Raises
    ------
    UnknownNameError : there is none yet
    """
    version = alias_version(name, root=root)
    if version is None:
        raise UnknownNameError(
            f"no version of {name!r} has the alias {CHAMPION!r}", where="registry", remedy="fit one with `foretune train TABLE`"
        )
    return load_version(name, version, root=root)


def training_table(name: str, version: str, *, root: Path | str | None = None) -> pd.DataFrame | None:
    """The comparison table that a version was fitted on; None where none was kept.

    Raises
    ------
    StoreError : the table is not the one that was registered
    """
    import pandas as pd

    found = find_version(name, version, root=root)
    expected = found.tags.get(DIGEST)
    if not expected:
        return None
    with tempfile.TemporaryDirectory() as temporary, talking(root):
        import mlflow

        path = mlflow.artifacts.download_artifacts(run_id=found.run_id, artifact_path="table/table.parquet", dst_path=temporary)
        table = pd.read_parquet(path)
    if table_digest(table) != expected:
        raise StoreError("its training table is not the one registered", where=f"{name} version {version}", remedy="train again")
    return table


def move_alias(name: str, version: str, *, expected: str | None, alias: str = CHAMPION, root: Path | str | None = None) -> bool:
    """Point `alias` at `version` if it still points at `expected` (None: at nothing). One write, so it is never half moved.

    Returns False, and moves nothing, where somebody else has moved it meanwhile. MLflow has no compare-and-set, so two writers
    within the same instant are kept apart by the lease.
    """
    if alias_version(name, alias, root=root) != expected:
        return False
    with talking(root) as client:
        client.set_registered_model_alias(name, alias, version)
    return True


def check_name(name: str) -> str:
    """A ranker's name that MLflow's filters can carry.

    Raises
    ------
    UserError : it is empty or holds a quote, slash or colon
    """
    if not name or any(c in name for c in "'\"/:\\") or len(name) > 200:
        raise UserError(f"{name!r} cannot name a ranker", remedy="use letters, digits, dashes")
    return name
