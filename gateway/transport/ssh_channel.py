"""One command or one sftp session on one channel.

Three things paramiko does not do well enough, so they are done here with its messages:
- `exec_command` waits for the host's answer without any bound.
- Its channels forget which signal ended a command.
- It answers the host's goodbye (CLOSE) at once, from a thread of its own. Whatever another thread is just sending then
  comes after the goodbye, and sshd ends the whole connection over it ("referred to nonexistent channel"). Here the
  goodbye is said by whoever uses the channel, as the last thing.
"""

import shlex
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import paramiko  # type: ignore[import-untyped]
from paramiko.common import (  # type: ignore[import-untyped]
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_REQUEST,
    cMSG_CHANNEL_CLOSE,
    cMSG_CHANNEL_REQUEST,
)

from gateway.transport import Command

CHUNK = 1 << 16
FEEDER_SECONDS = 2.0
SMALL = 1 << 15  # fits into any server's first window
LONGEST_LINE = (1 << 17) - 1  # Linux takes no longer single argument (MAX_ARG_STRLEN)
Handler = Callable[[paramiko.Channel, paramiko.Message], None]


class Refused(Exception):
    """The host would not start it: nothing has happened."""


class Lost(Exception):
    """The connection broke after the command may have started."""


@dataclass(frozen=True, slots=True)
class Output:
    """`exit_code` is None where the command had not ended in time."""

    exit_code: int | None
    stdout: bytes
    stderr: bytes


def handlers(original: Mapping[int, Handler]) -> dict[int, Handler]:
    """paramiko's table of channel messages with ours in it. They run in its thread."""

    def requested(channel: paramiko.Channel, message: paramiko.Message) -> None:
        copy = paramiko.Message(message.asbytes())
        copy.get_int()
        if copy.get_binary() == b"exit-signal":
            copy.get_boolean()
            channel.exit_signal = copy.get_binary().decode("ascii", "replace")
            channel.status_event.set()
        original[MSG_CHANNEL_REQUEST](channel, message)

    return {**original, MSG_CHANNEL_REQUEST: requested, MSG_CHANNEL_FAILURE: _refused, MSG_CHANNEL_CLOSE: _closed}


def _refused(channel: paramiko.Channel, message: paramiko.Message) -> None:
    channel.was_refused = True
    _set_closed(channel)


def _closed(channel: paramiko.Channel, message: paramiko.Message) -> None:
    with channel.lock:
        channel._set_closed()
        channel.host_said_goodbye = True
        release = channel.release
    channel.get_transport()._unlink_channel(channel.chanid)
    if release:
        _say_goodbye(channel, release)


def _set_closed(channel: paramiko.Channel) -> None:
    """Wakes everybody who waits for it."""
    with channel.lock:
        channel._set_closed()


def open_channel(transport: paramiko.Transport, timeout: float) -> paramiko.Channel:
    """Raises SSHException, OSError or EOFError where the host refuses it or is gone; then nothing has happened."""
    channel = transport.open_session(timeout=timeout)
    channel.release = None
    channel.host_said_goodbye = False
    channel.feeder = None
    channel.ended = channel.left_running = False
    return channel


def finish(channel: paramiko.Channel, release: Callable[[], object]) -> None:
    """Nobody uses the channel any more; `release` is called when it is over for the host too, since until both have
    said goodbye sshd counts it against MaxSessions. Nobody waits for that: where the command has ended, the host's
    goodbye is under way and ours will be the answer."""
    _set_closed(channel)
    if channel.feeder:
        channel.feeder.join(FEEDER_SECONDS)
        if channel.feeder.is_alive():  # stuck in a send, as is then everything on this connection
            channel.get_transport().close()
    with channel.lock:
        channel.release = release
        answer_later = channel.ended and not channel.host_said_goodbye
    if not answer_later:
        _say_goodbye(channel, release)


def _say_goodbye(channel: paramiko.Channel, release: Callable[[], object]) -> None:
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_CLOSE)
    message.add_int(channel.remote_chanid)
    _send(channel, message)
    release()


def _send(channel: paramiko.Channel, message: paramiko.Message) -> Exception | None:
    """What went wrong, if anything."""
    try:
        channel.get_transport()._send_user_message(message)
    except (OSError, EOFError, paramiko.SSHException) as problem:
        return problem
    return None


