"""/api/hosts: where jobs can be sent, what each place can do, and how it is."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Response, jsonify
from marshmallow import Schema, fields, validate

from gateway.api.requests import ApiBlueprint, secured, services
from gateway.api.schemas import QuerySchema, rfc3339
from gateway.backend import ACTIONS, OPTIONAL_FIELDS
from gateway.hosts import Host
from gateway.store import HostRecord, now
from gateway.store.history import KEPT, thinned

blueprint = secured(ApiBlueprint("hosts", __name__, url_prefix="/api/hosts", description="Hosts"))
MOST_SAMPLES = 240


class CapabilitiesSchema(Schema):
    """What the host's backend can honour."""

    fields_ = fields.List(fields.String(), required=True, data_key="fields")
    actions = fields.List(fields.String(), required=True)


class QueueSchema(Schema):
    """A queue (Slurm: partition) with its limits; null: none."""

    name = fields.String(required=True)
    default = fields.Boolean(required=True)
    up = fields.Boolean(required=True)
    wall_time = fields.Integer(required=True, allow_none=True)
    nodes = fields.Integer(required=True, allow_none=True)
    cores = fields.Integer(required=True, allow_none=True)


class HealthSchema(Schema):
    """How the last queries went."""

    ok = fields.Boolean(required=True)
    last_success = fields.String(required=True, allow_none=True)
    last_error = fields.String(required=True, allow_none=True)
    last_error_at = fields.String(required=True, allow_none=True)
    next_try = fields.String(required=True, allow_none=True)


class HostSchema(Schema):
    """A host."""

    name = fields.String(required=True)
    aliases = fields.List(fields.String(), required=True)
    backend = fields.String(required=True)
    default = fields.Boolean(required=True)
    version = fields.String(required=True, allow_none=True)
    capabilities = fields.Nested(CapabilitiesSchema, required=True)
    queues = fields.List(fields.Nested(QueueSchema), required=True)
    nodes = fields.Dict(required=True, metadata={"description": "how many nodes are in each state"})
    health = fields.Nested(HealthSchema, required=True)
    as_of = fields.String(required=True, allow_none=True)


class SampleSchema(Schema):
    """How busy a host was: jobs of everybody that waited and ran then, and that ended since the sample before."""

    at = fields.String(required=True, metadata={"format": "date-time"})
    queued = fields.Integer(required=True)
    running = fields.Integer(required=True)
    finished = fields.Integer(required=True)
    aborted = fields.Integer(required=True)
    failed = fields.Integer(required=True)


class HistoryQuerySchema(QuerySchema):
    """How far back."""

    hours = fields.Float(
        validate=validate.Range(0.25, KEPT.total_seconds() / 3600),
        load_default=24.0,
        metadata={"description": "how far back; what is older than a week is forgotten"},
    )


@blueprint.get("")
@blueprint.response(200, HostSchema(many=True))
def list_hosts() -> Response:
    """The hosts of this gateway"""
    records = services().host_store.all()
    return jsonify([_host(host, records.get(host.name, HostRecord(host.name))) for host in services().hosts])


@blueprint.get("/<host>")
@blueprint.response(200, HostSchema)
def show(host: str) -> Response:
    """One host, by name or alias"""
    found = services().hosts.named_in_url(host)
    return jsonify(_host(found, services().host_store.get(found.name)))


@blueprint.get("/<host>/history")
@blueprint.arguments(HistoryQuerySchema, location="query")
@blueprint.response(200, SampleSchema(many=True))
def history(query: dict[str, Any], host: str) -> Response:
    """How busy a host was, the oldest first; the last sample is now"""
    name, span, kept = services().hosts.named_in_url(host).name, query["hours"] * 3600, services().history
    samples = kept.since(name, now() - timedelta(seconds=span))
    shown = [*thinned(samples, span / MOST_SAMPLES), kept.now(name, now())]
    return jsonify([asdict(sample) | {"at": rfc3339(sample.at)} for sample in shown])


def _host(host: Host, record: HostRecord) -> dict[str, Any]:
    info = record.info or {}
    able = host.backend.capabilities
    return {
        "name": host.name,
        "aliases": host.aliases,
        "backend": host.config.section.backend,
        "default": host is services().hosts.default,
        "version": info.get("version"),
        "capabilities": {
            "fields": [name for name in OPTIONAL_FIELDS if name in able.fields],
            "actions": [name for name in ACTIONS if name in able.actions],
        },
        "queues": info.get("queues", []),
        "nodes": info.get("nodes", {}),
        "health": _health(record),
        "as_of": rfc3339(record.info_at),
    }


def _next_try(record: HostRecord) -> datetime | None:
    return datetime.fromtimestamp(record.next_poll, UTC) if record.next_poll else None


def _health(record: HostRecord) -> dict[str, Any]:
    told = asdict(record)
    times = {name: rfc3339(told[name]) for name in ("last_success", "last_error_at")}
    failing = record.failures > 0
    return {"ok": not failing, **times, "last_error": record.last_error, "next_try": rfc3339(_next_try(record))}
