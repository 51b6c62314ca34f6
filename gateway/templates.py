"""Job templates: a script with parameters, made once and run often.

A parameter's value never becomes code. It reaches the script in the environment, as JOBGATE_PARAM_<name>, and
`{{ name }}` in a shell script stands for `${JOBGATE_PARAM_name}`, which a shell expands without reading it again.
"""

import fnmatch
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.errors import Conflict, Forbidden, NotFound, TooLarge, Unprocessable
from gateway.hosts import Host
from gateway.model import Principal, TaskRange
from gateway.request import JobRequest, account_of
from gateway.service import JobService
from gateway.store.templates import TemplateStore
from gateway.workspace_variables import WORKSPACE, expand

PLACE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
SHELLS = re.compile(r"#!\s*\S*?\b(?:sh|bash|dash|ksh|zsh)\b|#!\s*\S*/env\s+(?:-\S+\s+)*(?:sh|bash|dash|ksh|zsh)\b")
DIRECTIVE = re.compile(r"#(?:SBATCH|\$|PBS|BSUB)\s")
LONGEST_VALUE = 100_000  # bytes; Linux takes no more than 128 KiB in one variable (MAX_ARG_STRLEN)
LARGEST_SCRIPT = 4 << 20  # of a run over files; what Slurm takes by default (slurm.conf(5), max_script_size)
TYPES = ("string", "integer", "number", "boolean", "path")


@dataclass(frozen=True, slots=True)
class Template:
    """A template that somebody may use. `body` is as it was sent; `owner` is None for one that a plugin brings."""

    body: Mapping[str, Any]
    owner: str | None

    @property
    def name(self) -> str:
        return str(self.body["name"])


