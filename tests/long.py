"""How long tests of random cases run: `FERRULE_LONG=20` makes twenty times as many cases."""

from __future__ import annotations

import os

LONG = int(os.environ.get("FERRULE_LONG", "1"))
