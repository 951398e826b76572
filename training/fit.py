"""Fit a ranker on comparison tables, judge it on held-out checkpoints, register it in MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import DataError
from training.tracking import RANKER

if TYPE_CHECKING:
    import pandas as pd

    from ranker import LearningToCompare

METHODS = ("ltc", "logistic", "configuration", "best-single")
DEFAULT_METHODS = ("ltc", "logistic", "best-single", "single:ppl_clm")


@dataclass(frozen=True)
class Fitted:
    """What `train` did; as text it is the version.

    Attributes
    ----------
    name, version : in the registry
    champion : whether the alias `champion` points at this version now
    rows, checkpoints : of the table
    evaluation : figures on held-out checkpoints, in the shape of `foretune evaluate --json`; {} where there are too few for it
    note : why there are no figures; ""
    """

    name: str
    version: str
    champion: bool
    rows: int
    checkpoints: int
    evaluation: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return self.version


def train(
    tables: Sequence[Path | str | pd.DataFrame],
    name: str = RANKER,
    *,
    features: Sequence[str] | None = None,
    splits: int = 20,
    train_share: float = 0.6,
    seed: int = 0,
    params: Mapping[str, Any] | None = None,
    root: Path | str | None = None,
) -> Fitted:
    """Fit LearningToCompare on one or several comparison tables and register it; without a table, register the default ranker.

    A table without a `zoo` column is a zoo of its own, called by the file's stem (and its folder, where two have the same):
    outcomes are compared within a zoo only. The figures beside the version are those of `splits` hold-outs of checkpoints, next
    to the baselines; the registered ranker is then fitted on all rows. The alias `champion` is set if there is none yet;
    otherwise it stays, and `retrain` is what moves it.

    Raises
    ------
    DataError : a table cannot be used, or two hold the same (zoo, task, checkpoint)
    StoreError : MLflow cannot be reached
    """
    from training import tracking

    tracking.check_name(name)
    if not tables:
        return _default(name, root)
    table = combined(tables)
    evaluation, note = held_out(table, features=features, splits=splits, train_share=train_share, seed=seed, params=params)
    ranker = fit(table, features=features, params=params)
    ranker.card_["evaluation"] = evaluation
    version = tracking.register_ranker(
        ranker,
        table,
        figures(evaluation),
        name,
        params={**ranker.get_params(), "features": list(features) if features else "all", "splits": splits, "rows": len(table)},
        tags={"foretune.decision": "trained", "foretune.reason": note or "fitted by train"},
        report=evaluation,
        root=root,
    )
    return Fitted(name, version, _first(name, version, root), len(table), int(units(table).nunique()), evaluation, note)


def _first(name: str, version: str, root: Path | str | None) -> bool:
    """Make the version the champion if there is none; whether it was done."""
    from training import tracking

    return tracking.alias_version(name, root=root) is None and tracking.move_alias(name, version, expected=None, root=root)


def _default(name: str, root: Path | str | None) -> Fitted:
    """Register the ranker of a new installation with its hold-out figures."""
    from ranker.evaluate import evaluate
    from ranker.reference.kept import kept_ranker

    recipe = kept_ranker(root).get_params()
    table = reference_table()
    evaluation = evaluate(table.assign(group=table["checkpoint"]), methods=DEFAULT_METHODS, parameters=recipe, splits=10)
    version = register_default(name, evaluation, root=root)
    return Fitted(name, version, _first(name, version, root), len(table), int(units(table).nunique()), evaluation)


def reference_table() -> pd.DataFrame:
    """The table that the default ranker is fitted on, each published table a zoo."""
    from ranker.reference import default_table

    return default_table()


def register_default(name: str, evaluation: Mapping[str, Any] | None = None, *, root: Path | str | None = None) -> str:
    """Register the default ranker as a version, tagged `foretune.reference`; the alias stays.

    Its table is kept with it, but it is no part of history: retraining learns from what was measured here.
    """
    from ranker.reference.kept import kept_ranker
    from training import tracking

    ranker = kept_ranker(root)
    return tracking.register_ranker(
        ranker,
        reference_table(),
        figures(evaluation or {}),
        name,
        params=ranker.get_params(),
        tags={
            "foretune.reference": "true",
            "foretune.decision": "default",
            "foretune.reason": "the ranker of a new installation",
        },
        report=evaluation,
        derived=True,
        root=root,
    )


def combined(tables: Sequence[Path | str | pd.DataFrame]) -> pd.DataFrame:
    """Several comparison tables as one checked table with a `zoo` column."""
    import pandas as pd

    from ranker.table import check, read

    parts: list[pd.DataFrame] = []
    for source, name in zip(tables, _zoo_names(tables), strict=True):
        table = check(source) if isinstance(source, pd.DataFrame) else read(source)
        parts.append(table if "zoo" in table.columns else table.assign(zoo=name))
    return check(pd.concat(parts, ignore_index=True), where="the tables together") if len(parts) > 1 else check(parts[0])


def _zoo_names(tables: Sequence[Path | str | pd.DataFrame]) -> list[str]:
    """What the zoo of each table is called where it does not say: the file's stem, with as much of its path before it as tells it
    from the others.
    """
    paths = {k: Path(source).absolute().with_suffix("") for k, source in enumerate(tables) if isinstance(source, str | Path)}
    names = {}
    for k, path in paths.items():
        others = [other for other in paths.values() if other != path]
        parts = 1
        while parts < len(path.parts) and any(other.parts[-parts:] == path.parts[-parts:] for other in others):
            parts += 1
        names[k] = "/".join(path.parts[-parts:])
    return [names.get(k, f"table{k + 1 if len(tables) > 1 else ''}") for k in range(len(tables))]


def units(table: pd.DataFrame) -> pd.Series:
    """What may never stand on two sides of a split: the row's group where it has one, else the checkpoint's name.

    Names are taken without zoo and without the digest that history appends to a name whose weights changed: two checkpoints that
    could be the same one are held out together.
    """
    import pandas as pd

    names = table["checkpoint"].astype(str).str.replace(r"@[0-9a-f]{8}$", "", regex=True)
    if "group" not in table.columns:
        return names
    groups = table["group"].fillna("").astype(str)
    return pd.Series([f"group {g}" if g else n for g, n in zip(groups, names, strict=True)], index=table.index)


def fit(
    table: pd.DataFrame, *, features: Sequence[str] | None = None, params: Mapping[str, Any] | None = None
) -> LearningToCompare:
    """LearningToCompare fitted on a checked comparison table.

    Raises
    ------
    DataError : too few checkpoints, or no usable column
    """
    from lightgbm.basic import LightGBMError

    from ranker import LearningToCompare
    from ranker.table import features_of

    columns = features_of(table, features)
    try:
        return LearningToCompare(**(params or {})).fit(
            table[columns],
            table["outcome"],
            task=table["task"],
            group=units(table),
            zoo=table["zoo"] if "zoo" in table.columns else None,
            outcome_sd=table["outcome_sd"] if "outcome_sd" in table.columns and table["outcome_sd"].notna().any() else None,
        )
    except LightGBMError as error:
        raise DataError(
            f"a ranker cannot be fitted on {units(table).nunique()} checkpoints ({error})",
            where="the table",
            remedy="record outcomes of more checkpoints",
        ) from None


def held_out(
    table: pd.DataFrame,
    *,
    features: Sequence[str] | None,
    splits: int,
    train_share: float,
    seed: int,
    params: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], str]:
    """Figures on held-out checkpoints beside the baselines, or {} and the reason why there can be none."""
    from lightgbm.basic import LightGBMError

    from ranker.evaluate import evaluate
    from ranker.table import configurations_of, features_of

    columns = features_of(table, features)
    methods = [m for m in METHODS if m != "configuration" or configurations_of(table, columns)]
    try:
        found = evaluate(
            table.assign(group=units(table)),
            methods=methods,
            features=columns,
            splits=splits,
            train_share=train_share,
            seed=seed,
            parameters=dict(params or {}),
        )
        return found, ""
    except (DataError, LightGBMError) as error:
        return {}, f"no hold-out figures: {error}"


def figures(evaluation: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures of an evaluation as flat MLflow metrics: `holdout.TASK.METHOD.accuracy`, `.ci_low`, `.ci_high`, ..."""
    flat: dict[str, float | None] = {}
    blocks = {**evaluation.get("tasks", {}), "mean": evaluation.get("mean", {})}
    for task, methods in blocks.items():
        for method, values in methods.items():
            where = f"holdout.{task}.{method}"
            for key, value in values.items():
                if key == "ci95" and value:
                    flat[f"{where}.ci_low"], flat[f"{where}.ci_high"] = value[0], value[1]
                elif isinstance(value, int | float) and not isinstance(value, bool):
                    flat[f"{where}.{key}"] = float(value)
    return flat
