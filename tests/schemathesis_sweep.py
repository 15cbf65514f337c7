"""Schemathesis over every operation of one shell: whatever is sent, the answer is one the OpenAPI document names."""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

EXAMPLES = 20 if os.environ.get("FAULTS") == "full" else 3
"""Of valid data and of invalid data for each operation."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance]


def sweep(app: Any, path: str, headers: dict[str, str], tenant: str) -> list[str]:
    """Send valid and invalid data to every operation of the document at `path`, for `tenant`; the names of the operations."""
    names = []
    for result in schemathesis.openapi.from_asgi(path, app).get_all_operations():
        operation = result.ok()
        names.append(operation.label)

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        def send(case: Any) -> None:
            if "tenant" in case.path_parameters:
                case.path_parameters["tenant"] = tenant
            case.call_and_validate(headers=headers, checks=CHECKS)

        for mode in GenerationMode:
            given(case=operation.as_strategy(generation_mode=mode))(send)()
    return names
