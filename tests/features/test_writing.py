"""A file that could not be written whole is not written: what stood there before stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from features.writing import whole, write_text


def test_what_fails_half_way_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "r.csv", "before")
    with pytest.raises(UnicodeEncodeError), whole(tmp_path / "new" / "r.csv") as draft:
        draft.write_text("half of \ud800", encoding="utf-8")
    assert [(file.name, file.read_text()) for file in (tmp_path / "new").iterdir()] == [("r.csv", "before")]


def test_a_ranking_that_the_disk_cannot_take_leaves_the_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("before")
    script = (
        "import resource, pathlib; from serving import report; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        "report.write([{'task': 'x' * 100_000}], pathlib.Path('r.json'), 'json')"
    )
    said = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "File too large" in said.stderr
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("r.json", "before")]
