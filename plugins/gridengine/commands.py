"""Builds Grid Engine's command lines. Pure: nothing here talks to anybody."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from marshmallow import fields
from marshmallow.validate import Length, Range, Regexp

from gateway import (
    DEFAULT_NAME,
    Command,
    Directive,
    JobSpec,
    RefusedByScheduler,
    TaskRange,
    contradictions,
    in_folder,
    is_folder,
    option,
    task_script,
    with_log_folders,
)

WORD = Regexp(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")


@dataclass(frozen=True, slots=True)
class GridEngineOptions:
    """Under [hosts.<name>], for `backend = "gridengine"`."""

    parallel_environment: str = option(
        fields.String(validate=WORD), "smp", "gives a job its cores, all on one node (allocation_rule $pe_slots)"
    )
    memory_complex: str = option(
        fields.String(validate=WORD), "h_vmem", "what memory is asked as; it counts per slot, so cores share it"
    )
    gpu_complex: str = option(fields.String(validate=WORD), "gpu", "what GPUs are asked as")
    gpus_per_slot: bool = option(
        fields.Boolean(), True, "it is `consumable YES`, counted for each of a job's cores; false: `consumable JOB`"
    )
    bin_dir: str | None = option(
        fields.String(validate=Length(1)), None, "where qsub and the others are; by default in the account's PATH"
    )
    sge_root: str | None = option(fields.String(), None, "SGE_ROOT, where logins do not set it")
    sge_cell: str | None = option(fields.String(), None, "SGE_CELL, where logins do not set it")
    patience: float = option(fields.Float(validate=Range(1)), 20.0, "seconds that the qmaster may take to answer")


# submit(1): options without a value; -pe has two
FLAGS = frozenset({"clear", "cwd", "h", "hard", "nostdin", "notify", "soft", "terse", "verify", "help", "V"})
# These would make qsub wait, explain itself, or read options from a place that nobody sees (8.1.9: `-sync n` on the
# command line does not win over the script's `-sync y`).
REFUSED = frozenset({"sync", "verify", "help", "inherit", "@"})
KEYWORDS = frozenset({"none", "all", "template"})  # sge_types(1), "name"

# Would change what the commands around qsub do; they are handed over as values, the others through the environment.
OWN = frozenset({"PATH", "HOME", "PWD", "IFS", "ENV", "TZ", "LANG", "LANGUAGE", "GCONV_PATH", "LOCPATH"})
OWN_PREFIXES = ("BASH_", "LD_", "LC_", "SGE_", "POSIXLY_")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

SHELL = re.compile(r"#! *(/[A-Za-z0-9_./+-]+)[ \t]*\Z")
ANY_SHEBANG = "/usr/bin/env"  # runs the script's file, and so leaves its first line to the kernel

MOST_PASSED_OVER = 10_000  # tasks that Grid Engine has to start because its ranges have no gaps
# Behind a job's account string: somebody asked for its end. Behind that, each with a dot, the tasks of an array that
# are meant, where it is not all.
ABORTED = ".aborted"
LIMITS = frozenset({"h_rt", "s_rt"})

# qsub, then what Grid Engine made of the script's own file names, in one round trip
SUBMIT_AND_SHOW = """\
qstat=$1; shift
id=$("$@") || exit
printf '%s\\n' "$id"
id=$(printf '%s\\n' "$id" | tail -n 1)
"$qstat" -xml -j "${id%%.*}"
exit 0"""

# One pass over the accounting file, however many jobs are asked for; qacct reads it anew for each, and prints local
# times. What is wanted comes on standard input; grep finds it fast, awk looks at the field that is meant. The last line
# tells that nothing was cut off.
ACCOUNTING = """\
file=${SGE_ROOT:?is not set}/${SGE_CELL:-default}/common/accounting
wanted=$(cat)
LC_ALL=C; export LC_ALL
if [ -r "$file" ]; then
    jobs=$(printf '%s\\n' "$wanted" | sed 's/[.].*//; s/^/:/' | sort -u)
    { printf '%s\\n' "$wanted" .; printf '%s\\n' "$jobs" | grep -F -f - -- "$file"; } |
        awk -F: "!begun && \\$0 == \\".\\" { begun = 1; next } !begun { wanted[\\$1]; next } $1" || exit
else
    cd -- "${file%/*}" && [ ! -e "$file" ] || { echo "$file cannot be read" >&2; exit 2; }
