"""What is known of a kernel before its tiles are made, and does not change while they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ferrule.ir.analysis.contraction import ContractionDims
from ferrule.ir.expr import ONE, ZERO, Buf, loads, product
from ferrule.ir.kernel import Kernel, stages
from ferrule.ir.simplify import coefficient, simplify
from ferrule.ir.system import Stage
from ferrule.schedule.contraction.blocking import Blocking, default_blocking, depthwise_blocking
from ferrule.schedule.contraction.dims import contraction_dims, flattened, oriented
from ferrule.schedule.contraction.dot import in_words
from ferrule.schedule.contraction.packing import rows_apart
from ferrule.schedule.contraction.rows import Tiling, tiling
from ferrule.target.cpu import Target


@dataclass(frozen=True)
class Contraction:
    """A `schedulable` kernel, its buffers that are known before the first run (`constant`), the
    roles of its first stage, the bytes of an element of that one's values and how many of these a
    vector has (`width`), and the sizes of its blocks.
    """

    kernel: Kernel
    target: Target
    constant: frozenset[Buf]
    roles: ContractionDims
    size: int
    width: int
    blocking: Blocking

    @property
    def body(self) -> list[Stage]:
        return list(stages(self.kernel.body))

    @property
    def tiling(self) -> Tiling:
        return tiling(self.roles, self.blocking)

    def fitted(self) -> Contraction:
        """The same with register blocks of no more rows than there are."""
        block, length = self.blocking, self.tiling.length
        most = max(1, length.attr) if length.is_const else block.rows
        return replace(self, blocking=replace(block, rows=min(block.rows, most)))


def contraction_of(
    kernel: Kernel, target: Target, constant: frozenset[Buf], blocking: Blocking | None = None
) -> Contraction:
    """A `schedulable` kernel with what is known of it; with the default blocking where None."""
    kernel = flattened(in_words(kernel, target, constant), constant)
    first = next(stages(kernel.body))
    roles = contraction_dims(kernel, first)
    assert roles is not None
    roles = oriented(kernel, first, roles, constant)
    size = first.compute.values[0].dtype.size
    blocking = blocking or _default(roles, size, target)
    return Contraction(kernel, target, constant, roles, size, target.lanes(size), blocking)


def _default(roles: ContractionDims, size: int, target: Target) -> Blocking:
    n, k = (simplify(product([a.extent for a in axes])) for axes in (roles.n, roles.k))
    if set(roles.n) & roles.left.axes and len(roles.m) > 1:
        along = roles.m[-1]
        steps = (coefficient(i, along) for ld in loads(roles.left) for i in ld.args)
        dense = all(step in (None, ZERO, ONE) for step in steps)
        return depthwise_blocking(n, size, dense, target)
    m = tuple(a.extent for a in roles.m)
    return default_blocking(m, n, k, size, target, rows_apart(roles))
