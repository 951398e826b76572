"""Every `foretune` command of the README runs, in the folder that it speaks of; `make demo` and `make test` are CI's own."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import checkpoints
from called import foretune_in

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line[2:]
    for block in re.findall(r"```console\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.startswith("$ ")
]


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "FORETUNE_TOKEN")}
    return kept | {"PYTHONPATH": str(ROOT)}


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    arguments = shlex.split(command)[1:]
    return subprocess.run(
        [sys.executable, "-m", "serving.cli", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=250,
    )


def command(beginning: str) -> str:
    """The one README command that begins so."""
    (found,) = [c for c in COMMANDS if c.startswith(beginning)]
    return found


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README's second section describes: two folders, a table of forty rows, and its two YAML files word for word."""
    root = tmp_path_factory.mktemp("newcomer")
    checkpoints.llama(root / "small", layers=1, width=32)
    checkpoints.llama(root / "large", seed=1)
    with (root / "films.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        table.writerows(
            [f"A {'dull' if i % 2 == 0 else 'bright'} film about {topic}.", i % 2] for i, topic in enumerate(map(str, range(40)))
        )
    for block in re.findall(r"```yaml\n(.*?)```", README, re.S):
        (root / re.match(r"# (\w+\.yaml)", block)[1]).write_text(block)  # type: ignore[index]
    return root


@pytest.fixture(scope="module")
def demo(_migrated: Path, kept_default: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout that `foretune demo` leaves behind: the zoo that ships, less of its text and of the task, a store, a ranker."""
    from training import demo_tasks, shipped

    root = tmp_path_factory.mktemp("demo")
    names = [c["name"] for c in yaml.safe_load(shipped.copy(root / "zoo").read_text())["checkpoints"]]
    text = root / "zoo" / "reference.jsonl"
    text.write_text("".join(text.read_text().splitlines(keepends=True)[::8]))
    shutil.copytree(kept_default, root / "mlruns" / "default-ranker")
    shutil.copy(_migrated, root / "mlruns" / "mlflow.db")
    demo_tasks.write(root / "tasks", ("kinds",), train=40, test=20, features=16)
    with (root / "outcomes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["checkpoint", "task", "outcome"])
        table.writerows([name, "kinds", 0.5 + i / 20] for i, name in enumerate(names))
    return root


def test_every_command_is_one_that_is_tested_here() -> None:
    known = (
        "foretune rank",
        "foretune compare",
        "foretune serve",
        "curl",
        "foretune outcomes",
        "foretune retrain",
        "foretune evaluate",
    )
    assert [c for c in COMMANDS if not c.startswith(known)] == []


def test_a_newcomer_ranks_two_folders_on_a_table_of_forty_rows(newcomer: Path) -> None:
    done = run(command("foretune rank zoo.yaml"), newcomer)
    assert done.returncode == 0, done.stderr
    assert "small" in done.stdout
    assert "large" in done.stdout


def test_the_demo_zoo_is_ranked_compared_and_learnt_from(
    demo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    foretune = foretune_in(demo, monkeypatch, capsys)
    # What the demo has recorded before.
    recorded = "foretune extract zoo/zoo.yaml --task tasks/kinds.yaml --features ppl_clm,kshot -o features.csv"
    for line in (recorded, *map(command, ("foretune rank zoo/", "foretune compare", "foretune outcomes", "foretune retrain"))):
        code, out, err = foretune(*shlex.split(line)[1:])
        assert code == 0, (line, err)
        assert out or line == recorded
    assert (demo / "report.html").stat().st_size > 1000
    assert len((demo / "ranking.csv").read_text().splitlines()) == 9


@pytest.fixture
def service(demo: Path) -> Iterator[str]:
    """The README's serve command, on a free port."""
    import socket
    import time
    import urllib.request

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = shlex.split(command("foretune serve").replace("3000", str(port)))[1:]
    with (demo / "service.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "serving.cli", *arguments], cwd=demo, env=environment(), stderr=log)
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2)
                    break
                except OSError:
                    assert process.poll() is None, (demo / "service.log").read_text()
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


def test_the_curl_line_is_answered(demo: Path, service: str) -> None:
    line = shlex.split(command("curl").replace("http://127.0.0.1:3000", service))
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    answer = json.loads(done.stdout)
    assert {answer["a"], answer["b"]} == {"08-ul2r-all", "01-sc-public"}
    assert 0 < answer["probability"] < 1


def test_the_published_figures_are_evaluated(tmp_path: Path) -> None:
    done = run(command("foretune evaluate").replace("--splits 20", "--splits 2"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "best-single" in done.stdout


def test_the_tree_names_what_is_there() -> None:
    tree = README.split("## The tree")[1].split("```")[1]
    folder = ROOT
    for line in filter(str.strip, tree.splitlines()):
        inside = line.startswith(" ")
        for name in line.strip().split("   ")[0].split(", "):
            if not inside:
                folder = ROOT / name.split("  ")[0]
            assert ((folder if inside else ROOT) / name.split("  ")[0].strip()).exists(), line
