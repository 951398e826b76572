"""Champion against challenger on checkpoints that neither has seen, with a paired bootstrap over checkpoints.

The champion that answers today may have been fitted on any checkpoint, so it cannot be asked about the history as it is. What is
compared is the champion's recipe and data with the challenger's: for each of several random hold-outs of checkpoints, both are
fitted again, each on its own table without the checkpoints held out (by group or name, whatever the zoo), and both answer every
pair of the checkpoints held out that share zoo and task. Both standardise within the same zoo, whose features are known before
any outcome is.

The difference of their pairwise accuracies is resampled over checkpoints: a checkpoint drawn w times gives each of its pairs that
weight, for both rankers at once, so that what is hard for both cancels out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import DataError
from training.fit import fit, units

if TYPE_CHECKING:
    import pandas as pd

    from ranker import LearningToCompare

FEWEST = 5  # checkpoints below which no hold-out says anything


@dataclass(frozen=True)
class Verdict:
    """What the duel found.

    Attributes
    ----------
    champion, challenger : pairwise accuracy on the held-out pairs (a probability of exactly 1/2 counts half)
    difference : challenger minus champion
    interval : 95 % bootstrap interval of the difference
    probability : share of bootstrap samples in which the challenger is the better
    pairs, checkpoints, splits : what it was measured on
    """

    champion: float
    challenger: float
    difference: float
    interval: tuple[float, float]
    probability: float
    pairs: int
    checkpoints: int
    splits: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def duel(
    table: pd.DataFrame,
    champion_table: pd.DataFrame,
    *,
    champion_params: Mapping[str, Any] | None = None,
    champion_features: Sequence[str] | None = None,
    challenger_params: Mapping[str, Any] | None = None,
    features: Sequence[str] | None = None,
    splits: int = 10,
    held_share: float = 0.4,
    samples: int = 2000,
    seed: int = 0,
) -> Verdict:
    """Compare the champion's recipe on its own table with the challenger's on `table`, on checkpoints of `table`.

    Parameters
    ----------
    table : the whole history; held-out checkpoints are drawn from it
    champion_table : what the champion was fitted on
    champion_params, challenger_params : parameters of `LearningToCompare`
    champion_features, features : columns that the champion and the challenger are fitted on; None: all of the table's
    splits, held_share : how many hold-outs, and of what share of the checkpoints
    samples : of the bootstrap

    Raises
    ------
    DataError : too few checkpoints, or no hold-out in which both can be fitted and any pair compared
    """
    import pandas as pd

    unit = units(table).to_numpy()
    champion_unit = units(champion_table).to_numpy()
    names = np.array(sorted(set(unit)))
    if len(names) < FEWEST:
        raise DataError(f"{len(names)} different checkpoints", where="history", remedy=f"a comparison needs at least {FEWEST}")
    rng = np.random.default_rng(seed)
    known = set(champion_unit)
    champions: dict[frozenset[str], LearningToCompare] = {}
    found: list[pd.DataFrame] = []
    for _ in range(splits):
        held = set(rng.choice(names, size=max(2, round(held_share * len(names))), replace=False))
        outside = np.array([u not in held for u in unit])
        old = champion_table[[u not in held for u in champion_unit]]
        try:
            challenger = fit(_usable(table[outside]), features=features, params=challenger_params)
            key = frozenset(held & known)
            if key not in champions:  # a champion that knew none of the checkpoints held out is the same in every split
                old = _usable(old)
                known_columns = None if champion_features is None else [c for c in champion_features if c in old.columns]
                champions[key] = fit(old, features=known_columns, params=champion_params)
            champion = champions[key]
        except DataError:
            continue  # what is left of one of the two has nothing to compare
        for (_, task), zoo in table.groupby(["zoo", "task"], sort=True):
            rows = zoo[[u in held for u in units(zoo)]]
            pairs = _pairs(rows, zoo, str(task), champion, challenger)
            if pairs is not None:
                found.append(pairs)
    if not found:
        raise DataError("no held-out pair could be compared", where="history", remedy="record outcomes of more checkpoints")
    return _verdict(pd.concat(found, ignore_index=True), names, splits, samples, rng)


def _usable(table: pd.DataFrame) -> pd.DataFrame:
    """Without columns that have lost their last value with the checkpoints held out."""
    return table.dropna(axis=1, how="all").reset_index(drop=True)


def _pairs(
    rows: pd.DataFrame, zoo: pd.DataFrame, task: str, champion: LearningToCompare, challenger: LearningToCompare
) -> pd.DataFrame | None:
    """Who was right about every pair of `rows` (one zoo and task): columns a, b (units), champion, challenger (1, 1/2 or 0)."""
    import pandas as pd

    outcome, unit = rows["outcome"].to_numpy(float), units(rows).to_numpy()
    left, right = np.triu_indices(len(rows), 1)
    keep = (outcome[left] != outcome[right]) & (unit[left] != unit[right])
    left, right = left[keep], right[keep]
    if not len(left):
        return None
    better = outcome[left] > outcome[right]
    columns: dict[str, Any] = {"a": unit[left], "b": unit[right]}
    for name, ranker in (("champion", champion), ("challenger", challenger)):
        try:
            p = ranker.compare(rows.iloc[left], rows.iloc[right], task=task, context=zoo)
        except DataError:
            p = np.full(len(left), 0.5)  # it knows none of this zoo's features: it cannot tell
        columns[name] = np.where(p == 0.5, 0.5, (p > 0.5) == better)
    return pd.DataFrame(columns)


def _verdict(pairs: pd.DataFrame, names: np.ndarray, splits: int, samples: int, rng: np.random.Generator) -> Verdict:
    place = {name: i for i, name in enumerate(names)}
    a, b = pairs["a"].map(place).to_numpy(), pairs["b"].map(place).to_numpy()
    champion, challenger = pairs["champion"].to_numpy(float), pairs["challenger"].to_numpy(float)
    gain = challenger - champion
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=samples)
    differences = []
    for weights in drawn:
        w = weights[a] * weights[b]
        if w.sum() > 0:
            differences.append(float((w @ gain) / w.sum()))
    resampled = np.array(differences)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Verdict(
        float(champion.mean()),
        float(challenger.mean()),
        float(gain.mean()),
        (float(low), float(high)),
        float((resampled > 0).mean()),
        len(pairs),
        len(set(a) | set(b)),
        splits,
    )
