"""Connections of one account to one host, and the channels on them.

sshd refuses channels beyond its MaxSessions (10 by default) and for a moment still counts one that has been closed. So
the pool counts, stays well below, and asks again where it was refused all the same: a refused channel ran nothing.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import paramiko  # type: ignore[import-untyped]

from gateway.errors import HostDown, JobgateError
from gateway.transport.ssh_channel import finish, open_channel
from gateway.transport.ssh_options import SshOptions

# A certificate lives five minutes; what it opened should not live for days. It also bounds paramiko's own bookkeeping,
# which remembers the number of every channel that a connection ever had.
CONNECTION_SECONDS = 600.0
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
LONGEST_WAIT = 1.0  # nobody tells those who wait that a connection died


class Connection:
    """A logged-in connection and how many channels it carries."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self.transport = transport
        self.channels = 0
        self.leaving: set[paramiko.Channel | None] = set()
        self.retired = False
        self.born = self.used = self.heard = time.monotonic()
        self.asked: threading.Event | None = None
        self.refused_until = 0.0
        self.pause = FIRST_PAUSE

    @property
    def alive(self) -> bool:
        return bool(self.transport.is_active())

    @property
    def usable(self) -> bool:
        return self.alive and not self.retired

    def back_off(self) -> None:
        self.refused_until = time.monotonic() + self.pause
        self.pause = min(2 * self.pause, LONGEST_PAUSE)

    def accepted(self) -> None:
        self.refused_until, self.pause = 0.0, FIRST_PAUSE


