"""The one JSON shape of every error: ``{"error": {"code", "message", "where", "remedy"}}``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from features.errors import ForetuneError

CODES = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    409: "conflict",
    411: "length_required",
    413: "too_large",
    415: "media_type",
    429: "busy",
    500: "failed",
    503: "unavailable",
    504: "timeout",
}

REMEDIES = {
    400: "see /docs.json for the fields",
    401: "send the header Authorization: Bearer TOKEN",
    404: "see /docs.json for the addresses",
    405: "see /docs.json for the methods",
    413: "send less at a time",
    415: "send Content-Type: application/json",
    429: "try again later",
    500: "the operator's log has the request id",
    503: "try again later",
    504: "ask for less at a time",
}

# Names that pydantic gives to the branches of a union: they are no fields.
BRANCHES = frozenset({"constrained-str", "constrained-float", "constrained-int", "Checkpoint"})


def body(status: int, message: str, *, code: str | None = None, where: str = "", remedy: str | None = None) -> bytes:
    """An error as JSON."""
    detail = {
        "code": code or CODES.get(status, "failed" if status >= 500 else "invalid"),
        "message": message[:1000],
        "where": where[:500],
        "remedy": REMEDIES.get(status, "") if remedy is None else remedy[:500],
    }
    return json.dumps({"error": detail}, ensure_ascii=False).encode("utf-8", "backslashreplace")


def of_error(error: ForetuneError) -> tuple[int, bytes]:
    """Status and body of an error of ours."""
    return error.http_status, body(
        error.http_status, error.message, code=error.code, where=error.where, remedy=error.remedy or None
    )


def of_validation(details: Sequence[Mapping[str, Any]]) -> bytes:
    """Body for what pydantic found wrong: the first finding, where it is, and how many there are."""
    if not details:
        return body(400, "the request is not valid")
    first = min(details, key=lambda d: d.get("type") in ("string_type", "none_required"))
    where = "body" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first.get("loc", ()) if p not in BRANCHES)
    more = len(details) - 1
    return body(400, str(first.get("msg", "not valid")) + (f" (and {more} more)" if more else ""), where=where)


def normalised(status: int, content: bytes) -> bytes:
    """Whatever a layer below wrote for `status`, in our shape; what is in it already stays as it is."""
    try:
        found = json.loads(content)
    except ValueError:
        found = content.decode("utf-8", "replace").strip() or CODES.get(status, "error").replace("_", " ")
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if isinstance(found, dict):
        inner = found.get("error")
        if isinstance(inner, dict) and {"code", "message", "where", "remedy"} <= inner.keys():
            return content
        if isinstance(found.get("detail"), list):
            return of_validation(found["detail"])
        found = inner if isinstance(inner, str) else found.get("detail", found)
    return body(status, found if isinstance(found, str) else json.dumps(found))
