"""A file that could not be written whole is not written: what stood there before stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from features.writing import whole, whole_folder, write_text


def test_what_fails_half_way_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "r.csv", "before")
    with pytest.raises(UnicodeEncodeError), whole(tmp_path / "new" / "r.csv") as draft:
        draft.write_text("half of \ud800", encoding="utf-8")
    assert [(file.name, file.read_text()) for file in (tmp_path / "new").iterdir()] == [("r.csv", "before")]


def test_a_link_keeps_pointing_and_a_pipe_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "kept" / "r.csv")
    for text in ("first", "second"):
        write_text(tmp_path / "link.csv", text)
        assert (tmp_path / "link.csv").is_symlink()
        assert (tmp_path / "kept" / "r.csv").read_text() == text
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE, text=True)
    write_text(tmp_path / "pipe", "through")
    assert reader.communicate()[0] == "through"
    assert (tmp_path / "pipe").is_fifo()
    with whole(Path("/dev/null")) as target:
        assert target == Path("/dev/null")


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


def test_a_folder_appears_when_it_is_full_and_the_first_one_stays(tmp_path: Path) -> None:
    place = tmp_path / "made" / "folder"
    with pytest.raises(UnicodeEncodeError), whole_folder(place) as draft:
        (draft / "half").write_text("half of \ud800", encoding="utf-8")
    assert list(place.parent.iterdir()) == []
    with whole_folder(place) as draft, whole_folder(place) as other:
        (draft / "of").write_text("one")
        assert not place.exists()
        (other / "of").write_text("another")
    assert [p.name for p in place.parent.iterdir()] == ["folder"]
    assert (place / "of").read_text() == "another"  # it was finished first
    with pytest.raises(OSError), whole_folder(place / "of") as draft:
        (draft / "x").write_text("")
