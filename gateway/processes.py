"""Short commands of a user's own on a host's login side: what the PLGrid API has as `POST /api/process`."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.audit import Audit
from gateway.errors import Forbidden, HostTimeout, Unprocessable
from gateway.hosts import Hosts
from gateway.model import Principal
from gateway.request import account_of
from gateway.transport import Command, CommandResult

MOST_OUTPUT = 1 << 20
ENTERED = "\0"
# What is printed first says that the folder could be entered: everything behind it is the command's own.
IN_FOLDER = 'cd -- "${1:-$HOME}" && printf "\\0" && exec /bin/sh -c "$2"'


class Processes:
    """Runs them. Safe to use from many threads."""

    def __init__(self, hosts: Hosts, audit: Audit) -> None:
        self.hosts = hosts
        self.audit = audit

    def run(
        self, principal: Principal, host_name: str, command: str, folder: str | None, account: str | None
    ) -> CommandResult:
        """Give a command line to /bin/sh on the host, as the account. Any exit code is a result; of each output the
        first MiB is kept.

        Raises Forbidden where the host does not do this, HostTimeout with what it had printed where it did not end in
        time (it is killed then), Unprocessable where the folder cannot be entered.
        """
        with self.audit.entry("process", principal, to=host_name, command=command):
            host = self.hosts.named(host_name)
            section = host.config.section
            if not section.process:
                raise Forbidden(
                    f"{host.name} runs no short commands (process = false); submit a job instead", code="process_off"
                )
            # timeout(1) ends what the transport cannot reach: a command that ignores SIGTERM, or whose connection broke
            limit = ("timeout", "-k", "1", f"{section.process_timeout + 1:g}")
            argv = (*limit, "/bin/sh", "-c", IN_FOLDER, "sh", folder or "", command)
            wanted = Command(argv, timeout=section.process_timeout, most_output=MOST_OUTPUT)
            with _without_mark():
                result = host.transport.run(wanted, account_of(principal, account))
            if not result.stdout.startswith(ENTERED):
                raise _not_entered(result)
            return CommandResult(result.exit_code, result.stdout.removeprefix(ENTERED), result.stderr)


@contextmanager
def _without_mark() -> Iterator[None]:
    try:
        yield
    except HostTimeout as late:
        late.standard_output = late.standard_output.removeprefix(ENTERED)
        late.message = f"{late.message} and was killed; submit a job for what takes longer"
        raise


def _not_entered(result: CommandResult) -> Unprocessable:
    words = f"cannot be entered: {result.stderr.strip()}"
    return Unprocessable(
        f"working_directory {words}",
        errors={"working_directory": [words]},
        exit_code=result.exit_code,
        error_output=result.stderr,
    )
