"""A PostgreSQL server of the tests' own, on loopback: found, started as a user who may run one, stopped and swept away."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")


def programs() -> Path | None:
    """The folder with `initdb` and `pg_ctl`; None where there is no server to start."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = sorted(p for place in PLACES for p in Path("/").glob(place.lstrip("/")) if (p / "pg_ctl").is_file())
    return folders[-1] if folders else None


def why_not() -> str:
    """Why no server can be started here; "" where one can."""
    if programs() is None:
        return "no PostgreSQL server here (Debian: apt-get install postgresql)"
    if find_spec("psycopg") is None:
        return "no PostgreSQL driver here (pip install 'foretune[postgres]')"
    if os.getuid() == 0 and not (shutil.which("runuser") and _user_exists("postgres")):
        return "PostgreSQL does not run as root, and there is no user postgres"
    return ""


def _user_exists(name: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A server with an empty database; gives its address, ``postgresql://...``."""
    place = Path(tempfile.mkdtemp(prefix="foretune-postgres-"))  # not pytest's folder: another user must reach it
    as_whom: list[str] = []
    if os.getuid() == 0:
        shutil.chown(place, "postgres")
        as_whom = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = programs()
    assert folder is not None

    def run(program: str, *arguments: str) -> None:
        subprocess.run([*as_whom, str(folder / program), *arguments], check=True, cwd=place, stdout=subprocess.DEVNULL)

    data = place / "data"
    run("initdb", "-D", str(data), "-U", "foretune", "-A", "trust", "--no-sync", "--no-instructions")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={place} -c fsync=off"
    try:
        run("pg_ctl", "-D", str(data), "-w", "-l", str(place / "log"), "-o", options, "start")
        yield f"postgresql://foretune@127.0.0.1:{port}/postgres"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(place, ignore_errors=True)
