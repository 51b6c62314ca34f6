"""A Jobgate backend in one file: jobs are processes in the background of a machine that has a POSIX shell and /proc.

It has no queue: what is submitted starts at once. Each job has a folder below `folder`, named by its uuid; that folder
is all that is known of it. A restart of the machine ends the jobs.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from marshmallow import fields

from gateway import (
    Backend,
    ClusterInfo,
    Command,
    CommandBackend,
    HostDown,
    InvalidSchedulerAnswer,
    JobReport,
    JobSpec,
    JobState,
    NotFound,
    RefusedByScheduler,
    Submitted,
    hookimpl,
    option,
)

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
DOWN, UNKNOWN = 3, 4  # exit codes of the scripts below, whose $1 is the folder and $2 the job

SUBMIT = """
cd -- "$1" || exit 3
mkdir -p -- "$4" && cd -- "$4" || exit 1
(umask 077 && mkdir "$1/$2" && cat >"$1/$2/script" && chmod +x "$1/$2/script" && echo "$3" >"$1/$2/account") || exit 3
export JOBGATE_BACKGROUND="$2" job="$1/$2" log="$5"
shift 5
setsid sh -c 'trap : TERM
    echo $$ >"$job/pid"
    env -u job -u log "$@" "$job/script" >"$log.o$JOBGATE_BACKGROUND" 2>"$log.e$JOBGATE_BACKGROUND"
    echo $? >"$job/new" && mv "$job/new" "$job/code"' sh "$@" </dev/null >/dev/null 2>&1 &
until [ -s "$job/pid" ]; do sleep 0.01; done
"""
QUERY = """
cd -- "$1" || exit 3
while read -r id; do
    [ -s "$id/pid" ] || continue
    alive=- code=- aborted=- end=-
    grep -qz "^JOBGATE_BACKGROUND=$id$" "/proc/$(cat "$id/pid")/environ" 2>/dev/null && alive=alive
    [ -e "$id/aborted" ] && aborted=aborted
    [ -e "$id/code" ] && code=$(cat "$id/code") end=$(stat -c %Y "$id/code")
    echo "$id" "$(cat "$id/account")" "$alive" "$code" "$aborted" "$(stat -c %Y "$id/pid")" "$end"
done
echo end
"""
ABORT = """
cd -- "$1" || exit 3
[ "$(cat "$2/account" 2>/dev/null)" = "$3" ] || exit 4
[ -e "$2/code" ] && exit 0
: >"$2/aborted"
for signal in TERM KILL; do
    kill -$signal $(grep -lz "^JOBGATE_BACKGROUND=$2$" /proc/[0-9]*/environ | cut -d/ -f3)
    sleep 5
done </dev/null >/dev/null 2>&1 &
"""


@dataclass(frozen=True)
class BackgroundOptions:
    folder: str = option(
        fields.String(), "/var/spool/jobgate-background", "on the host, made by its administrator with mode 1777"
    )


class BackgroundBackend(CommandBackend):
    name = "background"
    options_type = BackgroundOptions

    def submit(self, spec: JobSpec) -> Submitted:
        directory = spec.working_directory or self.host.transport.home(spec.account)
        log = f"{directory}/{re.sub(r'[^A-Za-z0-9_.+-]', '_', spec.name)[:100]}"
        environment = [f"{name}={value}" for name, value in spec.environment.items()]
        words = [spec.uuid, spec.account, directory, log, *environment]
        self._shell(SUBMIT, spec.account, *words, stdin=spec.script)
        return Submitted(spec.uuid, directory, f"{log}.o{spec.uuid}", f"{log}.e{spec.uuid}")

    def query(self, native_ids: Collection[str], account: str | None) -> Mapping[str, JobReport]:
        known = [f"{native_id}\n" for native_id in native_ids if UUID.fullmatch(native_id)]
        return read_answer(self._shell(QUERY, account, stdin="".join(known)), account) if known else {}

    def find(self, uuid: str, account: str) -> JobReport | None:
        return self.query([uuid], account).get(uuid)

    def control(self, action: str, native_id: str, account: str) -> None:
        if not UUID.fullmatch(native_id):
            raise NotFound(f"there is no job {native_id}")
        self._shell(ABORT, account, native_id, account)

    def cluster(self, account: str | None = None) -> ClusterInfo:
        return ClusterInfo(self._shell('cd -- "$1" || exit 3; uname -sr', account).strip(), nodes={"up": 1})

    def _shell(self, script: str, account: str | None, *words: str, stdin: str = "") -> str:
        command = Command(("sh", "-c", script, "sh", self.host.options.folder, *words), stdin.encode())
        result = self.run(command, account or self.host.operator or "gateway")
        if result.exit_code == 0:
            return result.stdout
        if result.exit_code == UNKNOWN:
            raise NotFound(f"there is no job {words[0]}")
        if result.exit_code == DOWN:
            raise HostDown(f"{self.host.options.folder} cannot be used: {result.stderr.strip()}")
        raise RefusedByScheduler(
            f"the host refuses it: {result.stderr.strip()}", exit_code=result.exit_code, error_output=result.stderr
        )


def read_answer(answer: str, account: str | None) -> dict[str, JobReport]:
    """What QUERY printed. Its last line says that nothing is missing."""
    *lines, last = answer.splitlines() or [""]
    if last != "end":
        raise InvalidSchedulerAnswer("the host's answer was cut short")
    try:
        rows = [line.split(" ") for line in lines]
        return {row[0]: report(*row) for row in rows if account in (None, row[1])}
    except (ValueError, TypeError, IndexError):
        raise InvalidSchedulerAnswer("the host's answer cannot be read") from None


def report(uuid: str, account: str, alive: str, code: str, aborted: str, start: str, end: str) -> JobReport:
    exit_code = None if code == "-" else int(code)
    if exit_code is None and alive == "alive":
        state = JobState.RUNNING if aborted == "-" else JobState.COMPLETING
    elif aborted != "-":
        state = JobState.CANCELLED
    else:
        state = JobState.FINISHED if exit_code == 0 else JobState.FAILED
    gone = state is JobState.FAILED and exit_code is None
    return JobReport(
        native_id=uuid,
        uuid=uuid,
        state=state,
        native_state=" ".join((alive, code, aborted)),
        exit_code=exit_code,
        signal=exit_code - 128 if exit_code and 128 < exit_code < 160 else None,  # what a shell makes of a signal
        reason="its processes are gone, and left no exit code" if gone else None,
        start_time=datetime.fromtimestamp(int(start), UTC),
        end_time=None if end == "-" else datetime.fromtimestamp(int(end), UTC),
    )


@hookimpl
def register_backends() -> Iterable[type[Backend]]:
    return [BackgroundBackend]
