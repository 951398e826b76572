"""A spool gives back what was written, in memory or on disk, and holds no more than it may."""

from __future__ import annotations

import errno
import tracemalloc

import numpy as np
import pytest

from features.errors import FailedError
from features.spool import Spool


@pytest.mark.parametrize("memory", [0, 200, 2**20])
def test_rows_come_back_whatever_the_order_of_writing_and_wherever_they_are(memory):
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(9, 7)).astype(np.float32), rng.normal(size=(9, 3)).astype(np.float32)
    spool = Spool(9, memory=memory)
    spool.write("one", 4, one[4:])
    spool.write(("other", 2), 0, other)
    spool.write("one", 0, one[:4])
    np.testing.assert_array_equal(spool.read("one"), one)
    np.testing.assert_array_equal(spool.read(("other", 2)), other)
    assert list(spool) == ["one", ("other", 2)]
    assert spool.size == 9 * 10 * 4
    with pytest.raises(KeyError):
        spool.read("third")


def test_memory_is_that_of_one_matrix_not_of_all():
    rows, layers = np.ones((250, 64), dtype=np.float32), 40
    tracemalloc.start()
    spool = Spool(2000, memory=2**20)
    for first in range(0, 2000, 250):
        for layer in range(layers):
            spool.write(layer, first, rows)
    totals = [float(spool.read(layer).sum()) for layer in range(layers)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert totals == [2000 * 64] * layers
    assert spool.size == layers * 2000 * 64 * 4  # 20 MB
    assert peak < 4 * 2**20


def test_a_full_disk_is_a_named_error(monkeypatch):
    spool = Spool(10)

    def full(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(spool._file, "write", full)
    with pytest.raises(FailedError, match=r"no room for 0 MB of representations; point TMPDIR to a larger disk"):
        spool.write("one", 0, np.ones((10, 2), dtype=np.float32))
    unwritten = Spool(10)
    unwritten.write("one", 0, np.ones((4, 2), dtype=np.float32))
    with pytest.raises(FailedError, match="only 32 of 80 bytes of 'one' were written"):
        unwritten.read("one")


def test_the_file_is_closed_and_gone_with_the_spool():
    spool = Spool(10, memory=0)
    spool.write("one", 0, np.ones((10, 2), dtype=np.float32))
    file = spool._file
    assert not file.closed
    del spool
    assert file.closed
