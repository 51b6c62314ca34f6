"""Jobgate in Python.

from gateway.client import JobManager

manager = JobManager()
job = manager.submit("#!/bin/sh\\necho hello\\n")
print(job.wait().get_logs()["stdout"])

See docs/python.md. What is raised is `gateway.errors`, and `gateway.client.errors` where there was no answer.
"""

from gateway.client.errors import BadProxy, BadSettings, ClientError, NoGateway, NoProxy, ProxyExpired, Unreachable
from gateway.client.jobs import Job, Results
from gateway.client.jobs_table import JobsTable
from gateway.client.manager import JobManager, list_schedulers
from gateway.client.templates import (
    JOB_TYPES,
    BasicJobTemplate,
    CondorJob,
    CondorJobTemplate,
    JobTemplate,
    Scheduler,
)
from gateway.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    HostDown,
    HostTimeout,
    InvalidSchedulerAnswer,
    JobgateError,
    NotFound,
    OutcomeUnknown,
    RefusedByScheduler,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    UnknownHost,
    Unprocessable,
)

__all__ = [
    "JOB_TYPES",
    "BadProxy",
    "BadRequest",
    "BadSettings",
    "BasicJobTemplate",
    "ClientError",
    "CondorJob",
    "CondorJobTemplate",
    "Conflict",
    "Forbidden",
    "HostDown",
    "HostTimeout",
    "InvalidSchedulerAnswer",
    "Job",
    "JobManager",
    "JobTemplate",
    "JobgateError",
    "JobsTable",
    "NoGateway",
    "NoProxy",
    "NotFound",
    "OutcomeUnknown",
    "ProxyExpired",
    "RefusedByScheduler",
    "Results",
    "Scheduler",
    "TooLarge",
    "TooManyRequests",
    "Unauthenticated",
    "UnknownHost",
    "Unprocessable",
    "Unreachable",
    "list_schedulers",
]