fi
echo end"""
BY_ID = '$6 in wanted || $6 "." $36 in wanted'
BY_ACCOUNT_STRING = '{ uuid = $7; sub(/[.]aborted[.0-9]*$/, "", uuid) } uuid in wanted'

# Each live job of an account with its account string, which no listing shows (8.1.9); the last line as above.
FIND = """\
qstat=$1
list=$(timeout "$3" "$qstat" -u "$2") || exit
ids=$(printf '%s\\n' "$list" | awk '$1 ~ /^[0-9]+$/ && !seen[$1]++ { printf "%s%s", comma, $1; comma = "," }')
if [ "$ids" ]; then
    details=$(timeout "$3" "$qstat" -xml -j "$ids") || exit
    printf '%s\\n' "$details" | grep -E '^ *<JB_(job_number|account)>'
fi
echo end"""

MARK_AND_DELETE = """\
timeout "$2" "$3" -A "$5" "$1" >/dev/null 2>&1
patience=$2 qdel=$4
shift 5
exec timeout "$patience" "$qdel" "$@\""""
RELEASE = 'timeout "$2" "$3" -cj "$1" >/dev/null 2>&1; exec timeout "$2" "$4" "$1"'
FOLDERS = 'for path; do if [ -d "$path" ]; then echo folder; else echo file; fi; done'


@dataclass(frozen=True, slots=True)
class Plan:
    """How a job is submitted: qsub's options, the name it has there, its logs (None: the script says, or nobody), what
    qsub inherits, and what is worth a warning. `show`: the script says something about files, so Grid Engine is asked
    what it made of it."""

    options: tuple[str, ...]
    name: str
    stdout: str | None
    stderr: str | None
    one_log: bool
    show: bool
    script: str
    environment: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def plan(spec: JobSpec, site: GridEngineOptions) -> Plan:
    """Decide between what the request says and what the script says: the request wins."""
    directives = script_directives(spec.script)
    said = {directive.option for directive in directives}
    if refused := sorted(said & REFUSED):
        raise _refusal("script", f"`#$ -{refused[0]}` cannot be used here")
    asked = requested(spec, site, directives)
    logs = _logs(spec, said)
    here = {} if said & {"wd", "cwd"} and spec.working_directory is None else {"cwd": ""}
    name = object_name(spec.name)
    named = {} if "N" in said and spec.name == DEFAULT_NAME else {"N": name}
    variables, environment = _environment(spec.environment)
    shell = "/bin/sh" if spec.array else interpreter(spec.script) if "S" not in said else None
    fixed = {"S": shell, "v": variables, "A": spec.uuid, "ac": f"jobgate={spec.uuid}", "w": "e"}
    words = [*_words({**here, **named, **logs, **_top(asked), **fixed}), *_resources(asked)]
    told = {**asked, **named, **({"wd": spec.working_directory} if spec.working_directory else {})}
    return Plan(
        options=tuple(words),
        name=name,
        stdout=logs.get("o"),
        stderr=logs.get("e"),
        one_log=logs.get("j") == "y",
        show=bool(said & ({"o", "e", "j", "N", "wd", "t"} - {*logs, *named, *told})),
        script=_script(spec, directives),
        environment=environment,
        warnings=contradictions(directives, {**told, **_asked_logs(spec), "A": spec.uuid}),
    )


def requested(spec: JobSpec, site: GridEngineOptions, directives: Sequence[Directive]) -> dict[str, str]:
    """What the request asks for: qsub's option, or the resource of a `-l`, and its value."""
    asks = spec.resources
    if (asks.nodes or 1) > 1:
        raise _refusal("nodes", "this host's parallel environment gives cores of one node; ask for cores alone")
    if not -1023 <= spec.priority <= 0:
        raise _refusal("priority", "Grid Engine lets users lower a job's priority only; give a number from -1023 to 0")
    scripted = {directive.option: directive.value for directive in directives}
    parallel = (asks.cores or 0) > 1 or ("pe" in scripted and asks.cores is not None)
    slots = asks.cores or _fewest(scripted.get("pe", ""))
    options = {
        "q": spec.queue,
        "pe": f"{site.parallel_environment} {asks.cores}" if parallel else None,
        "p": str(spec.priority) if spec.priority else None,
        "h": "" if spec.hold else None,
        "hold_jid": ",".join(each.native_id for each in spec.dependencies) or None,
        "t": _row(spec.array) if spec.array else None,
        "tc": _at_once(spec.array),
        "h_rt": str(asks.wall_time) if asks.wall_time else None,
        site.memory_complex: f"{-(-asks.memory // slots)}M" if asks.memory else None,
        site.gpu_complex: _gpus(asks.gpus, slots, site) if asks.gpus else None,
    }
    if spec.queue is not None and not re.fullmatch(r"[!-~]+", spec.queue):
        raise _refusal("queue", "no queue of Grid Engine can be called that")
    return {name: value for name, value in options.items() if value is not None}


