"""Every test starts from no captured graphs, no counts and no warnings told, and under no_grad."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    from ferrule.base import log
    from ferrule.runtime.counters import reset_counters

    torch._dynamo.reset()
    torch.manual_seed(0)
    reset_counters()
    log._warned.clear()
    with torch.no_grad():
        yield
