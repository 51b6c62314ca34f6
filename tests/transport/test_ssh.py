"""The ssh transport against the real sshd of the test cluster."""

import logging
import os
import shutil
import socket
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity
from marshmallow import ValidationError

from gateway.errors import Forbidden, HostDown, HostTimeout, NotFound, OutcomeUnknown, Unprocessable
from gateway.transport import Command, CommandResult
from gateway.transport.caller import on_behalf_of
from gateway.transport.ssh import SshTransport
from gateway.transport.ssh_keys import host_keys, signed_key
from gateway.transport.ssh_options import SshOptions
from tests.cluster.fixture import Cluster, Relay, wait_for

Make = Callable[..., SshTransport]
TRUE = Command(("true",))


@pytest.fixture
def make(cluster: Cluster) -> Iterator[Make]:
    """A transport to the cluster, with a user CA unless told otherwise."""
    made: list[SshTransport] = []

    def build(**changes: object) -> SshTransport:
        options: dict[str, object] = {
            "hostname": cluster.hostname,
            "port": cluster.ssh_port,
            "known_hosts": cluster.known_hosts,
            "host_key_alias": cluster.host_key_alias,
            "user_ca_key": cluster.user_ca_key,
        }
        if "identity_file" in changes:
            del options["user_ca_key"]
        made.append(SshTransport(SshOptions(**(options | changes))))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for transport in made:
        transport.close()


@pytest.fixture
def transport(make: Make) -> SshTransport:
    return make()


@pytest.fixture
def relay(cluster: Cluster) -> Iterator[Relay]:
    with cluster.private_relay() as relay:
        yield relay


@pytest.fixture
def folder(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder in alice's home, as this machine sees it; `inside` says what alice calls it."""
    path = cluster.root / "home/alice" / f"test-{os.getpid()}-{time.time_ns()}"
    path.mkdir()
    owner = path.parent.stat()
    os.chown(path, owner.st_uid, owner.st_gid)
    yield path
    shutil.rmtree(path)


def inside(cluster: Cluster, path: Path) -> str:
    return "/" + str(path.relative_to(cluster.root))


def connections(transport: SshTransport, account: str = "alice") -> int:
    return sum(connection.alive for connection in transport._pools[account].connections)


def sh(script: str, **more: object) -> Command:
    return Command(("sh", "-c", script), **more)  # type: ignore[arg-type]


# ---- commands


def test_a_command_runs_as_the_account(transport: SshTransport) -> None:
    for account in ("alice", "bob"):
        result = transport.run(Command(("id", "-un")), account)
        assert (result.exit_code, result.stdout, result.stderr) == (0, f"{account}\n", "")


@pytest.mark.parametrize("code", [0, 1, 77, 127, 255])
def test_exit_codes_and_both_streams(transport: SshTransport, code: int) -> None:
    result = transport.run(sh(f"echo out; echo err >&2; exit {code}"), "alice")
    assert (result.exit_code, result.stdout, result.stderr) == (code, "out\n", "err\n")


@pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("TERM", 15), ("SEGV", 11), ("USR1", 10)])
def test_a_signal_is_128_and_its_number(transport: SshTransport, name: str, number: int) -> None:
    assert transport.run(sh(f"kill -{name} $$"), "alice").exit_code == 128 + number


def test_a_program_that_is_missing_is_a_result(transport: SshTransport) -> None:
    assert transport.run(Command(("no-such-program",)), "alice").exit_code == 127


HOSTILE = [
    "it's",
    'say "hi"',
    "$(touch /tmp/owned)",
    "`touch /tmp/owned`",
    "; touch /tmp/owned",
    "a\nb",
    "\n",
    "",
    "zażółć 日本語 🐚",
    "-rf",
    "--",
    "A=b",
    "*",
    "~",
    "!!",
    "\\",
    "a\tb  c",
    "#no",
    "\x1b[31m",
    "x" * 100_000,
]


@pytest.mark.parametrize("word", HOSTILE, ids=lambda word: repr(word[:20]))
def test_arguments_arrive_as_given(transport: SshTransport, cluster: Cluster, word: str) -> None:
    argv = ("printf", "%s\\0", word, "end")
    assert transport.run(Command(argv), "alice").stdout.split("\0")[:2] == [word, "end"]
    assert not (cluster.root / "tmp/owned").exists()


