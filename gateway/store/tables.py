"""The tables. Times are stored as UTC; JSON columns hold what is never searched by the database."""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    func,
    literal_column,
)

from gateway.model import JobState

metadata = MetaData()

# Of a sequence that counts for years. SQLite counts only in an INTEGER, which has 64 bits there.
Number = BigInteger().with_variant(Integer(), "sqlite")


class UtcTime(TypeDecorator):
    """An aware datetime in UTC, on databases that know no time zones too."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type:
        return datetime

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class JsonText(TypeDecorator):
    """JSON kept as text: never searched by the database, and mostly empty, which then costs no parsing."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str:
        return json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Any) -> Any:
        return EMPTY[value]() if value in EMPTY else json.loads(value or "null")


class StateWord(TypeDecorator):
    """A JobState, stored as its word."""

    impl = String(20)
    cache_ok = True

    @property
    def python_type(self) -> type:
        return str

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Any) -> JobState | None:
        return None if value is None else STATES[value]


STATES = {state.value: state for state in JobState}
EMPTY: dict[str | None, type] = {"{}": dict, "[]": list}

# PostgreSQL takes no more than 2,704 bytes into an index, and a tag may have 4,000.
BEGIN = 200
begin_of_tag = func.substr(literal_column("tag"), literal_column("1"), literal_column(str(BEGIN)))

jobs = Table(
    "jobs",
    metadata,
    Column("number", Number, primary_key=True),
    Column("uuid", String(36), nullable=False, unique=True),
    Column("job_id", String(400), nullable=False, index=True),  # schedulers reuse their numbers: not unique
    Column("owner", Text, nullable=False),
    Column("account", String(64), nullable=False),
    Column("host", String(255), nullable=False),
    Column("native_id", String(100)),
    Column("name", Text, nullable=False),
    Column("tag", Text),
    Column("queue", Text),
    Column("state", StateWord, nullable=False),
    Column("native_state", Text),
    Column("reason", Text),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("stale", Boolean, nullable=False),
    Column("as_of", UtcTime),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("submitted_at", UtcTime),
    Column("start_time", UtcTime),
    Column("end_time", UtcTime),
    Column("nodes", Integer),
    Column("cores", Integer),
    Column("working_directory", Text),
    Column("stdout_file", Text),
    Column("stderr_file", Text),
    Column("description", Text),
    Column("extended_properties", JsonText, nullable=False),
    Column("request", JsonText, nullable=False),
    Column("warnings", JsonText, nullable=False),
    Column("array", Text),
    Column("task_counts", JsonText, nullable=False, server_default="{}"),
    Column("resubmitted_from", Text),
    Column("template", Text),
    Column("notify", Text),
    Column("workspace", Text),
    Column("output_directory", Text),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Index("jobs_of_owner", "owner", "number"),
    Index("jobs_of_owner_by_tag", "owner", begin_of_tag),
    Index("jobs_of_host_by_state", "host", "state"),
    sqlite_autoincrement=True,  # a number is never given twice, even after the newest job was deleted
)

scripts = Table(
    "scripts",
    metadata,
    Column("number", Number, ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("script", Text, nullable=False),
)

tasks = Table(
    "tasks",
    metadata,
    Column("number", Number, ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("task_id", Integer, primary_key=True, autoincrement=False),
    Column("state", StateWord, nullable=False),
    Column("native_state", Text),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("reason", Text),
    Column("start_time", UtcTime),
    Column("end_time", UtcTime),
)

# What a job waits for. The job that is waited for may be deleted meanwhile; what became of it is then not to be known.
dependencies = Table(
    "dependencies",
    metadata,
    Column("number", Number, ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("uuid", String(36), primary_key=True),
    Column("type", String(20), primary_key=True),
    Index("dependencies_on", "uuid"),
)

events = Table(
    "events",
    metadata,
    Column("id", Number, primary_key=True),
    Column("number", Number, ForeignKey("jobs.number", ondelete="CASCADE"), nullable=False, index=True),
    Column("at", UtcTime, nullable=False),
    Column("state", StateWord, nullable=False),
    Column("before", StateWord),
    Column("reason", Text),
    Column("kind", String(20), nullable=False, server_default="job"),  # or "notification": a delivery, told in `reason`
    sqlite_autoincrement=True,
)

# Notifications that are still to be delivered. Times in seconds of the epoch, as leases have them.
outbox = Table(
    "outbox",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("number", Number, ForeignKey("jobs.number", ondelete="CASCADE"), nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("next_try", Float, nullable=False, index=True),
    Column("tries", Integer, nullable=False),
    Column("holder", Text),
    Column("lease_until", Float, nullable=False),
)

templates = Table(
    "templates",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("shared", Boolean, nullable=False),
    Column("body", JsonText, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

# What all gateways of one database must have in common and nobody configured, such as the key of the report tokens.
settings = Table(
    "settings",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("value", Text, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("body_hash", String(64), nullable=False),
    Column("uuid", String(36), nullable=False),
    Column("created_at", UtcTime, nullable=False, index=True),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("owner", Text, nullable=False, index=True),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False, index=True),
)

hosts = Table(
    "hosts",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("holder", Text),  # of the lease to ask this host
    Column("lease_until", Float, nullable=False),
    Column("next_poll", Float, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("last_success", UtcTime),
    Column("last_error", Text),
    Column("last_error_at", UtcTime),
    Column("info", JsonText),
    Column("info_at", UtcTime),
)

host_history = Table(
    "host_history",
    metadata,
    Column("host", String(255), primary_key=True),
    Column("at", UtcTime, primary_key=True),
    Column("queued", Integer, nullable=False),
    Column("running", Integer, nullable=False),
    Column("finished", Integer, nullable=False),
    Column("aborted", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("event", Number, nullable=False),  # the newest that was there then
)

__all__ = [
    "BEGIN",
    "begin_of_tag",
    "dependencies",
    "events",
    "host_history",
    "hosts",
    "idempotency_keys",
    "jobs",
    "metadata",
    "outbox",
    "scripts",
    "settings",
    "tasks",
    "templates",
    "tokens",
]