class Pool:
    """At most `max_connections` connections with at most `max_channels` channels each."""

    def __init__(self, connect: Callable[[], paramiko.Transport], options: SshOptions) -> None:
        self.connect = connect
        self.options = options
        self.connections: list[Connection] = []
        self._connecting = False
        self._failure: tuple[float, JobgateError] | None = None
        self._changed = threading.Condition()

    @contextmanager
    def channel(self) -> Iterator[paramiko.Channel]:
        """An open channel that nothing has run on yet. Raises HostDown at the deadline, or what `connect` raises."""
        connection, channel = self._open(time.monotonic() + self.options.wait_timeout)
        try:
            yield channel
        finally:
            self._let_go(connection, channel)

    def _open(self, deadline: float) -> tuple[Connection, paramiko.Channel]:
        while True:
            connection = self._take(deadline)
            channel = None
            try:
                channel = self._ask_for_channel(connection, deadline)
            finally:
                if channel is None:
                    self._give_back(connection)
            if channel is not None:
                return connection, channel

    def _ask_for_channel(self, connection: Connection, deadline: float) -> paramiko.Channel | None:
        """None: refused, or the connection is dead."""
        patience = min(self.options.connect_timeout, max(0.1, deadline - time.monotonic()))
        try:
            channel = open_channel(connection.transport, patience)
        except (paramiko.SSHException, OSError, EOFError) as problem:
            if "Timeout" in str(problem):  # paramiko has no class for it; whether the host is dead, the keep-alive says
                connection.retired = True
            connection.back_off()
            return None
        connection.accepted()
        return channel

    def _take(self, deadline: float) -> Connection:
        """The least loaded connection with room, a new one where there is none, else wait."""
        begin = time.monotonic()
        while True:
            with self._changed:
                connection = self._with_room()
                if connection is not None:
                    connection.channels += 1
                    return connection
                self._raise_failure_since(begin)
                if time.monotonic() >= deadline:
                    raise self._busy()
                if not self._may_connect():
                    self._changed.wait(self._pause(deadline))
                    continue
                self._connecting = True
            self._add()

    def _with_room(self) -> Connection | None:
        self.connections = [connection for connection in self.connections if connection.alive]
        now = time.monotonic()
        free = [
            connection
            for connection in self.connections
            if connection.usable and connection.channels < self.options.max_channels and connection.refused_until <= now
        ]
        return min(free, key=lambda connection: connection.channels, default=None)

    def _may_connect(self) -> bool:
        """One at a time: sshd drops logins beyond MaxStartups (10) at random."""
        usable = sum(connection.usable for connection in self.connections)
        return not self._connecting and usable < self.options.max_connections

    def _pause(self, deadline: float) -> float:
        now = time.monotonic()
        refused = [c.refused_until - now for c in self.connections if c.usable and c.refused_until > now]
        return max(0.001, min([deadline - now, LONGEST_WAIT, *refused]))

    def _add(self) -> None:
        try:
            connection = Connection(self.connect())
        except JobgateError as problem:
            with self._changed:
                self._failure = (time.monotonic(), problem)
                self._connecting = False
                self._changed.notify_all()
            raise
        except BaseException:
            with self._changed:
                self._connecting = False
                self._changed.notify_all()
            raise
        with self._changed:
            self._failure = None
            self._connecting = False
            self.connections.append(connection)
            self._changed.notify_all()

    def _raise_failure_since(self, begin: float) -> None:
        """Who waited while another failed to connect shares the failure, rather than queueing up to fail one by one."""
        if self._failure and self._failure[0] >= begin and not any(c.usable for c in self.connections):
            problem = self._failure[1]
            raise type(problem)(problem.message, code=problem.code)

    def _busy(self) -> HostDown:
        return HostDown(
            f"{self.options.display_name} is busy: nothing was free within {self.options.wait_timeout:g} seconds",
            code="host_busy",
            retry_after=5,
        )

    def _let_go(self, connection: Connection, channel: paramiko.Channel) -> None:
        if channel.left_running:
            connection.retired = True  # the command occupies one of sshd's sessions there as long as it likes
        connection.leaving.add(channel)  # paramiko itself would forget it before the host's goodbye
        finish(channel, lambda: self._give_back(connection, channel))

    def _give_back(self, connection: Connection, channel: paramiko.Channel | None = None) -> None:
        with self._changed:
            connection.leaving.discard(channel)
            connection.channels -= 1
            connection.used = time.monotonic()
            self._changed.notify()
        if connection.retired and not connection.channels:
            connection.transport.close()

    def drop(self, connection: Connection) -> None:
        """End it with whatever runs on it."""
        connection.retired = True
        connection.transport.close()
        with self._changed:
            self._changed.notify_all()

    @property
    def active(self) -> bool:
        """Whether there are connections to tend, or will be at once."""
        with self._changed:
            return self._connecting or bool(self.connections)

    def tend(self) -> None:
        """What is due: idle and aged connections end, silent ones are dead."""
        now = time.monotonic()
        with self._changed:
            connections = list(self.connections)
        for connection in connections:
            if self._silent(connection, now):
                self.drop(connection)
        with self._changed:
            for connection in self.connections:
                idle = not connection.channels and now - connection.used > self.options.idle_timeout
                connection.retired = connection.retired or idle or now - connection.born > CONNECTION_SECONDS
        self._sweep()

    def _silent(self, connection: Connection, now: float) -> bool:
        """Keep-alive with an answer: a network that swallows packets shows in nothing else."""
        if connection.asked and connection.asked.is_set():
            connection.asked, connection.heard = None, now
        if connection.asked is None and connection.alive and now - connection.heard >= self.options.keepalive:
            connection.asked = _ask(connection.transport)
        return connection.asked is not None and now - connection.heard > 2 * self.options.keepalive

    def end_idle(self) -> None:
        with self._changed:
            for connection in self.connections:
                connection.retired = True
        self._sweep()

    def _sweep(self) -> None:
        with self._changed:
            ended = [c for c in self.connections if not c.alive or (c.retired and not c.channels)]
            self.connections = [c for c in self.connections if c not in ended]
        for connection in ended:
            connection.transport.close()


def _ask(transport: paramiko.Transport) -> threading.Event:
    """Send a request that every server answers; the event says that it did. (`global_request` would wait for ever.)"""
    transport.completion_event = answered = threading.Event()
    message = paramiko.Message()
    message.add_byte(paramiko.common.cMSG_GLOBAL_REQUEST)
    message.add_string("keepalive@openssh.com")
    message.add_boolean(True)
    try:
        transport._send_user_message(message)
    except (OSError, EOFError, paramiko.SSHException):
        transport.close()
    return answered
