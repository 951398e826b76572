"""What the operator set: on the command line or in ``FORETUNE_*`` variables; `foretune serve` and a bento read the same.

==========================  ==========================================================================  ===================
variable                    meaning                                                                     default
==========================  ==========================================================================  ===================
FORETUNE_ROOT               folder that holds ``mlruns/``: MLflow, features, jobs                       the current folder
FORETUNE_ZOO                manifest of the checkpoints that may be asked for and measured              none
FORETUNE_TASKS              task files beside those of the zoo, separated like PATH                             none
FORETUNE_TABLE              comparison table, or name of a reference table, that the service knows      ``zeng2025`` (a zoo: none)
FORETUNE_STORE              feature store                                                               beside MLflow's store
FORETUNE_RANKER             folder of a saved ranker, for while there is no champion                    baked in, or default
FORETUNE_RANKER_NAME        name in the MLflow registry                                                 ``foretune-ranker``
FORETUNE_TOKEN              bearer token that every ``/v1/`` request must carry                         none: open
FORETUNE_TOKEN_FILE         file with that token                                                        none
FORETUNE_MAX_BODY           largest request body, in bytes                                              4,000,000
FORETUNE_MAX_CANDIDATES     most candidates in one ranking                                              2,000
FORETUNE_REQUEST_SECONDS    most seconds that one request may take                                      30
FORETUNE_POLL_SECONDS       seconds between two looks at the champion's alias                           2
FORETUNE_DEVICES            devices that measure, comma-separated; one job at a time on each            ``auto``
FORETUNE_LIMIT              most examples of a task that features are measured on                       200
==========================  ==========================================================================  ===================
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import UserError

# Where `serving.bento` puts the ranker of a bento.
BAKED = Path(__file__).parent / "baked"


@dataclass(frozen=True)
class Settings:
    """See the module's table; paths are absolute."""

    root: Path
    zoo: Path | None = None
    tasks: tuple[Path, ...] = ()
    table: str | None = None
    store: Path | None = None
    ranker: Path | None = None
    ranker_name: str = "foretune-ranker"
    token: str | None = None
    max_body: int = 4_000_000
    max_candidates: int = 2_000
    request_seconds: float = 30.0
    poll_seconds: float = 2.0
    devices: tuple[str, ...] = ("auto",)
    limit: int = 200

    @property
    def mlruns(self) -> Path:
        """Where everything that the service writes is kept."""
        return self.root / "mlruns"

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """Settings from the environment; what is `given` (and not None) wins.

        Raises
        ------
        UserError : a value that is no number or below one, a file that is not there, an empty or short token
        """
        from features.store import default_path

        env = dict(os.environ if environ is None else environ)
        for key, value in given.items():
            if value is not None:
                env[f"FORETUNE_{key.upper()}"] = str(value)
        root = Path(env.get("FORETUNE_ROOT") or _here(env)).absolute()
        beside = default_path({} if env.get("FORETUNE_ROOT") else env)  # who names the root wants the store in it
        table = env.get("FORETUNE_TABLE") or None
        if table is not None and ("/" in table or "." in table):
            table = str(_file("FORETUNE_TABLE", table))
        devices = tuple(d.strip() for d in env.get("FORETUNE_DEVICES", "auto").split(",") if d.strip())
        return cls(
            root=root,
            zoo=_file("FORETUNE_ZOO", env.get("FORETUNE_ZOO")),
            tasks=tuple(
                path for text in env.get("FORETUNE_TASKS", "").split(os.pathsep) if (path := _file("FORETUNE_TASKS", text))
            ),
            table=table,
            store=Path(env["FORETUNE_STORE"]).absolute() if env.get("FORETUNE_STORE") else root / beside,
            ranker=Path(env["FORETUNE_RANKER"]).absolute() if env.get("FORETUNE_RANKER") else (BAKED if BAKED.is_dir() else None),
            ranker_name=env.get("FORETUNE_RANKER_NAME") or "foretune-ranker",
            token=_token(env),
            max_body=int(_number(env, "FORETUNE_MAX_BODY", 4_000_000)),
            max_candidates=int(_number(env, "FORETUNE_MAX_CANDIDATES", 2_000)),
            request_seconds=_number(env, "FORETUNE_REQUEST_SECONDS", 30.0, least=0.1),
            poll_seconds=_number(env, "FORETUNE_POLL_SECONDS", 2.0, least=0.05),
            devices=devices or ("auto",),
            limit=int(_number(env, "FORETUNE_LIMIT", 200)),
        )

    def environment(self) -> dict[str, str]:
        """The variables that give these settings again; the token is left out, for it stays where it was."""
        found = {
            "FORETUNE_ROOT": self.root,
            "FORETUNE_ZOO": self.zoo,
            "FORETUNE_TASKS": os.pathsep.join(map(str, self.tasks)) or None,
            "FORETUNE_TABLE": self.table,
            "FORETUNE_STORE": self.store,
            "FORETUNE_RANKER": self.ranker,
        }
        return {key: str(value) for key, value in found.items() if value is not None}


def _here(env: Mapping[str, str]) -> str:
    """The folder that the command was started in: BentoML goes into the bento's own, where nothing should be written."""
    started = env.get("PWD", "")
    inside = BAKED.is_dir() and Path.cwd().resolve() == BAKED.parents[1].resolve()
    return started if inside and started and Path(started).is_dir() else "."


def _file(key: str, text: str | None) -> Path | None:
    if not text:
        return None
    path = Path(text).absolute()
    if not path.is_file():
        raise UserError("no such file", where=f"{key.removeprefix('FORETUNE_').lower()} {text}", remedy="give the path of a file")
    return path


def _number(env: Mapping[str, str], key: str, default: float, least: float = 1) -> float:
    text = env.get(key)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value < float("inf"):
        raise UserError(f"{text!r} is not a number of at least {least:g}", where=key, remedy=f"leave it out for {default:g}")
    return value


def _token(env: Mapping[str, str]) -> str | None:
    """The bearer token, from the variable or the file; a file that is there but empty is a mistake, not an open door."""
    token, where = env.get("FORETUNE_TOKEN"), "FORETUNE_TOKEN"
    if env.get("FORETUNE_TOKEN_FILE"):
        where = str(env["FORETUNE_TOKEN_FILE"])
        try:
            token = Path(where).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UserError(
                f"the token file cannot be read: {error.strerror}", where=where, remedy="give a readable file"
            ) from None
    if token is None:
        return None
    if len(token) < 8 or not token.isascii() or any(c.isspace() for c in token):
        raise UserError(
            "the token is shorter than 8 characters, or not plain ASCII without spaces",
            where=where,
            remedy="python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one",
        )
    return token
