"""What is served beside BentoML's own endpoints: the page, the read-only addresses, jobs, outcomes, the OpenAPI document."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from features.errors import ForetuneError, UserError
from serving import failures, metrics
from serving.desk import Desk
from serving.openapi import document
from serving.schema import ExtractRequest, OutcomesRequest

PAGE = Path(__file__).parent / "page"
FILES = {"page.css": "text/css", "page.js": "text/javascript", "charts.js": "text/javascript"}
Body = TypeVar("Body", bound=BaseModel)
Endpoint = Callable[[Request], Awaitable[Response]]


def speaking(endpoint: Endpoint) -> Endpoint:
    """Turn errors of ours and of pydantic into the one JSON shape."""

    @functools.wraps(endpoint)
    async def wrapped(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ForetuneError as error:
            status, content = failures.of_error(error)
            return Response(content, status, media_type="application/json")
        except ValidationError as error:
            details = error.errors(include_context=False, include_input=False, include_url=False)
            return Response(failures.of_validation(details), 400, media_type="application/json")

    return wrapped


def _desk(request: Request) -> Desk:
    desk = request.app.state.desk
    assert isinstance(desk, Desk)
    return desk


async def _body(request: Request, model: type[Body]) -> Body:
    return model.model_validate_json(await request.body() or b"{}")


def _query(request: Request, name: str) -> str:
    value = request.query_params.get(name, "")
    if not value:
        raise UserError("missing", where=f"query.{name}", remedy=f"add ?{name}=...")
    return value


async def page(request: Request) -> Response:
    return FileResponse(PAGE / "index.html", media_type="text/html")


async def page_file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in FILES:
        return Response(failures.body(404, f"no such file: {name[:80]}"), 404, media_type="application/json")
    return FileResponse(PAGE / name, media_type=FILES[name])


@speaking
async def model(request: Request) -> Response:
    return JSONResponse(_desk(request).model())


@speaking
async def checkpoints(request: Request) -> Response:
    return JSONResponse(_desk(request).checkpoints())


@speaking
async def tasks(request: Request) -> Response:
    return JSONResponse(_desk(request).tasks())


@speaking
async def table(request: Request) -> Response:
    return JSONResponse(_desk(request).table(_query(request, "task")))


@speaking
async def outcomes(request: Request) -> Response:
    body = await _body(request, OutcomesRequest)
    rows = [row.model_dump() for row in body.outcomes]
    return JSONResponse(await anyio.to_thread.run_sync(_desk(request).outcomes, rows))


@speaking
async def submit(request: Request) -> Response:
    body = await _body(request, ExtractRequest)
    return JSONResponse(await _job(_desk(request).submit, body.checkpoint, body.tasks))


@speaking
async def status(request: Request) -> Response:
    return JSONResponse(await _job(_desk(request).jobs.status, _query(request, "task_id")))


@speaking
async def result(request: Request) -> Response:
    return JSONResponse(await _job(_desk(request).jobs.result, _query(request, "task_id")))


@speaking
async def cancel(request: Request) -> Response:
    return JSONResponse(await _job(_desk(request).jobs.cancel, _query(request, "task_id")))


@speaking
async def retry(request: Request) -> Response:
    desk = _desk(request)
    old = await _job(desk.jobs.status, _query(request, "task_id"))
    return JSONResponse(await _job(desk.submit, old["checkpoint"], old["tasks"]))


async def _job(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Job rows are on disk: ask for them in a thread."""
    return await anyio.to_thread.run_sync(functools.partial(function, *arguments))


async def metrics_text(request: Request) -> Response:
    content = await anyio.to_thread.run_sync(metrics.text, _desk(request), requests)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")


async def docs(request: Request) -> Response:
    return JSONResponse(document(secured=bool(request.app.state.secured)))


app = Starlette(
    routes=[
        Route("/", page, methods=["GET"]),
        Route("/page/{name}", page_file, methods=["GET"]),
        Route("/metrics", metrics_text, methods=["GET"]),
        Route("/docs.json", docs, methods=["GET"]),
        Route("/v1/model", model, methods=["GET"]),
        Route("/v1/checkpoints", checkpoints, methods=["GET"]),
        Route("/v1/tasks", tasks, methods=["GET"]),
        Route("/v1/table", table, methods=["GET"]),
        Route("/v1/outcomes", outcomes, methods=["POST"]),
        Route("/v1/extract/submit", submit, methods=["POST"]),
        Route("/v1/extract/status", status, methods=["GET"]),
        Route("/v1/extract/get", result, methods=["GET"]),
        Route("/v1/extract/cancel", cancel, methods=["PUT"]),
        Route("/v1/extract/retry", retry, methods=["POST"]),
    ]
)

SERVED = [route.path for route in app.routes if isinstance(route, Route) and "{" not in route.path]
requests = metrics.Requests(
    [*SERVED, *(f"/page/{name}" for name in FILES), "/v1/compare", "/v1/rank", "/v1/extract", "/livez", "/readyz"]
)
