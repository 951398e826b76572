"""The service over HTTP: answers, one shape of errors, limits, token, metrics, outcomes that judge past answers."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from served import Server
from serving.client import Client, RefusedError
from serving.openapi import document

A = {"name": "a", "features": {"ppl_clm": 12.0, "kshot_acc": 0.61}}
B = {"name": "b", "features": {"ppl_clm": 31.0, "kshot_acc": 0.42}}
COMPARISON = {"a", "b", "task", "winner", "probability", "interval", "too_close", "reasons", "missing", "ranker"}


def test_a_comparison_has_the_documented_fields_and_swapping_the_sides_mirrors_it(service: Server) -> None:
    status, there = service.ask("POST", "/v1/compare", {"task": "t", "a": A, "b": B})
    assert status == 200
    assert set(there) == COMPARISON
    assert there["winner"] == "a"
    assert set(there["ranker"]) == {"name", "version", "run_id"}
    assert {"feature", "a", "b", "contribution"} == set(there["reasons"][0])
    _, back = service.ask("POST", "/v1/compare", {"task": "t", "a": B, "b": A})
    assert there["probability"] + back["probability"] == pytest.approx(1.0, abs=1e-12)
    _, same = service.ask("POST", "/v1/compare", {"task": "t", "a": A, "b": {**A, "name": "twin"}})
    assert same["probability"] == 0.5
    assert same["too_close"]


def test_known_names_are_answered_as_the_command_line_answers(service: Server, zoo_folder: Path) -> None:
    _, answer = service.ask("POST", "/v1/compare", {"task": "reviews", "a": "m00", "b": "m05"})
    command = [
        sys.executable,
        "-m",
        "serving.cli",
        "compare",
        "m00",
        "m05",
        "--task",
        "reviews",
        "--table",
        str(zoo_folder / "table.csv"),
        "--json",
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    said = subprocess.run(command, cwd=zoo_folder, env=environment, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    expected = json.loads(said.stdout)
    assert set(expected) == COMPARISON
    assert answer["probability"] == pytest.approx(expected["probability"], abs=1e-9)
    assert [r["feature"] for r in answer["reasons"]] == [r["feature"] for r in expected["reasons"]]


def test_pages_of_a_ranking_put_together_are_the_ranking(service: Server) -> None:
    client = Client(service.url, token=service.token)
    whole = client.rank("reviews")
    assert [r["rank"] for r in whole["ranking"]] == list(range(1, 13))
    assert whole["next_offset"] is None
    assert math.isclose(sum(r["p_best"] for r in whole["ranking"]), 1.0, abs_tol=1e-6)
    first, second = client.rank("reviews", limit=7), client.rank("reviews", limit=7, offset=7)
    assert first["next_offset"] == 7
    assert [*first["ranking"], *second["ranking"]] == whole["ranking"]
    assert list(client.ranking("reviews")) == whole["ranking"]


def test_a_thousand_candidates_are_ranked_in_one_request(service: Server) -> None:
    many = [{"name": f"c{i}", "features": {"ppl_clm": 10 + i / 50, "kshot_acc": 0.7 - i / 5000}} for i in range(1000)]
    status, page = service.ask("POST", "/v1/rank", {"task": "t", "candidates": many, "top_k": 10, "limit": 5})
    assert status == 200
    assert page["total"] == 1000
    assert page["ranking"][0]["checkpoint"] == "c0"
    assert all(0 <= r["p_top_k"] <= 1 for r in page["ranking"])


def test_names_and_features_may_be_mixed(service: Server) -> None:
    status, page = service.ask("POST", "/v1/rank", {"task": "reviews", "candidates": ["m00", "m01", A]})
    assert status == 200
    assert {r["checkpoint"] for r in page["ranking"]} == {"m00", "m01", "a"}


BAD: list[tuple[str, str, Any, int, str]] = [
    ("an unknown field", "/v1/compare", {"task": "t", "a": A, "b": B, "model": "x"}, 400, "body.model"),
    ("an unknown field inside", "/v1/compare", {"task": "t", "a": {**A, "path": "/etc/passwd"}, "b": B}, 400, "body.a.path"),
    ("no task", "/v1/compare", {"a": A, "b": B}, 400, "body.task"),
    ("a name that is no name", "/v1/compare", {"task": "t", "a": 3, "b": B}, 400, "body.a"),
    (
        "a truth value",
        "/v1/compare",
        {"task": "t", "a": {"name": "a", "features": {"ppl_clm": True}}, "b": B},
        400,
        "features.ppl_clm",
    ),
    ("no feature that is known", "/v1/compare", {"task": "t", "a": {"name": "a", "features": {"x": 1}}, "b": B}, 400, "a"),
    ("a text for a number", "/v1/compare", {"task": "t", "a": {"name": "a", "features": {"ppl_clm": "low"}}, "b": B}, 400, ""),
    ("a long name", "/v1/compare", {"task": "t", "a": "x" * 201, "b": B}, 400, "body.a"),
    ("a control character", "/v1/compare", {"task": "t", "a": "x\ny", "b": B}, 400, "body.a"),
    ("an unknown task", "/v1/compare", {"task": "nope", "a": "m00", "b": "m01"}, 404, ""),
    ("an unknown name", "/v1/compare", {"task": "reviews", "a": "nope", "b": "m01"}, 404, ""),
    ("a path for a name", "/v1/compare", {"task": "reviews", "a": "../../../etc/passwd", "b": "m01"}, 404, ""),
    ("one candidate", "/v1/rank", {"task": "t", "candidates": [A]}, 400, "body.candidates"),
    ("a candidate twice", "/v1/rank", {"task": "t", "candidates": [A, A]}, 400, "body.candidates"),
    ("too many candidates", "/v1/rank", {"task": "t", "candidates": [f"c{i}" for i in range(1201)]}, 400, "body.candidates"),
    ("a page of nothing", "/v1/rank", {"task": "reviews", "limit": 0}, 400, "body.limit"),
    ("another zoo", "/v1/rank", {"task": "reviews", "zoo": "nope"}, 404, "body.zoo"),
    ("a checkpoint that is not listed", "/v1/extract/submit", {"checkpoint": "/etc/passwd"}, 404, "body.checkpoint"),
    ("an address for a checkpoint", "/v1/extract/submit", {"checkpoint": "http://127.0.0.1:9/x"}, 404, "body.checkpoint"),
    ("a task that is not listed", "/v1/extract/submit", {"checkpoint": "llama", "tasks": ["../films.yaml"]}, 404, "body.tasks"),
    (
        "an outcome without a number",
        "/v1/outcomes",
        {"outcomes": [{"checkpoint": "m00", "task": "t", "outcome": "high"}]},
        400,
        "outcome",
    ),
]


@pytest.mark.parametrize(("path", "body", "status", "where"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_cannot_be_used_is_refused_in_one_shape(service: Server, path: str, body: Any, status: int, where: str) -> None:
    found, answer = service.ask("POST", path, body)
    assert found == status
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"code", "message", "where", "remedy"}
    assert where in answer["error"]["where"]
    assert answer["error"]["message"]


HOSTILE = {
    "not JSON": b"nonsense",
    "a cut document": b'{"task": "t", "a": ',
    "deep lists": b'{"task": "t", "a": ' + b"[" * 50_000 + b"]" * 50_000 + b', "b": "x"}',
    "deep objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "not a number": b'{"task": "t", "a": {"name": "a", "features": {"ppl_clm": NaN}}, "b": "m00"}',
    "infinity": b'{"task": "t", "a": {"name": "a", "features": {"ppl_clm": -Infinity}}, "b": "m00"}',
    "an overflow": b'{"task": "t", "a": {"name": "a", "features": {"ppl_clm": 1e999}}, "b": "m00"}',
    "not UTF-8": b'{"task": "\xff\xfe", "a": "m00", "b": "m01"}',
    "a list": b"[1, 2, 3]",
    "null": b"null",
    "a template": json.dumps({"task": "reviews", "a": "{{ 7*7 }}{% include '/etc/passwd' %}", "b": "${jndi:ldap://x}"}).encode(),
    "many features": json.dumps(
        {"task": "t", "a": {"name": "a", "features": {f"f{i}": 1 for i in range(501)}}, "b": "m00"}
    ).encode(),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_body_is_an_error_of_the_sender(service: Server, body: bytes) -> None:
    for path in ("/v1/compare", "/v1/rank", "/v1/extract/submit", "/v1/outcomes"):
        status, answer = service.ask("POST", path, raw=body)
        assert status in (400, 404), path
        assert set(answer["error"]) == {"code", "message", "where", "remedy"}
    assert service.ask("GET", "/livez")[0] == 200


def test_a_large_body_is_refused_whether_declared_or_not(service: Server) -> None:
    status, answer = service.ask("POST", "/v1/rank", raw=b" " * 1_000_001)
    assert (status, answer["error"]["code"]) == (413, "too_large")
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as wire:
        head = f"POST /v1/rank HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.token}\r\nContent-Type: application/json\r\n"
        wire.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(11):
            wire.sendall(b"186a0\r\n" + b" " * 100_000 + b"\r\n")
        wire.sendall(b"0\r\n\r\n")
        assert b" 413 " in wire.recv(4096)


def test_other_media_types_methods_and_addresses_are_refused_in_the_same_shape(service: Server) -> None:
    body = json.dumps({"task": "t", "a": A, "b": B}).encode()
    seen = [
        service.ask("POST", "/v1/compare", raw=body, Content_Type="application/vnd.bentoml+pickle"),
        service.ask("POST", "/v1/compare", raw=body, Content_Type="multipart/form-data; boundary=x"),
        service.ask("GET", "/v1/compare"),
        service.ask("DELETE", "/v1/model"),
        service.ask("GET", "/v1/nowhere"),
        service.ask("GET", "/page/..%2f..%2fsettings.py"),
        service.ask("GET", "/v1/extract/status?task_id=nope"),
    ]
    assert [status for status, _ in seen] == [415, 415, 405, 405, 404, 404, 404]
    assert all(set(answer["error"]) == {"code", "message", "where", "remedy"} for _, answer in seen)


def test_the_token_guards_everything_under_v1_and_nothing_else(service: Server) -> None:
    for token in (None, "wrong", service.token + "x", "ä".encode().decode("latin-1")):  # type: ignore[operator]
        status, answer = service.ask("GET", "/v1/model", token=token)
        assert (status, answer["error"]["code"]) == (401, "unauthorized")
    assert [service.ask("GET", path, token=None)[0] for path in ("/", "/livez", "/readyz", "/metrics", "/docs.json")] == [200] * 5
    with pytest.raises(RefusedError, match="token"):
        Client(service.url).model()


def test_outcomes_are_recorded_once_and_judge_past_answers(service: Server) -> None:
    client = Client(service.url, token=service.token)
    answer = client.compare("judged", {"name": "good", "features": A["features"]}, {"name": "bad", "features": B["features"]})  # type: ignore[arg-type,typeddict-item]
    assert answer["winner"] == "good"
    rows = [{"checkpoint": "good", "task": "judged", "outcome": 0.9}, {"checkpoint": "bad", "task": "judged", "outcome": 0.6}]
    assert client.outcomes(rows)["added"] == 2
    again = client.outcomes(rows)
    assert (again["added"], again["duplicates"]) == (0, 2)
    feedback = client.model()["feedback"]
    assert feedback["judged"] >= 1
    assert feedback["accuracy"] == 1.0
    client.compare("named", {"name": "good", "features": A["features"]}, {"name": "bad", "features": B["features"]})  # type: ignore[arg-type,typeddict-item]
    left, right = ({**row, "task": "named"} for row in rows)
    client.outcomes([{**left, "recipe": "full"}, right])  # the recipe that is meant where none is named
    assert client.model()["feedback"]["judged"] == feedback["judged"] + 1
    with pytest.raises(RefusedError, match="outcome"):
        client.outcomes([{**rows[0], "outcome": 1e200}])

    from training.tracking import recorded_outcomes

    recorded = recorded_outcomes(root=service.root)
    assert set(recorded["checkpoint"]) >= {"good", "bad"}


def test_drift_and_metrics_count_what_was_asked(service: Server) -> None:
    far = {"name": "far", "features": {"ppl_clm": 1e9, "kshot_acc": 0.5}}
    service.ask("POST", "/v1/compare", {"task": "t", "a": far, "b": B})
    _, model = service.ask("GET", "/v1/model")
    assert 0 < model["drift"]["features"]["ppl_clm"]["share"] <= 1
    text = urllib.request.urlopen(service.url + "/metrics", timeout=20).read().decode()
    for name in (
        'foretune_request_seconds_bucket{le="+Inf",path="/v1/compare",status="200"}',
        'foretune_decisions_total{decision="a"}',
        'foretune_feature_outside_total{feature="ppl_clm"}',
        'foretune_ranker_info{name="default"',
        "foretune_mlflow_reachable 1.0",
        'foretune_jobs{status="pending"}',
    ):
        assert name in text, name
    service.ask("GET", "/v1/some/made/up/path")
    assert "made" not in urllib.request.urlopen(service.url + "/metrics", timeout=20).read().decode()


def test_the_request_id_is_kept_and_logged(service: Server) -> None:
    request = urllib.request.Request(
        service.url + "/v1/tasks", headers={"Authorization": f"Bearer {service.token}", "X-Request-Id": "trace-17"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.headers["X-Request-Id"] == "trace-17"
    for _ in range(100):  # written when the answer is out
        if '"request_id": "trace-17"' in (service.root / "serve.log").read_text():
            return
        time.sleep(0.1)
    raise AssertionError("the request is not in the log")


def test_every_address_is_in_the_api_document_and_every_example_is_answered(service: Server) -> None:
    from serving.web import SERVED

    paths = document()["paths"]
    assert {p for p in SERVED if p.startswith("/v1/")} <= set(paths)
    examples = {
        name: schema["examples"] for name, schema in document()["components"]["schemas"].items() if schema.get("examples")
    }
    for path, name in (("/v1/compare", "CompareRequest"), ("/v1/rank", "RankRequest")):
        for example in examples[name]:
            assert service.ask("POST", path, example)[0] == 200
    assert service.ask("GET", "/schema.json")[0] == 200  # for BentoML's own client
    _, served = service.ask("GET", "/docs.json")
    assert served["security"] == [{"token": []}]


def test_bentoml_can_describe_the_service_as_building_a_bento_does(tmp_path: Path) -> None:
    script = "from serving.service import service; print(sorted(service.openapi_spec.asdict()['paths']))"
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "BENTOML_HOME": str(tmp_path),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert said.returncode == 0, said.stderr
    assert {"/v1/compare", "/v1/rank", "/v1/extract/submit"} <= set(json.loads(said.stdout.replace("'", '"')))
