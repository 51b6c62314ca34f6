"""The program `python -I -S supervisor.py <spool folder>`: see scheduler/supervisor.py, where it is written."""

import importlib
import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    importlib.import_module("scheduler.supervisor").main(sys.argv[1])
