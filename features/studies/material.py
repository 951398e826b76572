"""The checkpoints and examples of a study: measured where they are not in the store, laid side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from features.dynamics.rows import digests_of, place
from features.dynamics.trajectories import Trajectories, shared
from features.examples import trajectories
from features.extract import extract
from features.zoo import Zoo

QUANTITIES = {
    "nll": "log-likelihood of the gold answer",
    "choice": "log-probability of the gold answer among the choices",
    "error": "accuracy",
}
LIMIT = 500


def quantity(task: Trajectories, name: str) -> Trajectories:
    """The trajectories with `nll` replaced by what QUANTITIES names, lower being better."""
    values = {"nll": task.nll, "choice": -np.log(np.maximum(task.probability, 1e-9)), "error": 1 - task.correct}
    return replace(task, nll=values[name])


def measured(zoos: Sequence[Zoo], tasks: Sequence[Path], store: Path) -> list[dict[str, Trajectories]]:
    """For each zoo the trajectories of the tasks, on LIMIT examples each; measured where they are not in the store."""
    for zoo in zoos:
        for failure in extract(zoo, tasks, features="prompt", store=store, limit=LIMIT).failed:
            print(f"left out: {failure}", file=sys.stderr)
    return [trajectories(zoo, tasks, store=store, limit=LIMIT) for zoo in zoos]


@dataclass(frozen=True)
class Material:
    """Checkpoints of a zoo and of its runs side by side.

    Attributes
    ----------
    tasks : trajectories of C checkpoints
    runs : (C,) name of the run of each
    final : (C,) whether it is one of the zoo, rather than an earlier checkpoint of a run
    """

    tasks: list[Trajectories]
    runs: np.ndarray
    final: np.ndarray


def material(zoo: Zoo, along: Sequence[Zoo], tasks: Sequence[Path], store: Path, most: int) -> Material:
    """The checkpoints of a zoo and of the runs that lead to them, each once, on at most `most` examples of each task."""
    found = measured([zoo, *along], tasks, store)
    digests = digests_of(c for z in (zoo, *along) for c in z.checkpoints)
    run_of = {digests.get(place(c), ""): z.name for z in along for c in z.checkpoints}
    finals = {digests.get(place(c), ""): c.name for c in zoo.checkpoints}
    parts, runs, final = [], [], []
    for z, own in zip((zoo, *along), found, strict=True):
        own_tasks = shared(list(own.values()))
        names = {c.name: digests.get(place(c), "") for c in z.checkpoints}
        kept = [i for i, name in enumerate(own_tasks[0].checkpoints) if z is zoo or names[name] not in finals]
        parts.append([task.of_checkpoints(kept) for task in own_tasks])
        for i in kept:
            name = own_tasks[0].checkpoints[i]
            runs.append(run_of.get(names[name], name) if z is zoo else z.name)
            final.append(z is zoo)
    joined = [_stacked([part[i] for part in parts]) for i in range(len(parts[0]))]
    rng = np.random.default_rng(0)
    chosen = [t.of_examples(np.sort(rng.permutation(len(t.examples))[:most])) for t in joined]
    return Material(chosen, np.array(runs), np.array(final))


def _stacked(parts: Sequence[Trajectories]) -> Trajectories:
    first = parts[0]
    return replace(
        first,
        checkpoints=tuple(name for part in parts for name in part.checkpoints),
        steps=np.concatenate([part.steps for part in parts]),
        nll=np.concatenate([part.nll for part in parts]),
        probability=np.concatenate([part.probability for part in parts]),
        correct=np.concatenate([part.correct for part in parts]),
    )
