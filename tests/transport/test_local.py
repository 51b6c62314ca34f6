"""This machine as a host: as the gateway's own user, and as real accounts."""

import os
import signal
import socket
import time
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.errors import Forbidden, HostTimeout, NotFound
from gateway.transport import Command, CommandResult
from gateway.transport.local import LocalTransport
from tests.unix_accounts import two_accounts


@pytest.fixture
def shared(tmp_path: Path) -> LocalTransport:
    return LocalTransport(shared_account=True, homes=tmp_path / "homes")


@pytest.fixture
def accounts() -> tuple[str, str]:
    return two_accounts()


@pytest.fixture
def mapped(accounts: tuple[str, str], tmp_path: Path) -> LocalTransport:
    return LocalTransport(shared_account=False, homes=tmp_path / "homes")


@pytest.fixture(params=["shared", "mapped"])
def who(request: pytest.FixtureRequest) -> Iterator[tuple[LocalTransport, str, Path]]:
    """A transport, an account, and a folder of that account with the file `hello`."""
    transport: LocalTransport = request.getfixturevalue(request.param)
    account = "ann" if request.param == "shared" else request.getfixturevalue("accounts")[0]
    made = transport.run(Command(("sh", "-c", "d=$(mktemp -d ~/XXXXXX) && echo hello > $d/hello && echo $d")), account)
    folder = Path(made.stdout.strip())
    yield transport, account, folder
    transport.run(Command(("rm", "-rf", str(folder))), account)


def sh(who: tuple[LocalTransport, str, Path], script: str) -> None:
    transport, account, folder = who
    done = transport.run(Command(("sh", "-c", f'cd "$1" && {script}', "sh", str(folder))), account)
    assert done.exit_code == 0, done.stderr


# --- commands ---------------------------------------------------------------------------------------------------------


def test_arguments_arrive_as_given(who: tuple[LocalTransport, str, Path]) -> None:
    arguments = ("", "a b", "$(id)", "'\"`\\", "-x", "żółć\n")
    done = who[0].run(Command(("printf", "%s|", *arguments)), who[1])
    assert done.stdout == "".join(f"{argument}|" for argument in arguments)


def test_stdin_and_both_outputs(who: tuple[LocalTransport, str, Path]) -> None:
    done = who[0].run(Command(("sh", "-c", "cat; echo err >&2; exit 77"), stdin=b"in\xff"), who[1])
    assert (done.exit_code, done.stdout, done.stderr) == (77, "in\\xff", "err\n")


def test_much_output_and_input(who: tuple[LocalTransport, str, Path]) -> None:
    assert who[0].run(Command(("cat",), stdin=b"x" * 3_000_000), who[1]).stdout == "x" * 3_000_000


def test_a_signal_is_128_and_its_number(who: tuple[LocalTransport, str, Path]) -> None:
    assert who[0].run(Command(("sh", "-c", "kill -9 $$")), who[1]).exit_code == 128 + signal.SIGKILL


