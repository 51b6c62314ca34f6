"""The API keeps to its own description: no input gives a 500, every answer has the shape that is documented."""

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.generation.modes import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from gateway.api.schemas import JobSchema, job_json
from gateway.store import JobFilter, now
from tests.gateways import InProcess, World

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def shared(world: World, tmp_path_factory: pytest.TempPathFactory):
    with InProcess(world, tmp_path_factory.mktemp("openapi"), host="slots = 2") as gateway:
        job = gateway.ended(gateway.submit("#!/bin/sh\necho hello\n")["job_id"])
        assert job["job_id"] == "1.localhost"
        yield gateway


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_any_input(shared: InProcess, mode: GenerationMode) -> None:
    """Whatever the description allows, and what it does not, with a real proxy. Half of the ids are a real job's."""
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", shared.app)
    for operation in schema.get_all_operations():
        if operation.ok().path != "/api/events":  # a stream has no end; tests/test_listening.py is about it
            _try(operation.ok(), mode, shared)


def _try(operation: APIOperation, mode: GenerationMode, shared: InProcess) -> None:
    @given(operation.as_strategy(mode))
    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def run(case: Case) -> None:
        if "job_id" in case.path_parameters and len(str(case.path_parameters["job_id"])) % 2:
            assume(case.method.upper() != "DELETE")
            case.path_parameters["job_id"] = "1.localhost"
        case.call_and_validate(headers=shared.world.headers["ann"], checks=CHECKS)

    run()


def test_the_document(shared: InProcess) -> None:
    document = shared.call("GET", "/api/openapi.json", user=None).get_json()
    assert document["openapi"].startswith("3.")
    assert set(document["components"]["securitySchemes"]) == {"proxy", "token"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method != "parameters":
                assert operation.get("summary"), f"{method} {path} has no summary"


def test_a_job_has_the_fields_of_its_schema(gateway: InProcess) -> None:
    gateway.ended(gateway.submit(tag="x")["job_id"])
    job = gateway.services.repository.page(JobFilter(owner=None)).jobs[0]
    assert job_json(job, "http://x", None, now()).keys() == JobSchema().fields.keys()
    assert JobSchema().validate(json.loads(json.dumps(job_json(job, "http://x", None, now())))) == {}


def test_swagger_ui_needs_no_internet(gateway: InProcess) -> None:
    page = gateway.call("GET", "/api/docs", user=None)
    assert page.status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text
    for asset in ("swagger-ui-bundle.js", "swagger-ui-standalone-preset.js", "swagger-ui.css"):
        assert asset in page.text
        assert gateway.call("GET", f"/api/docs/assets/{asset}", user=None).status_code == 200
    assert gateway.call("GET", "/api/docs/assets/../../etc/passwd", user=None).status_code == 404
