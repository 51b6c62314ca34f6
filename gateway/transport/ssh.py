"""Hosts that are reached over ssh, as the mapped account, through connections that stay open.

A connection costs some 50 ms, a command on an open one a few. So each account has a pool (`ssh_pool`), a command is one
channel (`ssh_channel`), all open files share one (`ssh_sftp`), and `ssh_keys` says who is who. Written against OpenSSH;
nothing is installed on the host.
"""

import logging
import random
import re
import socket
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack

import paramiko  # type: ignore[import-untyped]

from gateway.errors import (
    Forbidden,
    HostDown,
    HostTimeout,
    InvalidSchedulerAnswer,
    OutcomeUnknown,
    Unprocessable,
)
from gateway.transport import Command, CommandResult, FileEntry, RemoteFile
from gateway.transport.caller import caller
from gateway.transport.deadline import seconds_left
from gateway.transport.ssh_channel import Lost, Output, Refused, command_line, execute, handlers, stream
from gateway.transport.ssh_keys import HostKeys, host_keys, printable, signed_key
from gateway.transport.ssh_options import SshOptions
from gateway.transport.ssh_pool import Pool
from gateway.transport.ssh_sftp import Session, SftpFile, file_errors, open_below, walk

log = logging.getLogger(__name__)
# paramiko logs as an error, with a traceback, what is handled and reported here; set a level to see it.
wire_log = logging.getLogger(f"{__name__}.wire")
wire_log.setLevel(logging.CRITICAL)

ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?", re.ASCII)
# sntrup761 and mlkem768 are what OpenSSH and paramiko would choose; this halves the time of connecting.
KEY_EXCHANGES = ("curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "mlkem768x25519-sha256")
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
ATTEMPTS = 3
RETRY_PAUSE = 0.3
HOME_SECONDS = 3600.0
FILE_TIMEOUT = 60.0
LOGGED_WORDS = 2000


class SshTransport:
    """The `Transport` of a host with sshd. Connects on first use; safe to use from many threads.

    Besides what the protocol says, everything raises Forbidden where the host does not let the account in.
    """

    def __init__(self, options: SshOptions) -> None:
        self.options = options
        self._pools: dict[str, Pool] = {}
        self._sessions: dict[str, Session] = {}
        self._homes: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()
        self._keeper: threading.Thread | None = None
        self._wake = threading.Event()

    def run(self, command: Command, account: str) -> CommandResult:
        """As the protocol says. `command.timeout` runs from when the command is sent; before that, the wait for a free
        channel is bounded by `wait_timeout`."""
        line = _line(command)
        begin = time.monotonic()
        limit = seconds_left(command.timeout)
        output = self._repeat(command, account, line)
        self._log(command, account, output, time.monotonic() - begin)
        return _result(output, f"the command did not end within {limit:.3g} seconds")

    def stream(self, command: Command, account: str) -> Generator[bytes, None, CommandResult]:
        line = _line(command)
        pool = self._pool(account)
        begin = time.monotonic()
        for attempt in _attempts():
            try:
                with pool.channel() as channel:
                    output = yield from stream(channel, line, command)
            except Refused:  # before it gave anything
                if attempt == ATTEMPTS - 1:
                    raise self._down("refuses to start commands") from None
            except Lost as lost:
                raise self._down("cannot be reached: the connection broke") from lost
            else:
                break
        self._log(command, account, output, time.monotonic() - begin)
        return _result(output, f"the command printed nothing for {command.timeout:g} seconds")

    def home(self, account: str) -> str:
        known = self._homes.get(account)
        if known and time.monotonic() - known[0] < HOME_SECONDS:
            return known[1]
        answer = self.run(Command(("sh", "-c", 'printf %s "$HOME"'), repeatable=True), account)
        if answer.exit_code or not answer.stdout.startswith("/"):
            raise InvalidSchedulerAnswer(
                "the host does not say where the account's home is", code="invalid_host_answer"
            )
        self._homes[account] = (time.monotonic(), answer.stdout)
        return answer.stdout

    def open_file(self, path: str, account: str, within: str) -> RemoteFile:
        session = self._session(account)
        try:
            with file_errors(path):
                handle = open_below(session, path, within)
                return SftpFile(session, handle, lambda: self._release(session))
        except BaseException:
            self._release(session)
            raise

    def list_files(self, directory: str, account: str, limit: int) -> Iterator[FileEntry]:
        session = self._session(account)
        try:
            with file_errors(directory):
                return iter(walk(session, directory, limit))
        finally:
            self._release(session)

    def close(self) -> None:
        with self._lock:
            sessions = [session for session in self._sessions.values() if not session.files]
            pools = list(self._pools.values())
            self._homes.clear()
        for session in sessions:
            session.close()
        for pool in pools:
            pool.end_idle()
        self._wake.set()

    # ---- commands

    def _repeat(self, command: Command, account: str, line: bytes) -> Output:
        """Once; again if it did not start, or if it is repeatable and its connection broke."""
        pool = self._pool(account)
        problem: HostDown | None = None
        for attempt in _attempts():
            try:
                with pool.channel() as channel:
                    return execute(channel, line, command, seconds_left(command.timeout))
            except Refused:
                problem = self._down("refuses to start commands")
            except Lost as lost:
                if not command.repeatable:
                    raise self._unknown(command, account) from lost
                problem = self._down("cannot be reached: the connection broke")
            except HostDown as down:
                if not attempt:
                    raise
                problem = down
        assert problem
        raise problem

    def _unknown(self, command: Command, account: str) -> OutcomeUnknown:
        name = self.options.display_name
        log.warning("the connection to %s broke while %s ran as %s", name, printable(command.argv[0]), account)
        return OutcomeUnknown(f"the connection to {name} broke in mid-command; whether it succeeded is not known yet")

    def _down(self, words: str, code: str = "host_down", retry_after: int = 10) -> HostDown:
        return HostDown(f"{self.options.display_name} {words}", code=code, retry_after=retry_after)

    def _log(self, command: Command, account: str, output: Output, seconds: float) -> None:
        """Who ran what as whom. Never the input: scripts may hold secrets."""
        extra = {"caller": caller.get(), "account": account, "host": self.options.display_name}
        words = printable(repr(list(command.argv)))[:LOGGED_WORDS]
        code = "timeout" if output.exit_code is None else output.exit_code
        log.info(
            "%s as %s on %s: %s -> %s in %.3f s",
            *(printable(extra["caller"]), account, extra["host"], words, code, seconds),
            extra=extra,
        )

    # ---- connections

    def _pool(self, account: str) -> Pool:
        if not ACCOUNT.fullmatch(account):
            raise Forbidden(f"{account!r} is not an account name")
        if account == "root":
            raise Forbidden("nothing is run as root")
        with self._lock:
            if account not in self._pools:
                self._pools[account] = Pool(lambda: self._connect(account), self.options)
            return self._pools[account]

    def _connect(self, account: str) -> paramiko.Transport:
        """A logged-in connection. A login that sshd dropped (MaxStartups) is tried again, within the time."""
        deadline = time.monotonic() + self.options.connect_timeout
        pause = 0.1
        while True:
            try:
                transport = self._login(account)
            except (paramiko.SSHException, EOFError, OSError) as problem:
                if _final(problem) or time.monotonic() + pause > deadline:
                    raise self._down(f"cannot be reached: {_words(problem)}") from problem
                time.sleep(pause * random.uniform(0.5, 1.5))
                pause *= 2
                continue
            self._watch()
            return transport

    def _login(self, account: str) -> paramiko.Transport:
        keys = self._host_keys()
        transport = paramiko.Transport(self._socket())
        transport.set_log_channel(wire_log.name)
        try:
            self._shake_hands(transport, keys)
            self._authenticate(transport, account)
        except BaseException:
            transport.close()
            raise
        transport._channel_handler_table = handlers(transport._channel_handler_table)
        log.info("connected to %s as %s for %s", self.options.display_name, account, printable(caller.get()))
        return transport

    def _socket(self) -> socket.socket:
        options = self.options
        connection = socket.create_connection((options.hostname, options.port), options.connect_timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Without it a send to a host that vanished blocks for a quarter of an hour.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2000 * options.keepalive))
        return connection

    def _shake_hands(self, transport: paramiko.Transport, keys: HostKeys) -> None:
        """Up to an encrypted connection with the host that we mean."""
        wishes = transport.get_security_options()
        wishes.kex = _wished(KEY_EXCHANGES, wishes.kex)
        wishes.ciphers = _wished(CIPHERS, wishes.ciphers, only=True)
        wishes.digests = _wished(MACS, wishes.digests, only=True)
        wishes.key_types = _wished(keys.algorithms(), wishes.key_types, only=True)
        timeout = self.options.connect_timeout
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = timeout
        try:
            transport.start_client(timeout=timeout)
            key = transport.get_remote_server_key()
        except paramiko.ssh_exception.IncompatiblePeer as problem:
            raise self._wrong_host(f"offers none of the keys that it has there ({problem})") from problem
        if not keys.accept(key):
            raise self._wrong_host(f"showed {key.get_name()} {key.fingerprint}")

    def _host_keys(self) -> HostKeys:
        options = self.options
        try:
            keys = host_keys(options.known_hosts, options.known_name)
        except OSError as problem:
            raise self._down(f"cannot be checked: {problem}", code="host_key") from problem
        if not keys.trusted - keys.revoked:
            raise self._wrong_host(f"has no key under the name {options.known_name!r} there")
        return keys

    def _wrong_host(self, note: str) -> HostDown:
        """The answer names the file, since that is where it is put right; which key was shown is for the log."""
        words = f"is not known to this gateway: its host key is not the one in {self.options.known_hosts}"
        problem = self._down(words, code="host_key", retry_after=60)
        problem.add_note(f"the host {note}; check it with ssh-keyscan -p {self.options.port} {self.options.hostname}")
        log.error("%s %s; it %s", self.options.display_name, words, note)
        return problem

    def _authenticate(self, transport: paramiko.Transport, account: str) -> None:
        key = self._key(account)
        try:
            transport.auth_publickey(account, key)
        except paramiko.AuthenticationException as problem:
            if not transport.is_active() or "imeout" in str(problem):
                raise paramiko.SSHException("the connection broke during the login") from problem
            log.error("%s does not let %s in: %s", self.options.display_name, account, problem)
            refusal = Forbidden(
                f"{self.options.display_name} does not let the account {account} in", code="account_refused"
            )
            refusal.add_note(f"offered {key.public_blob.key_type if key.public_blob else key.get_name()}: {problem}")
            raise refusal from problem

    def _key(self, account: str) -> paramiko.PKey:
        options = self.options
        try:
            if options.user_ca_key:
                return signed_key(options.user_ca_key, account, caller.get())
            return paramiko.PKey.from_path(options.identity_file)
        except (OSError, ValueError, TypeError, paramiko.SSHException) as problem:
            log.error("the key for %s cannot be read: %s", options.display_name, problem)
            raise self._down("cannot be entered: the gateway's key cannot be read", code="gateway_key") from problem

    # ---- files

    def _session(self, account: str) -> Session:
        """The account's sftp session, with one more user."""
        pool = self._pool(account)
        with self._lock:
            session = self._sessions.get(account)
            if session and session.usable:
                session.files += 1
                return session
        stack = ExitStack()
        try:
            session = Session(stack.enter_context(pool.channel()), stack, FILE_TIMEOUT)
        except BaseException:
            stack.close()
            raise
        session.files = 1
        with self._lock:
            replaced = self._sessions.get(account)
            self._sessions[account] = session
        if replaced and not replaced.files:
            replaced.close()
        return session

    def _release(self, session: Session) -> None:
        """A session that another has replaced ends with its last file."""
        with self._lock:
            session.files -= 1
            over = not session.files and session not in self._sessions.values()
        if over:
            session.close()

    # ---- housekeeping

    def _watch(self) -> None:
        with self._lock:
            if self._keeper is None:
                self._wake.clear()
                self._keeper = threading.Thread(target=self._keep, name="ssh-keeper", daemon=True)
                self._keeper.start()

    def _keep(self) -> None:
        """Lives while there are connections."""
        interval = min(1.0, self.options.idle_timeout / 4, self.options.keepalive / 4)
        while True:
            self._wake.wait(interval)
            self._wake.clear()
            self._end_idle_sessions()
            with self._lock:
                pools = list(self._pools.values())
            for pool in pools:
                pool.tend()
            with self._lock:
                if not any(pool.active for pool in self._pools.values()):
                    self._keeper = None
                    return

    def _end_idle_sessions(self) -> None:
        now = time.monotonic()
        with self._lock:
            idle = [
                account
                for account, session in self._sessions.items()
                if session.broken or (not session.files and now - session.used > self.options.idle_timeout)
            ]
            ended = [self._sessions.pop(account) for account in idle]
        for session in ended:
            session.close()


def _final(problem: Exception) -> bool:
    """No use in trying again at once: nobody listens, or there is no such name or way."""
    dropped = ConnectionResetError | ConnectionAbortedError | BrokenPipeError
    return isinstance(problem, OSError) and not isinstance(problem, dropped)


def _words(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    return str(problem) or type(problem).__name__


def _wished(first: list[str] | tuple[str, ...], known: tuple[str, ...], *, only: bool = False) -> tuple[str, ...]:
    """Of the known algorithms our favourites, then the others unless `only`."""
    favourites = [name for name in first if name in known]
    return tuple(favourites if only else [*favourites, *(name for name in known if name not in favourites)])


def _line(command: Command) -> bytes:
    try:
        return command_line(command)
    except ValueError as problem:
        raise Unprocessable(f"this cannot be run: {problem}") from None


def _attempts() -> Iterator[int]:
    """0, 1, 2, with growing pauses between them."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(attempt * RETRY_PAUSE * random.uniform(0.5, 1.5))
        yield attempt


def _result(output: Output, words: str) -> CommandResult:
    if output.exit_code is None:
        raise HostTimeout(words, standard_output=output.stdout, error_output=output.stderr)
    return CommandResult(output.exit_code, output.stdout, output.stderr)