def _row(array: TaskRange) -> str:
    row = array.row
    if len(row) - len(array.ids) > MOST_PASSED_OVER:
        words = "Grid Engine knows ranges only, and would have to pass over more than"
        raise _refusal("array", f"{words} {MOST_PASSED_OVER} numbers; submit it in several arrays")
    return f"{row[0]}-{row[-1]}:{row.step}"


def _script(spec: JobSpec, directives: Iterable[Directive]) -> str:
    """Tasks of the row that were not asked for end at once, and leave no log."""
    if not spec.array:
        return spec.script
    asked = "|".join(map(str, spec.array.ids))
    only = f'case $SGE_TASK_ID in {asked}) ;; *) rm -f "$SGE_STDOUT_PATH" "$SGE_STDERR_PATH"; exit ;; esac'
    passes_over = len(spec.array.row) > len(spec.array.ids)
    return task_script(spec.script, "SGE_TASK_ID", [only] if passes_over else (), _own_shell(directives))


def _at_once(array: TaskRange | None) -> str | None:
    return str(array.at_once) if array and array.at_once else None


def _own_shell(directives: Iterable[Directive]) -> str | None:
    """What a script says with `#$ -S`; its last word counts."""
    said = [directive.value for directive in directives if directive.option == "S"]
    return said[-1] if said else None


