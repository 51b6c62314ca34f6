"""What runs as a task of an array, under a scheduler that tells a task its number in a variable of its own only."""

import shlex
from collections.abc import Iterable

# The task's script lies behind the wrapper, in the same file. It is written out, opened and removed before it runs, so
# that nothing is left behind whatever ends it; the kernel finds it by its descriptor, and honours its first line. A
# folder that is mounted `noexec` fails the test for x.
WRAPPER = """\
#!/bin/sh
{above}JOBGATE_TASK_ID=${variable} SGE_TASK_ID=${variable}
export JOBGATE_TASK_ID SGE_TASK_ID
for jobgate_folder in "${{TMPDIR:-/tmp}}" "$HOME" .; do
    jobgate_file=$(mktemp "$jobgate_folder/jobgate.XXXXXX") && chmod 700 "$jobgate_file" &&
        [ -x "$jobgate_file" ] && break
    rm -f "$jobgate_file"
done
tail -n +{line} "$0" >"$jobgate_file" && exec 9<"$jobgate_file" && rm -f "$jobgate_file" || exit 126
unset jobgate_folder jobgate_file
exec {interpreter}/proc/self/fd/9
"""


def task_script(script: str, variable: str, above: Iterable[str] = (), interpreter: str | None = None) -> str:
    """The script, wrapped so that `JOBGATE_TASK_ID` and `SGE_TASK_ID` have the value of the scheduler's own variable.
    The lines `above` come before it, such as those that the scheduler is to read; `interpreter` runs it, by default the
    one of its first line."""
    said = "".join(f"{line}\n" for line in above)
    runs = f"{shlex.quote(interpreter)} " if interpreter else ""
    begin = WRAPPER.count("\n") + said.count("\n") + 1
    return WRAPPER.format(above=said, variable=variable, line=begin, interpreter=runs) + script
