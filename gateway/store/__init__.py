"""What is kept: tables and their migrations, and the classes that read and write them."""

from gateway.store.database import Database, now
from gateway.store.events import EventLog, JobEvent
from gateway.store.history import HostHistory
from gateway.store.hosts import HostRecord, HostStore
from gateway.store.outbox import Outbox
from gateway.store.repository import Event, JobFilter, KeyTaken, Page, Repository
from gateway.store.settings import SettingsStore
from gateway.store.tasks import TaskFilter
from gateway.store.tokens import TokenStore

__all__ = [
    "Database",
    "Event",
    "EventLog",
    "HostHistory",
    "HostRecord",
    "HostStore",
    "JobEvent",
    "JobFilter",
    "KeyTaken",
    "Outbox",
    "Page",
    "Repository",
    "SettingsStore",
    "TaskFilter",
    "TokenStore",
    "now",
]