def _gpus(gpus: int, slots: int, site: GridEngineOptions) -> str:
    if not site.gpus_per_slot:
        return str(gpus)
    if gpus % slots:
        raise _refusal("gpus", f"this host counts GPUs per core; {gpus} cannot be shared by {slots} cores")
    return str(gpus // slots)


def _fewest(parallel: str) -> int:
    """Slots of a `-pe smp 2-8`, at least."""
    match = re.search(r"\s(\d{1,6})", parallel)
    return max(int(match[1]), 1) if match else 1


TOP = frozenset({"q", "pe", "p", "h", "t", "tc", "hold_jid"})


def _top(asked: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in asked.items() if name in TOP}


def _resources(asked: Mapping[str, str]) -> list[str]:
    """As `-l`; on the command line they replace the same resources in the script, and leave its others (8.1.9)."""
    pairs = [f"{name}={value}" for name, value in asked.items() if name not in TOP]
    return ["-l", ",".join(pairs)] if pairs else []


def _words(options: Mapping[str, str | None]) -> list[str]:
    words = []
    for name, value in options.items():
        if value is not None:
            words += [f"-{name}", *([] if name in FLAGS else value.split(" ") if name == "pe" else [value])]
    return words


def _logs(spec: JobSpec, said: set[str]) -> dict[str, str]:
    """qsub's -o, -e, -j for what the request says and for what nobody says. A folder stands for the default name in it,
    `<name>.o<id>`; said here, so that a site's sge_request does not."""
    for stream, path in (("stdout", spec.stdout), ("stderr", spec.stderr)):
        if path and re.search(r"[,:\x00-\x1f\x7f]|\$[A-Za-z]|^~", path):
            raise _refusal(stream, "Grid Engine takes no file name with a comma, a colon, a variable or a leading ~")
    folder = spec.working_directory or ""
    if re.search(r"[\x00-\x08\x0a-\x1f]|\$[A-Za-z]", folder):
        raise _refusal("working_directory", "Grid Engine can use no folder with a line break or a variable in its name")
    one = spec.stdout is not None and spec.stdout == spec.stderr and not is_folder(spec.stdout)
    logs = {
        "o": _of_each(spec, spec.stdout) or (None if "o" in said else "."),
        "e": None if one else _of_each(spec, spec.stderr) or (None if "e" in said else "."),
        "j": "y" if one else "n" if spec.stderr or "j" not in said else None,
    }
    return {name: value for name, value in logs.items() if value is not None}


def _of_each(spec: JobSpec, path: str | None) -> str | None:
    if path and is_folder(path):
        return path.rstrip("/") or "/"
    return f"{path}.$TASK_ID" if path and spec.array else path


def _asked_logs(spec: JobSpec) -> dict[str, str]:
    asked = {"o": spec.stdout, "e": spec.stderr}
    return {name: value for name, value in asked.items() if value is not None}


def _environment(wanted: Mapping[str, str]) -> tuple[str | None, Mapping[str, str]]:
    """The value of -v, and the environment to run qsub in. -v splits at commas, but a variable that it names without a
    value is taken from qsub's environment whole, line breaks too (8.1.9)."""
    given, inherited = [], {}
    for name, value in wanted.items():
        if not VARIABLE.match(name):
            raise _refusal("environment", f"{name!r} is not a name of an environment variable")
        if name not in OWN and not name.startswith(OWN_PREFIXES):
            given.append(name)
            inherited[name] = value
        elif re.search(r"[,\n]", value):
            raise _refusal("environment", f"Grid Engine takes no comma or line break in {name}")
        else:
            given.append(f"{name}={value}")
    return ",".join(given) or None, inherited


def interpreter(script: str) -> str | None:
    """The value of -S that honours the script's first line under whatever shell_start_mode the queue has; None where it
    has none, so that the queue's shell runs it."""
    first = script.split("\n", 1)[0]
    if not first.startswith("#!"):
        return None
    match = SHELL.match(first)
    return match[1] if match else ANY_SHEBANG


def object_name(name: str) -> str:
    """The name as Grid Engine can take it (sge_types(1); 8.1.9 also chokes on blanks and on letters beyond ASCII)."""
    safe = re.sub(r"[^A-Za-z0-9_.+=-]", "_", name)[:200]
    return f"_{safe}" if not safe or safe[0].isdigit() or safe.lower() in KEYWORDS else safe


def script_directives(script: str) -> list[Directive]:
    """The `#$` options of a script: qsub's option without dash, or the resource of a `-l`. All lines count, a `#`
    begins a comment, and a quote reaches to the line's end (8.1.9)."""
    found = []
    for line in script.splitlines():
        words = _split(line[2:]) if line.startswith("#$") else []
        while words:
            name, value, words = _option(words)
            found += [Directive(each, said, line.strip()) for each, said in _parts(name, value)]
    return found


def _split(text: str) -> list[str]:
    text = text.split("#", 1)[0]
    plain, quote, rest = re.match(r"([^'\"]*)(['\"]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    return [*plain.split(), *([rest.replace(quote, "").strip()] if quote else [])]


def _option(words: list[str]) -> tuple[str, str, list[str]]:
    """The first option, its value, and the words behind them."""
    name, rest = words[0].lstrip("-"), words[1:]
    count = 0 if name in FLAGS else 2 if name == "pe" else 1
    return name, " ".join(rest[:count]), rest[count:]


def _parts(name: str, value: str) -> Iterable[tuple[str, str]]:
    if name != "l":
        return [(name, value)]
    pairs = (part.partition("=") for part in value.split(","))
    return [(resource, _seconds(said) if resource in LIMITS else said) for resource, _, said in pairs]


def _seconds(clock: str) -> str:
    """`H:M:S` as seconds, so that the same limit in two spellings is no contradiction."""
    parts = clock.split(":")
    if not all(part.isascii() and part.isdigit() for part in parts):
        return clock
    total = 0
    for part in parts:
        total = total * 60 + int(part)
    return str(total)


def _refusal(name: str, words: str) -> RefusedByScheduler:
    return RefusedByScheduler(f"{name}: {words}", errors={name: [words]})


class Programs:
    """Grid Engine's commands as this site has them."""

    def __init__(self, site: GridEngineOptions) -> None:
        self.site = site
        self.patience = f"{site.patience:g}"
        said = {"SGE_ROOT": site.sge_root, "SGE_CELL": site.sge_cell}
        self.environment = {name: value for name, value in said.items() if value is not None}

    def program(self, name: str) -> str:
        return f"{self.site.bin_dir.rstrip('/')}/{name}" if self.site.bin_dir else name

    def submit(self, spec: JobSpec, plan: Plan) -> Command:
        """qsub in the job's folder, the script on its standard input. A qmaster that hangs is given up in time: qsub
        itself would wait for a minute (8.1.9), and then says whether anything was sent."""
        qsub: tuple[str, ...] = ("timeout", self.patience, self.program("qsub"), "-terse", *plan.options)
        if plan.show:
            qsub = ("/bin/sh", "-c", SUBMIT_AND_SHOW, "sh", self.program("qstat"), *qsub)
        return Command(
            in_folder(spec.working_directory, with_log_folders(spec, qsub)),
            stdin=plan.script.encode("utf-8", "surrogateescape"),
            timeout=self.site.patience * 2 + 10,
            environment={**self.environment, **plan.environment},
        )

    def folders(self, paths: Sequence[str]) -> Command:
        """Which of these are folders: Grid Engine then writes `<name>.o<id>` in there."""
        return Command(("/bin/sh", "-c", FOLDERS, "sh", *paths), repeatable=True)

    def queue(self, account: str | None, *, ended: bool = False) -> Command:
        """Every live job of one account or of all; `ended`: those that the qmaster still remembers."""
        return self._query("qstat", "-xml", "-s", "z" if ended else "psr", "-u", account or "*")

    def details(self, native_ids: Iterable[str]) -> Command:
        """Everything about live jobs."""
        return self._query("qstat", "-xml", "-j", ",".join(native_ids))

    def accounting(self, names: Iterable[str]) -> Command:
        """The records of ended jobs, `<id>`, and of ended tasks, `<id>.<task>`."""
        return self._records(BY_ID, "".join(f"{name}\n" for name in names))

    def past(self, uuid: str) -> Command:
        """The records of the job with this account string."""
        return self._records(BY_ACCOUNT_STRING, f"{uuid}\n")

    def _records(self, program: str, stdin: str) -> Command:
        argv = ("/bin/sh", "-c", ACCOUNTING, "sh", program)
        return Command(argv, stdin.encode(), 120.0, True, self._plain)

    def find(self, account: str) -> Command:
        return self._shell(FIND, self.program("qstat"), account, self.patience)

    def abort(self, native_id: str, account_string: str, tasks: Sequence[int] = ()) -> Command:
        """Mark the job's account string, which the accounting keeps, and delete it, or these tasks of it: a job that
        was deleted is recorded just like one that was killed (8.1.9)."""
        uuid, _, before = account_string.partition(ABORTED)
        marked = account_string.endswith(ABORTED) or not tasks
        mark = f"{uuid}{ABORTED}" if marked else "".join([uuid, ABORTED, before, *(f".{task}" for task in tasks)])
        programs = self.program("qalter"), self.program("qdel")
        which = [f"{native_id}.{task}" for task in tasks] or [native_id]
        return self._shell(MARK_AND_DELETE, native_id, self.patience, *programs, mark, *which)

    def control(self, action: str, native_id: str) -> Command:
        if action == "release":  # of a job in error as well
            return self._shell(RELEASE, native_id, self.patience, self.program("qmod"), self.program("qrls"))
        program, *words = {"hold": ["qhold"], "suspend": ["qmod", "-sj"], "continue": ["qmod", "-usj"]}[action]
        return self._query(program, *words, native_id)

    def cluster(self) -> tuple[Command, ...]:
        """Version, queues, their limits, nodes."""
        return (
            self._query("qstat", "-help"),
            self._query("qstat", "-g", "c", "-xml"),
            self._query("qconf", "-sq", "*"),
            self._query("qhost", "-xml"),
        )

    def parallel_environments(self) -> Command:
        return self._query("qconf", "-spl")

    def complexes(self) -> Command:
        return self._query("qconf", "-sc")

    @property
    def _plain(self) -> Mapping[str, str]:
        """Times in UTC, words in English."""
        return {**self.environment, "TZ": "UTC", "LC_ALL": "C"}

    def _query(self, name: str, *words: str) -> Command:
        argv = ("timeout", self.patience, self.program(name), *words)
        return Command(argv, timeout=self.site.patience + 10, repeatable=True, environment=self._plain)

    def _shell(self, script: str, *words: str) -> Command:
        argv = ("/bin/sh", "-c", script, "sh", *words)
        return Command(argv, timeout=self.site.patience * 2 + 10, repeatable=True, environment=self._plain)
