"""The benchmark of a profile's cost measures what it says."""

from __future__ import annotations

import ferrule
from benchmarks import profile_cost
from ferrule.base import config


def test_each_round_has_every_way() -> None:
    with config.override(num_threads=1, cache=False):
        found = profile_cost.rounds(2, 3, 32)
    assert all(set(row) == set(profile_cost.WAYS) for row in found)
    assert all(seconds > 0 for row in found for seconds in row.values())


def test_a_program_without_the_hook_tells_nothing() -> None:
    with config.override(num_threads=1, cache=False):
        plain, bare, _ = profile_cost.programs(32)
        with ferrule.profile() as p:
            bare()
            plain()
    assert {k.calls for k in p.kernels} == {1}
    assert p.report.calls == 2
