"""Byte products: products and convolutions of bytes, in the arithmetic that suits a target.

    sum of (x - a) * (w - b)  in i32,  with x and w of u8 or i8

Where the target has dot products of bytes, unsigned by signed ones, zero points are taken out of
the sum:

    D(x - a, w - b) = D(x, v) + c * D(x, 1) - a * D(1, w - b)

with D the product, or the convolution with what lies outside of x left out; v = w and c = -b where
w is signed, v = w - 128 and c = 128 - b where it is unsigned; and x, if it is signed, raised by 128
like its zero point. Terms whose factor is known to be 0 are left out. Both operands are filled with
zeros up to a multiple of four terms. w is the operand that is known before the first run, if one
is. Else the sums are in f32, whose products are faster, where they are known to be exact in it:
from the `bound` that the node tells, or from the number of terms. Else they stay in i32.

What comes out is left as it is by a second run for the same target.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ferrule import ops
from ferrule.base.dtype import f32, i8, i32, u8
from ferrule.ir.analysis.decision import Decision
from ferrule.ir.analysis.size import estimate
from ferrule.ir.graph import Graph, GraphBuilder, Node, Value
from ferrule.target.cpu import Target
from ferrule.transform.byte_forms import Form, form_of
from ferrule.transform.byte_operands import ByteOperand, Makers, byte_operand
from ferrule.transform.rewrite import Rewritten, fresh_stem, with_inputs
from ferrule.transform.split_loops import CONTROL, bodies, captured, carried

_EXACT = 1 << 24  # integers up to it are floats
_MIDDLE = 128  # what signed bytes are raised by to be unsigned
_BYTES = 4  # products of them that are summed at once
_FEW_TERMS = 3  # fewest of a sum that are worth filling up to four
_FEW_COLUMNS = 8  # of a result, which leave most of a vector empty


def byte_products(graph: Graph, target: Target) -> Rewritten:
    """`graph` with its products of bytes as they suit `target`, and how that is."""
    b = GraphBuilder(graph.name, fresh_stem(graph, "q"))
    return _rewritten(graph, b, set(graph.params), target)


def _rewritten(graph: Graph, b: GraphBuilder, known: set[Value], target: Target) -> Rewritten:
    """`graph` built anew by `b`; `known` are those of its values that are so before the first run.
    """
    makers: dict[Value, Node] = {}
    instead: dict[Value, Value] = {}
    decisions: list[Decision] = []
    for n in (with_inputs(n, instead) for n in graph.nodes):
        first, b.location = len(b.nodes), n.location
        if n.op in CONTROL:
            n, decided = _in_body(n, b, known, target)
            decisions += decided
        found = _found(n, makers, known)
        made = None
        if found is not None:
            made, decision = _made(b, found, target)
            decisions.append(decision)
        if made is None:
            b.append(n)
        else:
            _put(b, first, n, instead.get(made, made), instead)
        for new in b.nodes[first:]:
            makers.update((v, new) for v in new.outputs)
            if new.op not in CONTROL and all(v in known for v in new.inputs):
                known.update(new.outputs)
    nodes = tuple(with_inputs(n, instead) for n in b.nodes)
    outputs = tuple(instead.get(v, v) for v in graph.outputs)
    return replace(graph, nodes=nodes, outputs=outputs), tuple(decisions)


def _in_body(
    n: Node, b: GraphBuilder, known: set[Value], target: Target
) -> tuple[Node, tuple[Decision, ...]]:
    """A loop or branching with its bodies rewritten."""
    attrs, decisions = n.attributes, list[Decision]()
    for name, body in bodies(n).items():
        outside = zip(body.inputs[carried(n) :], captured(n), strict=True)
        inside = {own for own, outer in outside if outer in known}
        attrs[name], decided = _rewritten(body, b.inner(body.name), inside, target)
        decisions += decided
    return replace(n, attrs=tuple(attrs.items())), tuple(decisions)


def _put(
    b: GraphBuilder, first: int, n: Node, made: Value, instead: dict[Value, Value]
) -> None:
    """Have `made` stand for the result of `n`, under that name where the last node of those from
    `first` on makes it.
    """
    (result,) = n.outputs
    if len(b.nodes) > first and b.nodes[-1].outputs == (made,):
        b.nodes[-1] = replace(b.nodes[-1], outputs=n.outputs)
        instead[made] = result
    else:
        instead[result] = made


# ---- products ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Product:
    """A node that sums products of bytes, with its operands by their roles. `known`: the bytes of w
    are known before the first run.
    """

    node: Node
    form: Form
    x: ByteOperand
    w: ByteOperand
    known: bool

    @property
    def raised(self) -> int:
        """What is taken from w so that it is signed."""
        return _MIDDLE if self.w.dtype == u8 else 0

    @property
    def filled(self) -> tuple[int, int, int] | None:
        """The axes of x and of w that are to be filled, and by how many zeros: none where some axis
        has fours already. None where none is worth it.
        """
        sizes = [(int(s.value), d, e) for d, e, s in self.form.pairs if s.is_const]
        longest, d, e = max(sizes, default=(0, 0, 0))
        if any(size and size % _BYTES == 0 for size, _, _ in sizes):
            return d, e, 0
        return (d, e, -longest % _BYTES) if longest >= _FEW_TERMS else None

    @property
    def bound(self) -> int | None:
        """What terms of one sum come to at most, where the operands themselves are small."""
        told = self.node.attributes.get("bound")
        if self.x.reach is None or self.w.reach is None:
            return None  # a zero point may be any number: it says nothing of each operand
        found = [] if told is None else [int(told)]
        if self.form.terms.is_const:
            found.append(int(self.form.terms.value) * self.x.reach * self.w.reach)
        return min(found, default=None)


def _found(n: Node, makers: Makers, known: set[Value]) -> _Product | None:
    """`n` as a product of bytes, None where it is none."""
    if n.op not in ("dot_general", "conv") or n.outputs[0].dtype != i32:
        return None
    first, second = (byte_operand(v, makers) for v in n.inputs)
    if first is None or second is None:
        return None
    one, other = (v.source in known for v in (first, second))
    w_first = one if one != other else (first.dtype, second.dtype) == (i8, u8)
    turned = form_of(n, True) if w_first else None
    if turned is not None:
        return _Product(n, turned, second, first, one)
    form = form_of(n, False)
    return None if form is None else _Product(n, form, first, second, other)


def _made(b: GraphBuilder, p: _Product, target: Target) -> tuple[Value | None, Decision]:
    """The sums as they suit `target`, None where they do already, and how that is."""
    name = p.node.outputs[0].name
    obstacle = _obstacle(p, target)
    if not obstacle:
        decision = Decision(name, "graph", "dot products of bytes", "the target has them")
        return _in_words(b, p), decision
    if p.bound is not None and p.bound <= _EXACT:
        why = f"{obstacle}, and sums of at most {p.bound} are exact in f32"
        sums = p.form.sums(b, p.x.centred(b, f32), p.w.centred(b, f32))
        return ops.cast(b, sums, i32), Decision(name, "graph", "sums in f32", why)
    why = "they may be any" if p.bound is None else f"they may come to {p.bound}"
    return None, Decision(name, "graph", "sums in i32", f"{obstacle}, and {why}, beyond f32")


def _obstacle(p: _Product, target: Target) -> str:
    """What keeps a product from dot products of bytes: words, or nothing."""
    if not target.has_dot4:
        return "the target has no dot products of bytes"
    if not p.form.separates(p.x.zero_shape, p.w.zero_shape):
        return "zero points, or groups, can't be taken out of the sums"
    if p.form.columns.is_const and p.form.columns.value < _FEW_COLUMNS:
        return "few columns leave most of a vector empty"
    if not any(s.is_const for *_, s in p.form.pairs):
        return "how many terms there are is not known"
    if p.filled is None:
        return "few terms leave most of a word empty"
    if not p.known and estimate(p.form.rows) < target.machine.products.few_rows:
        return "few rows are not worth a copy of what is not known before the first run"
    return ""


# ---- sums of bytes -------------------------------------------------------------------------------


def _in_words(b: GraphBuilder, p: _Product) -> Value | None:
    """The sum with zero points taken out of it; None where it is one of plain bytes already."""
    assert p.filled is not None
    plain = (p.x.dtype, p.w.dtype, p.x.number, p.w.number) == (u8, i8, 0, 0)
    x_axis, w_axis, rest = p.filled
    if plain and not rest:
        return None
    x, x_zero = p.x.taken(b)
    w, w_zero = p.w.taken(b)
    raise_by = 0 if p.x.dtype == u8 else _MIDDLE
    if raise_by:
        x = ops.cast(b, ops.add(b, ops.cast(b, x, i32), raise_by), u8)
        x_zero = _sum(b, x_zero, raise_by)
    signed = w
    if p.raised:
        signed = ops.cast(b, ops.sub(b, ops.cast(b, w, i32), p.raised), i8)
    total = p.form.sums(
        b,
        ops.cast(b, _grown(b, x, x_axis, rest), i32),
        ops.cast(b, _grown(b, signed, w_axis, rest), i32),
    )
    if p.w.number != p.raised:
        shift = ops.full(b, (), p.raised, i32)
        if w_zero is not None:
            shift = ops.sub(b, shift, p.form.w_placed(b, w_zero))
        sums = p.form.x_sums(b, ops.cast(b, x, i32))
        total = ops.add(b, total, ops.mul(b, sums, shift))
    if x_zero is None or p.x.number == -raise_by:
        return total
    sums = p.form.w_sums(b, p.w.centred(b, i32))
    return ops.sub(b, total, ops.mul(b, sums, p.form.x_placed(b, x_zero)))


def _sum(b: GraphBuilder, zero: Value | None, number: int) -> Value:
    return ops.full(b, (), number, i32) if zero is None else ops.add(b, zero, number)


def _grown(b: GraphBuilder, x: Value, axis: int, rest: int) -> Value:
    """x with `rest` zeros behind the end of an axis."""
    high = [rest if d == axis else 0 for d in range(x.rank)]
    return ops.pad(b, x, (0,) * x.rank, high) if rest else x
