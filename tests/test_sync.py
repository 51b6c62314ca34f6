"""The tick: states change on evidence only. A scheduler that lies, fails or forgets is played by a backend of the
tests' own, since a real one does so only when nobody looks."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway import (
    Backend,
    ClusterInfo,
    HostDown,
    HostTimeout,
    InvalidSchedulerAnswer,
    JobgateError,
    JobReport,
    JobSpec,
    JobState,
    OutcomeUnknown,
    RefusedByScheduler,
    Submitted,
    hookimpl,
)
from gateway.model import LiveJob
from gateway.news import news
from gateway.plugin_manager import load_plugins
from gateway.sync import back_off
from tests.gateways import InProcess, World, error

START = datetime(2026, 1, 1, tzinfo=UTC)


class Liar(Backend):
    """A scheduler whose answers a test sets."""

    name = "liar"

    def __init__(self, host) -> None:
        super().__init__(host)
        self.jobs: dict[str, JobReport] = {}
        self.on_submit: JobgateError | None = None
        self.reached = True  # whether a submit that fails has reached the scheduler
        self.on_query: Exception | None = None
        self.on_find: JobgateError | None = None
        self.on_control: Callable[[str], JobReport] | None = None
        self.queries: list[tuple[list[str], str | None]] = []

    def submit(self, spec: JobSpec) -> Submitted:
        native_id = str(len(self.jobs) + 1)
        if self.on_submit is None or self.reached:
            self.jobs[native_id] = JobReport(native_id, JobState.QUEUED, "PENDING", uuid=spec.uuid)
        if self.on_submit:
            raise self.on_submit
        return Submitted(native_id, "/tmp")

    def query(self, native_ids: Collection[str], account: str | None) -> Mapping[str, JobReport]:
        self.queries.append((sorted(native_ids), account))
        if self.on_query:
            raise self.on_query
        return {name: self.jobs[name] for name in native_ids if name in self.jobs}

    def find(self, uuid: str, account: str) -> JobReport | None:
        if self.on_find:
            raise self.on_find
        return next((report for report in self.jobs.values() if report.uuid == uuid), None)

    def control(self, action: str, native_id: str, account: str) -> JobReport | None:
        return self.on_control(native_id) if self.on_control else None

    def cluster(self, account: str | None = None) -> ClusterInfo:
        return ClusterInfo("liar 1.0")

    def turn(self, native_id: str, **changes: object) -> None:
        self.jobs[native_id] = replace(self.jobs[native_id], **changes)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def gateway(world: World, tmp_path: Path):
    class Plugin:
        @hookimpl
        def register_backends(self):
            return [Liar]

    host = 'slots = 1\n[hosts.far]\nbackend = "liar"\npoll_interval = 5\n[hosts.slow]\nbackend = "liar"\n'
    plugins = load_plugins(("liar", Plugin()))
    with InProcess(world, tmp_path, plugins=plugins, host=host) as gateway:
        gateway.liar = gateway.services.hosts.by_name["far"].backend
        gateway.clock = gateway.services.ticker.sync.clock = Clock()
        yield gateway


def later(gateway, seconds: float = 6) -> dict:
    """So many seconds on, one tick, and the job that was submitted first."""
    gateway.clock.now += seconds
    gateway.tick()
    return gateway.call("GET", "/api/jobs?host=far&sort=number").get_json()[0]


def settled(gateway) -> dict:
    """A cut-off submission is noticed, asked about, and asked about once more."""
    later(gateway, 5)
    later(gateway, 60)
    return later(gateway, 20)


def submit(gateway, **more):
    return gateway.call("POST", "/api/jobs", json={"host": "far", "script": "x"}, **more)


def test_a_state_follows_the_scheduler(gateway) -> None:
    assert submit(gateway).status_code == 201
    gateway.liar.turn("1", state=JobState.RUNNING, native_state="RUNNING", start_time=START, nodes=2, cores=8)
    job = later(gateway)
    assert (job["status"], job["native_state"], job["nodes"], job["cores"]) == ("RUNNING", "RUNNING", "2", "8")
    gateway.liar.turn("1", state=JobState.TIMED_OUT, native_state="TIMEOUT", end_time=START + timedelta(hours=30))
    job = later(gateway)
    assert (job["status"], job["state"], job["wall_time"]) == ("ERROR", "timed_out", "1-06:00:00")
    del gateway.liar.jobs["1"]  # the scheduler forgets; the attributes stay for ever
    assert later(gateway, 10_000) == job


def test_what_only_the_abort_was_told_is_kept(gateway) -> None:
    """A tick that writes about the job at the same moment does not undo it."""

    def abort(native_id: str) -> JobReport:
        gateway.liar.turn(native_id, state=JobState.HELD, native_state="HELD")
        later(gateway)
        del gateway.liar.jobs[native_id]
        return JobReport(native_id, JobState.CANCELLED, "deleted", reason="before it started", end_time=START)

    submit(gateway)
    gateway.liar.on_control = abort
    assert gateway.call("PUT", "/api/jobs/1.far", json={"action": "abort"}).status_code == 204
    job = later(gateway, 10_000)
    assert (job["status"], job["native_state"], job["reason"]) == ("ABORTED", "deleted", "before it started")
    assert job["end_time"]
    assert [event.state for event in gateway.services.repository.events(job["number"])][-2:] == ["held", "cancelled"]


def test_missing_is_not_done(gateway) -> None:
    submit(gateway)
    gateway.liar.turn("1", state=JobState.RUNNING, native_state="RUNNING")
    later(gateway)
    gone = gateway.liar.jobs.pop("1")
    job = later(gateway)
    assert (job["state"], job["stale"]) == ("running", True)
    assert later(gateway, 3000)["state"] == "running"
    assert later(gateway, 1000)["state"] == "lost"
    gateway.liar.jobs["1"] = gone
    job = later(gateway)
    assert (job["state"], job["stale"], job["reason"]) == ("running", False, None)


@pytest.mark.parametrize(
    "fault", [HostDown("off"), HostTimeout("slow"), InvalidSchedulerAnswer("garbage"), RuntimeError("a plugin's bug")]
)
def test_a_query_that_fails_changes_no_state(gateway, fault: Exception) -> None:
    submit(gateway)
    gateway.liar.turn("1", state=JobState.RUNNING, native_state="RUNNING")
    before = later(gateway)
    gateway.liar.on_query = fault
    assert later(gateway) | {"as_of": ""} == before | {"as_of": ""}
    health = gateway.call("GET", "/api/hosts/far").get_json()["health"]
    assert not health["ok"]
    assert str(fault) in health["last_error"]
    gateway.liar.on_query = None
    later(gateway, 400)
    assert gateway.call("GET", "/api/hosts/far").get_json()["health"]["ok"]


def test_a_failing_host_is_left_alone_for_a_growing_while(gateway) -> None:
    submit(gateway)
    gateway.liar.on_query = HostDown("off")
    asked = []
    for _ in range(200):
        later(gateway, 5)
        asked.append(len(gateway.liar.queries))
    assert 5 < asked[-1] < 20
    assert all(1 <= back_off(5, failures) <= 300 for failures in range(100))


def test_one_query_per_interval_however_often_it_ticks(gateway) -> None:
    submit(gateway)
    submit(gateway, user="bob")
    later(gateway)
    for _ in range(10):
        gateway.tick()
    # no operator is set, so one per account with live jobs
    assert gateway.liar.queries == [(["1"], "ann"), (["2"], "bob")]


def test_a_submit_that_times_out_but_got_there_is_adopted_at_once(gateway) -> None:
    gateway.liar.on_submit = HostTimeout("timeout occurred", standard_output="Submitted ba")
    assert submit(gateway).status_code == 201


@pytest.mark.parametrize(("fault", "status"), [(HostTimeout("timeout"), 408), (OutcomeUnknown("cut"), 504)])
def test_a_submit_whose_outcome_is_not_known(gateway, fault: JobgateError, status: int) -> None:
    gateway.liar.on_submit, gateway.liar.on_find = fault, HostDown("off")
    fault.standard_output = "whatever was printed"
    answer = submit(gateway, headers={"Idempotency-Key": "k"})
    said = error(answer)
    assert (answer.status_code, said["retryable"], said["exit_code"]) == (status, True, -1)
    assert said["standard_output"] == "whatever was printed"
    truth = answer.headers["Location"].removeprefix("http://testserver")
    assert gateway.call("GET", truth).get_json()["state"] == "submitting"
    assert said["uuid"] in truth
    again = submit(gateway, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.get_json()["uuid"]) == (200, said["uuid"])
    gateway.liar.on_submit = gateway.liar.on_find = None
    later(gateway, 5)
    later(gateway, 20)
    assert gateway.call("GET", truth).get_json()["state"] == "submitting"  # still within the grace period
    later(gateway, 60)
    assert gateway.call("GET", truth).get_json()["job_id"] == "1.far"
    assert len(gateway.liar.jobs) == 1


def test_a_submit_that_never_got_there(gateway) -> None:
    gateway.liar.on_submit, gateway.liar.reached = OutcomeUnknown("cut"), False
    assert submit(gateway).status_code == 504
    gateway.liar.on_submit = None
    job = settled(gateway)
    assert (job["state"], job["status"]) == ("submit_failed", "ERROR")
    assert gateway.liar.jobs == {}


def test_a_gateway_that_dies_in_a_submit(gateway) -> None:
    """The client was never answered, so what did not get there is handed over again, and what did is adopted."""

    class Killed(BaseException):
        pass

    for reached in (True, False):
        gateway.liar.on_submit, gateway.liar.reached = Killed(), reached
        with pytest.raises(Killed):
            submit(gateway)
    gateway.liar.on_submit = None
    settled(gateway)
    jobs = gateway.call("GET", "/api/jobs").get_json()
    assert [job["state"] for job in jobs] == ["queued", "queued"]
    assert len(gateway.liar.jobs) == 2


def test_a_job_that_neither_queue_nor_accounting_has_just_now(gateway) -> None:
    """It has just ended (Grid Engine): the scheduler has to say twice that it does not know it."""
    gateway.liar.on_submit, gateway.liar.on_find = OutcomeUnknown("cut"), HostDown("off")
    submit(gateway)
    gateway.liar.on_submit = gateway.liar.on_find = None
    ended = gateway.liar.jobs.pop("1")
    later(gateway, 5)
    assert later(gateway, 60)["native_state"] == "not found"
    gateway.liar.jobs["1"] = ended
    job = later(gateway, 20)
    assert (job["state"], job["native_state"]) == ("queued", "PENDING")


def test_handing_over_again_takes_effect_late(gateway) -> None:
    """It times out, is in the scheduler only a while later, and is not handed over a third time meanwhile."""

    class Killed(BaseException):
        pass

    gateway.liar.on_submit, gateway.liar.reached = Killed(), False
    with pytest.raises(Killed):
        submit(gateway)
    gateway.liar.on_submit, gateway.liar.reached = HostTimeout("late"), True
    settled(gateway)
    gateway.liar.on_submit = None
    late = gateway.liar.jobs.pop("1")
    assert later(gateway, 12)["state"] == "submitting"
    gateway.liar.jobs["1"] = late
    assert settled(gateway)["state"] == "queued"
    assert list(gateway.liar.jobs) == ["1"]


def test_whoever_lost_the_lease_hands_nothing_over(gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process that was stopped for so long that another has taken its place."""

    class Killed(BaseException):
        pass

    gateway.liar.on_submit, gateway.liar.reached = Killed(), False
    with pytest.raises(Killed):
        submit(gateway)
    gateway.liar.on_submit = None
    with monkeypatch.context() as lost:
        lost.setattr(gateway.services.host_store, "renew_lease", lambda *_: False)
        settled(gateway)
        assert gateway.liar.jobs == {}
    assert settled(gateway)["state"] == "queued"
    assert len(gateway.liar.jobs) == 1


