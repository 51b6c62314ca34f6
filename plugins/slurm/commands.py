"""Builds Slurm's command lines. Pure: nothing here talks to anybody."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from gateway import (
    DEFAULT_NAME,
    Command,
    Directive,
    JobSpec,
    RefusedByScheduler,
    compact,
    contradictions,
    directive_lines,
    in_folder,
    is_folder,
    task_script,
    with_log_folders,
)

# sbatch(1): the short forms that a script may use for what a request can ask as well
LONG = {
    "p": "partition",
    "N": "nodes",
    "n": "ntasks",
    "c": "cpus-per-task",
    "G": "gpus",
    "t": "time",
    "H": "hold",
    "J": "job-name",
    "o": "output",
    "e": "error",
    "D": "chdir",
    "d": "dependency",
    "a": "array",
}
FLAGS = frozenset({"hold"})
# squeue(1), sacct(1): seconds of the epoch, whatever the cluster's time zone, and the tasks of an array in full
SHOWN = {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}
QUEUE_FORMAT = "%i|%T|%r|%D|%C|%P|%S"
MEMORY = "JobArrayID State Reason NumNodes NumCPUs Partition StartTime EndTime exit_code"
MEMORY_FORMAT = ",".join(f"{name}:|" for name in MEMORY.split())
ACCOUNTING_FORMAT = "JobID,State,ExitCode,NNodes,AllocCPUS,Partition,Start,End"
MARK = "@"  # begins a job's line: a comment of somebody's own may hold line breaks
PAST = "now-7days"  # how far back a cut-off submission is looked for

# sbatch, then what it made of the script's own file names, in one round trip
SUBMIT_AND_SHOW = 'id=$("$@") || exit; printf "%s\\n" "$id"; scontrol show job "${id%%;*}"; exit 0'

CLUSTER = (
    Command(("sinfo", "--version"), repeatable=True),
    Command(("sinfo", "-h", "-o", "%P|%a|%l|%D|%C"), repeatable=True),
    Command(("sinfo", "-h", "-N", "-o", "%N|%T"), repeatable=True),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a job is submitted: sbatch's options, the patterns of its logs (None: the script says), and what is worth a
    warning. `show`: the script says something about files, so Slurm is asked what it made of it."""

    options: tuple[str, ...]
    stdout: str | None
    stderr: str | None
    show: bool
    warnings: tuple[str, ...] = field(default=())


def plan(spec: JobSpec) -> Plan:
    """Decide between what the request says and what the script says: the request wins."""
    directives = script_directives(spec.script)
    said = {directive.option for directive in directives}
    asked = requested(spec)
    own_array = "array" in said and not spec.array
    logs = {} if own_array else _logs(spec, said)
    options = [f"--{name}={value}" if value else f"--{name}" for name, value in {**logs, **asked}.items()]
    show = own_array or bool(said & {"output", "error", "chdir", "job-name"} - asked.keys())
    stdout, stderr = asked.get("output") or logs.get("output"), asked.get("error") or logs.get("error")
    warnings = contradictions(directives, {**asked, "comment": spec.uuid})
    return Plan((*options, f"--comment={spec.uuid}"), stdout, stderr, show, warnings)


def requested(spec: JobSpec) -> dict[str, str]:
    """sbatch's long options for what the request asks for; a flag has the value ""."""
    if spec.priority > 0:
        refuse("priority", "Slurm lets users lower a job's priority only; give a number below 0")
    for name in ("working_directory", "stdout", "stderr"):
        if "\\" in (getattr(spec, name) or ""):
            refuse(name, "Slurm takes no backslash in a path: it switches off what names each job's logs (sbatch(1))")
    asks = spec.resources
    several = (asks.nodes or 1) > 1
    options = {
        "chdir": spec.working_directory,
        "job-name": spec.name if spec.name != DEFAULT_NAME else None,
        "partition": spec.queue,
        "nodes": _text(asks.nodes),
        "ntasks": _text(asks.cores) if several else None,
        "cpus-per-task": None if several else _text(asks.cores),
        "mem": f"{asks.memory}M" if asks.memory else None,
        "gpus-per-node": _text(asks.gpus or None),
        "time": wall_time(asks.wall_time) if asks.wall_time else None,
        "hold": "" if spec.hold else None,
        "nice": _text(-spec.priority or None),
        "dependency": ",".join(f"{each.type}:{each.native_id}" for each in spec.dependencies) or None,
        "array": str(spec.array) if spec.array else None,
        "output": spec.stdout and pattern(spec.working_directory, _log(spec, spec.stdout, "o")),
        "error": spec.stderr and pattern(spec.working_directory, _log(spec, spec.stderr, "e")),
    }
    return {name: value for name, value in options.items() if value is not None}


def refuse(field: str, words: str) -> NoReturn:
    raise RefusedByScheduler(f"{field}: {words}", errors={field: [words]})


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _logs(spec: JobSpec, said: set[str]) -> dict[str, str]:
    """The logs' default names, `<name>.o<id>` and `.e<id>`, unless the script has named one: Slurm then writes both
    streams into it."""
    if said & {"output", "error"}:
        return {}
    name = "%x" if "job-name" in said and spec.name == DEFAULT_NAME else file_name(spec.name)
    folder = spec.working_directory
    return {"output": pattern(folder, f"{name}.o{_number(spec)}"), "error": pattern(folder, f"{name}.e{_number(spec)}")}


