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
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
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

from gateway.transport import Command, Kept

CHUNK = 1 << 16
FEEDER_SECONDS = 2.0
STDOUT, STDERR = 1, 2
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
    stdout: str
    stderr: str


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
        answer_later = channel.ended and not channel.host_said_goodbye
        if answer_later:  # only then: a goodbye that is said twice ends the whole connection (OpenSSH 10.0)
            channel.release = release
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


def execute(channel: paramiko.Channel, line: bytes, command: Command, timeout: float) -> Output:
    """Start the command, feed it and collect what it prints. Raises Refused or Lost, or what its input raises."""
    kept = {STDOUT: Kept(command.most_output), STDERR: Kept(command.most_output)}
    talk = _Conversation(channel, line, command, timeout)
    for stream, data in talk.pieces(streamed=command.streamed):
        kept[stream].add(data)
    return Output(talk.exit_code(), kept[STDOUT].text(), kept[STDERR].text())


def stream(channel: paramiko.Channel, line: bytes, command: Command) -> Generator[bytes, None, Output]:
    """As `execute`, and gives the standard output as it comes."""
    errors = Kept(command.most_output)
    talk = _Conversation(channel, line, command, command.timeout)
    try:
        for number, data in talk.pieces(streamed=True):
            if number == STDOUT:
                yield data
            else:
                errors.add(data)
    except GeneratorExit:
        talk.end()
        raise
    return Output(talk.exit_code(), "", errors.text())


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


class _Bell:
    """Rung by paramiko when something arrives. It also calls `clear` whenever one of the two streams is drained, which
    says nothing about the other, so that is not heeded."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.set = self.event.set
        self.is_set = self.event.is_set

    def clear(self) -> None:
        return


class _Conversation:
    """A command that was just started: it is fed while both outputs are read as they come, since an unread one would
    block the other (they share a window)."""

    def __init__(self, channel: Any, line: bytes, command: Command, timeout: float) -> None:
        self.channel = channel
        self.timeout = timeout
        self.begun = self.moved = time.monotonic()
        self.in_time = False
        self.problem: BaseException | None = None
        self.bell = _Bell()
        channel.settimeout(timeout)
        channel.in_buffer.set_event(self.bell)
        channel.in_stderr_buffer.set_event(self.bell)
        request(channel, "exec", line)
        self._start_feeding(command.stdin)

    def _start_feeding(self, stdin: bytes | Iterable[bytes]) -> None:
        """The input follows on the heels of the request, so that a submit is one command and one round trip."""
        if isinstance(stdin, bytes) and len(stdin) <= SMALL:
            self._feed([stdin])
            return
        pieces = [stdin] if isinstance(stdin, bytes) else stdin
        self.channel.feeder = threading.Thread(target=self._feed, args=(pieces,), name="ssh-stdin", daemon=True)
        self.channel.feeder.start()

    def _feed(self, pieces: Iterable[bytes]) -> None:
        """Write and close. A command that does not read its input to the end is none of our business."""
        waiting = iter(pieces)
        while True:
            try:
                piece = next(waiting, None)
            except BaseException as problem:  # raised again by whoever waits for the command
                self.problem = problem
                _set_closed(self.channel)
                return
            try:
                if piece is None:
                    self.channel.shutdown_write()
                    return
                self.channel.sendall(piece)
            except (OSError, EOFError, paramiko.SSHException):
                return
            self.moved = time.monotonic()

    def pieces(self, *, streamed: bool = False) -> Iterator[tuple[int, bytes]]:
        """What the command prints, as (STDOUT or STDERR, bytes), until both end or the time is over. With `streamed`
        the time begins anew whenever something moves."""
        channel = self.channel
        streams = ((STDOUT, channel.recv_ready, channel.recv), (STDERR, channel.recv_stderr_ready, channel.recv_stderr))
        while self._left(streamed) > 0:
            self.bell.event.clear()
            ended = channel.eof_received or channel.closed
            idle = True
            for stream, ready, receive in streams:
                if ready():
                    idle = False
                    yield stream, receive(CHUNK)
                    self.moved = time.monotonic()
            if ended and idle:
                self.in_time = True
                return
            if idle:
                self.bell.event.wait(max(0.0, self._left(streamed)))

    def _left(self, streamed: bool) -> float:
        return (self.moved if streamed else self.begun) + self.timeout - time.monotonic()

    def exit_code(self) -> int | None:
        """None where the command did not end in time; then it is asked to."""
        if self.problem:
            self.end()
            raise self.problem
        ended = self.in_time and self.channel.status_event.wait(max(0.0, self._left(streamed=True)))
        code = _exit_code(self.channel) if ended else None
        if code is None:
            self.end()
        else:
            self.channel.ended = True
        return code

    def end(self) -> None:
        terminate(self.channel)
        self.channel.left_running = True
