"""`make bench`: how fast the gateway is, and how much memory it takes. See measure.py for what is measured."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from tests.bench.measure import main

    main()
