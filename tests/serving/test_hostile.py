"""Hostile requests: whatever they hold, the service opens nothing, asks nobody, starts nothing, and goes on answering.

The service under test tells each file it opens, each connection and each process (`audited/sitecustomize.py`).
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import sys
import urllib.error
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from served import Server

GOOD = {"ppl_clm": 12.0, "kshot_acc": 0.61}
SHAPE = {"code", "message", "where", "remedy"}


class Trap:
    """A file with a secret and a listener: whoever is talked into looking at them is seen."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "secret-canary.yaml"
        self.file.write_text("zoo: secret\ncheckpoints: [{name: s, model: ./s}]\n")
        self.touched = folder / "touched-canary"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]

    def baits(self) -> list[str]:
        file, touch, url = self.file, f"touch {self.touched}", f"127.0.0.1:{self.port}"
        return [
            "/etc/passwd", str(file), f"file://{file}", "../" * 20 + str(file).lstrip("/"), f"~/../{file}", f"{file}\x00.csv",
            f"http://{url}/x", f"https://{url}/x", f"hf://{url}/x", f"s3://{url}/x", f"\\\\127.0.0.1@{self.port}\\x", f"ftp://{url}",
            f"sqlite:///{file}", "models:/foretune-ranker/1", "runs:/0/ranker", f"git+http://{url}/x",
            "{{ 7*7 }}", "{% include '" + str(file) + "' %}", "{{ cycler.__init__.__globals__.os.popen('" + touch + "') }}",
            "${jndi:ldap://" + url + "/a}", f"$({touch})", f"`{touch}`", f"; {touch} #", f"| {touch}",
            f"__import__('os').system('{touch}')", f"!!python/object/apply:os.system ['{touch}']",
            f"cos\nsystem\n(S'{touch}'\ntR.", "%s%s%n", "'; DROP TABLE jobs; --", "\" OR 1=1 --", "<script>alert(1)</script>",
            "\u202etxt.exe", "\ud800", "😀" * 50, "\x1b[2J", "a\r\nX-Evil: 1", "__proto__", "constructor",
            "NaN", "-Infinity", "", " ",
        ]  # fmt: skip


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Trap]:
    made = Trap(tmp_path)
    yield made
    made.listener.close()


class Audit:
    """What the service opened, asked and started since this was made."""

    def __init__(self, server: Server) -> None:
        self.file = server.root / "audited.log"
        self.before = self.file.stat().st_size
        assert self.before > 0, "the service tells nothing of what it opens"
        self.homes = tuple(map(str, (server.root / "mlruns", sys.prefix, sys.base_prefix, Path(__file__).parents[2])))

    def lines(self) -> list[list[str]]:
        with self.file.open("rb") as file:
            file.seek(self.before)
            return [line.split("\t", 1) for line in file.read().decode().splitlines()]

    def strange(self) -> list[list[str]]:
        """Anything but the service's own store and the installation."""
        own = [f"'{home}" for home in self.homes]
        return [
            [event, told]
            for event, told in self.lines()
            if not (event in ("open", "os.listdir", "os.scandir", "sqlite3.connect") and any(home in told for home in own))
        ]


def _ask(server: Server, path: str, body: Any) -> int:
    raw = json.dumps(body).encode()  # escapes: a lone surrogate goes over the wire as one
    status, answer = server.ask("POST", path, raw=raw)
    assert status < 500, (path, raw[:300], answer)
    if status >= 400:
        assert set(answer["error"]) == SHAPE, (path, raw[:300], answer)
    return status


