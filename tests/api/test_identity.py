"""Who asks, over HTTP: proxies, tokens, and what is said to those who have neither."""

import base64
import logging
from datetime import UTC, datetime, timedelta

import pytest

from gateway.errors import Unauthenticated
from gateway.hookspecs import hookimpl
from gateway.model import Principal
from gateway.plugin_manager import load_plugins
from tests.gateways import ORGANISATION, SUBJECTS, InProcess, World, error


def test_no_proxy(gateway: InProcess) -> None:
    for headers in ({}, {"PROXY": ""}):
        answer = gateway.call("GET", "/api/jobs", user=None, headers=headers)
        assert answer.status_code == 401
        assert "Bearer" in answer.headers["WWW-Authenticate"]
        assert error(answer)["code"] == "proxy_missing"


def test_identity_comes_before_everything_else_of_a_request(gateway: InProcess) -> None:
    assert gateway.call("POST", "/api/jobs", user=None, data=b"garbage").status_code == 401


def test_a_good_proxy_that_maps_to_nobody(gateway: InProcess) -> None:
    answer = gateway.call("GET", "/api/jobs", user="eve")
    assert answer.status_code == 403
    assert SUBJECTS["eve"] in error(answer)["error_message"]


def test_the_header_in_any_case(gateway: InProcess, world: World) -> None:
    for name in ("proxy", "Proxy", "PROXY"):
        answer = gateway.call("GET", "/api/jobs", user=None, headers={name: world.headers["ann"]["PROXY"]})
        assert answer.status_code == 200


def test_two_headers_are_no_proxy(gateway: InProcess, world: World) -> None:
    twice = ",".join([world.headers["ann"]["PROXY"]] * 2)
    assert gateway.call("GET", "/api/jobs", user=None, headers={"PROXY": twice}).status_code == 401


def test_proxy_wins_over_authorization(gateway: InProcess, world: World) -> None:
    good = gateway.call("GET", "/api/jobs", headers={"Authorization": "Bearer nonsense"})
    assert good.status_code == 200
    token = gateway.call("POST", "/api/tokens").get_json()["token"]
    bad = gateway.call("GET", "/api/jobs", user=None, headers={"PROXY": "bad", "Authorization": f"Bearer {token}"})
    assert bad.status_code == 401


def bearer(gateway: InProcess, token: str, method: str = "GET", path: str = "/api/jobs") -> int:
    return gateway.call(method, path, user=None, headers={"Authorization": f"Bearer {token}"}).status_code


def test_a_token_stands_for_the_proxy(gateway: InProcess) -> None:
    answer = gateway.call("POST", "/api/tokens")
    made = answer.get_json()
    assert answer.status_code == 201
    assert made.keys() == {"token", "id", "expires_at"}
    job = gateway.submit()
    assert bearer(gateway, made["token"], path=f"/api/jobs/{job['job_id']}") == 200
    assert bearer(gateway, made["token"], "POST", "/api/tokens") == 403  # a token makes no tokens
    assert bearer(gateway, made["token"], "DELETE", "/api/tokens") == 204
    assert bearer(gateway, made["token"]) == 401


def test_a_token_never_outlives_the_proxy(gateway: InProcess, world: World) -> None:
    made = gateway.call("POST", "/api/tokens", json={"lifetime": 10**9}).get_json()
    end = datetime.fromisoformat(made["expires_at"])
    assert end <= world.proxies["ann"].certificate.not_valid_after_utc + timedelta(seconds=1)
    short = gateway.call("POST", "/api/tokens", json={"lifetime": 60}).get_json()
    assert datetime.fromisoformat(short["expires_at"]) < datetime.now(UTC) + timedelta(seconds=61)
    assert gateway.call("POST", "/api/tokens", json={"lifetime": 1}).status_code == 422


def test_tokens_are_revoked_by_id_or_all_at_once(gateway: InProcess) -> None:
    made = [gateway.call("POST", "/api/tokens").get_json() for _ in range(3)]
    assert gateway.call("DELETE", f"/api/tokens?id={made[0]['id']}", user="bob").status_code == 404
    assert gateway.call("DELETE", f"/api/tokens?id={made[0]['id']}").status_code == 204
    assert [bearer(gateway, one["token"]) for one in made] == [401, 200, 200]
    assert gateway.call("DELETE", "/api/tokens").status_code == 204
    assert [bearer(gateway, one["token"]) for one in made] == [401, 401, 401]


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "Bearer ", "Bearer \xff", "nonsense"])
def test_authorization_that_is_none(gateway: InProcess, value: str) -> None:
    answer = gateway.call("GET", "/api/jobs", user=None, headers={"Authorization": value})
    assert answer.status_code == 401
    assert error(answer)


def test_no_key_and_no_token_is_kept_or_logged(
    gateway: InProcess, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in a log line, nor in an answer, nor in any file of the gateway's."""
    caplog.set_level(logging.DEBUG)
    header = world.headers["ann"]["PROXY"]
    token = gateway.call("POST", "/api/tokens").get_json()["token"]
    gateway.ended(gateway.submit("#!/bin/sh\nenv\n")["job_id"])
    key = base64.b64decode(header).split(b"PRIVATE KEY-----")[1].strip().splitlines()[3]
    answers = [
        gateway.call("GET", "/api/jobs", user=None, headers={"PROXY": bad})
        for bad in (header[:-40], header[40:], header + "AAAA", header.replace("A", "B", 3))
    ]
    seen = caplog.text.encode() + b"".join(answer.data for answer in answers)
    files = b"".join(file.read_bytes() for file in gateway.folder.rglob("*") if file.is_file())
    for secret in (key, base64.b64encode(key)[4:-4], header[2000:2100].encode()):
        assert secret not in seen
        assert secret not in files
    assert token.encode() not in seen + files


def test_an_authenticator_of_a_plugin(world: World, tmp_path) -> None:
    class Badge:
        @hookimpl
        def register_authenticators(self):
            def by_badge(headers):
                if headers.get("x-badge") == "bad":
                    raise Unauthenticated("this badge is void; get another")
                end = datetime.now(UTC) + timedelta(hours=1)
                return Principal(f"{ORGANISATION}/CN=Badge", ("ann",), end) if "x-badge" in headers else None

            return [by_badge]

    with InProcess(world, tmp_path, plugins=load_plugins(("badge", Badge()))) as gateway:
        statuses = [
            gateway.call("GET", "/api/jobs", user=None, headers=headers).status_code
            for headers in ({"X-Badge": "7"}, {"X-Badge": "bad"}, {})
        ]
    assert statuses == [200, 401, 401]
