"""The gate: what every request passes before the service sees it, and every answer on its way out.

On the way in: request id, token (compared in constant time), media type, size of the body (chunked ones too), time limit.
On the way out: errors of every layer in one shape, a few headers, one JSON line in the log.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from serving import failures
from serving.metrics import Requests

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

log = logging.getLogger("foretune.access")

QUIET = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})
# BentoML answers these itself, from a store that does not survive a restart; ours does (serving/web.py).
OURS = frozenset(f"/v1/extract/{verb}" for verb in ("submit", "status", "get", "cancel", "retry"))
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    ),
]


class Refused(Exception):
    """The gate's own refusal of a request."""

    def __init__(self, status: int, message: str, remedy: str | None = None, where: str = "") -> None:
        super().__init__(message)
        self.status, self.body = status, failures.body(status, message, where=where, remedy=remedy)


class Gate:
    """ASGI middleware.

    Parameters
    ----------
    app : what stands behind the gate
    ours : app for the paths in `OURS`
    requests : counts requests and their durations
    token : bearer token for ``/v1/``, or None
    max_body : bytes
    seconds : limit per request
    at_once : most requests in work; one more is told to come back
    """

    def __init__(
        self,
        app: App,
        *,
        ours: App,
        requests: Requests,
        token: str | None = None,
        max_body: int = 4_000_000,
        seconds: float = 30.0,
        at_once: int = 512,
    ) -> None:
        self.app, self.ours, self.requests, self.max_body, self.seconds = app, ours, requests, max_body, seconds
        self.token = token.encode("ascii") if token else None
        self.at_once, self.in_work = at_once, 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex[:16]
        out = _Out(send, request_id)
        self.in_work += 1
        try:
            if self.in_work > self.at_once and scope["path"] not in QUIET:
                raise Refused(429, f"{self.at_once} requests are in work")
            self._admit(scope, headers)
            if scope["method"] in ("POST", "PUT", "PATCH"):
                receive = await self._bounded(headers, receive)
            target = self.ours if scope["path"] in OURS else self.app
            async with asyncio.timeout(self.seconds):
                await target(scope, receive, out)
            await out.finish()
        except Refused as refusal:
            await out.error(refusal.status, refusal.body, close=refusal.status == 413)
        except TimeoutError:
            await out.error(504, failures.body(504, f"no answer within {self.seconds:g} seconds"))
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("request %s failed", request_id)
            await out.error(500, failures.body(500, "an unexpected error"))
        finally:
            self.in_work -= 1
        seconds = time.perf_counter() - began
        self.requests.observe(scope["path"], out.status, seconds)
        if scope["path"] not in QUIET:
            log.info(
                '{"request_id": "%s", "method": "%s", "path": %s, "status": %d, "ms": %.2f, "client": "%s"}',
                request_id,
                scope["method"],
                json.dumps(scope["path"][:200]),
                out.status,
                seconds * 1000,
                (scope.get("client") or ("?",))[0],
            )

    def _admit(self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes]) -> None:
        """Check the token of what needs one."""
        path = scope["path"]
        if not path.startswith("/v1/"):
            return
        if self.token is None:
            if path == "/v1/outcomes":
                raise Refused(
                    403, "this service has no token, so it takes no outcomes", "start it with FORETUNE_TOKEN or --token-file"
                )
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self.token):
            raise Refused(401, "the token is missing or wrong")

    async def _bounded(self, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        """Read the body, at most `max_body` bytes within the time limit; returns a `receive` that hands it over."""
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > 2 * self.max_body:
            raise Refused(413, f"a body of {declared[:20].decode('latin-1')} bytes; the limit is {self.max_body}")
        chunks, size = [], 0
        async with asyncio.timeout(self.seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "the client went away")
                chunk = message.get("body", b"")
                size += len(chunk)
                if size <= self.max_body:
                    chunks.append(chunk)
                elif size > 2 * self.max_body:
                    break
                if not message.get("more_body"):
                    break
        if size > self.max_body:  # said after reading on for a while, so that the client is there to hear it
            raise Refused(413, f"a body of more than {self.max_body} bytes")
        if size and headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
            raise Refused(415, "the body is not declared as JSON")
        whole = [b"".join(chunks)]

        async def replay() -> Message:
            if whole:
                return {"type": "http.request", "body": whole.pop(), "more_body": False}
            return await receive()

        return replay


class _Out:
    """Passes an answer on; holds an error back until it is whole, to write it in the one shape."""

    def __init__(self, send: Send, request_id: str) -> None:
        self.send, self.request_id = send, request_id
        self.status = 0
        self.started = False
        self.held: Message | None = None
        self.content = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.status >= 400:
                self.held = message
                return
            self.started = True
            message["headers"] = [*message.get("headers", []), *HEADERS, (b"x-request-id", self.request_id.encode())]
            await self.send(message)
        elif self.held is not None:
            self.content += message.get("body", b"")
        else:
            await self.send(message)

    async def finish(self) -> None:
        """Write the error that was held back, if there is one."""
        if self.held is not None and not self.started:
            kept = [
                (k, v) for k, v in self.held.get("headers", []) if k.lower() in (b"allow", b"retry-after", b"www-authenticate")
            ]
            await self.error(self.status, failures.normalised(self.status, self.content), kept)

    async def error(
        self, status: int, content: bytes, extra: list[tuple[bytes, bytes]] | None = None, close: bool = False
    ) -> None:
        """Write an error, unless an answer is on its way already."""
        if self.started:
            return
        self.started, self.status = True, status
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            (b"x-request-id", self.request_id.encode()),
            *HEADERS,
            *(extra or []),
        ]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if close:
            headers.append((b"connection", b"close"))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": content})
