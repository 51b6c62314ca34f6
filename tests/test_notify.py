"""Notifications, received by a real HTTP server on this machine; and what a job reports by itself."""

import hashlib
import hmac
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from gateway.notify import forbidden, literal_address
from tests.gateways import InProcess, Server, World, error, free_port, until
from tests.test_cli import run

ALLOWED = '[notify]\nallow = ["127.0.0.0/8"]\nsecret = "the key"'
SLEEPER = "#!/bin/sh\nexec sleep 300\n"


class Receiver:
    """Takes notifications. Answers with `codes` in turn, then with 204."""

    def __init__(self, port: int, codes: list[int], location: str) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((dict(self.headers), body))
                self.send_response(codes.pop(0) if codes else 204)
                self.send_header("Location", location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?x=1"


@contextmanager
def receiving(port: int = 0, codes: tuple[int, ...] = (), location: str = "") -> Iterator[Receiver]:
    receiver = Receiver(port, list(codes), location)
    threading.Thread(target=receiver.server.serve_forever, daemon=True).start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()


@pytest.fixture
def telling(world: World, tmp_path: Path) -> Iterator[InProcess]:
    """A gateway that may send notifications to this machine."""
    with InProcess(world, tmp_path, gateway=ALLOWED) as gateway:
        yield gateway


def told(gateway: InProcess, job: dict) -> list[str]:
    """What the job's history says of notifications."""
    history = gateway.call("GET", f"/api/jobs/{job['uuid']}/events").get_json()
    return [event["reason"] for event in history if event["kind"] == "notification"]


def test_a_signed_post_when_the_job_is_final(telling: InProcess) -> None:
    with receiving() as receiver:
        job = telling.submit("#!/bin/sh\nexit 3\n", notify=receiver.url)
        assert job["notify"] == receiver.url
        telling.ended(job["uuid"])
        telling.tick()
    [(headers, body)] = receiver.received
    told_of = json.loads(body)
    after = telling.job(job["uuid"])
    assert {name: told_of[name] for name in ("job_id", "uuid", "status", "state", "exit_code")} == {
        "job_id": job["job_id"],
        "uuid": job["uuid"],
        "status": "ERROR",
        "state": after["state"],
        "exit_code": 3,
    }
    expected = hmac.new(b"the key", body, hashlib.sha256).hexdigest()
    assert headers["X-Jobgate-Signature"] == f"sha256={expected}"
    assert len(headers["X-Jobgate-Delivery"]) == 36
    assert headers["Host"] == receiver.url.split("/")[2]
    assert told(telling, job) == [f"notification delivered to {receiver.url}: it answered 204"]


def test_no_notification_without_a_wish_or_before_the_end(telling: InProcess) -> None:
    with receiving() as receiver:
        job = telling.submit(SLEEPER)
        telling.running(job["uuid"])
        assert telling.call("PATCH", f"/api/jobs/{job['uuid']}", json={"notify": receiver.url}).status_code == 200
        telling.tick()
        assert receiver.received == []
        telling.call("PUT", f"/api/jobs/{job['uuid']}", json={"action": "abort"})
        telling.ended(job["uuid"])
        telling.tick()
        assert [json.loads(body)["status"] for _, body in receiver.received] == ["ABORTED"]


def test_tried_again_with_the_same_number(telling: InProcess) -> None:
    with receiving(codes=(503, 302)) as receiver:
        job = telling.submit(notify=receiver.url)
        telling.ended(job["uuid"])
        until(lambda: telling.tick() is not None and len(receiver.received) == 3)
    assert len({headers["X-Jobgate-Delivery"] for headers, _ in receiver.received}) == 1
    until(lambda: len(told(telling, job)) == 3)
    first, second, third = told(telling, job)
    assert "it answered 503; tried again in 5 s" in first
    assert "it answered 302; tried again in 10 s" in second
    assert "delivered" in third


def test_arrives_once_though_the_gateway_was_killed(world: World, tmp_path: Path) -> None:
    port = free_port()
    with Server(world, tmp_path, gateway=ALLOWED) as server:
        job = server.submit(notify=f"http://127.0.0.1:{port}/hook")
        server.ended(job["job_id"])
        server.stop(signal.SIGKILL)
        with receiving(port) as receiver:
            server.start()
            until(lambda: receiver.received)
            history = f"/api/jobs/{job['uuid']}/events"
            until(lambda: "delivered" in (server.call("GET", history).json()[-1]["reason"] or ""))
            server.stop(signal.SIGTERM)
            server.start()
            assert server.call("GET", history).status_code == 200
            assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "10.1.2.3",
        "169.254.169.254",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "0",
    ],
)
def test_a_forbidden_address_is_refused_at_once(gateway: InProcess, host: str) -> None:
    body = {"host": "localhost", "script": "true", "notify": f"http://{host}:8080/hook"}
    refused = gateway.call("POST", "/api/jobs", json=body)
    assert refused.status_code == 422
    assert "notify" in error(refused)["errors"]
    job = gateway.submit()
    assert gateway.call("PATCH", f"/api/jobs/{job['uuid']}", json={"notify": body["notify"]}).status_code == 422


