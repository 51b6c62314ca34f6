"""Signing in to the page: a cookie that counts for the gateway's own page and for nobody else."""

from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from tests.gateways import SUBJECTS, InProcess, World, error

OWN = {"Origin": "http://testserver"}
JOB = {"host": "localhost", "script": "#!/bin/sh\n"}


def sign_in(gateway: InProcess) -> TestResponse:
    answer = gateway.call("POST", "/api/session", headers=OWN)
    assert answer.status_code == 201, answer.text
    return answer


def with_cookie(gateway: InProcess, method: str, path: str, **more: object) -> TestResponse:
    """Flask's client sends the cookie that it was given."""
    return gateway.call(method, path, user=None, **more)


def test_the_cookie(gateway: InProcess) -> None:
    answer = sign_in(gateway)
    cookie = answer.headers["Set-Cookie"]
    for word in ("HttpOnly", "SameSite=Strict", "Path=/"):
        assert word in cookie
    assert "Expires" not in cookie
    assert "Max-Age" not in cookie
    assert answer.get_json().keys() == {"subject", "accounts", "admin", "expires_at"}
    assert cookie.split("=")[1].split(";")[0] not in answer.text
    assert with_cookie(gateway, "GET", "/api/session").get_json() == answer.get_json()
    assert answer.get_json()["subject"] == SUBJECTS["ann"]


def test_over_tls_the_cookie_is_the_hosts_own(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBGATE_BASE_URL", "https://jobs.example.org")
    with InProcess(world, tmp_path) as gateway:
        own = {"Origin": "https://jobs.example.org"}
        cookie = gateway.call("POST", "/api/session", headers=own).headers["Set-Cookie"]
    assert cookie.startswith("__Host-jobgate=")
    assert "Secure" in cookie


def test_a_call_of_the_own_page(gateway: InProcess) -> None:
    sign_in(gateway)
    answer = with_cookie(gateway, "POST", "/api/jobs", json=JOB, headers=OWN)
    assert answer.status_code == 201, answer.text
    path = f"/api/jobs/{answer.get_json()['job_id']}"
    assert with_cookie(gateway, "GET", path, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    gateway.ended(answer.get_json()["job_id"])
    assert with_cookie(gateway, "DELETE", path, headers=OWN).status_code == 204


@pytest.mark.parametrize(
    ("headers", "more"),
    [
        ({}, {"json": JOB}),
        ({"Origin": "null"}, {"json": JOB}),
        ({"Origin": "https://evil.example.org"}, {"json": JOB}),
        ({"Origin": "http://testserver.evil.example.org"}, {"json": JOB}),
        ({"Origin": "http://testserver:8080"}, {"json": JOB}),
        ({**OWN, "Sec-Fetch-Site": "same-site"}, {"json": JOB}),
        ({**OWN, "Sec-Fetch-Site": "cross-site"}, {"json": JOB}),
        (OWN, {"data": '{"host": "localhost"}', "content_type": "text/plain"}),
        (OWN, {"data": {"host": "localhost"}}),
    ],
)
def test_calls_of_other_pages(gateway: InProcess, headers: dict, more: dict) -> None:
    """What a form or a script of another site can have a browser send. The cookie does not count."""
    sign_in(gateway)
    answer = with_cookie(gateway, "POST", "/api/jobs", headers=headers, **more)
    assert answer.status_code == 403
    assert error(answer)["code"] == "cross_site"
    assert gateway.call("GET", "/api/jobs").get_json() == []


def test_another_site_cannot_read_with_the_cookie(gateway: InProcess) -> None:
    sign_in(gateway)
    for site in ("same-site", "cross-site"):
        assert with_cookie(gateway, "GET", "/api/jobs", headers={"Sec-Fetch-Site": site}).status_code == 403


def test_another_site_signs_nobody_in(gateway: InProcess) -> None:
    answer = gateway.call("POST", "/api/session", headers={"Origin": "https://evil.example.org"})
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


def test_signing_out_makes_the_token_useless(gateway: InProcess) -> None:
    token = sign_in(gateway).headers["Set-Cookie"].split("=")[1].split(";")[0]
    bearer = {"Authorization": f"Bearer {token}"}
    assert gateway.call("GET", "/api/jobs", user=None, headers=bearer).status_code == 200
    answer = with_cookie(gateway, "DELETE", "/api/session", headers=OWN)
    assert answer.status_code == 204
    assert "jobgate=;" in answer.headers["Set-Cookie"]
    assert gateway.call("GET", "/api/jobs", user=None, headers=bearer).status_code == 401
    assert with_cookie(gateway, "GET", "/api/session").status_code == 401


def test_revoking_with_the_cookie_revokes_that_token_alone(gateway: InProcess) -> None:
    other = gateway.call("POST", "/api/tokens").get_json()["token"]
    sign_in(gateway)
    assert with_cookie(gateway, "DELETE", "/api/tokens", headers=OWN).status_code == 204
    assert with_cookie(gateway, "GET", "/api/session").status_code == 401
    kept = {"Authorization": f"Bearer {other}"}
    gateway.client.delete_cookie("jobgate", domain="testserver")
    assert gateway.call("GET", "/api/jobs", user=None, headers=kept).status_code == 200


def test_one_signs_in_with_a_proxy_alone(gateway: InProcess) -> None:
    token = gateway.call("POST", "/api/tokens").get_json()["token"]
    bearer = {"Authorization": f"Bearer {token}"}
    assert gateway.call("POST", "/api/session", user=None, headers=bearer).status_code == 403
    sign_in(gateway)
    assert with_cookie(gateway, "POST", "/api/session", headers=OWN).status_code == 403
    assert with_cookie(gateway, "POST", "/api/tokens", headers=OWN).status_code == 403


def test_the_page_and_its_policy(gateway: InProcess) -> None:
    page = gateway.call("GET", "/", user=None)
    assert page.mimetype == "text/html"
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "style=" not in page.text
    assert "<script>" not in page.text
    assert "://" not in page.text  # nothing from elsewhere
    program = gateway.call("GET", "/", user=None, headers={"Accept": "application/json"})
    assert program.get_json()["api"] == "/api/openapi.json"


def test_the_component_is_one_module(gateway: InProcess) -> None:
    answer = gateway.call("GET", "/static/jobgate-jobs.js", user=None)
    assert answer.mimetype == "text/javascript"
    assert "\nimport " not in answer.text
    assert "innerHTML" not in answer.text
    assert gateway.call("GET", "/static/../__init__.py", user=None).status_code == 404
    assert gateway.call("GET", "/static/nothing.js", user=None).status_code == 404