@pytest.mark.parametrize("word", HOSTILE[:-1], ids=lambda word: repr(word[:20]))
def test_the_environment_arrives_as_given(transport: SshTransport, word: str) -> None:
    command = Command(("sh", "-c", 'printf %s "$ODD"'), environment={"ODD": word, "-u": "PATH"})
    assert transport.run(command, "alice").stdout == word


def test_the_first_word_is_a_program_whatever_it_looks_like(transport: SshTransport) -> None:
    for name in ("A=b", "-x", "if", "~"):
        assert transport.run(Command((name,)), "alice").exit_code in (126, 127)


@pytest.mark.parametrize(
    "command",
    [
        Command(("echo", "a\0b")),
        Command(("echo", "x" * (1 << 17))),
        Command(("A=b",), environment={"A": "c"}),
    ],
)
def test_what_no_shell_can_hold_is_refused_and_harms_no_other(make: Make, command: Command) -> None:
    transport = make(max_connections=1)
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(transport.run, sh("sleep 1; echo whole"), "alice")
        time.sleep(0.3)
        with pytest.raises(Unprocessable):
            transport.run(command, "alice")
        assert slow.result().stdout == "whole\n"


@pytest.mark.parametrize("size", [0, 1, 1 << 15, (1 << 15) + 1, 1 << 20, 5 << 20])
def test_a_script_travels_on_stdin(transport: SshTransport, size: int) -> None:
    script = os.urandom(size)
    answer = transport.run(Command(("sha256sum",), stdin=script), "alice").stdout
    from hashlib import sha256

    assert answer.split()[0] == sha256(script).hexdigest()


def test_a_command_may_ignore_its_input(transport: SshTransport) -> None:
    assert transport.run(Command(("true",), stdin=b"x" * (8 << 20)), "alice").exit_code == 0


def test_a_hundred_megabytes_of_output(transport: SshTransport) -> None:
    result = transport.run(sh("yes 123456789 | head -c 100000000; yes e | head -c 3000000 >&2"), "alice")
    assert len(result.stdout) == 100_000_000
    assert result.stdout.startswith("123456789\n")
    assert len(result.stderr) == 3_000_000


def test_bytes_that_are_no_text_stand_as_escapes(transport: SshTransport) -> None:
    assert transport.run(Command(("printf", r"a\377b")), "alice").stdout == "a\\xffb"


def test_a_timeout_carries_what_was_printed_and_ends_the_command(transport: SshTransport) -> None:
    command = sh("echo so far; echo oh >&2; exec sleep 4321", timeout=1.0)
    begin = time.monotonic()
    with pytest.raises(HostTimeout) as caught:
        transport.run(command, "alice")
    assert time.monotonic() - begin < 3
    assert (caught.value.standard_output, caught.value.error_output) == ("so far\n", "oh\n")
    wait_for(lambda: transport.run(Command(("pgrep", "-f", "sleep 432[1]")), "alice").exit_code == 1)