def _everywhere(bait: str) -> Iterator[tuple[str, Any]]:
    """Requests with the bait in each place that takes a text."""
    inline = {"name": "a", "features": GOOD}
    yield "/v1/compare", {"task": bait, "a": inline, "b": {**inline, "name": "b"}}
    yield "/v1/compare", {"task": "reviews", "a": bait, "b": "m01"}
    yield "/v1/compare", {"task": "t", "a": {"name": bait, "features": GOOD}, "b": inline}
    yield "/v1/compare", {"task": "t", "a": {"name": "a", "features": {**GOOD, bait: 1.0}}, "b": inline}
    yield "/v1/compare", {"task": "t", "a": {"name": "a", "features": {**GOOD, "objective": bait}}, "b": inline}
    yield "/v1/compare", {"task": "t", "a": {"name": "a", "features": {"ppl_clm": bait}}, "b": inline}
    yield "/v1/compare", {"task": "t", "a": inline, "b": inline, bait or "x": bait}
    yield "/v1/rank", {"task": "reviews", "zoo": bait}
    yield "/v1/rank", {"task": "reviews", "candidates": [bait, {"name": bait + "2", "features": GOOD}]}
    yield "/v1/extract/submit", {"checkpoint": bait}
    yield "/v1/extract", {"checkpoint": "llama", "tasks": [bait]}


def test_no_text_of_a_request_is_opened_asked_or_run(service: Server, trap: Trap) -> None:
    audit = Audit(service)
    answered = 0
    for bait in trap.baits():
        for path, body in _everywhere(bait):
            answered += _ask(service, path, body) == 200
        query = urllib.parse.quote(bait.encode("utf-8", "surrogatepass"), safe="")
        for path in (f"/v1/extract/status?task_id={query}", f"/v1/table?task={query}", f"/page/{query}", f"/v1/{query}"):
            assert service.ask("GET", path)[0] in (400, 404, 405), path
    assert answered > 50  # a strange name is no reason to refuse an answer, only to look nothing up by it
    assert audit.strange() == []
    assert service.ask("GET", "/livez")[0] == 200


def test_hostile_outcomes_are_recorded_as_text_or_refused(service: Server, trap: Trap) -> None:
    audit = Audit(service)
    for field in ("checkpoint", "task", "recipe", "metric"):
        rows = [{"checkpoint": f"h{i}", "task": "h", "outcome": 0.5, field: bait} for i, bait in enumerate(trap.baits())]
        kept = [row for row in rows if _ask(service, "/v1/outcomes", {"outcomes": [row, row | {"seed": -1}]}) != 400]
        assert not kept  # the second row is wrong, so nothing is recorded, and each first one has been looked at
        plain = [row for row in rows if row[field].strip() and row[field].isprintable()]
        assert _ask(service, "/v1/outcomes", {"outcomes": plain}) == 200
    told = [line for line in audit.lines() if "canary" in line[1] or str(trap.port) in line[1] or "passwd" in line[1]]
    assert told == []
    assert not trap.touched.exists()
    with pytest.raises(BlockingIOError):
        trap.listener.accept()


def test_long_names_and_damaged_bodies_crash_nothing(service: Server) -> None:
    audit = Audit(service)
    for path, body in _everywhere("x" * 450_000):
        assert _ask(service, path, body) == 400
    with contextlib.suppress(urllib.error.URLError):  # refused before it is sent, so the client may see a closed connection only
        huge = b'{"task": "' + b"x" * 10_000_000 + b'", "a": "m00", "b": "m01"}'
        assert service.ask("POST", "/v1/compare", raw=huge)[0] == 413
    rng = random.Random(0)
    whole = json.dumps({"task": "t", "a": {"name": "a", "features": GOOD}, "b": {"name": "b", "features": GOOD}}).encode()
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(damaged))
            damaged[at : at + rng.choice((0, 1, 1, 5))] = bytes(
                rng.choice(b'{}[]",:\\e9-0u\x00\xff') for _ in range(rng.randint(0, 3))
            )
        for path in ("/v1/compare", "/v1/rank"):
            status, answer = service.ask("POST", path, raw=bytes(damaged))
            assert status < 500, bytes(damaged)
            if status >= 400:
                assert set(answer["error"]) == SHAPE
    assert audit.strange() == []
    assert service.process is not None
    assert service.process.poll() is None
