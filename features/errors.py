"""Every error that foretune raises on purpose.

    ForetuneError
    ├── UserError              the user's mistake: CLI exit 2, HTTP 400
    │   ├── ManifestError      a zoo, task or recipe file
    │   ├── DataError          a data file or a table
    │   └── UnknownNameError   a name that is not in the zoo, table, registry
    └── FailedError            something failed though the input was right: CLI exit 1, HTTP 500
        ├── CheckpointError    one checkpoint cannot be loaded or scored: a reported row, never a lost run
        └── StoreError         the feature store or MLflow cannot be read or written

The tree stands in the lowest package, so that all four can raise from it; it imports nothing.
"""

from __future__ import annotations


class ForetuneError(Exception):
    """Root of the tree.

    Parameters
    ----------
    message : what was found, in one line
    where : the file (and field) that it was found in, e.g. ``"zoo.yaml: checkpoints[2].model"``
    remedy : what to do about it

    ``str(error)`` is the line that the user sees: ``where: message; remedy``.
    """

    exit_code = 1
    http_status = 500
    code = "error"

    def __init__(self, message: str, *, where: str = "", remedy: str = "") -> None:
        self.message, self.where, self.remedy = message, where, remedy
        super().__init__((f"{where}: " if where else "") + message + (f"; {remedy}" if remedy else ""))


class UserError(ForetuneError):
    """The user's mistake."""

    exit_code = 2
    http_status = 400
    code = "invalid"


class ManifestError(UserError):
    """A zoo, task or recipe file breaks its schema."""

    code = "manifest"


class DataError(UserError):
    """A data file or a table cannot be used as it is."""

    code = "data"


class UnknownNameError(UserError):
    """A checkpoint, task, feature or ranker by that name is not known."""

    http_status = 404
    code = "unknown_name"


class FailedError(ForetuneError):
    """Something failed though the input was right."""

    code = "failed"


class CheckpointError(FailedError):
    """One checkpoint cannot be loaded or scored."""

    code = "checkpoint"


class StoreError(FailedError):
    """The feature store or MLflow cannot be read or written."""

    http_status = 503
    code = "store"
