"""How busy a host was."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.store.history import Sample, thinned
from tests.gateways import InProcess, error

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_what_is_recorded(gateway: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    history = gateway.services.history
    history.record("localhost", AT)
    monkeypatch.setattr(gateway.services.ticker.sync.history, "record", lambda *_: None)
    gateway.submit(hold=True)
    gateway.submit(draft=True)
    for script in ("#!/bin/sh\n", "#!/bin/sh\n", "#!/bin/sh\nexit 1\n"):
        gateway.ended(gateway.submit(script)["job_id"])
    aborted = gateway.submit(hold=True)["job_id"]
    gateway.call("PUT", f"/api/jobs/{aborted}", json={"action": "abort"})
    gateway.ended(aborted)
    monkeypatch.undo()
    history.record("localhost", AT + MINUTE / 2)  # too early
    history.record("localhost", AT + MINUTE)
    history.record("localhost", AT + 2 * MINUTE)
    assert history.since("localhost", AT) == [
        Sample(AT, 0, 0),
        Sample(AT + MINUTE, 1, 0, finished=2, aborted=1, failed=1),
        Sample(AT + 2 * MINUTE, 1, 0),
    ]
    assert history.since("localhost", AT + 2 * MINUTE) == [Sample(AT + 2 * MINUTE, 1, 0)]
    assert history.since("elsewhere", AT) == []


def test_it_is_kept_for_a_week(gateway: InProcess) -> None:
    history = gateway.services.history
    for days in (0, 3, 8):
        history.record("localhost", AT + timedelta(days=days))
    assert [sample.at for sample in history.since("localhost", AT)] == [AT + timedelta(days=3), AT + timedelta(days=8)]
    history.record("localhost", AT)  # the clock was put back
    assert [sample.at for sample in history.since("localhost", AT)] == [AT, AT + timedelta(days=3)]


def test_thinned() -> None:
    samples = [Sample(AT + n * MINUTE, n, 0, finished=1) for n in range(10)]
    assert thinned(samples, 60) == samples
    assert thinned(samples, 300) == [
        Sample(AT + 4 * MINUTE, 4, 0, finished=5),
        Sample(AT + 9 * MINUTE, 9, 0, finished=5),
    ]


def test_the_tick_records_and_the_api_shows_it(gateway: InProcess) -> None:
    gateway.tick()
    gateway.submit(hold=True)
    path = "/api/hosts/localhost/history"
    samples = gateway.call("GET", f"{path}?hours=1").get_json()
    assert [(sample["queued"], sample["running"]) for sample in samples] == [(0, 0), (1, 0)]
    assert samples[0].keys() == {"at", "queued", "running", "finished", "aborted", "failed"}
    assert gateway.call("GET", "/api/hosts/zeus.cyfronet.pl/history").status_code == 200  # an alias
    assert error(gateway.call("GET", "/api/hosts/nowhere/history"))["code"] == "unknown_host"
    for hours in ("0", "nan", "1e9", "x"):
        assert gateway.call("GET", f"{path}?hours={hours}").status_code == 422, hours
