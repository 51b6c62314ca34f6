"""How the words of a command line are read: aliases, options that take several values, expressions for ids."""

import re
from collections.abc import Sequence
from typing import Any

import click

IDS = re.compile(r"(\d{1,18})(?:([-+])(\d{1,18}))?\Z", re.ASCII)
ONE_JOB = re.compile(r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){0,3}(?:-[0-9a-f]{1,12})?|\d+(?:\.\d+)?\.[A-Za-z0-9][\w.-]*)\Z")
PAIR = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
MOST_IDS = 1_000_000


class JobIds(click.ParamType):
    """`7`, `1-4`, `10+2` (10 and the two behind it), `1,2`, a job_id `761.hpc.example.org`, a uuid or its beginning."""

    name = "id"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[str]:
        found: list[str] = []
        for piece in re.split(r"[,\s]+", value.strip()):
            found += self._ids(piece, param, ctx)
        return found

    def _ids(self, piece: str, param: Any, ctx: Any) -> list[str]:
        if ONE_JOB.match(piece) and not piece.isdigit():
            return [piece]
        if not (read := IDS.match(piece)):
            self.fail(f"{piece!r} is no job's id; write 7, 1-4, 10+2, 761.hpc.example.org, or a uuid", param, ctx)
        first = int(read[1])
        last = first if read[2] is None else int(read[3]) + (first if read[2] == "+" else 0)
        if not first <= last < first + MOST_IDS:
            self.fail(f"{piece!r} goes downwards, or too far", param, ctx)
        return [str(number) for number in range(first, last + 1)]


class Several(click.Option):
    """An option that takes all words behind it that look like its values: `-x 1 2 3`, `-s A=1 B=2`. Its first value may
    look as it likes."""

    def __init__(self, *args: Any, like: str = "ids", **more: Any) -> None:
        super().__init__(*args, **{**more, "multiple": True})
        self.like = like

    def takes(self, word: str) -> bool:
        if self.like == "ids":
            return all(IDS.match(piece) or ONE_JOB.match(piece) for piece in word.split(","))
        return bool(PAIR.match(word)) if self.like == "pairs" else not word.startswith("-")


class Command(click.Command):
    """A command whose options may take several values, as those of `Several`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._spelt_out(list(args)))

    def _spelt_out(self, args: list[str]) -> list[str]:
        """`-x 1 2` as `-x 1 -x 2`."""
        flags = {name: option for option in self.params if isinstance(option, click.Option) for name in option.opts}
        out: list[str] = []
        while args:
            word = args.pop(0)
            option = flags.get(word)
            if word == "--" or (option is None and not word.startswith("-") and not self.allow_interspersed_args):
                return [*out, word, *args]
            out.append(word)
            if option is None or option.is_flag or not args:
                continue
            out.append(args.pop(0))
            while isinstance(option, Several) and args and option.takes(args[0]):
                out += [word, args.pop(0)]
        return out


class Group(click.Group):
    """Commands with other names as well."""

    aliases: dict[str, Sequence[str]] = {}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for name, others in self.aliases.items():
            if cmd_name in others:
                return super().get_command(ctx, name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        _, command, rest = super().resolve_command(ctx, args)
        return command.name if command else None, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            others = self.aliases.get(name)
            assert command
            rows.append((f"{name} ({', '.join(others)})" if others else name, command.get_short_help_str(90)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)
