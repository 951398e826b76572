"""Which examples serve for what. Four roles, and no example serves for two of them, but for `shots`, which lies within `train`.

    train      fine-tuning
    shots      the pool that few-shot examples are drawn from: all of train, or what `fewshot_split` names
    features   where features are measured before fine-tuning
    test       where outcomes are measured after it; no feature ever sees it

What the source gives is kept: `test` is the source's test split (or, without one, its validation split); `features` is the
source's `features` split, or its validation split where that is not the test; without either it is carved out of train, so
that fine-tuning does not see it. A source with one split only (or none) is shuffled, seeded, and stratified by label, into
half train, a quarter features (at most 500) and a quarter test (at most 1,000); so is one whose only other split is `features`.
Rows without a split are a split called `all`; it serves for train where the source has no `train`. Rows of a split that serves
for nothing are left out, and the report counts them. An example that occurs twice is kept once, in the first of test, features,
train that has it: training data that also stands in the test is a leak.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from features.errors import DataError, ManifestError
from features.manifest import closest

ALIASES = {
    "training": "train",
    "dev": "validation",
    "valid": "validation",
    "val": "validation",
    "testing": "test",
    "eval": "test",
}
FEWEST = 4  # examples that a task must have, after duplicates are dropped
MOST_FEATURES, MOST_TEST = 500, 1000


@dataclass(frozen=True)
class Roles:
    """Indices of the rows in each role, in the order of the data, and a line that says how they came about."""

    train: tuple[int, ...]
    shots: tuple[int, ...]
    features: tuple[int, ...]
    test: tuple[int, ...]
    dropped: int
    report: str
    counts: Mapping[str, int] = field(default_factory=dict)


def spread(indices: Sequence[int], count: int, labels: Sequence[Hashable], seed: str) -> list[int]:
    """`count` of `indices`, drawn at random and spread over the labels in proportion (to within one), in the order of
    `indices`.
    """
    if count >= len(indices):
        return list(indices)
    rng = random.Random(seed)
    shuffled = sorted(indices)
    rng.shuffle(shuffled)
    rank = {label: i for i, label in enumerate(sorted({str(labels[i]) for i in indices}))}
    ordered = sorted(shuffled, key=lambda i: rank[str(labels[i])])
    start = rng.random()
    chosen = {ordered[int((j + start) * len(ordered) / count)] for j in range(count)}
    return [i for i in indices if i in chosen]


def assign(
    sources: Sequence[str],
    keys: Sequence[Hashable],
    labels: Sequence[Hashable],
    *,
    named: Mapping[str, str],
    seed: int,
    where: str,
) -> Roles:
    """Give each row its role.

    Parameters
    ----------
    sources : the split of each row as the source names it; "" where it has none
    keys : what makes two rows the same example
    labels : for stratifying; one value for all where there is none
    named : role in the source (training_split, validation_split, test_split, fewshot_split, features_split) -> split of the
        source
    seed, where : of the task; for messages

    Raises ManifestError for a named split that the data does not have, DataError for too few examples or an empty role.
    """
    splits = [ALIASES.get(source, source) or "all" for source in sources]
    present = Counter(splits)
    chosen: dict[str, str | None] = {}
    for key, default in (
        ("training_split", "train" if "train" in present else "all"),
        ("validation_split", "validation"),
        ("test_split", "test"),
        ("features_split", "features" if len(present) > 1 else None),
        ("fewshot_split", None),
    ):
        name = named.get(key)
        if name is not None:
            name = name if name in present else ALIASES.get(name, name)
            if name not in present:
                raise ManifestError(
                    f"the data has no split {named[key]!r}", where=f"{where}: {key}", remedy=closest(named[key], present)
                )
        chosen[key] = name or (default if default in present else None)
    train, validation, test = chosen["training_split"], chosen["validation_split"], chosen["test_split"]
    features = chosen["features_split"]
    if test is None:
        test, validation = validation, None
    if features is None and validation not in (test, train):
        if train is None:
            train = validation  # test and validation only: the validation split serves for both train and features
        else:
            features = validation
    pools: dict[str, list[int]] = {"train": [], "features": [], "test": []}
    others = [name for name in present if name != features] or list(present)
    used = {train, test} - {None} or {max(others, key=lambda name: (present[name], name))}
    if train is None or test is None or test == train:
        whole = [i for i, split in enumerate(splits) if split in used and split != features]
        whole, dropped = _once(whole, keys, set())
        test_count = min(round(len(whole) / 4), MOST_TEST)
        pools["test"] = spread(whole, test_count, labels, f"{seed}/test")
        pools["train"] = sorted(set(whole) - set(pools["test"]))
        how = f"{len(whole)} examples of {' and '.join(repr(str(u)) for u in sorted(map(str, used)))} shuffled (seed {seed})"
        taken = {keys[i] for i in whole}
    else:
        pools["test"], dropped = _once([i for i, split in enumerate(splits) if split == test], keys, set())
        taken = {keys[i] for i in pools["test"]}
        how = f"test from {test!r}, train from {train!r}"
    if features is not None:
        pools["features"], more = _once([i for i, split in enumerate(splits) if split == features], keys, taken)
        dropped += more
        taken |= {keys[i] for i in pools["features"]}
        how += f", features from {features!r}"
    if not pools["train"]:
        pools["train"], more = _once([i for i, split in enumerate(splits) if split == train], keys, taken)
        dropped += more
        taken |= {keys[i] for i in pools["train"]}
    total = sum(map(len, pools.values()))
    if total < FEWEST:
        raise DataError(f"{total} different examples", where=where, remedy=f"a task needs at least {FEWEST}")
    if features is None:
        share = len(pools["train"]) / 3 if "shuffled" in how else len(pools["train"]) / 4
        pools["features"] = spread(pools["train"], max(1, min(round(share), MOST_FEATURES)), labels, f"{seed}/features")
        pools["train"] = sorted(set(pools["train"]) - set(pools["features"]))
        how += ", features held out of train"
    for role, indices in pools.items():
        if not indices:
            raise DataError(
                f"no example is left for {role}",
                where=where,
                remedy="give the data more rows, or leave the splits to the seeded shuffle",
            )
    shots = pools["train"]
    if chosen["fewshot_split"] not in (None, train, test, features):
        shots, more = _once([i for i, split in enumerate(splits) if split == chosen["fewshot_split"]], keys, taken)
        dropped += more
        how += f", shots from {chosen['fewshot_split']!r}"
        if not shots:
            raise DataError("no example is left for shots", where=where, remedy="name another fewshot_split")
    counts = {"train": len(pools["train"]), "shots": len(shots), "features": len(pools["features"]), "test": len(pools["test"])}
    report = f"{how}: {', '.join(f'{n} {role}' for role, n in counts.items())}"
    if dropped:
        report += f"; {dropped} duplicates dropped"
    if left := [f"{n} of {name!r}" for name, n in present.items() if name not in {*used, features, chosen["fewshot_split"]}]:
        report += f"; left out: {', '.join(left)}"
    return Roles(tuple(pools["train"]), tuple(shots), tuple(pools["features"]), tuple(pools["test"]), dropped, report, counts)


def _once(indices: list[int], keys: Sequence[Hashable], taken: set[Hashable]) -> tuple[list[int], int]:
    seen, kept = set(taken), []
    for i in indices:
        if keys[i] not in seen:
            seen.add(keys[i])
            kept.append(i)
    return kept, len(indices) - len(kept)