class Templates:
    """One's own templates, those that administrators share, and those of plugins; of one name the first counts."""

    def __init__(self, store: TemplateStore, jobs: JobService, brought: Iterable[Mapping[str, Any]]) -> None:
        self.store = store
        self.jobs = jobs
        self.brought = [Template(body, None) for body in brought]

    def visible(self, principal: Principal) -> list[Template]:
        """What the caller may use, by name."""
        found: dict[str, Template] = {}
        stored = (Template(body, owner) for owner, body in self.store.visible(principal.subject))
        for template in (*stored, *self.brought):
            found.setdefault(template.name, template)
        return [found[name] for name in sorted(found)]

    def get(self, principal: Principal, name: str) -> Template:
        """Raises NotFound."""
        for template in self.visible(principal):
            if template.name == name:
                return template
        raise NotFound(f"there is no template {name!r}; GET /api/templates lists those that you can use")

    def get_wanted(self, principal: Principal, name: str) -> Template:
        """As `get`, where the name is a field of a request. Raises Unprocessable."""
        try:
            return self.get(principal, name)
        except NotFound as problem:
            raise Unprocessable(
                problem.message, errors={"template": [problem.message]}, code="unknown_template"
            ) from None

    def add(self, principal: Principal, body: Mapping[str, Any]) -> Template:
        """Raises Conflict where the caller has one of that name."""
        self._may_share(principal, body)
        if not self.store.add(principal.subject, body):
            raise Conflict(f"you have a template {body['name']!r} already; PUT replaces it")
        return Template(body, principal.subject)

    def replace(self, principal: Principal, body: Mapping[str, Any]) -> Template:
        """Raises NotFound where the caller has none of that name."""
        self._may_share(principal, body)
        if not self.store.replace(principal.subject, body):
            raise NotFound(f"you have no template {body['name']!r}; POST /api/templates makes one")
        return Template(body, principal.subject)

    def delete(self, principal: Principal, name: str) -> None:
        """Raises NotFound where it is not one of the caller's own."""
        if not self.store.delete(principal.subject, name):
            raise NotFound(f"you have no template {name!r}")

    @staticmethod
    def _may_share(principal: Principal, body: Mapping[str, Any]) -> None:
        if body.get("shared") and not principal.admin:
            raise Forbidden("only an administrator may share a template")

    def requests(
        self, principal: Principal, template: Template, fields: Mapping[str, Any], asked: JobRequest
    ) -> tuple[list[JobRequest], int | None]:
        """What a request that names a template asks for in full, and over how many files it runs (None: not over
        files). `fields` are the template's own, checked; what the request says itself, `asked`, wins. It is one
        request, but for a run over files on a host without arrays: there it is one per file."""
        wishes = {**asked.fields}
        values = wishes.pop("parameters", None) or {}
        files = wishes.pop("files", None) or fields.get("files")
        host = self.jobs.hosts.named(asked.host or fields.get("host") or self.jobs.hosts.default.name)
        account = account_of(principal, wishes.get("account") or fields.get("account"))
        given = parameters(fields.get("parameters") or {}, values)
        own = {name: value for name, value in fields.items() if name not in NOT_OF_A_JOB}
        merged = {"name": template.name, **own, **wishes}
        merged["environment"] = {**own.get("environment", {}), **wishes.get("environment", {}), **variables(given)}
        merged = self._workspaces(host, account, merged)
        request = replace(
            asked, host=host.name, script=rendered(fields["script"]), fields=merged, template=template.name
        )
        if not files:
            return [request], None
        found = self._files(host, account, merged.get("working_directory"), **files)
        if "array" in host.backend.capabilities.fields:
            return [_as_array(request, found)], len(found)
        return [_of_file(request, number, file) for number, file in enumerate(found, 1)], len(found)

    def _workspaces(self, host: Host, account: str, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields with $(APP_WORKSPACE) and $(USER_WORKSPACE) as absolute folders on the host, however deep."""
        if not WORKSPACE.search(repr(fields)):
            return fields
        expanded: dict[str, Any] = expand(fields, folders(host, account))
        return expanded

    def _files(self, host: Host, account: str, folder: str | None, path: str, pattern: str | None = None) -> list[str]:
        root = path if path.startswith("/") else f"{folder or host.transport.home(account)}/{path}"
        most = self.jobs.config.limits.tasks
        names = [entry.path for entry in host.transport.list_files(root, account, 10 * most)]
        wanted = [name for name in names if pattern is None or _matches(name, pattern)]
        if not wanted:
            words = f"there is no file in {root}" + (f" that matches {pattern!r}" if pattern else "")
            raise Unprocessable(words, errors={"files": [words]})
        if len(wanted) > most:
            raise TooLarge(f"{root} has more than {most} files; run over a smaller subtree or with a pattern")
        if any("\n" in name for name in wanted):
            raise Unprocessable(
                "a file's name has a line break in it", errors={"files": ["have a line break in a name"]}
            )
        return [f"{root.rstrip('/')}/{name}" for name in wanted]


def _as_array(request: JobRequest, files: Sequence[str]) -> JobRequest:
    """The same once per file: an array whose tasks find their file in JOBGATE_FILE."""
    if "array" in request.fields:
        words = "cannot be an array as well: it has a task per file"
        raise Unprocessable(f"a run over files {words}", errors={"array": [words]})
    script = over_files(request.script, files)
    if len(script.encode()) > LARGEST_SCRIPT:
        raise TooLarge(f"the names of {len(files)} files are too much for a script; run over a smaller subtree")
    tasks = TaskRange(tuple(range(1, len(files) + 1)))
    return replace(request, script=script, fields={**request.fields, "array": str(tasks)}, generated=True)


def _of_file(request: JobRequest, number: int, file: str) -> JobRequest:
    environment = {**request.fields["environment"], "JOBGATE_FILE": file}
    key = request.key and (f"{request.key[0]}#{number}", request.key[1])
    return replace(request, fields={**request.fields, "environment": environment}, key=key)


NOT_OF_A_JOB = ("name", "host", "script", "parameters", "shared", "files", "description")


def _matches(path: str, pattern: str) -> bool:
    """A pattern without a slash is for the file's name, wherever it lies."""
    return fnmatch.fnmatchcase(path if "/" in pattern else path.rpartition("/")[2], pattern)


def check_script(script: str, declared: Iterable[str]) -> None:
    """Refuse `{{ name }}` where it would not work. Raises Unprocessable."""
    used = set(PLACE.findall(script))
    known = sorted(declared)
    if unknown := sorted(used - set(known)):
        _refuse(f"uses {', '.join(unknown)}, which is no parameter; parameters are: {', '.join(known) or 'none'}")
    if used and not SHELLS.match(script):
        _refuse("is no shell script, where {{ }} does not work; read JOBGATE_PARAM_<name> from the environment")
    for line in script.splitlines():
        if DIRECTIVE.match(line) and PLACE.search(line):
            _refuse(f"has a parameter in `{line}`, which no shell reads; use the job's own fields")


def _refuse(words: str) -> None:
    raise Unprocessable(f"script {words}", errors={"script": [words]})


def rendered(script: str) -> str:
    return PLACE.sub(r"${JOBGATE_PARAM_\1}", script)


def parameters(declared: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each parameter that has one. Raises Unprocessable, naming all that are wrong."""
    wrong = {
        f"parameters.{name}": [f"there is no such parameter; there are: {', '.join(declared) or 'none'}"]
        for name in given
        if name not in declared
    }
    values: dict[str, Any] = {}
    for name, about in declared.items():
        value = given.get(name)
        value = about.get("default") if value is None else value
        if value is None:
            if about.get("required"):
                wrong[f"parameters.{name}"] = ["is required"]
        elif words := mistake(about, value):
            wrong[f"parameters.{name}"] = [words]
        else:
            values[name] = value
    if wrong:
        raise Unprocessable("; ".join(f"{field}: {words[0]}" for field, words in wrong.items()), errors=wrong)
    return values


def mistake(about: Mapping[str, Any], value: Any) -> str | None:
    """What is wrong with a parameter's value, in words."""
    kind = about.get("type", "string")
    if not _is(kind, value):
        return f"must be {'an' if kind == 'integer' else 'a'} {kind}"
    if isinstance(value, str):
        if "\0" in value:
            return "must not contain a NUL character"
        if len(value.encode()) > LONGEST_VALUE:
            return f"is longer than {LONGEST_VALUE} bytes; put what is long into a file on the host"
        if kind == "path" and (not value or value.startswith("-")):
            return "must be a path; one that begins with '-' is written './-...'"
    if about.get("choices") and value not in about["choices"]:
        return f"must be one of: {', '.join(map(str, about['choices']))}"
    return None


def _is(kind: str, value: Any) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    kinds: tuple[type, ...] = {"integer": (int,), "number": (int, float)}.get(kind, (str,))
    return isinstance(value, kinds)


def variables(values: Mapping[str, Any]) -> dict[str, str]:
    """The environment in which a script finds its parameters."""
    return {f"JOBGATE_PARAM_{name}": _text(value) for name, value in values.items()}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def folders(host: Host, account: str) -> dict[str, str]:
    """What $(APP_WORKSPACE) and $(USER_WORKSPACE) stand for: a folder of the site's own for all jobs there, and one of
    the account's own."""
    home = host.transport.home(account)
    app = host.config.section.app_workspace or "~/.jobgate/app"
    return {
        "USER_WORKSPACE": f"{home}/.jobgate/user",
        "APP_WORKSPACE": app.replace("~", home, 1) if app.startswith("~/") else app,
    }


def over_files(script: str, files: Sequence[str]) -> str:
    """A script that does the same for one of the files, by the number of the task. The names, and the script, lie in
    here-documents that no shell reads."""
    end = f"JOBGATE_{uuid.uuid4().hex}"
    directives = [line for line in script.splitlines() if DIRECTIVE.match(line)]
    body = script if script.endswith("\n") else f"{script}\n"
    return "\n".join(
        [
            "#!/bin/sh",
            *directives,
            "# A run over files: this task's file is in JOBGATE_FILE, the script follows below.",
            f"JOBGATE_FILE=$(sed -n \"${{JOBGATE_TASK_ID}}p\" <<'{end}'",
            *files,
            end,
            ")",
            "export JOBGATE_FILE",
            'script=$(mktemp "${TMPDIR:-/tmp}/jobgate.XXXXXX") || exit 1',
            """trap 'rm -f "$script"' EXIT""",
            f"cat > \"$script\" <<'{end}'",
            f"{body}{end}",
            'chmod 700 "$script"',
            '"$script"',
            "",
        ]
    )