def command_line(command: Command) -> bytes:
    """The command as one line for the account's shell.

    Every word is quoted, the first too: unquoted, `A=b` would be an assignment and `time` a keyword. Raises ValueError
    for what no shell line can hold; sshd would end the whole connection over it.
    """
    words = [_quoted(word) for word in command.argv]
    if command.environment:
        if "=" in command.argv[0]:
            raise ValueError("env would take the command's name for an assignment")
        assignments = [_quoted(f"{name}={value}") for name, value in command.environment.items()]
        words = ["env", "--", *assignments, *words]
    line = " ".join(words).encode("utf-8", "surrogateescape")
    if b"\0" in line:
        raise ValueError("a command line cannot hold NUL characters")
    if len(line) > LONGEST_LINE:
        raise ValueError(f"the command line is longer than {LONGEST_LINE} bytes")
    return line


def _quoted(word: str) -> str:
    quoted = shlex.quote(word)
    return quoted if quoted != word else f"'{word}'"


def request(channel: paramiko.Channel, kind: str, argument: bytes) -> None:
    """Ask for a command ("exec") or a subsystem without waiting for the answer. Raises Lost."""
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string(kind)
    message.add_boolean(True)
    message.add_string(argument)
    if problem := _send(channel, message):
        raise Lost(str(problem)) from problem


def execute(channel: paramiko.Channel, line: bytes, stdin: bytes, timeout: float) -> Output:
    """Start the command, feed it and collect what it prints. Raises Refused or Lost.

    Its input follows on the heels of the request, so that a submit is one command and one round trip.
    """
    deadline = time.monotonic() + timeout
    channel.settimeout(timeout)
    reader = _Reader(channel)
    request(channel, "exec", line)
    if len(stdin) <= SMALL:
        _feed(channel, stdin)
    else:
        channel.feeder = threading.Thread(target=_feed, args=(channel, stdin), name="ssh-stdin", daemon=True)
        channel.feeder.start()
    ended = reader.read(deadline) and channel.status_event.wait(max(0.0, deadline - time.monotonic()))
    exit_code = _exit_code(channel) if ended else None
    if exit_code is None:
        terminate(channel)
        channel.left_running = True
    else:
        channel.ended = True
    return Output(exit_code, bytes(reader.stdout), bytes(reader.stderr))


def terminate(channel: paramiko.Channel) -> None:
    """Ask the host to end the command's process group (OpenSSH understands this since 8.1)."""
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string("signal")
    message.add_boolean(False)
    message.add_string("TERM")
    _send(channel, message)


def _exit_code(channel: paramiko.Channel) -> int:
    if channel.exit_status >= 0:
        return int(channel.exit_status)
    if name := getattr(channel, "exit_signal", None):
        return 128 + getattr(signal.Signals, f"SIG{name}", 0)
    if getattr(channel, "was_refused", False):
        raise Refused("the host refused to start the command")
    raise Lost("the connection broke")


def _feed(channel: paramiko.Channel, stdin: bytes) -> None:
    """Write and close. A command that does not read its input to the end is none of our business."""
    try:
        channel.sendall(stdin)
        channel.shutdown_write()
    except (OSError, EOFError, paramiko.SSHException):
        return


class _Bell:
    """Rung by paramiko when something arrives. It also calls `clear` whenever one of the two streams is drained, which
    says nothing about the other, so that is not heeded."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.set = self.event.set
        self.is_set = self.event.is_set

    def clear(self) -> None:
        return


class _Reader:
    """Both streams of a channel, read as they come: an unread one would block the other, they share a window."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.bell = _Bell()
        channel.in_buffer.set_event(self.bell)
        channel.in_stderr_buffer.set_event(self.bell)

    def read(self, deadline: float) -> bool:
        """True at the end of both streams, False at the deadline."""
        while True:
            self.bell.event.clear()
            ended = self.channel.eof_received or self.channel.closed
            self._drain()
            if ended:
                return True
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            self.bell.event.wait(remaining)

    def _drain(self) -> None:
        while self.channel.recv_ready():
            self.stdout += self.channel.recv(CHUNK)
        while self.channel.recv_stderr_ready():
            self.stderr += self.channel.recv_stderr(CHUNK)
