"""A process under test that stops at each line it says, until the test lets it go on or kills it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any


class Say:
    """Sends a line and waits for the answer. Given to the process under test as its way to speak."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def __call__(self, line: str) -> None:
        self.connection.send(line)
        self.connection.recv()


def run_in(environment: Mapping[str, str], target: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Run `target` in this environment: the server that forked the process keeps that of the test which started it."""
    os.environ.clear()
    os.environ.update(environment)
    target(**arguments)


def kill_at(prefix: str, target: Callable[..., Any], preload: list[str], **arguments: Any) -> list[str]:
    """Run `target(say=..., **arguments)` in a process of its own; kill -9 it at the first line that begins with `prefix`.

    Returns the lines it said, the last one being the one it was killed at. The modules of `preload` are imported once for all
    such processes.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preload)
    here, there = context.Pipe()
    process = context.Process(target=run_in, args=(dict(os.environ), target, {**arguments, "say": Say(there)}))
    process.start()
    there.close()
    lines: list[str] = []
    try:
        while True:
            lines.append(here.recv().strip())
            if lines[-1].startswith(prefix):
                return lines
            here.send(None)
    except EOFError:
        raise AssertionError(f"it ended (exit code {process.exitcode}) and never said {prefix!r}: {lines}") from None
    finally:
        process.kill()
        process.join()
        assert process.exitcode in (-signal.SIGKILL, 0, 1)