def test_a_refused_or_undeliverable_submit_leaves_nothing(gateway) -> None:
    gateway.liar.reached = False
    for fault, status in (
        (RefusedByScheduler("no such partition", exit_code=1, error_output="sbatch: error"), 422),
        (HostDown("off"), 503),
    ):
        gateway.liar.on_submit = fault
        answer = submit(gateway)
        assert answer.status_code == status
        assert error(answer)["error_output"] == fault.error_output
        assert gateway.call("GET", "/api/jobs").get_json() == []
    assert answer.headers["Retry-After"]


def test_delete_of_a_job_whose_submission_is_not_settled(gateway) -> None:
    gateway.liar.on_submit, gateway.liar.on_find = OutcomeUnknown("cut"), HostDown("off")
    uuid = error(submit(gateway))["uuid"]
    assert gateway.call("DELETE", f"/api/jobs/{uuid}").status_code == 409


def test_an_unchanged_job_is_not_written(gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.hosts.RECENT_SECONDS", 0)
    submit(gateway)
    later(gateway)
    before = gateway.job("1.far")
    after = later(gateway)
    assert before["updated_at"] == after["updated_at"]
    assert before["as_of"] < after["as_of"]  # fresh all the same: the host has answered


def test_news_of_an_unknown_word() -> None:
    job = LiveJob(1, "1", "ann", "far", JobState.QUEUED, "PENDING", stale=False, as_of=START)
    report = JobReport("1", JobState.UNKNOWN, "LEVITATING")
    changed = news(job, report, START, None, timedelta(hours=1))
    assert (changed["state"], changed["native_state"]) == (JobState.UNKNOWN, "LEVITATING")
    assert JobState.UNKNOWN.status == "RUNNING"  # neither done nor failed
