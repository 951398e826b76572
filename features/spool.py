"""Matrices that are written a few rows at a time and read back one at a time: in memory while they are small, else on disk.

The disk's part is one unnamed temporary file (in TMPDIR), which is gone when the spool is, however the process ends.
"""

from __future__ import annotations

import errno
import tempfile
import weakref
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import FailedError

MEMORY = 64 * 2**20  # bytes kept in memory before all of it moves to disk


class Spool:
    """float32 matrices of N rows each, by key.

    Parameters
    ----------
    rows : N, of every matrix
    memory : bytes that may stay in memory, 64 MB by default; what is more moves to disk, with what was there before

    Attributes
    ----------
    size : bytes of all matrices
    """

    def __init__(self, rows: int, *, memory: int | None = None) -> None:
        self.rows = rows
        self.size = 0
        limit = MEMORY if memory is None else memory
        self._file: Any = tempfile.SpooledTemporaryFile(max_size=limit)  # noqa: SIM115 (closed with the spool)
        weakref.finalize(self, self._file.close)
        self._places: dict[Hashable, tuple[int, int]] = {}  # key -> offset, columns

    def write(self, key: Hashable, first: int, values: NDArray[np.float32]) -> None:
        """Put rows (n, D) at the places from `first`; the first write of a key sets its D.

        Raises
        ------
        FailedError : the disk is full
        """
        columns = values.shape[1]
        if key not in self._places:
            self._places[key] = (self.size, columns)
            self.size += 4 * columns * self.rows
        try:
            self._file.seek(self._places[key][0] + 4 * columns * first)
            self._file.write(np.ascontiguousarray(values, dtype=np.float32).data)
        except OSError as cause:
            if cause.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise FailedError(
                f"no room for {self.size / 2**20:.0f} MB of representations",
                where=tempfile.gettempdir(),
                remedy="point TMPDIR to a larger disk, or measure on fewer examples",
            ) from cause

    def read(self, key: Hashable) -> NDArray[np.float32]:
        """The matrix (N, D) of a key, all rows written. Raises KeyError for a key that was never written."""
        offset, columns = self._places[key]
        found = np.empty((self.rows, columns), dtype=np.float32)
        self._file.seek(offset)
        buffer, done = found.data.cast("B"), 0
        while done < len(buffer):
            count = self._file.readinto(buffer[done:])
            if not count:
                raise FailedError(f"only {done} of {len(buffer)} bytes of {key!r} were written", where=tempfile.gettempdir())
            done += count
        return found

    def __contains__(self, key: Hashable) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[Any]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
