"""The lease that a retraining holds: a tag on the registered model, so that it holds across machines."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.errors import FailedError
from training.tracking.place import talking
from training.tracking.registry import RANKER, ensure

LEASE = "foretune.lease"


@contextmanager
def lease(name: str = RANKER, *, seconds: float = 3600, root: Path | str | None = None) -> Iterator[str]:
    """Hold the registry's retraining lease: a tag on the registered model, which holds across machines.

    A lease older than `seconds`, or of a process of this machine that is gone, is taken over: a kill -9 blocks nobody for long.

    Raises
    ------
    FailedError : somebody else holds it
    """
    token = f"{socket.gethostname()}:{os.getpid()}:{_began(os.getpid())}:{uuid.uuid4().hex}"
    with talking(root) as client:
        ensure(client, name)
        held = client.get_registered_model(name).tags.get(LEASE, "")
        if held and not _stale(held, seconds):
            holder, since = held.rsplit("@", 1)
            who, age = ":".join(holder.split(":")[:2]), time.time() - float(since)
            raise FailedError(
                f"another retraining of {name!r} is running ({who}, for {age:.0f} s)",
                where="registry",
                remedy="wait for it to end",
            )
        client.set_registered_model_tag(name, LEASE, f"{token}@{time.time():.0f}")
        time.sleep(0.2)  # two that wrote at once both read the later one, and one of the two leaves
        if not client.get_registered_model(name).tags.get(LEASE, "").startswith(token):
            raise FailedError(f"another retraining of {name!r} has just begun", where="registry", remedy="wait for it to end")
    try:
        yield token
    finally:
        with talking(root) as client:
            if client.get_registered_model(name).tags.get(LEASE, "").startswith(token):
                client.delete_registered_model_tag(name, LEASE)


def _stale(held: str, seconds: float) -> bool:
    try:
        holder, since = held.rsplit("@", 1)
        host, pid, began, _ = holder.split(":")
        if time.time() - float(since) > seconds:
            return True
    except ValueError:
        return True
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        return False
    return began != _began(int(pid))  # the number is another process's by now, as 1 is in every container


def _began(pid: int) -> str:
    """When a process of this machine began, in ticks since which boot; "" where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{Path(f'/proc/{pid}/stat').read_text(encoding='utf-8', errors='replace').rpartition(')')[2].split()[19]}-{boot}"
    except OSError:
        return ""
