"""What each checkpoint of a zoo makes of each example, read back from the feature store: the raw material of training
dynamics.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from features.corpora import Corpora
from features.dynamics.trajectories import Trajectories
from features.errors import CheckpointError, DataError, UnknownNameError
from features.extract import LIMIT, prepared
from features.manifest import closest
from features.measuring import digest_of, key_of
from features.registry import load as load_extractor
from features.store import FeatureStore
from features.tasks import Task
from features.zoo import Zoo


def trajectories(
    zoo: Zoo | str | Path,
    tasks: Sequence[Task | str | Path] | None = None,
    *,
    store: FeatureStore | str | Path,
    extractor: str = "prompt",
    template: str | None = None,
    examples: str | Path | None = None,
    limit: int | None = LIMIT,
) -> dict[str, Trajectories]:
    """The trajectories of each task over the checkpoints that `extract` has measured; loads no checkpoint.

    Parameters
    ----------
    extractor : "prompt" (zero-shot, under `template`) or "kshot"
    template : name of a template; None is the first
    examples, limit : as given to `extract`

    Checkpoints that were not measured (or cannot be read) are left out. Raises DataError where fewer than two are left, and
    UnknownNameError for
    a template that the task does not have.
    """
    zoo, read, _ = prepared(zoo, tasks, [extractor], examples, limit)
    kept = store if isinstance(store, FeatureStore) else FeatureStore(store)
    made, corpora = load_extractor(extractor), Corpora(zoo.corpora)
    digests = []
    for checkpoint in zoo.checkpoints:
        try:
            digests.append((checkpoint, digest_of(checkpoint)))
        except CheckpointError:
            continue
    found = {}
    for task in read:
        name = task.templates[0] if template is None or extractor == "kshot" else template
        if name not in task.templates:
            raise UnknownNameError(f"no template named {name!r}", where=task.name, remedy=closest(name, task.templates))
        measured, arrays = [], []
        for checkpoint, digest in digests:
            for dtype in ("float32", "bfloat16", "float16"):
                content = kept.arrays(key_of(made, task, digest, corpora, dtype)).get(name)
                if content is not None:
                    measured.append(checkpoint)
                    arrays.append(content)
                    break
        if len(measured) < 2:
            raise DataError(
                f"{len(measured)} checkpoints of {zoo.name} are measured on it",
                where=task.name,
                remedy=f"run `foretune extract` with --features {extractor} first; two checkpoints are the least",
            )
        labels = tuple(map(str, arrays[0]["labels"]))
        found[task.name] = Trajectories(
            task=task.name,
            template=name,
            checkpoints=tuple(checkpoint.name for checkpoint in measured),
            steps=np.asarray([i if c.step is None else c.step for i, c in enumerate(measured)]),
            examples=tuple(map(str, arrays[0]["ids"])),
            nll=np.stack([content["nll"] for content in arrays]),
            probability=np.stack([content["probability"] for content in arrays]),
            correct=np.stack([content["correct"] for content in arrays]),
            labels=labels if any(labels) else (),
        )
    return found
