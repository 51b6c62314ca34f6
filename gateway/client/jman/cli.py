"""The command `jman`: its options, and all its commands."""

import logging
from pathlib import Path

import click

from gateway.client.jman import execute, look, steer, submit
from gateway.client.jman.session import Commands, Session

DATABASE = "submitted.sql3"
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
SHELLS = {"bash": "bash_source", "zsh": "zsh_source", "fish": "fish_source"}


@click.group(cls=Commands, context_settings=SETTINGS)
@click.option("-l", "--local", is_flag=True, help="Without a gateway: collect jobs here, and run them with `execute`.")
@click.option(
    *("-d", "--database"),
    type=click.Path(path_type=Path, dir_okay=False),
    default=DATABASE,
    show_default=True,
    help="The file of this folder's jobs.",
)
@click.option("-H", "--host", help="The host that jobs are for.  [default: JOBGATE_HOST, else the gateway's]")
@click.option("--url", help="The gateway.  [default: JOBGATE_URL, else url in ~/.config/jobgate.toml]")
@click.option("-v", "--verbose", is_flag=True, help="Say what is asked of the gateway.")
@click.version_option(None, "-V", "--version", package_name="jobgate", prog_name="jman")
@click.pass_context
def jman(ctx: click.Context, local: bool, database: Path, host: str | None, url: str | None, verbose: bool) -> None:
    """Submit jobs, and look after them."""
    if verbose:
        logging.basicConfig(format="%(message)s", level=logging.INFO)  # never more: headers hold keys
    ctx.obj = Session(local, database, host, url)


@click.command()
@click.argument("shell", type=click.Choice([*SHELLS]))
def completion(shell: str) -> None:
    """Print what makes a shell complete jman's words: eval "$(jman completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind
    click.echo(kind(jman, {}, "jman", "_JMAN_COMPLETE").source())


for command in (
    *(submit.submit, look.list_jobs, look.report, steer.resubmit, steer.stop, steer.delete, look.wait, look.logs),
    *(look.hosts, execute.execute, completion),
):
    jman.add_command(command)


def main() -> None:
    """Entry point."""
    jman(prog_name="jman")
