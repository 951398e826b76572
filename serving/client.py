"""A typed client of the service; needs nothing but the standard library.

from serving.client import Client
client = Client("http://127.0.0.1:3000")
client.compare("cms", "small", {"name": "mine", "features": {"ppl_clm": 21.3}})["winner"]
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NotRequired, TypedDict, cast

from features.errors import FailedError, ForetuneError, UserError


class Given(TypedDict):
    """A checkpoint given by its features."""

    name: str
    features: Mapping[str, float | str | None]


Candidate = str | Given


class Ranker(TypedDict):
    name: str
    version: str
    run_id: str | None


class Reason(TypedDict):
    feature: str
    a: float | str | None
    b: float | str | None
    contribution: float


class Comparison(TypedDict):
    """`probability` is P(a beats b)."""

    a: str
    b: str
    task: str
    winner: str | None
    probability: float
    interval: list[float]
    too_close: bool
    reasons: list[Reason]
    missing: list[str]
    ranker: Ranker


class RankingRow(TypedDict):
    checkpoint: str
    rank: int
    score: float
    interval: list[float]
    p_best: float
    p_top_k: NotRequired[float]
    tied_with: list[str]


class Ranking(TypedDict):
    task: str
    ranking: list[RankingRow]
    total: int
    offset: int
    next_offset: int | None
    ranker: Ranker


class Job(TypedDict):
    task_id: str
    status: str
    checkpoint: str
    tasks: list[str]
    device: str
    done: int
    total: int | None
    seconds_left: float | None
    created_at: str
    executed_at: str | None
    completed_at: str | None
    error: str | None


class RefusedError(UserError):
    """The service refused the request; `status` and `code` say how, ``str(error)`` why."""

    def __init__(self, status: int, detail: Mapping[str, str]) -> None:
        self.status, self.code = status, detail["code"]
        super().__init__(detail["message"], where=detail["where"], remedy=detail["remedy"])


class Client:
    """Asks one service.

    Parameters
    ----------
    url : e.g. ``http://127.0.0.1:3000``
    token : bearer token, where the service asks for one
    timeout : seconds per request

    Every method raises RefusedError for what the service refuses, FailedError when it cannot be reached or fails.
    """

    def __init__(self, url: str = "http://127.0.0.1:3000", *, token: str | None = None, timeout: float = 60.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise UserError("not an http address", where=url, remedy="give e.g. http://127.0.0.1:3000")
        self.url, self.token, self.timeout = url.rstrip("/"), token, timeout

    def compare(self, task: str, a: Candidate, b: Candidate) -> Comparison:
        """Which of two is better on `task`?"""
        return cast(Comparison, self._ask("POST", "/v1/compare", {"task": task, "a": a, "b": b}))

    def rank(
        self,
        task: str,
        candidates: Sequence[Candidate] | None = None,
        *,
        top_k: int | None = None,
        offset: int = 0,
        limit: int = 100,
    ) -> Ranking:
        """One page of the ranking of `candidates`, or of all that the service knows for `task`."""
        body: dict[str, Any] = {"task": task, "offset": offset, "limit": limit}
        if candidates is not None:
            body["candidates"] = list(candidates)
        if top_k is not None:
            body["top_k"] = top_k
        return cast(Ranking, self._ask("POST", "/v1/rank", body))

    def ranking(
        self, task: str, candidates: Sequence[Candidate] | None = None, *, top_k: int | None = None
    ) -> Iterator[RankingRow]:
        """All rows of the ranking, page after page."""
        offset: int | None = 0
        while offset is not None:
            page = self.rank(task, candidates, top_k=top_k, offset=offset, limit=1000)
            yield from page["ranking"]
            offset = page["next_offset"]

    def model(self) -> dict[str, Any]:
        """Which ranker answers, how good it is, how it fares."""
        return self._ask("GET", "/v1/model")

    def checkpoints(self) -> list[dict[str, Any]]:
        """Checkpoints that are known by name."""
        return list(self._ask("GET", "/v1/checkpoints")["checkpoints"])

    def tasks(self) -> list[dict[str, Any]]:
        """Tasks that are known by name."""
        return list(self._ask("GET", "/v1/tasks")["tasks"])

    def submit(self, checkpoint: str, tasks: Sequence[str] | None = None) -> Job:
        """Have a checkpoint of the operator's zoo measured in the background."""
        body = {"checkpoint": checkpoint} | ({} if tasks is None else {"tasks": list(tasks)})
        return cast(Job, self._ask("POST", "/v1/extract/submit", body))

    def status(self, task_id: str) -> Job:
        """How far a measurement is."""
        return cast(Job, self._ask("GET", f"/v1/extract/status?{urllib.parse.urlencode({'task_id': task_id})}"))

    def result(self, task_id: str) -> dict[str, Any]:
        """What a finished measurement found."""
        return self._ask("GET", f"/v1/extract/get?{urllib.parse.urlencode({'task_id': task_id})}")

    def cancel(self, task_id: str) -> Job:
        """Give a measurement up."""
        return cast(Job, self._ask("PUT", f"/v1/extract/cancel?{urllib.parse.urlencode({'task_id': task_id})}"))

    def wait(self, task_id: str, *, seconds: float = 3600.0, every: float = 0.5) -> dict[str, Any]:
        """Wait for a measurement and return what it found.

        Raises
        ------
        FailedError : it failed, was canceled, or took longer than `seconds`
        """
        end = time.monotonic() + seconds
        while (job := self.status(task_id))["status"] in ("pending", "in_progress"):
            if time.monotonic() > end:
                raise FailedError(f"job {task_id} takes longer than {seconds:g} seconds", remedy="wait longer")
            time.sleep(every)
        if job["status"] != "completed":
            raise FailedError(f"job {task_id} was {job['status']}: {job['error'] or ''}".rstrip(": "), where=job["checkpoint"])
        return self.result(task_id)

    def outcomes(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Feed back what fine-tuning gave: rows with checkpoint, task, outcome and, if known, recipe, seed, metric."""
        return self._ask("POST", "/v1/outcomes", {"outcomes": [dict(row) for row in rows]})

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return cast("dict[str, Any]", json.load(answer))
        except urllib.error.HTTPError as error:
            raise _error(error) from None
        except (OSError, ValueError) as error:
            if data is not None and isinstance(getattr(error, "reason", error), BrokenPipeError | ConnectionResetError):
                raise FailedError(
                    f"the service closed the connection while {len(data) / 1e6:.1f} MB were sent",
                    where=self.url,
                    remedy="send fewer candidates at once: a service takes 4 MB unless it was told otherwise",
                ) from None
            raise FailedError(
                f"the service does not answer: {error}", where=self.url, remedy="is `foretune serve` running?"
            ) from None


def _error(error: urllib.error.HTTPError) -> ForetuneError:
    with error:
        try:
            detail = json.load(error)["error"]
            refused = RefusedError(error.code, detail)
        except (ValueError, KeyError, TypeError):
            return FailedError(f"the service answered with status {error.code}", where=str(error.url))
    if error.code >= 500:
        return FailedError(refused.message, where=refused.where, remedy=refused.remedy)
    return refused
