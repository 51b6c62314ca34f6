"""JSON log lines on standard error, each with the id of the request that it belongs to."""

import logging
import logging.config
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")


class AddRequestId(logging.Filter):
    """Gives each record the id of the request in whose thread it was made."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get() or None
        return True


JSON_LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": AddRequestId}},
    "formatters": {
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s %(message)s",
            "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
            "datefmt": "%Y-%m-%dT%H:%M:%S%z",
        }
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stderr",
            "formatter": "json",
            "filters": ["request_id"],
        }
    },
    "loggers": {
        "gunicorn.error": {"level": "INFO", "propagate": True, "handlers": []},
        "gunicorn.access": {"level": "WARNING", "propagate": True, "handlers": []},
        "alembic": {"level": "WARNING"},
        "paramiko": {"level": "WARNING"},
    },
    "root": {"level": "INFO", "handlers": ["stderr"]},
}


def configure_logging(level: str) -> None:
    """The gateway's logging for this process."""
    logging.config.dictConfig({**JSON_LOGGING, "root": {"level": level, "handlers": ["stderr"]}})
