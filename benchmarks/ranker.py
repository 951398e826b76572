"""What the ranker costs: fitting millions of pairs, ranking thousands of candidates, answering one question.

    python -m benchmarks.ranker fit            # 1,282 checkpoints of 6 bases x 36 tasks: 7 million pairs within base
    python -m benchmarks.ranker rank           # 1,000 candidates, all pairs; 100,000 against anchors
    python -m benchmarks.ranker answer         # one question at a time
    python -m benchmarks.ranker items          # items against sampled pairs, at equal accuracy: what each costs

The tables are made up (a linear truth with noise) in the shape of the public ones, so that the benchmark needs no download.
"""

from __future__ import annotations

import resource
import sys
import time

import lightgbm as lgb
import numpy as np
import pandas as pd

from ranker import LearningToCompare
from ranker.pairs import codes, within

BASES = (440, 386, 243, 91, 79, 43)
TASKS = 36


def table(seed: int = 0, features: int = 8) -> pd.DataFrame:
    """1,282 checkpoints of six bases on 36 tasks: 7 million pairs within base."""
    rng = np.random.default_rng(seed)
    n = sum(BASES)
    base = np.repeat([f"base-{k}" for k in range(len(BASES))], BASES)
    X = rng.normal(size=(n, features))
    weights = rng.normal(size=(TASKS, features)) * 0.4 + rng.normal(size=features)
    frames = []
    for t in range(TASKS):
        frame = pd.DataFrame(X, columns=[f"f{k}" for k in range(features)])
        frame["objective"] = np.array(["clm", "sc", "sc+clm"])[np.arange(n) % 3]
        noise = 1.5 * rng.normal(size=n)
        frames.append(
            frame.assign(task=f"task-{t:02d}", checkpoint=[f"c{k}" for k in range(n)], zoo=base, outcome=X @ weights[t] + noise)
        )
    return pd.concat(frames, ignore_index=True)


def memory() -> float:
    """Peak resident memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def accuracy(strength: np.ndarray, df: pd.DataFrame) -> float:
    """Held-out pairwise accuracy within base and task."""
    i, j = within(codes(df["zoo"], df["task"]), limit=300_000)
    y = df["outcome"].to_numpy()
    return float(np.mean((strength[i] > strength[j]) == (y[i] > y[j])))


def fit() -> None:
    df = table()
    pairs = TASKS * sum(n * (n - 1) // 2 for n in BASES)
    columns = [c for c in df.columns if c.startswith("f") or c == "objective"]
    wall, cpu = time.perf_counter(), time.process_time()
    ranker = LearningToCompare().fit(df[columns], df["outcome"], task=df["task"], zoo=df["zoo"], group=df["checkpoint"])
    print(
        f"{pairs:,} pairs as {len(df):,} items: wall {time.perf_counter() - wall:.1f} s, CPU {time.process_time() - cpu:.1f} s, "
        f"peak {memory():.2f} GB, held-out accuracy {ranker.holdout_['accuracy']:.3f}"
    )


def rank() -> None:
    rng = np.random.default_rng(0)
    small = pd.DataFrame(rng.normal(size=(50, 6)), columns=list("abcdef"))
    ranker = LearningToCompare().fit(small, small["a"] + rng.normal(size=50))
    for n in (1_000, 100_000):
        zoo = pd.DataFrame(rng.normal(size=(n, 6)), columns=list("abcdef"))
        wall, cpu = time.perf_counter(), time.process_time()
        ranking = ranker.rank(zoo)
        how = "all pairs" if ranking.exact else "against anchors"
        spent = f"wall {time.perf_counter() - wall:.2f} s, CPU {time.process_time() - cpu:.2f} s"
        print(f"{n:,} candidates, {how}: {spent}, peak {memory():.2f} GB")


def answer() -> None:
    from ranker.reference import default_ranker

    ranker = default_ranker()
    rng = np.random.default_rng(0)
    rows = [{"ppl_clm": p, "ppl_sc": s, "kshot_acc": k} for p, s, k in np.exp(rng.normal(size=(400, 3)))]
    ranker.answer(rows[0], rows[1])
    cpu = time.process_time()
    for a, b in zip(rows[::2], rows[1::2], strict=True):
        ranker.answer(a, b)
    print(f"one answer with reasons: {1e3 * (time.process_time() - cpu) / 200:.2f} ms CPU")


def items() -> None:
    """One task of 1,282: the default pairwise LightGBM on sampled pairs, and the same trees on items."""
    df = table()
    df = df[df["task"] == "task-00"].reset_index(drop=True)
    test = np.random.default_rng(1).random(len(df)) < 0.4
    train, held = df[~test].reset_index(drop=True), df[test].reset_index(drop=True)
    columns = [c for c in df.columns if c.startswith("f")]
    A, B = train[columns].to_numpy(), held[columns].to_numpy()
    settings = {"num_threads": 1, "verbosity": -1, "deterministic": True, "force_row_wise": True}
    unit = codes(train["zoo"])
    i, j = within(codes(held["zoo"]), limit=50_000)
    truth = held["outcome"].to_numpy()
    for limit in (10_000, 10_000_000):
        cpu = time.process_time()
        a, b = within(unit, limit=limit)
        F = np.vstack([np.hstack([A[a] - A[b], A[a], A[b]]), np.hstack([A[b] - A[a], A[b], A[a]])])
        y = np.concatenate([train["outcome"].to_numpy()[a] > train["outcome"].to_numpy()[b]] * 1)
        model = lgb.train({**settings, "objective": "binary"}, lgb.Dataset(F, np.concatenate([y, ~y]).astype(int)), 100)
        gap = model.predict(np.hstack([B[i] - B[j], B[i], B[j]])) - model.predict(np.hstack([B[j] - B[i], B[j], B[i]]))
        right = np.mean((gap > 0) == (truth[i] > truth[j]))
        print(f"pairs, {2 * len(a):,} rows: accuracy {right:.3f}, CPU {time.process_time() - cpu:.1f} s")
    cpu = time.process_time()
    ranker = LearningToCompare().fit(train[columns], train["outcome"], zoo=train["zoo"], group=train["checkpoint"])
    strength = np.zeros(len(held))
    for zoo in held["zoo"].unique():
        rows = (held["zoo"] == zoo).to_numpy()
        strength[rows] = ranker.strengths(held.loc[rows, columns], context=df.loc[df["zoo"] == zoo, columns])
    right = np.mean((strength[i] > strength[j]) == (truth[i] > truth[j]))
    print(f"items, {len(train):,} rows, all scorers and resamples: accuracy {right:.3f}, CPU {time.process_time() - cpu:.1f} s")


if __name__ == "__main__":
    for name in sys.argv[1:] or ["fit", "rank", "answer", "items"]:
        {"fit": fit, "rank": rank, "answer": answer, "items": items}[name]()
