"""The OpenAPI document of the service, made from `serving.schema`: complete, with examples."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving import schema

REQUESTS: tuple[type[BaseModel], ...] = (schema.CompareRequest, schema.RankRequest, schema.ExtractRequest, schema.OutcomesRequest)
ANSWERS: tuple[type[BaseModel], ...] = (
    schema.Comparison,
    schema.Ranking,
    schema.Job,
    schema.JobResult,
    schema.OutcomesReport,
    schema.ModelCard,
    schema.CheckpointList,
    schema.TaskList,
    schema.TaskTable,
    schema.Error,
)

_A = {"name": "small-clm", "features": {"ppl_clm": 24.1, "kshot_acc": 0.41, "objective": "CLM"}}
_B = {"name": "small-sc", "features": {"ppl_clm": 31.7, "kshot_acc": 0.47, "objective": "SC"}}
_RANKER = {"name": "foretune-ranker", "version": "3", "run_id": "5d0f8c"}
_JOB = "8f14e45fceea167a5a36dedd4bea2543"
# Beside the models, not in them: BentoML's own description of the service does not know the keyword.
EXAMPLES: dict[str, dict[str, Any]] = {
    "CompareRequest": {"task": "cms", "a": _A, "b": _B},
    "RankRequest": {"task": "cms", "candidates": [_A, _B], "top_k": 1},
    "ExtractRequest": {"checkpoint": "small-clm", "tasks": ["films"]},
    "OutcomesRequest": {"outcomes": [{"checkpoint": "small-clm", "task": "films", "outcome": 0.81, "seed": 0}]},
    "Comparison": {
        "a": "small-clm",
        "b": "small-sc",
        "task": "cms",
        "winner": "small-sc",
        "probability": 0.08,
        "interval": [0.03, 0.19],
        "too_close": False,
        "reasons": [{"feature": "kshot_acc", "a": 0.41, "b": 0.47, "contribution": -0.9}],
        "missing": ["ppl_sc"],
        "ranker": _RANKER,
    },
    "Ranking": {
        "task": "cms",
        "ranking": [
            {"checkpoint": "small-sc", "rank": 1, "score": 0.92, "interval": [0.81, 0.97], "p_best": 0.92, "tied_with": []},
            {"checkpoint": "small-clm", "rank": 2, "score": 0.08, "interval": [0.03, 0.19], "p_best": 0.08, "tied_with": []},
        ],
        "total": 2,
        "offset": 0,
        "next_offset": None,
        "ranker": _RANKER,
    },
    "Job": {
        "task_id": _JOB,
        "status": "in_progress",
        "checkpoint": "small-clm",
        "tasks": ["films"],
        "device": "cpu",
        "done": 3,
        "total": 12,
        "seconds_left": 41.5,
        "created_at": "2026-01-31T12:00:00.000+00:00",
        "executed_at": "2026-01-31T12:00:01.000+00:00",
        "completed_at": None,
        "error": None,
    },
    "JobResult": {
        "task_id": _JOB,
        "checkpoint": "small-clm",
        "tasks": ["films"],
        "features": [
            {
                "task": "",
                "name": "ppl_clm",
                "value": 24.1,
                "text": None,
                "stderr": 0.4,
                "count": 200,
                "seconds": 8.2,
                "direction": -1,
            }
        ],
        "failed": [],
    },
    "OutcomesReport": {"added": 1, "duplicates": 0, "replaced": 0, "run_id": "5d0f8c"},
    "ModelCard": {
        "ranker": _RANKER,
        "source": "mlflow",
        "features": ["ppl_clm", "ppl_sc", "kshot_acc"],
        "card": {"rows": 150, "groups": 48, "holdout": {"accuracy": 0.7, "pairs": 2549}},
        "mlflow": {"reachable": True, "checked": 1769860800.0, "error": None, "refused": None},
        "drift": {
            "questions": 20,
            "features": {"ppl_clm": {"seen": 40, "outside": 4, "share": 0.1, "range": [5.0, 50.0]}},
        },
        "feedback": {"outcomes": 12, "judged": 9, "accuracy": 0.78, "brier": 0.19, "by_version": {}},
    },
    "CheckpointList": {"zoo": "mine", "checkpoints": [{"name": "small-clm", "measured": ["films"], "listed": True}]},
    "TaskList": {"zoo": "mine", "tasks": [{"name": "films", "checkpoints": 2, "features": ["ppl_clm"], "outcomes": 0}]},
    "TaskTable": {"task": "films", "rows": [{"checkpoint": "small-clm", "features": {"ppl_clm": 24.1}, "outcome": None}]},
    "Error": {
        "error": {"code": "invalid", "message": "Field required", "where": "body.task", "remedy": "see /docs.json for the fields"}
    },
}


def _answer(model: str, description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{model}"}}}}


def _operation(
    name: str,
    summary: str,
    answer: str,
    *,
    body: str | None = None,
    query: dict[str, str] | None = None,
    errors: tuple[int, ...] = (),
) -> dict[str, Any]:
    described = {
        400: "The request is not valid.",
        401: "The token is missing or wrong.",
        403: "The service takes none.",
        404: "A name is not known.",
        413: "The body is too large.",
        415: "The body is not declared as JSON.",
        429: "Too many requests are in work.",
        500: "Something failed.",
        503: "MLflow or a store cannot be reached.",
        504: "It took too long.",
    }
    codes = sorted({401, 429, 500, 503, 504, *errors, *((400, 413, 415) if body else ())})
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "tags": ["foretune"],
        "responses": {"200": _answer(answer, "The answer."), **{str(c): _answer("Error", described[c]) for c in codes}},
    }
    if body:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{body}"}}},
        }
    if query:
        operation["parameters"] = [
            {"name": key, "in": "query", "required": True, "description": text, "schema": {"type": "string", "minLength": 1}}
            for key, text in query.items()
        ]
    return operation


@cache
def document(secured: bool = False) -> dict[str, Any]:
    """The OpenAPI 3.1 document; with `secured`, every ``/v1/`` operation asks for the bearer token."""
    _, requests = models_json_schema([(m, "validation") for m in REQUESTS], ref_template="#/components/schemas/{model}")
    _, replies = models_json_schema([(m, "serialization") for m in ANSWERS], ref_template="#/components/schemas/{model}")
    job = {"task_id": "The task_id that submit gave."}
    paths: dict[str, Any] = {
        "/v1/compare": {
            "post": _operation(
                "compare",
                "Which of two checkpoints will be better after fine-tuning?",
                "Comparison",
                body="CompareRequest",
                errors=(404,),
            )
        },
        "/v1/rank": {"post": _operation("rank", "The order of many checkpoints.", "Ranking", body="RankRequest", errors=(404,))},
        "/v1/extract": {
            "post": _operation(
                "extract", "Measure a checkpoint and wait for it.", "JobResult", body="ExtractRequest", errors=(404,)
            )
        },
        "/v1/extract/submit": {
            "post": _operation(
                "extract_submit", "Measure a checkpoint in the background.", "Job", body="ExtractRequest", errors=(404,)
            )
        },
        "/v1/extract/status": {
            "get": _operation("extract_status", "How far a measurement is.", "Job", query=job, errors=(400, 404))
        },
        "/v1/extract/get": {
            "get": _operation("extract_get", "What a measurement found.", "JobResult", query=job, errors=(400, 404))
        },
        "/v1/extract/cancel": {
            "put": _operation("extract_cancel", "Give a measurement up.", "Job", query=job, errors=(400, 404, 413, 415))
        },
        "/v1/extract/retry": {
            "post": _operation("extract_retry", "Measure again.", "Job", query=job, errors=(400, 404, 413, 415))
        },
        "/v1/outcomes": {
            "post": _operation(
                "outcomes",
                "Feed back what fine-tuning gave (needs a token).",
                "OutcomesReport",
                body="OutcomesRequest",
                errors=(403, 404),
            )
        },
        "/v1/model": {"get": _operation("model", "Which ranker answers, how good it is, how it fares.", "ModelCard")},
        "/v1/checkpoints": {"get": _operation("checkpoints", "Checkpoints that are known by name.", "CheckpointList")},
        "/v1/tasks": {"get": _operation("tasks", "Tasks that are known by name.", "TaskList")},
        "/v1/table": {
            "get": _operation(
                "table", "Features and outcomes of a task.", "TaskTable", query={"task": "Name of the task."}, errors=(400, 404)
            )
        },
    }
    try:
        release = version("foretune")
    except PackageNotFoundError:
        release = "0"
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "foretune",
            "version": release,
            "description": "Which of these pre-trained checkpoints will be best after fine-tuning on my task? "
            "Also served: the page at /, /livez, /readyz and /metrics.",
        },
        "paths": paths,
        "components": {"schemas": {**requests["$defs"], **replies["$defs"]}},
    }
    for name, example in EXAMPLES.items():
        found["components"]["schemas"][name]["examples"] = [example]
    if secured:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    return found