@pytest.mark.parametrize(("program", "code"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_what_cannot_be_run(who: tuple[LocalTransport, str, Path], program: str, code: int) -> None:
    done = who[0].run(Command((program,)), who[1])
    assert done.exit_code == code
    assert program in done.stderr


def test_environment_holds_nothing_of_the_gateway(
    who: tuple[LocalTransport, str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBGATE_SECRET", "s3cret")
    done = who[0].run(Command(("env",), environment={"ASKED": "1"}), who[1])
    values = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert set(values) == {"PATH", "LANG", "HOME", "USER", "LOGNAME", "SHELL", "ASKED"}
    assert values["HOME"] == who[0].home(who[1])


def test_timeout_ends_the_group_and_keeps_what_was_printed(who: tuple[LocalTransport, str, Path]) -> None:
    began = time.monotonic()
    with pytest.raises(HostTimeout) as late:
        who[0].run(
            Command(("sh", "-c", "echo part; echo err >&2; sleep 600 & echo $!; sleep 600"), timeout=0.5), who[1]
        )
    assert time.monotonic() - began < 5
    words, pid = late.value.standard_output.split()
    assert (words, late.value.error_output) == ("part", "err\n")
    time.sleep(0.1)
    assert not _alive(int(pid))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# --- accounts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("account", ["", ".", "..", "a/b", "../x", "a\0b"])
def test_label_that_is_no_account_name(shared: LocalTransport, account: str) -> None:
    with pytest.raises(Forbidden):
        shared.home(account)


def test_home_of_a_label_is_private(shared: LocalTransport) -> None:
    assert Path(shared.home("ann")).stat().st_mode & 0o777 == 0o700


def test_shared_runs_as_ourselves(shared: LocalTransport) -> None:
    assert shared.run(Command(("id", "-u")), "ann").stdout == f"{os.geteuid()}\n"


@pytest.mark.parametrize("account", ["root", "no-such-account", "a\0b"])
def test_no_such_account(mapped: LocalTransport, account: str) -> None:
    with pytest.raises(Forbidden):
        mapped.run(Command(("id",)), account)
    with pytest.raises(Forbidden):
        mapped.open_file("/etc/passwd", account, "/")


def test_mapped_is_the_account_through_and_through(mapped: LocalTransport, accounts: tuple[str, str]) -> None:
    done = mapped.run(Command(("sh", "-c", "id -u; id -ru; id -G; pwd; umask; ps -o sid= -p $$; echo $$")), accounts[0])
    uid, real, groups, folder, mask, session, pid = done.stdout.split("\n")[:7]
    assert uid == real != "0"
    assert "0" not in groups.split()
    assert folder == mapped.home(accounts[0])
    assert mask == "0022"
    assert session.strip() == pid


# --- files ------------------------------------------------------------------------------------------------------------


def test_read_a_file(who: tuple[LocalTransport, str, Path]) -> None:
    transport, account, folder = who
    with transport.open_file(f"{folder}/hello", account, str(folder)) as file:
        assert file.size == 6
        assert abs((datetime.now(UTC) - file.mtime).total_seconds()) < 60
        assert (file.read(1, 3), file.read(4, 100), file.read(6, 1)) == (b"ell", b"o\n", b"")
        sh(who, "echo more >> hello")
        assert file.read(6, 100) == b"more\n"


def test_a_file_of_10_gib(who: tuple[LocalTransport, str, Path]) -> None:
    transport, account, folder = who
    sh(who, "truncate -s 10G big && echo end >> big")
    with transport.open_file(f"{folder}/big", account, str(folder)) as file:
        assert file.size == (10 << 30) + 4
        assert file.read(10 << 30, 100) == b"end\n"


def test_a_link_that_stays_inside(who: tuple[LocalTransport, str, Path]) -> None:
    transport, account, folder = who
    sh(who, "mkdir sub && ln -s ../hello sub/link")
    with transport.open_file(f"{folder}/sub/../sub/link", account, str(folder)) as file:
        assert file.read(0, 10) == b"hello\n"


@pytest.mark.parametrize(
    "path", ["link", "dir/passwd", "../../../../../../../../etc/passwd", "chain", "/etc/passwd", "../{name}x/f"]
)
def test_what_leads_out(who: tuple[LocalTransport, str, Path], path: str) -> None:
    transport, account, folder = who
    sh(who, "ln -s /etc/passwd link && ln -s /etc dir && ln -s link chain && mkdir -p ../$(basename $PWD)x")
    sh(who, "echo x > ../$(basename $PWD)x/f")
    try:
        with pytest.raises(Forbidden):
            transport.open_file(os.path.join(folder, path.format(name=folder.name)), account, str(folder))  # noqa: PTH118
    finally:
        sh(who, "rm -r ../$(basename $PWD)x")


@pytest.mark.parametrize("path", ["missing", "", "hello/x", "fifo", "dir", "loop", "socket", "a\0b", "n" * 300])
def test_what_is_no_file(who: tuple[LocalTransport, str, Path], path: str) -> None:
    transport, account, folder = who
    sh(who, "mkfifo fifo && mkdir dir && ln -s loop loop")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        began = time.monotonic()
        with pytest.raises(NotFound):
            transport.open_file(f"{folder}/{path}", account, f"{folder}" if path else f"{folder}/..")
    assert time.monotonic() - began < 5


def test_devices_are_no_files(who: tuple[LocalTransport, str, Path]) -> None:
    with pytest.raises(NotFound):
        who[0].open_file("/dev/zero", who[1], "/dev")


def test_roots_rights_open_nothing(mapped: LocalTransport, accounts: tuple[str, str], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    with pytest.raises(Forbidden):
        mapped.open_file(str(secret), accounts[0], "/")
    with pytest.raises(Forbidden):
        list(mapped.list_files("/root", accounts[0], 10))
    other = mapped.home(accounts[1])
    with pytest.raises(Forbidden):
        list(mapped.list_files(other, accounts[0], 10))


def test_list_files(who: tuple[LocalTransport, str, Path]) -> None:
    transport, account, folder = who
    sh(who, "mkdir -p a/b 'a b' && echo 1 > a/b/c && echo > a.txt && echo > 'a b/ż\n' && ln -s hello link && mkfifo f")
    sh(who, "ln -s /etc out && mkdir empty closed && echo > closed/x && chmod 0 closed")
    found = list(transport.list_files(str(folder), account, 100))
    paths = [entry.path for entry in found]
    expected = ["a b/ż\n", "a.txt", "a/b/c", "hello"]
    assert [path for path in paths if path != "closed/x"] == expected  # root itself may read it
    assert ("closed/x" in paths) == (transport.shared_account and os.geteuid() == 0)
    entry = next(entry for entry in found if entry.path == "a/b/c")
    assert (entry.size, entry.mtime.tzinfo) == (2, UTC)
    assert [entry.path for entry in transport.list_files(str(folder), account, 2)] == expected[:2]
    sh(who, "chmod 700 closed")


@pytest.mark.parametrize("path", ["missing", "hello", "a\0b"])
def test_list_no_folder(who: tuple[LocalTransport, str, Path], path: str) -> None:
    with pytest.raises(NotFound):
        who[0].list_files(f"{who[2]}/{path}", who[1], 10)


def test_a_folder_200_deep_and_more(who: tuple[LocalTransport, str, Path]) -> None:
    sh(who, 'for i in $(seq 300); do mkdir d && cd d; done; echo > bottom; cd "$1"')
    assert [entry.path for entry in who[0].list_files(str(who[2]), who[1], 10)] == ["hello"]


def test_no_descriptor_is_left(who: tuple[LocalTransport, str, Path]) -> None:
    transport, account, folder = who
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("hello", "missing", "../../x"):
        for _ in range(3):
            try:
                transport.open_file(f"{folder}/{path}", account, str(folder)).close()
            except (NotFound, Forbidden):
                continue
    list(transport.list_files(str(folder), account, 10))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- streams ----------------------------------------------------------------------------------------------------------


def test_streamed_input(who: tuple[LocalTransport, str, Path]) -> None:
    pieces = [b"a" * 100_000, b"", b"b" * 200_000]
    done = who[0].run(Command(("sh", "-c", "cat | wc -c; exit 3"), stdin=pieces), who[1])
    assert (done.exit_code, done.stdout.strip()) == (3, "300000")


def test_streamed_input_that_is_not_read(who: tuple[LocalTransport, str, Path]) -> None:
    assert who[0].run(Command(("sh", "-c", "exit 4"), stdin=[b"x" * 65536] * 100), who[1]).exit_code == 4


def test_input_that_breaks_off_ends_the_command(who: tuple[LocalTransport, str, Path]) -> None:
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        who[0].run(Command(("sh", "-c", "cat >/dev/null; sleep 600"), stdin=Broken()), who[1])
    assert time.monotonic() - began < 5


class Broken:
    """An input that fails after its first piece."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"x" * 100_000
        raise ZeroDivisionError


def test_the_time_of_a_stream_counts_while_nothing_moves(who: tuple[LocalTransport, str, Path]) -> None:
    def slowly() -> Iterator[bytes]:
        for _ in range(4):
            time.sleep(0.4)
            yield b"x"

    assert who[0].run(Command(("cat",), stdin=slowly(), timeout=1.0), who[1]).stdout == "xxxx"
    with pytest.raises(HostTimeout):
        who[0].run(Command(("sleep", "600"), stdin=[b"x"], timeout=0.5), who[1])


def test_output_is_cut(who: tuple[LocalTransport, str, Path]) -> None:
    done = who[0].run(Command(("sh", "-c", "head -c 3000000 /dev/zero; echo err >&2"), most_output=10), who[1])
    assert done.stdout == "\0" * 10 + "\n[jobgate: cut after 10 bytes]\n"
    assert done.stderr == "err\n"
    with pytest.raises(HostTimeout) as late:
        who[0].run(Command(("yes",), most_output=1000, timeout=0.5), who[1])
    assert late.value.standard_output == "y\n" * 500 + "\n[jobgate: cut after 1000 bytes]\n"


def collect(stream: Generator[bytes, None, CommandResult]) -> tuple[bytes, CommandResult]:
    data = bytearray()
    while True:
        try:
            data += next(stream)
        except StopIteration as end:
            return bytes(data), end.value


def test_streamed_output(who: tuple[LocalTransport, str, Path]) -> None:
    command = Command(("sh", "-c", "head -c 3000000 /dev/zero; cat; echo err >&2; exit 5"), stdin=b"end")
    data, result = collect(who[0].stream(command, who[1]))
    assert (len(data), data[-4:]) == (3_000_003, b"\0end")
    assert (result.exit_code, result.stdout, result.stderr) == (5, "", "err\n")


def test_a_stream_that_is_closed_ends_the_command(who: tuple[LocalTransport, str, Path]) -> None:
    stream = who[0].stream(Command(("sh", "-c", "echo $$; exec sleep 600")), who[1])
    pid = int(next(stream))
    stream.close()
    assert not _alive(pid)


def test_a_stream_of_nothing_is_too_late(who: tuple[LocalTransport, str, Path]) -> None:
    with pytest.raises(HostTimeout):
        next(who[0].stream(Command(("sleep", "600"), timeout=0.3), who[1]))
    assert collect(who[0].stream(Command(("no-such-program",)), who[1]))[1].exit_code == 127
