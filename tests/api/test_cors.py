"""Other sites' pages may call the gateway where the operator named them, exactly, and never with the page's cookie."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import load_config
from gateway.errors import ConfigError
from tests.gateways import InProcess, World

PORTAL = "https://portal.example.org"
PREFLIGHT = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization,content-type"}


@pytest.fixture
def open_gateway(world: World, tmp_path: Path) -> Iterator[InProcess]:
    with InProcess(world, tmp_path, host=f'[portal]\norigins = ["{PORTAL}", "http://127.0.0.1:8000"]') as gateway:
        yield gateway


def allowed(answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("Access-Control-")}


def test_nobody_unless_named(gateway: InProcess) -> None:
    headers = {"Origin": PORTAL}
    assert not allowed(gateway.call("GET", "/api/jobs", headers=headers))
    assert not allowed(gateway.call("GET", "/static/jobgate-jobs.js", user=None, headers=headers))
    preflight = gateway.call("OPTIONS", "/api/jobs", user=None, headers=headers | PREFLIGHT)
    assert preflight.status_code == 401
    assert not allowed(preflight)


def test_a_named_origin(open_gateway: InProcess) -> None:
    headers = {"Origin": PORTAL}
    preflight = open_gateway.call("OPTIONS", "/api/jobs/1.localhost", user=None, headers=headers | PREFLIGHT)
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == PORTAL
    assert "PUT" in preflight.headers["Access-Control-Allow-Methods"]
    for name in ("Authorization", "Content-Type", "PROXY", "Range"):
        assert name in preflight.headers["Access-Control-Allow-Headers"]
    for path in ("/api/jobs", "/api/jobs/nothing", "/static/jobgate-jobs.js"):
        answer = open_gateway.call("GET", path, headers=headers)
        assert answer.headers["Access-Control-Allow-Origin"] == PORTAL
        assert "X-Total-Count" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Origin" in answer.headers["Vary"]
    refused = open_gateway.call("GET", "/api/jobs", user=None, headers=headers)
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, PORTAL)


@pytest.mark.parametrize(
    "origin",
    ["null", "https://portal.example.org.evil.org", "http://portal.example.org", "https://portal.example.org:444", ""],
)
def test_any_other_origin(open_gateway: InProcess, origin: str) -> None:
    headers = {"Origin": origin}
    answer = open_gateway.call("GET", "/api/jobs", headers=headers)
    assert not allowed(answer)
    assert "Origin" in answer.headers["Vary"]
    assert open_gateway.call("OPTIONS", "/api/jobs", user=None, headers=headers | PREFLIGHT).status_code == 401


def test_the_cookie_is_not_for_a_named_origin_either(open_gateway: InProcess) -> None:
    assert open_gateway.call("POST", "/api/session", headers={"Origin": PORTAL}).status_code == 403
    assert open_gateway.call("POST", "/api/session", headers={"Origin": "http://testserver"}).status_code == 201
    body = {"host": "localhost", "script": "#!/bin/sh\n"}
    answer = open_gateway.call("POST", "/api/jobs", user=None, json=body, headers={"Origin": PORTAL})
    assert answer.status_code == 403
    assert answer.get_json()["code"] == "cross_site"


@pytest.mark.parametrize(
    "origin",
    ["*", "https://*.example.org", "https://a.example.org/", "a.example.org", "https://A.example.org", "null", ""],
)
def test_what_is_no_origin(world: World, tmp_path: Path, origin: str) -> None:
    file = world.config(tmp_path, "http://testserver", f'[portal]\norigins = ["{origin}"]')
    with pytest.raises(ConfigError, match=r"portal\.origins"):
        load_config(file)
