"""Hold-outs side by side: splits are independent of one another, so each may have a core of its own.

How many are at work is said around the call, not in it: ``with at_work(2): evaluate(...)``. What comes out is the same to the
last digit, since it is put together in the splits' own order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from features.errors import UserError

T = TypeVar("T")


def at_work(jobs: int) -> AbstractContextManager[Any]:
    """Within it, `each` has so many processes (1: none but this one).

    Raises
    ------
    UserError : fewer than one
    """
    from joblib import parallel_config

    if jobs < 1:
        raise UserError(f"jobs = {jobs}", remedy="give 1, or as many as there are cores")
    return parallel_config(backend="loky", n_jobs=jobs)


def each(work: Callable[..., T], parts: Iterable[tuple[Any, ...]], *, progress: bool = False) -> Iterator[T]:
    """``work(*part)`` of every part, in order; `progress`: a bar on stderr where that is a terminal."""
    from joblib import Parallel, delayed
    from tqdm import tqdm

    parts = list(parts)
    done = Parallel(return_as="generator", max_nbytes=None)(delayed(work)(*part) for part in parts)
    return iter(
        tqdm(done, total=len(parts), file=sys.stderr, disable=None if progress else True, unit="split", dynamic_ncols=True)
    )
