"""What MLflow remembers of checkpoints that were measured once: for a question that names neither a zoo nor a table."""

from __future__ import annotations

from pathlib import Path

from features.errors import UnknownNameError, UserError
from serving.catalogue import Catalogue
from serving.champion import registry_exists

_REMEDY = "give --table TABLE or --zoo ZOO"


def both(root: Path, a: str, b: str) -> Catalogue:
    """The zoo in which checkpoints `a` and `b` were measured; of weights that changed under one name, the newest count.

    Raises
    ------
    UnknownNameError : no zoo was measured that has both
    UserError : several have both
    """
    rows = None
    if registry_exists(root):
        from training.tracking import recorded_features

        rows = recorded_features(root=root)
    known = {} if rows is None else {str(zoo): some for zoo, some in rows.groupby("zoo", sort=False)}
    found = {zoo: some for zoo, some in known.items() if {a, b} <= set(some["checkpoint"])}
    if not found:
        raise UnknownNameError(f"no extraction in MLflow has both {a!r} and {b!r}", where=str(root / "mlruns"), remedy=_REMEDY)
    if len(found) > 1:
        raise UserError(f"several zoos in MLflow have both {a!r} and {b!r}: {', '.join(found)}", remedy=_REMEDY)
    from ranker.table import widen

    ((zoo, some),) = found.items()
    newest = some.groupby("checkpoint")["digest"].transform("last")
    wide = widen(some[some["digest"] == newest], where=str(root / "mlruns"))
    return Catalogue.of_table(wide, zoo)
