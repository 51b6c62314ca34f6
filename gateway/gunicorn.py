"""Settings for gunicorn: `gunicorn -c conf/gunicorn.conf.py wsgi:application`, which reads them from here."""

import getpass
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from gateway.logs import JSON_LOGGING

bind = "127.0.0.1:5000"
worker_class = "gthread"
workers = 2
threads = 128  # most of them may be waiting, see `[limits] waiting`
# A VOMS proxy of 4096 bits with a delegation is 14,612 bytes in base64; gunicorn's default of 8190 answers 431.
limit_request_field_size = 65535
limit_request_line = 8190
timeout = 120
graceful_timeout = 30
keepalive = 15
logconfig_dict = JSON_LOGGING
proc_name = "jobgate"
control_socket_disable = True  # gunicorn 26 and newer would put one into the home directory

# Each worker writes its metrics into a file here, so that /metrics is right whichever worker answers. It must be set
# before prometheus_client is imported anywhere, and is inherited by a new master on a graceful restart (USR2).
METRICS = "jobgate-metrics-"
if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    for left in Path(tempfile.gettempdir()).glob(f"{METRICS}*"):  # by a master that was killed
        if left.owner() == getpass.getuser() and not Path("/proc", left.name.split("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix=f"{METRICS}{os.getpid()}-")


def when_ready(server: Any) -> None:
    """The socket listens: a hint for the newcomer's terminal, prepared by `jobgate serve`."""
    hint = os.environ.get("JOBGATE_HINT")
    if hint:
        print(hint, flush=True)


def post_worker_init(worker: Any) -> None:
    """Keep up with the schedulers before the first request comes. The application may be wrapped in middleware."""
    services = _services(worker)
    if services:
        # who waits must not hold up a worker that is told to go
        services.news.alive = services.watch.alive = lambda: worker.alive
        if services.config.gateway.ticker:
            services.ticker.start()


def worker_exit(server: Any, worker: Any) -> None:
    """A worker that is told to go gives its leases back first."""
    services = _services(worker)
    if services:
        services.ticker.stop()


def _services(worker: Any) -> Any:
    return getattr(getattr(worker, "wsgi", None), "extensions", {}).get("jobgate")


def child_exit(server: Any, worker: Any) -> None:
    """Gauges of a worker that is gone must not be summed any longer."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)


def on_exit(server: Any) -> None:
    """Take the metrics away, unless a new master has taken over."""
    if not server.reexec_pid:
        shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