def test_a_name_that_leads_there_is_refused_at_delivery(gateway: InProcess) -> None:
    with receiving() as receiver:
        url = receiver.url.replace("127.0.0.1", "localhost")
        job = gateway.submit(notify=url)
        gateway.ended(job["uuid"])
        gateway.tick()
        [words] = told(gateway, job)
        assert words.startswith(f"notification to {url} not sent: localhost is ")
        assert receiver.received == []


def test_a_redirect_that_leads_there_is_refused(telling: InProcess) -> None:
    with receiving(codes=(307,), location="http://10.0.0.1/hook") as receiver:
        job = telling.submit(notify=receiver.url)
        telling.ended(job["uuid"])
        telling.tick()
        [words] = told(telling, job)
        assert "10.0.0.1" in words
        assert len(receiver.received) == 1
    with receiving() as last, receiving(codes=(308,), location=last.url) as first:
        telling.ended(telling.submit(notify=first.url)["uuid"])
        telling.tick()
        assert (len(first.received), len(last.received)) == (1, 1)


def test_addresses() -> None:
    for text in ("8.8.8.8", "2001:4860:4860::8888"):
        assert not forbidden(ip_address(text), [])
    for text in ("192.168.1.1", "100.64.0.1", "fe80::1", "fd00::1", "224.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1"):
        assert forbidden(ip_address(text), []), text
        assert not forbidden(
            ip_address(text), [ip_network(f"{text}/24" if "." in text else f"{text}/16", strict=False)]
        )
    assert literal_address("example.org") is None


def test_what_is_no_url(gateway: InProcess) -> None:
    for wrong in ("x", "ftp://example.org/", "http://", 7, "http://example.org/" + "x" * 2000, "http://[::1"):
        refused = gateway.call("POST", "/api/jobs", json={"host": "localhost", "script": "true", "notify": wrong})
        assert refused.status_code == 422, wrong


def test_a_secret_that_nobody_configured(world: World, tmp_path: Path) -> None:
    with receiving() as receiver, InProcess(world, tmp_path, gateway='[notify]\nallow = ["127.0.0.1"]') as gateway:
        gateway.ended(gateway.submit(notify=receiver.url)["uuid"])
        gateway.tick()
        secret = run("notify-secret", "--config", str(tmp_path / "gateway.toml")).stdout.strip()
    [(headers, body)] = receiver.received
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    assert headers["X-Jobgate-Signature"] == f"sha256={expected}"


def test_a_job_reports_by_itself(world: World, tmp_path: Path) -> None:
    """The gateway would look every ten minutes; it looks when the job says so."""
    script = '#!/bin/sh\ncurl -s -X POST -H "Authorization: Bearer $JOBGATE_REPORT_TOKEN" $JOBGATE_REPORT_URL\n'
    with Server(world, tmp_path, host="") as server:
        text = server.config.read_text().replace("poll_interval = 0.1", "poll_interval = 600")
        server.config.write_text(text)
        server.stop(signal.SIGTERM)
        server.start()
        job = server.submit(script)
        assert server.ended(job["job_id"])["status"] == "FINISHED"
        assert server.call("GET", f"/api/jobs/{job['job_id']}/stdout").json() == {"success": True}


def test_the_report_token_is_for_one_job_while_it_lasts(gateway: InProcess) -> None:
    job, other = gateway.submit(SLEEPER), gateway.submit(SLEEPER)
    token = gateway.services.reports.token(job["uuid"])

    def report(uuid: str, token: str, **more: str) -> int:
        headers = {"Authorization": f"Bearer {token}", **more}
        return gateway.call("POST", f"/api/jobs/{uuid}/report", user=None, headers=headers).status_code

    assert report(job["uuid"], token) == 202
    assert report(job["job_id"], token) == 202
    assert report(other["uuid"], token) == 401
    assert report("nothing", token) == 401
    assert report(job["uuid"], token[:-1]) == 401
    assert report(job["uuid"], "jgr_ü") == 401
    assert gateway.call("POST", f"/api/jobs/{job['uuid']}/report").status_code == 202
    assert gateway.call("POST", f"/api/jobs/{job['uuid']}/report", user="bob").status_code == 404
    assert gateway.call("POST", f"/api/jobs/{job['uuid']}/report", user=None).status_code == 401
    assert gateway.call("GET", "/api/jobs", user=None, headers={"Authorization": f"Bearer {token}"}).status_code == 401
    gateway.call("PUT", f"/api/jobs/{job['uuid']}", json={"action": "abort"})
    gateway.ended(job["uuid"])
    assert report(job["uuid"], token) == 401
