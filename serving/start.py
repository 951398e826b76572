"""`foretune serve`: the BentoML service in this process, under uvicorn."""

from __future__ import annotations

import logging
import os
import socket
import sys

from features.errors import FailedError
from serving.console import say
from serving.settings import Settings


def start(settings: Settings, host: str, port: int) -> None:
    """Serve until stopped. One process: when it is killed nothing of it stays behind.

    Raises
    ------
    FailedError : the address is taken or not ours
    """
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    except OSError as error:
        raise FailedError(
            f"cannot listen: {error.strerror or error}", where=f"{host}:{port}", remedy="choose another --port or --host"
        ) from None
    # Small answers go out at once: asyncio sees to that only where a socket names its protocol, which these do not.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    os.environ.update(settings.environment())
    if settings.token is not None:
        os.environ["FORETUNE_TOKEN"] = settings.token
        os.environ.pop("FORETUNE_TOKEN_FILE", None)
    place = settings.mlruns / "service"
    place.mkdir(parents=True, exist_ok=True)
    # BentoML keeps its own files where ours are, and sends nothing home.
    os.environ.setdefault("BENTOML_HOME", str(place / "bentoml"))
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    # An MLflow server that is away must not hold the watch up for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    import uvicorn

    from serving.service import service

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    app = service.to_asgi()
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=10)
    address = listener.getsockname()
    say(f"foretune answers on http://{f'[{host}]' if ':' in host else host}:{address[1]}")
    uvicorn.Server(config).run(sockets=[listener])
