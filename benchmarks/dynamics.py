"""Seconds and peak memory of relating and selecting many examples, each measured in a process of its own.

    python benchmarks/dynamics.py                            10,000 examples at 30 checkpoints
    python benchmarks/dynamics.py --examples 2000 --json dynamics.json

Exact correlations of all pairs; the linear-cost way, polynomial coefficients and their clusters; choosing 100 and 1,000 examples.
Trajectories are simulated: costs do not depend on the values. Peak memory is that of the whole process, interpreter included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from features.dynamics.points import cluster, coefficients, correlations
from features.selection.selectors import select

WORK: dict[str, Callable[[np.ndarray], object]] = {
    "imports and the trajectories alone": lambda losses: losses.sum(),
    "exact correlation of all pairs": correlations,
    "polynomial coefficients of degree 5, 50 clusters": lambda x: cluster(coefficients(x, np.arange(len(x)), 5), 50),
    "kriging, 100 examples": lambda x: select("kriging", x, 100, strata=np.arange(x.shape[1]) % 4),
    "kriging, 1,000 examples": lambda x: select("kriging", x, 1000, strata=np.arange(x.shape[1]) % 4),
    "anchor points, 100 examples": lambda x: select("anchor-points", x, 100),
}


def simulated(checkpoints: int, examples: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.abs(np.cumsum(rng.normal(size=(checkpoints, 8)), axis=0) @ rng.normal(size=(8, examples))) + rng.random(examples)


def timed(name: str, checkpoints: int, examples: int) -> dict[str, float | str]:
    losses = simulated(checkpoints, examples)
    wall, cpu = time.perf_counter(), time.process_time()
    WORK[name](losses)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"what": name, "wall": wall, "cpu": cpu, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--checkpoints", type=int, default=30)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    print(f"{given.examples:,} examples at {given.checkpoints} checkpoints\n")
    print("| what | wall s | CPU s | peak MB |\n|---|---|---|---|")
    for name in WORK:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(timed, (name, given.checkpoints, given.examples)))
        print(f"| {name} | {rows[-1]['wall']:.2f} | {rows[-1]['cpu']:.2f} | {rows[-1]['megabytes']:.0f} |", flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
