"""Layouts: what is copied to another order, and what is not since it lies that way already."""

from __future__ import annotations

import pytest

from ferrule import ops
from ferrule.base.dtype import f32
from ferrule.ir.graph import Graph, GraphBuilder, tensor
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from ferrule.target.cpu import named

CHANNELS = 32


def kernels(graph: Graph) -> list[str]:
    """The names of the kernels that each call runs."""
    return [k.name for k in lowered(graph, "kernels", options_for(named("avx2"))).kernels]


def convolution(last: bool, groups: int) -> Graph:
    """A 3 x 3 convolution of an image whose channels lie innermost, or outermost."""
    b = GraphBuilder("convolution")
    size = (1, 28, 28, CHANNELS) if last else (1, CHANNELS, 28, 28)
    x = b.input(tensor(size, f32))
    w = b.param(tensor((CHANNELS, CHANNELS // groups, 3, 3), f32))
    image = ops.transpose(b, x, (0, 3, 1, 2)) if last else x
    y = ops.conv(b, image, w, padding=1, groups=groups)
    return b.build([ops.transpose(b, y, (0, 2, 3, 1)) if last else y])


@pytest.mark.parametrize("groups", [1, CHANNELS])
def test_channels_that_lie_innermost_are_read_where_they_lie(groups: int) -> None:
    assert len(kernels(convolution(True, groups))) == 1


@pytest.mark.parametrize("groups", [1, CHANNELS])
def test_channels_that_lie_outermost_are_copied_in_and_out(groups: int) -> None:
    assert len(kernels(convolution(False, groups))) == 3


@pytest.mark.parametrize(("channels", "results", "order"), [
    (8, 1, (0, 1, 2, 3)), (8, 16, (0, 2, 3, 1)), (32, 1, (0, 2, 3, 1)),
])  # fmt: skip
def test_what_is_read_along_rows_stays_row_major(
    channels: int, results: int, order: tuple[int, ...]
) -> None:
    """Between two convolutions: neither channels nor results fill a vector."""
    b = GraphBuilder("convolutions")
    x = b.input(tensor((1, 8, 40, 40), f32))
    first, second = (
        b.param(tensor(s, f32)) for s in ((channels, 8, 3, 3), (results, channels, 5, 5))
    )
    y = ops.relu(b, ops.conv(b, x, first, padding=1))
    graph = b.build([ops.sigmoid(b, ops.conv(b, y, second, padding=2))])
    level = lowered(graph, "kernels", options_for(named("avx512")))
    made = {buf for k in level.kernels for buf in k.written} - set(level.interface.outputs)
    assert {b.order for b in made if b.shape[1].attr == channels} == {order}