def test_home_is_asked_for_once(transport: SshTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    assert transport.home("alice") == "/home/alice"
    monkeypatch.setattr(transport, "run", None)
    assert transport.home("alice") == "/home/alice"


# ---- who


def test_bobs_key_opens_bobs_account_alone(make: Make, cluster: Cluster) -> None:
    transport = make(identity_file=cluster.identity("bob"))
    assert transport.run(Command(("id", "-un")), "bob").stdout == "bob\n"
    with pytest.raises(Forbidden) as caught:
        transport.run(TRUE, "alice")
    assert caught.value.code == "account_refused"


def test_bob_cannot_read_what_is_alices(transport: SshTransport) -> None:
    assert transport.run(Command(("ls", "/home/alice")), "bob").exit_code == 2
    with pytest.raises(Forbidden):
        transport.list_files("/home/alice", "bob", 10)


@pytest.mark.parametrize("account", ["nobody-here", "root", "", "-oProxyCommand=x", "a b", "alice\n", "../alice"])
def test_an_account_that_is_none_is_forbidden(transport: SshTransport, account: str) -> None:
    with pytest.raises(Forbidden):
        transport.run(TRUE, account)
    with pytest.raises(Forbidden):
        transport.home(account)


def test_the_certificate_is_for_one_account_and_five_minutes(cluster: Cluster) -> None:
    key = signed_key(cluster.user_ca_key, "alice", "/C=PL/CN=Ann request=17")
    certificate = load_ssh_public_identity(f"{key.public_blob.key_type} ".encode() + _base64(key.public_blob.key_blob))
    assert isinstance(certificate, SSHCertificate)
    assert certificate.valid_principals == [b"alice"]
    assert certificate.valid_before - certificate.valid_after == 300
    assert certificate.valid_after <= time.time() < certificate.valid_before
    assert certificate.key_id == b"/C=PL/CN=Ann request=17"
    assert not certificate.extensions


def _base64(data: bytes) -> bytes:
    from base64 import b64encode

    return b64encode(data)


def test_sshd_and_our_log_tell_who_it_was(make: Make, cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    subject = f"/C=PL/O=Grid/CN=Ann {time.time_ns()}"
    with on_behalf_of(subject, "req-42"), caplog.at_level(logging.INFO, logger="gateway.transport.ssh"):
        make().run(Command(("cat",), stdin=b"a secret"), "alice")
    lines = [line for line in cluster.sshd_log().splitlines() if subject in line]
    assert any(f"ID {subject} request=req-42" in line for line in lines if "publickey for alice" in line)
    assert f"{subject} request=req-42 as alice" in caplog.text
    assert "['cat']" in caplog.text
    assert "secret" not in caplog.text


def test_a_subject_cannot_forge_a_line_in_sshds_log(make: Make, cluster: Cluster) -> None:
    mark = str(time.time_ns())
    with on_behalf_of(f"/CN=Eve {mark}\nAccepted publickey for root {mark} żółw", "1"):
        make().run(TRUE, "alice")
    lines = [line for line in cluster.sshd_log().splitlines() if mark in line]
    assert lines
    assert not any(line.startswith("Accepted publickey for root") for line in lines)


# ---- host keys


@pytest.mark.parametrize(
    "content", ["", "testhpc ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIy5m1qX0Fv9kz0cQ1+4xq0pZ5XkDqpqgYw0zvZV5x3J\n"]
)
def test_an_unknown_or_changed_host_key(make: Make, tmp_path: Path, content: str) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(content)
    with pytest.raises(HostDown) as caught:
        make(known_hosts=known_hosts).run(TRUE, "alice")
    assert caught.value.code == "host_key"
    assert str(known_hosts) in caught.value.message


def test_a_revoked_host_key(make: Make, cluster: Cluster, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    line = cluster.known_hosts.read_text()
    known_hosts.write_text(f"{line}@revoked {line}")
    with pytest.raises(HostDown, match="host key"):
        make(known_hosts=known_hosts).run(TRUE, "alice")


def test_a_missing_known_hosts_file_is_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(HostDown, match="nowhere"):
        make(known_hosts=tmp_path / "nowhere").run(TRUE, "alice")


@pytest.mark.parametrize(
    ("names", "known"),
    [
        ("testhpc", True),
        ("a,testhpc,b", True),
        ("*.org,test*", True),
        ("test*,!testhpc", False),
        ("|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg=", False),
        ("|1|junk", False),
        ("other", False),
        ("@cert-authority testhpc", False),
    ],
)
def test_names_in_known_hosts(cluster: Cluster, tmp_path: Path, names: str, known: bool) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"# comment\n\n{names} {cluster.known_hosts.read_text().split(' ', 1)[1]}")
    assert bool(host_keys(file, "testhpc").trusted) is known


def test_hashed_names_and_ports_in_known_hosts(cluster: Cluster, tmp_path: Path) -> None:
    import subprocess

    file = tmp_path / "known_hosts"
    key = cluster.known_hosts.read_text().split(" ", 1)[1]
    file.write_text(f"[login.example.org]:2222 {key}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert host_keys(file, "[login.example.org]:2222").trusted
    assert not host_keys(file, "login.example.org").trusted
    assert _options(cluster, hostname="login.example.org", port=2222).known_name == "[login.example.org]:2222"


def _options(cluster: Cluster, **changes: object) -> SshOptions:
    given = {"hostname": "h", "known_hosts": cluster.known_hosts, "user_ca_key": cluster.user_ca_key}
    return SshOptions(**(given | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"identity_file": Path("x")}, {"user_ca_key": None}])
def test_exactly_one_kind_of_key(cluster: Cluster, changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        _options(cluster, **changes)


# ---- the pool


def test_sessions_never_exceed_what_sshd_allows(make: Make) -> None:
    transport = make()
    peak = _Peak(transport)
    with ThreadPoolExecutor(64) as threads, peak:
        codes = list(threads.map(lambda _: transport.run(sh("exit 3"), "alice").exit_code, range(500)))
    assert codes == [3] * 500
    assert peak.connections <= 4
    assert peak.channels <= 6


class _Peak:
    """The most connections, and channels on one of them that sshd has not said goodbye to; sampled from outside."""

    def __init__(self, transport: SshTransport) -> None:
        self.transport = transport
        self.channels = self.connections = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self.over.wait(0.001):
            pool = self.transport._pools.get("alice")
            living = [connection for connection in list(pool.connections) if connection.alive] if pool else []
            self.connections = max(self.connections, len(living))
            self.channels = max(self.channels, *(len(c.transport._channels) for c in living), 0)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *exc: object) -> None:
        self.over.set()
        self.thread.join()


def test_refused_channels_are_asked_for_again(make: Make, cluster: Cluster) -> None:
    """With more than sshd's ten on one connection, refusals are certain."""
    transport = make(max_channels=32, max_connections=1)
    with ThreadPoolExecutor(32) as threads:
        codes = list(threads.map(lambda _: transport.run(sh("sleep 0.2"), "alice").exit_code, range(64)))
    assert codes == [0] * 64


def test_beyond_the_bound_callers_wait_with_a_deadline(make: Make) -> None:
    transport = make(max_channels=1, max_connections=2, wait_timeout=1.0)
    with ThreadPoolExecutor(2) as threads:
        slow = [threads.submit(transport.run, sh("sleep 2.5"), "alice") for _ in range(2)]
        time.sleep(0.5)
        begin = time.monotonic()
        with pytest.raises(HostDown) as caught:
            transport.run(TRUE, "alice")
        assert 0.8 < time.monotonic() - begin < 1.6
        assert caught.value.code == "host_busy"
        assert transport.run(TRUE, "bob").exit_code == 0
        assert [each.result().exit_code for each in slow] == [0, 0]
    assert connections(transport) == 2


def test_idle_connections_close_and_come_back(make: Make, cluster: Cluster) -> None:
    transport = make(idle_timeout=0.5)
    transport.run(TRUE, "alice")
    assert connections(transport) == 1
    wait_for(lambda: connections(transport) == 0, 5)
    wait_for(lambda: not _keepers(), 5)
    assert transport.run(TRUE, "alice").exit_code == 0


def _keepers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ssh-keeper"]


def test_close_ends_what_is_idle_and_spares_what_runs(transport: SshTransport) -> None:
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(transport.run, sh("sleep 1; echo whole"), "alice")
        time.sleep(0.4)
        transport.run(TRUE, "bob")
        transport.close()
        assert connections(transport, "bob") == 0
        assert slow.result().stdout == "whole\n"
    assert connections(transport) == 0
    assert transport.run(TRUE, "alice").exit_code == 0


def test_nagle_is_off(transport: SshTransport) -> None:
    transport.run(TRUE, "alice")
    sock = transport._pools["alice"].connections[0].transport.sock
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# ---- trouble


def test_nothing_listens(make: Make) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        transport = make(port=unused.getsockname()[1])
        begin = time.monotonic()
        with pytest.raises(HostDown, match="cannot be reached"):
            transport.run(TRUE, "alice")
        assert time.monotonic() - begin < 2


def test_something_that_accepts_and_says_nothing(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        transport = make(port=mute.getsockname()[1], connect_timeout=1.0)
        with ThreadPoolExecutor(8) as threads:
            begin = time.monotonic()
            answers = list(threads.map(lambda _: _problem(transport), range(8)))
        assert time.monotonic() - begin < 6
    assert {type(answer) for answer in answers} == {HostDown}


def _problem(transport: SshTransport) -> Exception | None:
    try:
        transport.run(TRUE, "alice")
    except HostDown as problem:
        return problem
    return None


@contextmanager
def cut_while_running(transport: SshTransport, relay: Relay, command: Command, ran: Path) -> Iterator[object]:
    """Every connection is cut when the command has written to the file `ran`."""
    with ThreadPoolExecutor() as threads:
        running = threads.submit(transport.run, command, "alice")
        wait_for(lambda: ran.exists() and ran.stat().st_size > 0)
        relay.cut()
        yield running


def test_a_cut_leaves_the_outcome_unknown(make: Make, cluster: Cluster, relay: Relay, folder: Path) -> None:
    transport = make(port=relay.port)
    command = sh(f"echo x >>{inside(cluster, folder)}/ran; sleep 2")
    with cut_while_running(transport, relay, command, folder / "ran") as running:
        with pytest.raises(OutcomeUnknown):
            running.result()  # type: ignore[attr-defined]
        assert transport.run(TRUE, "alice").exit_code == 0
    assert (folder / "ran").read_text() == "x\n"


def test_what_is_repeatable_is_sent_again(make: Make, cluster: Cluster, relay: Relay, folder: Path) -> None:
    transport = make(port=relay.port)
    command = sh(f"echo x >>{inside(cluster, folder)}/ran; sleep 1.5; echo done", repeatable=True)
    with cut_while_running(transport, relay, command, folder / "ran") as running:
        assert running.result().stdout == "done\n"  # type: ignore[attr-defined]
    assert (folder / "ran").read_text() == "x\nx\n"


def test_a_connection_that_died_while_idle_is_replaced(make: Make, relay: Relay) -> None:
    transport = make(port=relay.port)
    transport.run(TRUE, "alice")
    relay.stop()
    relay.start()
    assert transport.run(TRUE, "alice").exit_code == 0


def test_silence_is_noticed_by_keep_alive(make: Make, relay: Relay) -> None:
    """A network that swallows packets: no error ever arrives."""
    transport = make(port=relay.port, keepalive=0.5)
    with ThreadPoolExecutor() as threads:
        running = threads.submit(transport.run, sh("sleep 30"), "alice")
        time.sleep(1.0)
        relay.freeze()
        begin = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            running.result()
        assert time.monotonic() - begin < 5
    relay.stop()
    relay.start()
    assert transport.run(TRUE, "alice").exit_code == 0


def test_keep_alive_leaves_the_living_alone(make: Make) -> None:
    transport = make(keepalive=0.2)
    assert transport.run(sh("sleep 2; echo whole"), "alice").stdout == "whole\n"
    assert connections(transport) == 1


def test_nothing_has_started_on_a_host_that_does_not_answer(make: Make, relay: Relay) -> None:
    """Its channel was never opened, so this is no unknown outcome."""
    transport = make(port=relay.port, connect_timeout=1.0)
    transport.run(TRUE, "alice")
    relay.freeze()
    with pytest.raises(HostDown):
        transport.run(TRUE, "alice")
    relay.thaw()
    assert transport.run(TRUE, "alice").exit_code == 0


# ---- files


def test_reading_a_file(transport: SshTransport, cluster: Cluster, folder: Path) -> None:
    content = os.urandom(3_000_000)
    (folder / "data").write_bytes(content)
    path = inside(cluster, folder)
    with transport.open_file(f"{path}/data", "alice", path) as file:
        assert file.size == len(content)
        assert abs(file.mtime.timestamp() - (folder / "data").stat().st_mtime) < 2
        assert file.read(1000, 50) == content[1000:1050]
        assert file.read(len(content) - 3, 100) == content[-3:]
        assert file.read(len(content), 100) == b""
        assert _whole(file, 65_536) == content
        assert _whole(file, 5_000_000) == content


def _whole(file: object, step: int) -> bytes:
    data = b""
    while piece := file.read(len(data), step):  # type: ignore[attr-defined]
        data += piece
    return data


def test_a_growing_file_gives_more(transport: SshTransport, cluster: Cluster, folder: Path) -> None:
    log = folder / "log"
    log.write_text("one\n")
    path = inside(cluster, folder)
    with transport.open_file(f"{path}/log", "alice", path) as file:
        assert file.read(0, 100) == b"one\n"
        assert file.read(4, 100) == b""
        with log.open("a") as more:
            more.write("two\n")
        assert file.read(4, 100) == b"two\n"


@pytest.fixture
def tree(folder: Path, cluster: Cluster) -> str:
    (folder / "sub").mkdir()
    (folder / "sub/deep").mkdir()
    for name in ("b", "a", "sub/c", "sub/deep/d", "sub.txt", "sub-1", "zażółć", "new\nline"):
        (folder / name).write_text(name)
    (folder.joinpath(os.fsdecode(b"odd\xff"))).write_text("odd")
    (folder / "link").symlink_to("a")
    (folder / "out").symlink_to("/etc/hostname")
    (folder / "up").symlink_to("..")
    (folder / "locked").mkdir(mode=0o700)
    (folder / "locked/x").write_text("x")
    (folder / "secret").write_text("x")
    (folder / "secret").chmod(0o600)
    os.mkfifo(folder / "fifo", 0o644)
    return inside(cluster, folder)


def test_listing(transport: SshTransport, tree: str, folder: Path) -> None:
    found = list(transport.list_files(tree, "alice", 100))
    odd = os.fsdecode(b"odd\xff")
    names = ["a", "b", "new\nline", odd, "secret", "sub-1", "sub.txt", "sub/c", "sub/deep/d", "zażółć"]
    assert [entry.path for entry in found] == names
    assert found[0].size == 1
    assert abs(found[0].mtime.timestamp() - (folder / "a").stat().st_mtime) < 2
    assert [entry.path for entry in transport.list_files(tree, "alice", 3)] == names[:3]
    with transport.open_file(f"{tree}/{odd}", "alice", tree) as file:
        assert file.read(0, 10) == b"odd"


FORBIDDEN = ["out", "up/../x", "secret", "locked/x", "../.bashrc"]
NOT_FOUND = ["missing", "sub", "fifo", "a/b", "a\0", "\0"]


@pytest.mark.parametrize(
    ("name", "error"), [*((name, Forbidden) for name in FORBIDDEN), *((name, NotFound) for name in NOT_FOUND)]
)
def test_what_may_not_be_opened(transport: SshTransport, tree: str, name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        transport.open_file(f"{tree}/{name}", "alice", tree)


def test_a_link_that_stays_inside_may_be_opened(transport: SshTransport, tree: str) -> None:
    with transport.open_file(f"{tree}/link", "alice", tree) as file:
        assert file.read(0, 10) == b"a"


def test_a_folder_that_is_a_prefix_of_another_is_not_within(transport: SshTransport, tree: str) -> None:
    with pytest.raises(Forbidden):
        transport.open_file(f"{tree}/sub-1", "alice", f"{tree}/sub")


@pytest.mark.parametrize(("name", "error"), [("missing", NotFound), ("a", NotFound), ("locked", Forbidden)])
def test_what_cannot_be_listed(transport: SshTransport, tree: str, name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        transport.list_files(f"{tree}/{name}", "alice", 10)


def test_many_open_files_use_one_channel(transport: SshTransport, cluster: Cluster, folder: Path) -> None:
    (folder / "data").write_bytes(os.urandom(1_000_000))
    path = inside(cluster, folder)
    files = [transport.open_file(f"{path}/data", "alice", path) for _ in range(100)]
    assert sum(connection.channels for connection in transport._pools["alice"].connections) == 1
    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(lambda file: _whole(file, 100_000), files)) == {(folder / "data").read_bytes()}
    for file in files:
        file.close()


def test_files_after_a_cut(make: Make, cluster: Cluster, relay: Relay, folder: Path) -> None:
    (folder / "data").write_text("data")
    path = inside(cluster, folder)
    transport = make(port=relay.port)
    file = transport.open_file(f"{path}/data", "alice", path)
    relay.stop()
    relay.start()
    with pytest.raises(HostDown):
        file.read(0, 10)
    file.close()
    with transport.open_file(f"{path}/data", "alice", path) as again:
        assert again.read(0, 10) == b"data"


def test_the_sftp_channel_is_given_back_when_idle(make: Make, cluster: Cluster, folder: Path) -> None:
    transport = make(idle_timeout=0.5)
    assert list(transport.list_files(inside(cluster, folder), "alice", 10)) == []
    wait_for(lambda: connections(transport) == 0, 10)
    assert stat.S_ISDIR(folder.stat().st_mode)
    assert list(transport.list_files(inside(cluster, folder), "alice", 10)) == []


# ---- streams


def test_streamed_input(transport: SshTransport) -> None:
    pieces = [b"a" * 100_000, b"", b"b" * 5_000_000]
    result = transport.run(sh("cat | wc -c; exit 3", stdin=pieces), "alice")
    assert (result.exit_code, result.stdout.strip()) == (3, "5100000")
    assert transport.run(sh("exit 4", stdin=[b"x" * 65536] * 200), "alice").exit_code == 4


class Broken:
    """An input that fails after its first piece."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"x" * 100_000
        raise ZeroDivisionError


def test_input_that_breaks_off_ends_the_command(transport: SshTransport) -> None:
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        transport.run(sh("cat >/dev/null; sleep 600", stdin=Broken()), "alice")
    assert time.monotonic() - began < 10
    assert transport.run(TRUE, "alice").exit_code == 0


def test_the_time_of_a_stream_counts_while_nothing_moves(transport: SshTransport) -> None:
    def slowly() -> Iterator[bytes]:
        for _ in range(4):
            time.sleep(0.6)
            yield b"x"

    assert transport.run(Command(("cat",), stdin=slowly(), timeout=1.5), "alice").stdout == "xxxx"
    with pytest.raises(HostTimeout):
        transport.run(Command(("sleep", "600"), stdin=[b"x"], timeout=0.5), "alice")


def test_output_is_cut(transport: SshTransport) -> None:
    with pytest.raises(HostTimeout) as late:
        transport.run(Command(("yes",), most_output=1000, timeout=1.0), "alice")
    assert late.value.standard_output == "y\n" * 500 + "\n[jobgate: cut after 1000 bytes]\n"


def test_streamed_output(transport: SshTransport) -> None:
    data, result = collect(
        transport.stream(sh("head -c 5000000 /dev/zero; cat; echo err >&2; exit 5", stdin=b"end"), "alice")
    )
    assert (len(data), data[-4:]) == (5_000_003, b"\0end")
    assert (result.exit_code, result.stdout, result.stderr) == (5, "", "err\n")


def test_a_stream_that_is_closed_ends_the_command(transport: SshTransport, cluster: Cluster) -> None:
    mark = f"{time.time_ns()}"
    stream = transport.stream(sh(f"echo; exec sleep 600.{mark}"), "alice")
    next(stream)
    assert mark in cluster.enter("root", ["ps", "-eo", "args"])
    stream.close()
    wait_for(lambda: mark not in cluster.enter("root", ["ps", "-eo", "args"]))


def test_a_stream_whose_connection_breaks(make: Make, relay: Relay) -> None:
    transport = make(port=relay.port)
    stream = transport.stream(sh("echo begin; sleep 600"), "alice")
    assert next(stream) == b"begin\n"
    relay.stop()
    with pytest.raises(HostDown):
        next(stream)


def test_a_reader_who_pauses_is_no_timeout(transport: SshTransport) -> None:
    stream = transport.stream(sh("head -c 5000000 /dev/zero", timeout=1.0), "alice")
    first = next(stream)
    time.sleep(1.5)
    assert len(first) + len(collect(stream)[0]) == 5_000_000


def collect(stream: Generator[bytes, None, CommandResult]) -> tuple[bytes, CommandResult]:
    data = bytearray()
    while True:
        try:
            data += next(stream)
        except StopIteration as end:
            return bytes(data), end.value


def test_a_stream_outlives_its_neighbours(make: Make, cluster: Cluster, folder: Path) -> None:
    """An idle sftp session that ends, and a stream that is given up, leave the connection that they share alone."""
    transport = make(idle_timeout=0.5, max_connections=1)
    (folder / "file").write_text("x")
    long = transport.stream(sh("for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.5; done"), "alice")
    first = next(long)
    with transport.open_file(inside(cluster, folder / "file"), "alice", "/home/alice") as file:
        assert file.read(0, 10) == b"x"
    data, result = collect(long)
    assert (first + data).split() == [b"%d" % number for number in range(1, 9)]
    assert result.exit_code == 0
    assert connections(transport) == 1
