"""Everything MLflow: runs, tables, the ranker's registry. The only package that imports mlflow, and only when a function is
called.

place.py      where the store is and how a call to it fails
runs.py       one run of foretune: parameters, metrics, tables with their digest
registry.py   versions of the ranker, the alias `champion`, the lease that retraining holds
history.py    the comparison table, rebuilt from runs alone
"""

from training.tracking.history import comparison_table, recorded_features, recorded_outcomes
from training.tracking.lease import lease
from training.tracking.place import EXPERIMENT, tracking_uri
from training.tracking.registry import (
    CHAMPION,
    RANKER,
    alias_version,
    champion,
    check_name,
    find_version,
    load_version,
    move_alias,
    register_ranker,
    tag_version,
    training_table,
    versions,
)
from training.tracking.runs import Run, is_recorded, log_extract, log_outcomes, log_pretrain, log_table, run, table_digest

__all__ = [
    "CHAMPION",
    "EXPERIMENT",
    "RANKER",
    "Run",
    "alias_version",
    "champion",
    "check_name",
    "comparison_table",
    "find_version",
    "is_recorded",
    "lease",
    "load_version",
    "log_extract",
    "log_outcomes",
    "log_pretrain",
    "log_table",
    "move_alias",
    "recorded_features",
    "recorded_outcomes",
    "register_ranker",
    "run",
    "table_digest",
    "tag_version",
    "tracking_uri",
    "training_table",
    "versions",
]
