"""Builds HTCondor's command lines and job descriptions. Pure: nothing here talks to anybody."""

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gateway import (
    DEFAULT_NAME,
    Command,
    Directive,
    JobSpec,
    RefusedByScheduler,
    TaskRange,
    compact,
    contradictions,
    in_folder,
    is_folder,
    with_log_folders,
)

END = "-- end of answer --"
ATTRIBUTES = (
    "ClusterId,ProcId,JobStatus,JobgateId,JobgateWallTime,HoldReason,HoldReasonCode,LastHoldReason,LastHoldReasonCode,"
    "RemoveReason,ExitBySignal,ExitCode,ExitSignal,JobCurrentStartDate,CompletionDate,EnteredCurrentStatus,"
    "RequestCpus,CpusProvisioned,JobgateTask,JobgateTasks,JobMaterializeNextProcId"
)
TASK = "JobgateTask"
PATHS = "Iwd,Out,Err"
FEW = 200  # so many jobs are asked for by their numbers; for more the whole queue costs less
PATIENCE = 60.0  # condor_q, condor_rm and the like give up after some 20 seconds (23.9)
SUBMIT_SECONDS = 25  # condor_submit itself waits for ever (23.9)
CUT = 124  # timeout(1)
SILENT = 75  # our own: the schedd did not answer the question that goes before a submit

# A schedd that hangs lets condor_submit hang as well, and what it was sent may take effect later (23.9). So it is asked
# something first: where it does not answer that, nothing was submitted. A script's folder is kept while HTCondor knows
# the job; once a day a submit removes the others.
SUBMIT = """
host=$1 own=$HOME/.jobgate/$1/$2 script=$3 run=$4 probe=$5 show=$6 most=$7
shift 7
sweep() {
    cd -- "$HOME/.jobgate/$host" && [ -z "$(find .swept -mmin -1440)" ] || return
    : >.swept && live=$(condor_q -constraint 'JobgateId isnt undefined' -af JobgateId) || return
    find . -maxdepth 1 -type d -name '*-*' -mtime +0 | while read -r folder; do
        case $live in *"${folder#./}"*) ;; *) rm -rf -- "$folder" ;; esac
    done
}
if [ "$probe" ]; then condor_q -constraint 'ClusterId < 0' -af ClusterId >/dev/null || exit 75; fi
(umask 077 && mkdir -p -- "$own" && head -c "$script" >"$own/script" && head -c "$run" >"$own/run" &&
    cat >"$own/description" && chmod 700 "$own/script" "$own/run") || exit
id=$(timeout SECONDS condor_submit -terse -maxjobs $most "$@" "$own/description") || exit
printf '%s\\n' "$id"
if [ "$show" ]; then
    condor_q "${id%% *}" -json -attributes "$show"
    condor_history "${id%% *}" -limit 1 -json -attributes "$show"
fi
sweep </dev/null >/dev/null 2>&1 &
exit 0
""".replace("SECONDS", str(SUBMIT_SECONDS))

# condor_submit takes $(x) as a macro, a backslash at a line's end as "goes on", and cuts blanks at both ends. $$(x) is
# expanded when the job is matched; where it cannot be, condor_schedd may crash (seen with 23.9.6).
UNFIT = re.compile(r"[\x00-\x1f\x7f]|\$\$\(|\\$|^\s|\s$")
UNFIT_FOLDER = re.compile(r"[\x00-\x1f\x7f]|\$\$\(|\\\\")
CONTINUED = re.compile(r"\\[ \t]*\n")
SETTING = re.compile(r"[ \t]*(\+?[\w.]+)[ \t]*=(?!=)[ \t]*(.*?)[ \t\r]*", re.ASCII)
QUEUE = re.compile(r"[ \t]*queue\b(?![ \t]*=).*", re.IGNORECASE)

