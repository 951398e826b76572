"""schemathesis against the running service, from its own OpenAPI document: no 5xx, no answer that the document does not allow."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup

from served import Server
from serving.openapi import document

OPERATIONS = [(path, method) for path, verbs in document()["paths"].items() for method in verbs]
NAMES = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


@pytest.fixture(scope="module")
def contract() -> schemathesis.BaseSchema:
    load_all_checks()
    return schemathesis.openapi.from_dict(document(secured=True))


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_answers_are_what_the_document_says(service: Server, contract: schemathesis.BaseSchema, path: str, method: str) -> None:
    operation = contract[path][method.upper()]
    checks = [CHECKS.get_one(name) for name in NAMES]
    answered = []

    @given(case=operation.as_strategy())
    @settings(
        max_examples=8, deadline=None, database=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def ask(case: schemathesis.Case) -> None:
        answer = case.call(base_url=service.url, headers={"Authorization": f"Bearer {service.token}"}, timeout=60)
        answered.append(answer.status_code)
        try:
            case.validate_response(answer, checks=checks)
        except FailureGroup as group:
            raise AssertionError(f"{case.as_curl_command()}: {list(group.exceptions)}") from None

    ask()
    assert answered
