"""How the rows of a product fall into tiles."""

from __future__ import annotations

import pytest

from ferrule.ir.expr import TRUE, Expr, axis, const, dim, substitute
from ferrule.ir.simplify import simplify
from ferrule.schedule.contraction.rows import Rows, Tiling

T = axis("t", 100)


def rows_at(rows: Rows, number: int) -> list[dict[str, Expr]]:
    """Where the m axes are for each row of the tile with that number."""
    points = [{T: const(number), rows.axis: const(r)} for r in range(rows.axis.extent.value)]
    return [
        {a.name: simplify(substitute(e, p)) for a, e in rows.clamped.items()} for p in points
    ]


def test_rows_that_are_left_are_a_tile_of_as_many_rows() -> None:
    i = axis("i", 10)
    tiles = Tiling((i,), (), 4)
    full, edge = tiles.alternatives(T)
    assert tiles.count is const(3)
    assert (full.axis.extent, edge.axis.extent) == (const(4), const(2))
    assert full.guard is edge.guard is TRUE
    assert rows_at(full, 1) == [{"i": const(r)} for r in (4, 5, 6, 7)]
    assert rows_at(edge, 2) == [{"i": const(r)} for r in (8, 9)]


@pytest.mark.parametrize("straight", [False, True])
def test_rows_run_across_axes_or_end_with_the_innermost(straight: bool) -> None:
    i, j = axis("i", 3), axis("j", 6)
    tiles = Tiling((j,), (i,), 4) if straight else Tiling((i, j), (), 4)
    full, edge = tiles.alternatives(T)
    assert tiles.count is const(6 if straight else 5)
    expected = [(0, 4), (0, 5)] if straight else [(0, 4), (0, 5), (1, 0), (1, 1)]
    shown = rows_at(edge if straight else full, 1)
    assert shown == [{"i": const(a), "j": const(b)} for a, b in expected]


def test_rows_past_a_symbolic_edge_repeat_the_last_and_a_single_row_is_alone() -> None:
    full, edge, alone = Tiling((axis("i", dim("n", 1)),), (), 4).alternatives(T)
    assert [r.axis.extent.value for r in (full, edge, alone)] == [4, 4, 1]
    assert edge.guard is not TRUE
    assert edge.clamped != edge.exact
    full, edge = Tiling((axis("i", dim("n", 2)),), (), 4).alternatives(T)
    assert (full.guard is TRUE, edge.guard is TRUE) == (True, False)