ACTIONS = {
    "abort": ("condor_rm", "JobStatus =!= 3 && JobStatus =!= 4"),
    "hold": ("condor_hold", "JobStatus == 1"),
    "release": ("condor_release", "JobStatus == 5"),
    "suspend": ("condor_suspend", "JobStatus == 2"),
    "continue": ("condor_continue", "JobStatus == 7"),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How a job is submitted. `description` is what condor_submit reads and `appended` are lines that win over it;
    `show`: the user wrote the description, so HTCondor is asked what it made of the file names."""

    description: str
    appended: tuple[str, ...]
    stdout: str
    stderr: str
    show: bool
    warnings: tuple[str, ...] = ()


def plan(spec: JobSpec, host: str) -> Plan:
    """A script that begins with `#!` is the job's program; one that is a submit description is submitted as that,
    and the request wins over what it says."""
    if UNFIT_FOLDER.search(spec.working_directory or ""):
        raise refused("working_directory", r"HTCondor cannot carry line breaks, `$$(` or `\\` in a folder's name")
    asked = requested(spec)
    logs = _logs(spec)
    if spec.script.startswith("#!"):
        settings = {**_program(spec, host), **logs, **asked, **(_tasks(spec.array) if spec.array else {})}
        queue = f"queue {TASK} in ({','.join(map(str, spec.array.ids))})\n" if spec.array else "queue\n"
        return Plan("\n".join([*_lines(settings), queue]), (), *_patterns(settings), show=False)
    if spec.array:
        raise refused("array", "a submit description has a `queue` of its own; begin the script with `#!` instead")
    said = directives(spec.script)
    if "executable" not in said or not any(QUEUE.fullmatch(line) for line in _logical_lines(spec.script)):
        words = "begin it with `#!` and an interpreter, or write a submit description with `executable =` and `queue`"
        raise refused("script", f"HTCondor cannot run this script: {words}")
    if spec.environment:
        asked["environment"] = environment(spec.environment)
    if spec.working_directory:
        asked["initialdir"] = "$ENV(PWD)"
    missing = {key: value for key, value in logs.items() if key not in said}
    settings = {**missing, **asked}
    shown = {key.lower(): value.replace("$(DOLLAR)", "$") for key, value in asked.items()}
    if spec.working_directory:
        shown["initialdir"] = spec.working_directory
    warnings = contradictions(said.values(), shown)
    return Plan(spec.script.rstrip() + "\n", tuple(_lines(settings)), *_patterns(settings), True, warnings)


def _tasks(array: TaskRange) -> dict[str, str]:
    """What makes processes of a cluster tasks. HTCondor creates no more of them at a time than may run at once; which
    are still to come follows from the number of the next, and from the list of all."""
    variables = f'"JOBGATE_TASK_ID=$({TASK}) SGE_TASK_ID=$({TASK})"'
    limit = {"max_materialize": str(array.at_once), "+JobgateTasks": f'"{compact(array.ids)}"'} if array.at_once else {}
    return {"environment": variables, f"+{TASK}": f"$({TASK})", **limit}


def refused(field: str, words: str) -> RefusedByScheduler:
    return RefusedByScheduler(f"{field}: {words}", errors={field: [words]})


def requested(spec: JobSpec) -> dict[str, str]:
    """condor_submit's settings for what the request asks for."""
    asks = spec.resources
    if (asks.nodes or 1) > 1:
        raise refused("nodes", "HTCondor runs a job on one machine")
    limit = {
        "allowed_job_duration": str(asks.wall_time),
        "+JobgateWallTime": str(asks.wall_time),
        "periodic_remove": "HoldReasonCode =?= 46",  # JobDurationExceeded: HTCondor holds such a job (23.9)
    }
    settings = {
        "batch_name": label(spec.name) if spec.name != DEFAULT_NAME else None,
        "request_cpus": _text(asks.cores),
        "request_memory": _text(asks.memory),
        "request_gpus": _text(asks.gpus or None),
        **(limit if asks.wall_time else {}),
        "hold": "True" if spec.hold else None,
        "priority": _text(spec.priority or None),
        "output": _log(spec, "stdout", spec.stdout, "output"),
        "error": _log(spec, "stderr", spec.stderr, "error"),
        "+JobgateId": f'"{spec.uuid}"',
    }
    return {key: value for key, value in settings.items() if value is not None}


def _program(spec: JobSpec, host: str) -> dict[str, str]:
    """Without file transfer: the pool's machines share the folders, and the logs grow where they belong."""
    return {
        "universe": "vanilla",
        "executable": f"$ENV(HOME)/.jobgate/{folder_name(host)}/{spec.uuid}/run",
        "getenv": "HOME, USER, LOGNAME, PATH, LANG",
        "should_transfer_files": "NO",
        "batch_name": label(spec.name),
    }


def _logs(spec: JobSpec) -> dict[str, str]:
    name = label(spec.name).replace("/", "_")
    ends = {"output": f"o$(Cluster){_of_each(spec)}", "error": f"e$(Cluster){_of_each(spec)}", "log": "log$(Cluster)"}
    return {key: f"{name}.{end}" for key, end in ends.items()}


def _lines(settings: Mapping[str, str]) -> list[str]:
    return [f"{key} = {value}" for key, value in settings.items()]


def _patterns(settings: Mapping[str, str]) -> tuple[str, str]:
    return settings.get("output", ""), settings.get("error", "")


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _path(field: str, path: str | None) -> str | None:
    if path is None:
        return None
    if UNFIT.search(path):
        raise refused(field, r"HTCondor cannot carry line breaks, `$$(`, blanks or `\` at an end, in a file's name")
    return literal(path)


def _log(spec: JobSpec, field: str, path: str | None, setting: str) -> str | None:
    name = _path(field, path)
    if is_folder(name):
        return f"{name}{_logs(spec)[setting]}"
    return f"{name}{_of_each(spec)}" if name else None


def _of_each(spec: JobSpec) -> str:
    """What tells the logs of an array's tasks apart."""
    return f".$({TASK})" if spec.array else ""


def literal(value: str) -> str:
    """A value in which condor_submit finds no macro."""
    return value.replace("$", "$(DOLLAR)")


def label(name: str) -> str:
    """A job's name as HTCondor shows it and as a log's name begins."""
    return literal(re.sub(r"[\x00-\x1f\x7f\\]|\$\$\(|^\s|\s$", "_", name)[:200])


def folder_name(host: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]|^\.", "_", host)


def environment(variables: Mapping[str, str]) -> str:
    """The setting `environment` in the new syntax (condor_submit(1)); it has no way to write a line break."""
    entries = []
    for name, value in variables.items():
        if re.search(r"[\x00-\x08\x0a-\x1f]|\$\$\(", value):
            raise refused("environment", f"HTCondor cannot carry the value of {name} into a submit description")
        quoted = value.replace("'", "''").replace('"', '""')
        entries.append(f"{name}='{literal(quoted)}'")
    return f'"{" ".join(entries)}"'


def directives(script: str) -> dict[str, Directive]:
    """What a submit description sets, by lower-case key."""
    found = {}
    for line in _logical_lines(script):
        if match := SETTING.fullmatch(line):
            key = match[1].lower().replace("my.", "+") if match[1].lower().startswith("my.") else match[1].lower()
            found[key] = Directive(key, match[2], line.strip())
    return found


def _logical_lines(script: str) -> list[str]:
    """Lines as condor_submit reads them: a comment is not continued, whatever it ends in (23.9)."""
    lines = [line for line in script.splitlines() if not line.lstrip().startswith("#")]
    return CONTINUED.sub(" ", "\n".join(lines)).split("\n")


def expand(pattern: str, folder: str, native_id: str) -> str:
    """The file behind a pattern of ours."""
    values = {"$(Cluster)": native_id.split(".")[0], f"$({TASK})": "{task_id}", "$(DOLLAR)": "$"}
    name = re.sub(r"\$\((?:Cluster|JobgateTask|DOLLAR)\)", lambda match: values[match[0]], pattern)
    return name if name.startswith("/") else f"{folder.rstrip('/')}/{name}"


def wrapper(variables: Mapping[str, str]) -> str:
    """Sets the environment, for any value, and becomes the script beside it."""
    words = " ".join(shlex.quote(f"{name}={value}") for name, value in variables.items())
    return f'#!/bin/sh\nexec env -- {words} /bin/sh -c \'exec "$0"\' "${{0%/*}}/script"\n'


def submit(spec: JobSpec, plan: Plan, host: str, *, probe: bool) -> Command:
    """One round trip: into the working directory, ask the schedd, store the files, submit."""
    script = b"" if plan.show else spec.script.encode()
    run = b"" if plan.show else wrapper(spec.environment).encode()
    appended = [word for line in plan.appended for word in ("-append", line)]
    sizes = (str(len(script)), str(len(run)))
    flags = ("yes" if probe else "", PATHS if plan.show else "", str(len(spec.array.ids) if spec.array else 1))
    snippet = ("/bin/sh", "-c", SUBMIT, "sh", folder_name(host), spec.uuid, *sizes, *flags, *appended)
    stdin = script + run + plan.description.encode()
    return Command(in_folder(spec.working_directory, with_log_folders(spec, snippet)), stdin=stdin, timeout=PATIENCE)


def queue(native_ids: Collection[str], account: str | None) -> Command:
    """Live jobs: these few, or all that came through a gateway."""
    which = _clusters(native_ids) if len(native_ids) <= FEW else "JobgateId isnt undefined"
    return _query("condor_q", "-allusers", "-constraint", _owned(which, account), "-json", "-attributes", ATTRIBUTES)


def history(jobs: Mapping[str, Collection[int]], account: str | None) -> Command:
    """Ended jobs, and ended tasks of arrays, the latest first; it reads no further than to the last of them."""
    plain = [name for name, tasks in jobs.items() if not tasks]
    conditions = [_clusters(plain)] if plain else []
    conditions += [f"({_clusters([name])} && {_of(tasks)})" for name, tasks in jobs.items() if tasks]
    which = _owned(f"({' || '.join(conditions)})", account)
    limit = ("-limit", str(len(plain) + sum(map(len, jobs.values()))))
    return _query("condor_history", "-constraint", which, *limit, "-json", "-attributes", ATTRIBUTES)


def find_live(uuid: str, account: str) -> Command:
    which = _owned(f"JobgateId =?= {_string(uuid)}", account)
    return _query("condor_q", "-allusers", "-constraint", which, "-json", "-attributes", f"{ATTRIBUTES},{PATHS}")


def find_ended(uuid: str, account: str) -> Command:
    which = _owned(f"JobgateId =?= {_string(uuid)}", account)
    limit = ("-limit", "1")
    return _query("condor_history", "-constraint", which, *limit, "-json", "-attributes", f"{ATTRIBUTES},{PATHS}")


def control(action: str, native_id: str, account: str, tasks: Collection[int] = ()) -> Command:
    """The job's state is part of the condition, so HTCondor checks and acts in one. Of an array, `<cluster>`, all that
    is in such a state, or these tasks of it. A condition that holds for the cluster's own ad, which looks like the
    first task's and is nobody's process, ends the making of further tasks (23.9): that is for the abort of a whole."""
    program, states = ACTIONS[action]
    cluster, _, process = native_id.partition(".")
    part = f" && ProcId == {process}" if process else f" && {_of(tasks)}" if tasks else ""
    part += "" if action == "abort" and not tasks else " && ProcId >= 0"
    which = _owned(f"ClusterId == {cluster}{part} && {states}", account)
    return Command((program, "-constraint", which), timeout=PATIENCE, repeatable=True)


def version() -> Command:
    return _query("condor_version")


def schedd_answers() -> Command:
    return _query("condor_q", "-constraint", "ClusterId < 0", "-af", "ClusterId")  # `false` is ignored (23.9)


def machines() -> Command:
    return _query("condor_status", "-json", "-attributes", "Machine,State,FileSystemDomain")


def domain() -> Command:
    return _query("condor_config_val", "FILESYSTEM_DOMAIN")


def latest() -> Command:
    return _query("condor_history", "-limit", "1", "-json", "-attributes", "ClusterId")


def _query(*argv: str) -> Command:
    """A last line of ours says that the answer is whole: where there are no jobs, condor_q prints nothing at all."""
    return Command(("/bin/sh", "-c", '"$@" && echo "$0"', END, *argv), timeout=PATIENCE, repeatable=True)


def _owned(condition: str, account: str | None) -> str:
    return f"{condition} && Owner =?= {_string(account)}" if account else condition  # == would ignore case


def _clusters(native_ids: Collection[str]) -> str:
    return f"member(ClusterId, {{{','.join(name.split('.')[0] for name in native_ids)}}})"


def _of(tasks: Collection[int]) -> str:
    return f"member({TASK}, {{{','.join(map(str, sorted(tasks)))}}})"


def _string(text: str) -> str:
    if not re.fullmatch(r"[\w.@$-]+", text):
        raise refused("account", f"{text!r} cannot be part of a question to HTCondor")
    return f'"{text}"'
