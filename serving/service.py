"""The BentoML service: ``bentoml serve serving.service:Foretune``, or `foretune serve`.

Comparing and ranking are BentoML endpoints; measuring is a BentoML task whose sub-addresses (submit, status, get, cancel) are
answered from job rows that survive a restart (`serving.gate.OURS`). Settings: ``FORETUNE_*`` variables (`serving.settings`).
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import bentoml
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from features.errors import FailedError, ForetuneError
from serving import failures, web
from serving.desk import Desk
from serving.gate import Gate
from serving.schema import CompareRequest, Comparison, ExtractRequest, JobResult, Ranking, RankRequest
from serving.settings import Settings

settings = Settings.read()


class _NoInput(logging.Filter):
    """Keeps BentoML from logging a traceback, with what was sent, for every request that is not valid."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], ValidationError))


def _failed(error: ForetuneError) -> Response:
    status, content = failures.of_error(error)
    return Response(content, status, media_type="application/json")


@bentoml.asgi_app(web.app, path="/")
@bentoml.service(
    name="foretune",
    threads=4,
    workers=1,
    traffic={"timeout": settings.request_seconds + 30},
    logging={"access": {"enabled": False}},  # the gate writes the log
    metrics={"enabled": False},  # serving.metrics counts
)
class Foretune:
    """Which of these pre-trained checkpoints will be best after fine-tuning on my task?"""

    def __init__(self) -> None:
        self.desk = Desk(settings)
        web.app.state.desk = self.desk
        web.app.state.secured = settings.token is not None
        logging.getLogger("foretune").setLevel(logging.INFO)
        logging.getLogger("bentoml._internal.server.http_app").addFilter(_NoInput())

    @bentoml.on_startup
    def open(self) -> None:
        self.desk.start()

    @bentoml.on_shutdown
    def close(self) -> None:
        self.desk.stop()

    def __is_ready__(self) -> bool:
        return self.desk.ready

    @bentoml.api(route="/v1/compare", input_spec=CompareRequest, output_spec=Comparison)
    async def compare(self, task: str, a: Any, b: Any) -> Any:
        """Which of two checkpoints will be better after fine-tuning on the task, how sure, and why?"""
        try:
            return Response(self.desk.compare(task, a, b), media_type="application/json")
        except ForetuneError as error:
            return _failed(error)

    @bentoml.api(route="/v1/rank", input_spec=RankRequest, output_spec=Ranking)
    def rank(self, task: str, candidates: Any, zoo: str | None, top_k: int | None, offset: int, limit: int) -> Any:
        """The order that many checkpoints will have after fine-tuning on the task."""
        try:
            page = self.desk.rank(task, candidates, zoo, top_k, offset, limit)
            return Response(
                json.dumps(page, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace"),
                media_type="application/json",
            )
        except ForetuneError as error:
            return _failed(error)

    @bentoml.task(route="/v1/extract", input_spec=ExtractRequest, output_spec=JobResult)
    async def extract(self, checkpoint: str, tasks: list[str] | None) -> Any:
        """Measure a checkpoint of the operator's zoo; submit it to go on without waiting."""
        try:
            job = await asyncio.to_thread(self.desk.submit, checkpoint, tasks)
            while job["status"] in ("pending", "in_progress"):
                await asyncio.sleep(0.2)
                job = await asyncio.to_thread(self.desk.jobs.status, job["task_id"])
            if job["status"] != "completed":
                raise FailedError(job["error"] or f"the job was {job['status']}", where=checkpoint)
            return JSONResponse(await asyncio.to_thread(self.desk.jobs.result, job["task_id"]))
        except ForetuneError as error:
            return _failed(error)


service: Any = Foretune  # the decorators made a bentoml.Service of the class
service.add_asgi_middleware(
    Gate, ours=web.app, requests=web.requests, token=settings.token, max_body=settings.max_body, seconds=settings.request_seconds
)
