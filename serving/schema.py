"""What goes over HTTP: requests (unknown fields refused, everything bounded) and answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
    field_validator,
)

MAX_NAME = 200
MAX_FEATURES = 500
MAX_TEXT = 500

# No control characters: names are logged and shown.
Name = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00-\x1f\x7f]+$")]
Number = Annotated[StrictFloat, Field(allow_inf_nan=False, ge=-1e300, le=1e300)]
Text = Annotated[StrictStr, StringConstraints(max_length=MAX_TEXT)]
Value = Number | Text | None


class Strict(BaseModel):
    """A request: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Checkpoint(Strict):
    """A checkpoint given by its features."""

    name: Name = Field(description="How the answer will call it.")
    features: dict[Name, Value] = Field(
        max_length=MAX_FEATURES,
        description="What was measured before fine-tuning: numbers (finite), configurations (text); null: not measured.",
    )


Candidate = Annotated[
    Name | Checkpoint, Field(description="A checkpoint by a name that the service knows, or given by its features.")
]


class CompareRequest(Strict):
    """Which of two checkpoints will be better on a task after fine-tuning?"""

    task: Name = Field(description="The task; needs to be known only if a checkpoint is given by name.")
    a: Candidate
    b: Candidate


class RankRequest(Strict):
    """Which order will these checkpoints have on a task after fine-tuning?"""

    task: Name = Field(description="The task; needs to be known only if a checkpoint is given by name.")
    candidates: list[Candidate] | None = Field(
        default=None,
        min_length=2,
        max_length=100_000,
        description="At least two, names unique; left out: all that the service knows for the task.",
    )
    zoo: Name | None = Field(
        default=None, description="Instead of candidates: the name of the zoo or table that the service knows."
    )
    top_k: Annotated[StrictInt, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="Also give P(among the first k)."
    )
    offset: Annotated[StrictInt, Field(ge=0, le=1_000_000)] = Field(default=0, description="First row of the page.")
    limit: Annotated[StrictInt, Field(ge=1, le=1_000)] = Field(default=100, description="Rows of the page.")


class ExtractRequest(Strict):
    """Measure a checkpoint of the operator's zoo in the background."""

    checkpoint: Name = Field(description="A name in the zoo; paths and addresses are not looked at.")
    tasks: list[Name] | None = Field(
        default=None, min_length=1, max_length=100, description="Names of the zoo's tasks; left out: all."
    )


class OutcomeRow(Strict):
    """What fine-tuning gave."""

    checkpoint: Name
    task: Name
    outcome: Annotated[StrictFloat, Field(allow_inf_nan=False, ge=-1e100, le=1e100, description="Higher is better.")]
    zoo: Annotated[StrictStr, StringConstraints(max_length=MAX_NAME)] = ""
    recipe: Annotated[StrictStr, StringConstraints(max_length=MAX_NAME)] = ""
    seed: Annotated[StrictInt, Field(ge=0, le=2**31 - 1)] = 0
    metric: Annotated[StrictStr, StringConstraints(max_length=MAX_NAME)] = ""
    count: Annotated[StrictInt, Field(ge=0, le=2**31 - 1)] = Field(default=0, description="Examples that it was measured on.")

    @field_validator("zoo", "recipe", "metric")
    @classmethod
    def _printable(cls, text: str) -> str:
        if any(ord(c) < 32 or ord(c) == 127 for c in text):
            raise ValueError("control characters are not allowed")
        return text


class OutcomesRequest(Strict):
    """Outcomes for MLflow, ready for the next retraining."""

    outcomes: list[OutcomeRow] = Field(min_length=1, max_length=10_000)


class Ranker(BaseModel):
    """Which ranker answered."""

    name: str
    version: str
    run_id: str | None


class Reason(BaseModel):
    """What one feature says."""

    feature: str
    a: float | str | None
    b: float | str | None
    contribution: float = Field(description="Above 0: speaks for a.")


class Comparison(BaseModel):
    """The answer to a comparison."""

    a: str
    b: str
    task: str
    winner: str | None = Field(description="Name of the better one.")
    probability: float = Field(ge=0, le=1, description="P(a beats b).")
    interval: list[float] = Field(min_length=2, max_length=2)
    too_close: bool
    reasons: list[Reason]
    missing: list[str] = Field(description="Features that the ranker would have liked.")
    ranker: Ranker


class RankingRow(BaseModel):
    """One checkpoint's place."""

    model_config = ConfigDict(extra="allow")

    checkpoint: str
    rank: int = Field(ge=1)
    score: float
    interval: list[float] = Field(min_length=2, max_length=2)
    p_best: float = Field(ge=0, le=1)
    tied_with: list[str]


class Ranking(BaseModel):
    """One page of a ranking."""

    task: str
    ranking: list[RankingRow]
    total: int = Field(description="Rows of the whole ranking.")
    offset: int
    next_offset: int | None = Field(description="Where the next page begins; null on the last.")
    ranker: Ranker


class Job(BaseModel):
    """Where a measurement stands."""

    task_id: str
    status: str = Field(pattern="^(pending|in_progress|completed|failed|canceled)$")
    checkpoint: str
    tasks: list[str]
    device: str
    done: int = Field(description="Features measured.")
    total: int | None = Field(description="Features to measure; null until that is known.")
    seconds_left: float | None = Field(description="Estimate from the pace so far.")
    created_at: str
    executed_at: str | None
    completed_at: str | None
    error: str | None


class JobResult(BaseModel):
    """What a finished measurement found."""

    model_config = ConfigDict(extra="allow")

    task_id: str
    checkpoint: str
    tasks: list[str]
    features: list[dict[str, Any]]
    failed: list[str]


class OutcomesReport(BaseModel):
    """What was recorded."""

    model_config = ConfigDict(extra="allow")

    added: int
    duplicates: int


class ModelCard(BaseModel):
    """Which ranker answers, how good it was on held-out checkpoints, how it fares."""

    model_config = ConfigDict(extra="allow")

    ranker: Ranker
    source: str = Field(description="mlflow (champion), kept (its copy, MLflow away at the start), folder (baked in) or default.")
    features: list[str]
    card: dict[str, Any]
    mlflow: dict[str, Any]
    drift: dict[str, Any]
    feedback: dict[str, Any]


class CheckpointRow(BaseModel):
    """A checkpoint that the service knows."""

    name: str
    measured: list[str] = Field(description="Tasks for which it has features.")
    listed: bool = Field(description="In the operator's zoo, so that it can be measured.")


class CheckpointList(BaseModel):
    zoo: str
    checkpoints: list[CheckpointRow]


class TaskRow(BaseModel):
    """A task that the service knows."""

    name: str
    checkpoints: int
    features: list[str]
    outcomes: int = Field(description="Checkpoints whose outcome is known.")


class TaskList(BaseModel):
    zoo: str
    tasks: list[TaskRow]


class TableRow(BaseModel):
    checkpoint: str
    features: dict[str, float | str]
    outcome: float | None


class TaskTable(BaseModel):
    """What is known about a task's checkpoints."""

    task: str
    rows: list[TableRow]


class ErrorDetail(BaseModel):
    code: str = Field(description="invalid, unknown_name, unauthorized, too_large, timeout, ...")
    message: str
    where: str
    remedy: str


class Error(BaseModel):
    """The one shape of every error."""

    error: ErrorDetail
