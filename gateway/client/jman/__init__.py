"""The command `jman`, for those who have jobs (gridtk-jman): over the SDK, to a gateway or, with `--local`, to none.

- `cli.py`: the commands; `commandline.py`: how their words are read
- `asked.py`: from a command line to a request for a job
- `here.py`: which jobs are meant: those of this folder, and what they are called
- `shown.py`: what is printed
- `execute.py`: running what was collected, with `--local`
"""

from gateway.client.jman.cli import main

__all__ = ["main"]
