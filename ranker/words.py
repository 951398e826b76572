"""Configurations written as words, taken apart into indicators: which value it is, which parts it has."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ranker.pairs import Floats, Ints


def parts_of(word: str) -> set[str]:
    """The parts that a configuration's value is put together from: SC+CLM has SC and CLM."""
    return {part for part in re.split(r"[+\-/_,;:\s]+", word) if part}


def holds(word: str, levels: Sequence[str]) -> Floats:
    """(len(levels),) 1 where the value has the indicator, 0 where not."""
    parts = parts_of(word)
    return np.array(
        [float(word == v if k == "=" else v in parts if k == "~" else word != v) for k, v in ((x[0], x[1:]) for x in levels)]
    )


def indicators(column: pd.Series, checkpoint: Ints, most: int) -> list[str]:
    """Indicators of a text column, the broadest first; none for a column that names each row (or all rows) differently (or
    the same).
    """
    frame = pd.DataFrame(
        {"value": [str(v).strip() if v is not None and v == v else None for v in column], "checkpoint": checkpoint}
    )
    frame = frame.dropna().drop_duplicates()
    count = frame["value"].value_counts()
    if len(count) < 2 or count.iloc[0] < 2:
        return []
    values = sorted(count.index, key=lambda v: (-count[v], v))
    several = {p for v in values if len(parts_of(v)) > 1 for p in parts_of(v)} if len(values) <= 200 else set()
    offered = [f"={v}" for v in values] + [f"~{p}" for p in sorted(several)] + ([f"!{values[0]}"] if len(values) > 2 else [])
    size = np.array([count[v] for v in values], float)
    kept: dict[bytes, tuple[float, str]] = {}
    for one in offered:
        has = np.array([holds(v, [one])[0] for v in values])
        with_it = float(size @ has)
        if min(with_it, float(size.sum()) - with_it) < 2:
            continue
        # An indicator and its opposite say the same.
        key = min(has.tobytes(), (1 - has).tobytes())
        kept.setdefault(key, (-min(with_it, float(size.sum()) - with_it), one))
    return [one for _, one in sorted(kept.values())][:most]