def _log(spec: JobSpec, path: str, stream: str) -> str:
    """The pattern of a log that was asked for."""
    name = f"{file_name(spec.name)}.{stream}{_number(spec)}"
    return f"{_escaped(path)}{name}" if is_folder(path) else _escaped(path) + _of_task(spec)


def _number(spec: JobSpec) -> str:
    return f"%A{_of_task(spec)}" if spec.array else "%j"


def _of_task(spec: JobSpec) -> str:
    """What tells the logs of an array's tasks apart."""
    return ".%a" if spec.array else ""


def pattern(folder: str | None, path: str) -> str:
    """A log's pattern; absolute where the folder has a `%`, which Slurm would expand as well (24.11)."""
    return f"{_escaped(folder.rstrip('/'))}/{path}" if folder and "%" in folder and not path.startswith("/") else path


def _escaped(path: str) -> str:
    return path.replace("%", "%%")


def file_name(name: str) -> str:
    """A job's name as part of a log's. A backslash would switch off every `%` in the name (sbatch(1), 24.11)."""
    return _escaped(re.sub(r"[/\\\x00-\x1f\x7f]", "_", name)[:200])


def expand(pattern: str | None, folder: str, native_id: str) -> str | None:
    """The file behind a pattern of ours."""
    if pattern is None:
        return None
    values = {"%%": "%", "%j": native_id, "%A": native_id, "%a": "{task_id}"}
    name = re.sub("%[%jAa]", lambda match: values[match[0]], pattern)
    return name if name.startswith("/") else f"{folder.rstrip('/')}/{name}"


def script_directives(script: str) -> list[Directive]:
    """The `#SBATCH` options of a script, under their long names."""
    found = []
    for line, words in directive_lines(script, "#SBATCH", only_in_head=True):
        while words:
            option, value, words = _option(words)
            if option:
                found.append(Directive(option, value, line))
    return found


def _option(words: list[str]) -> tuple[str, str, list[str]]:
    """The first option, its value, and the words behind them."""
    word, rest = words[0], words[1:]
    if word.startswith("--"):
        option, equals, value = word[2:].partition("=")
        if option in FLAGS or equals:
            return option, value, rest
    elif word.startswith("-") and len(word) > 1:
        option, value = LONG.get(word[1], word[1]), word[2:].removeprefix("=")
        if option in FLAGS or value:
            return option, value, rest
    else:
        return "", "", rest
    if rest and not rest[0].startswith("-"):
        return option, rest[0], rest[1:]
    return option, "", rest


def wall_time(seconds: int) -> str:
    """[D-]HH:MM:SS."""
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def submit(spec: JobSpec, plan: Plan) -> Command:
    """sbatch in the job's folder, the script on its standard input."""
    sbatch: tuple[str, ...] = ("sbatch", "--parsable", *plan.options)
    if plan.show:
        sbatch = ("/bin/sh", "-c", SUBMIT_AND_SHOW, "sh", *sbatch)
    argv = in_folder(spec.working_directory, with_log_folders(spec, sbatch))
    return Command(argv, stdin=runs(spec).encode(), environment=spec.environment)


def runs(spec: JobSpec) -> str:
    """What sbatch is given to run; what is no script it is to refuse itself."""
    if spec.array is None or not spec.script.startswith("#!"):
        return spec.script
    lines = dict.fromkeys(directive.line for directive in script_directives(spec.script))
    return task_script(spec.script, "SLURM_ARRAY_TASK_ID", lines)


def queue(account: str | None) -> Command:
    """Every live job, of one account or of all. No free text is asked for, so nothing can shift a field."""
    return _query("squeue", "-h", "-a", *_of(account), "-o", QUEUE_FORMAT)


def memory(account: str | None, native_id: str | None = None) -> Command:
    """All that slurmctld remembers, of one job or of all, ended ones of the last MinJobAge seconds included."""
    one = (f"--jobs={native_id}",) if native_id else ()
    return _query("squeue", "-h", "-a", "--states=all", *_of(account), *one, "-O", MEMORY_FORMAT)


def accounting(native_ids: Sequence[str], account: str | None) -> Command:
    """What slurmdbd knows of these jobs. With -j also those that were cancelled before they were eligible."""
    whose = ("-u", account) if account else ("-a",)
    return _query("sacct", "-nXP", *whose, "-j", ",".join(native_ids), f"--format={ACCOUNTING_FORMAT}")


def comments(account: str) -> Command:
    """Each remembered job's comment, which is the gateway's uuid."""
    return _query("squeue", "-h", "-a", "--states=all", *_of(account), "-o", f"{MARK}%i|%k")


def past_comments(account: str) -> Command:
    """As `comments`, from the accounting; slurm.conf must say AccountingStoreFlags=job_comment."""
    return _query("sacct", "-nXP", "-u", account, "-S", PAST, "--format=JobID,Comment")


def show(native_id: str) -> Command:
    return _query("scontrol", "show", "job", native_id)


def abort_tasks(native_id: str, tasks: Sequence[int]) -> Command:
    return Command(("scancel", f"{native_id}_[{compact(tasks)}]"), repeatable=True)


def control(action: str, native_id: str) -> Command:
    words = {"hold": "hold", "release": "release", "suspend": "suspend", "continue": "resume"}
    argv = ("scancel", native_id) if action == "abort" else ("scontrol", words[action], native_id)
    return Command(argv, repeatable=True)


def _query(*argv: str) -> Command:
    return Command(argv, repeatable=True, environment=SHOWN)


def _of(account: str | None) -> tuple[str, ...]:
    return (f"--user={account}",) if account else ()
