"""What a user's script says about its own job (`#SBATCH -p short`, `#$ -q all.q`), and where it contradicts.

A request wins over the script, and the answer says so: nothing contradicts silently.
"""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Directive:
    """One option in a script: `option` as the scheduler's long name without dashes, its value ("" for a flag), and the
    line as it stands there."""

    option: str
    value: str
    line: str


def directive_lines(script: str, prefix: str, *, only_in_head: bool) -> list[tuple[str, list[str]]]:
    """Each line that begins with `prefix`, and its words as a shell would split them.

    `only_in_head`: lines after the first command do not count (sbatch(1)); otherwise all do (qsub(1)).
    """
    found = []
    for line in script.splitlines():
        if line.startswith(prefix) and line[len(prefix) : len(prefix) + 1] in (" ", "\t"):
            found.append((line.strip(), _words(line[len(prefix) :])))
        elif only_in_head and line.strip() and not line.lstrip().startswith("#"):
            break
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # an open quote: the scheduler will say so better than we could
        return text.split()


def contradictions(directives: Iterable[Directive], requested: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each directive that gives way. `requested` is scheduler option → value, as the request has it."""
    return tuple(
        f"the script's `{directive.line}` gives way to the request, which says {requested[directive.option]!r}"
        for directive in directives
        if directive.option in requested and directive.value != requested[directive.option]
    )
