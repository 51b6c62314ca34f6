"""/health, /ready, /metrics: for load balancers and monitoring. No certificate needed, nothing about jobs' owners."""

import os
import time
from collections.abc import Iterable

import prometheus_client
from flask import Blueprint, Flask, Response, g, jsonify, request
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from gateway.api.requests import services
from gateway.errors import HostDown
from gateway.store import HostStore, Repository

blueprint = Blueprint("operations", __name__)

# The library keeps these per process, in files where PROMETHEUS_MULTIPROC_DIR is set (conf/gunicorn.conf.py does).
REQUESTS = Counter("jobgate_requests", "HTTP requests", ["method", "endpoint", "status"])
SECONDS = Histogram("jobgate_request_seconds", "Time to answer", ["endpoint"])


@blueprint.get("/health")
def health() -> Response:
    """This process serves."""
    return jsonify({"status": "ok"})


@blueprint.get("/ready")
def ready() -> Response:
    """The database answers and has the schema that this version needs."""
    database = services().database
    if database.revision() != database.newest_revision():
        raise HostDown("the database is not migrated; run `jobgate migrate`")
    return jsonify({"status": "ok"})


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus metrics of all workers together."""
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)
    else:
        registry.register(prometheus_client.REGISTRY)
    registry.register(_Stored(services().repository, services().host_store))
    return Response(prometheus_client.generate_latest(registry), content_type=prometheus_client.CONTENT_TYPE_LATEST)


class _Stored(Collector):
    """What stands in the database is the same whichever worker is asked, so it is read at each scrape."""

    def __init__(self, repository: Repository, host_store: HostStore) -> None:
        self.repository = repository
        self.host_store = host_store

    def collect(self) -> Iterable[Metric]:
        jobs = GaugeMetricFamily("jobgate_jobs", "Jobs in the table", labels=["host", "state"])
        for (host, state), count in self.repository.count_by_state().items():
            jobs.add_metric([host, state], count)
        failures = GaugeMetricFamily("jobgate_host_failures", "Failed queries in a row", labels=["host"])
        asked = GaugeMetricFamily(
            "jobgate_host_last_success", "Last good answer, seconds of the epoch", labels=["host"]
        )
        for name, record in self.host_store.all().items():
            failures.add_metric([name], record.failures)
            asked.add_metric([name], record.last_success.timestamp() if record.last_success else 0)
        return jobs, failures, asked


def register(app: Flask) -> None:
    """Count every request."""

    @app.after_request
    def count(response: Response) -> Response:
        endpoint = request.endpoint or "none"
        REQUESTS.labels(request.method, endpoint, response.status_code).inc()
        SECONDS.labels(endpoint).observe(time.perf_counter() - g.get("begun", time.perf_counter()))
        return response
