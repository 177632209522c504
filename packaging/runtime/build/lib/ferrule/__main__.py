"""`python -m ferrule`: the command line, whose commands are in `ferrule.cli`."""

from __future__ import annotations

import sys

from ferrule.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
