"""Convolution phases: a strided transposed convolution as plain ones, by the phase of the result.

    y[p] = sum over k of x[(p + low - k) / s] * w[k]      where s divides p + low - k

For p = s * t + r only every s-th k counts, from (r + low) mod s on. So the results of one phase r
are a plain convolution of x by these elements of w, turned round, and y is the phases in turn. No
term is left out under a condition then: of a stride of 2 in two dims, three quarters were. Phases
that read the same places of x are one convolution, with an output channel for each of both.
Gradients of strided convolutions are transposed convolutions, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from ferrule import ops
from ferrule.ir.analysis.decision import Decision
from ferrule.ir.expr import ONE, Expr
from ferrule.ir.graph import Attrs, Graph, GraphBuilder, Node, Value
from ferrule.ir.simplify import equal, simplify
from ferrule.transform.rewrite import Rewritten, fresh_stem, in_bodies, with_inputs


@dataclass(frozen=True)
class _Phase:
    """Along one spatial dim: `taps` elements of w, from `first` on in steps of the stride; the last
    of them meets x[t - low] for result t of the phase.
    """

    first: int
    taps: int
    low: int


def convolution_phases(graph: Graph) -> Rewritten:
    """`graph` with its strided transposed convolutions by phases, and which these are."""
    return _rewritten(graph, fresh_stem(graph, "ph"))


def _rewritten(graph: Graph, stem: str) -> Rewritten:
    graph, decisions = in_bodies(graph, lambda body: _rewritten(body, f"{stem}{body.name}_"))
    b, instead = GraphBuilder(graph.name, stem), dict[Value, Value]()
    told = list(decisions)
    for n in (with_inputs(n, instead) for n in graph.nodes):
        b.location = n.location
        phases = _phases(n)
        if phases is None:
            b.append(n)
            continue
        made = _by_phases(b, n, phases)
        instead[n.outputs[0]] = made
        count = prod(len(p) for p in phases)
        why = f"of {count} terms one is left under the stride"
        told.append(Decision(n.outputs[0].name, "graph", f"in {count} phases", why))
    nodes = tuple(with_inputs(n, instead) for n in b.nodes)
    outputs = tuple(instead.get(v, v) for v in graph.outputs)
    return replace(graph, nodes=nodes, outputs=outputs), tuple(told)


def _phases(n: Node) -> list[list[_Phase]] | None:
    """The phases along each spatial dim; None where `n` is left as it is: it is no strided
    transposed convolution, or one with holes in its window or sizes that only a call tells.
    """
    attrs = n.attributes
    if n.op != "conv" or not attrs["transposed"] or set(attrs["stride"]) == {1}:
        return None
    kernel = n.inputs[1].shape[2:]
    known = all(k.is_const for k in (*kernel, *(low for low, _ in attrs["padding"])))
    if not known or set(attrs["dilation"]) != {1}:
        return None
    return [
        [_phase(r, int(k.value), stride, int(low.value)) for r in range(stride)]
        for k, stride, (low, _) in zip(kernel, attrs["stride"], attrs["padding"], strict=True)
    ]


def _phase(r: int, kernel: int, stride: int, low: int) -> _Phase:
    first = (r + low) % stride
    taps = max(0, -(-(kernel - first) // stride))
    return _Phase(first, taps, taps - 1 - (r + low - first) // stride)


def _by_phases(b: GraphBuilder, n: Node, phases: list[list[_Phase]]) -> Value:
    x, w = n.inputs
    attrs, (y,) = n.attributes, n.outputs
    strides, groups = attrs["stride"], attrs["groups"]
    sizes = [simplify((p + (s - 1)) // s) for p, s in zip(y.shape[2:], strides, strict=True)]
    every = list(product(*(range(s) for s in strides)))
    alike: dict[object, list[tuple[int, ...]]] = {}  # phases that are one convolution
    for at in every:
        window = tuple((phases[d][r].taps, phases[d][r].low) for d, r in enumerate(at))
        alike.setdefault((at if groups > 1 else (), window), []).append(at)
    found: dict[tuple[int, ...], Value] = {}
    for places in alike.values():
        several = [[phases[d][r] for d, r in enumerate(at)] for at in places]
        if any(p.taps == 0 for p in several[0]):
            zeros = ops.full(b, (*y.shape[:2], *sizes), 0, y.dtype)
            found |= dict.fromkeys(places, zeros)
            continue
        weights = ops.concat(b, [_weights(b, w, each, strides, groups) for each in several], 0)
        made = b.emit("conv", x, weights, **_plain(attrs, x, several[0], sizes))
        channels = y.shape[1]
        for k, at in enumerate(places):
            part = made
            if len(places) > 1:
                begin, end = simplify(channels * k), simplify(channels * (k + 1))
                part = _slice(b, made, 1, begin, end)
            found[at] = part
    return _in_turn(b, found, y, strides)


def _weights(
    b: GraphBuilder, w: Value, phases: Sequence[_Phase], strides: Sequence[int], groups: int
) -> Value:
    """The elements of w that count in these phases, as a plain convolution takes them."""
    firsts = [p.first for p in phases]
    stops = [p.first + (p.taps - 1) * s + 1 for p, s in zip(phases, strides, strict=True)]
    part = ops.slice(b, w, (0, 0, *firsts), (*w.shape[:2], *stops), (1, 1, *strides))
    spatial = range(2, w.rank)
    part = ops.reverse(b, part, spatial)
    into, out = simplify(w.shape[0] // groups), w.shape[1]
    window = part.shape[2:]
    part = ops.reshape(b, part, (groups, into, out, *window))
    part = ops.transpose(b, part, (0, 2, 1, *(d + 1 for d in spatial)))
    return ops.reshape(b, part, (simplify(out * groups), into, *window))


def _plain(attrs: Attrs, x: Value, phases: Sequence[_Phase], sizes: Sequence[Expr]) -> Attrs:
    """What a plain convolution of `x` has that gives `sizes` results for these phases."""
    pairs = []
    for p, size, n in zip(phases, sizes, x.shape[2:], strict=True):
        pairs.append((ONE * p.low, simplify(size - n - p.low + p.taps - 1)))
    ones, none = (1,) * len(phases), (0,) * len(phases)
    changed = {"stride": ones, "padding": tuple(pairs), "transposed": False}
    return {**attrs, **changed, "output_padding": none}


def _in_turn(
    b: GraphBuilder, found: dict[tuple[int, ...], Value], y: Value, strides: Sequence[int]
) -> Value:
    """The phases' results, one after another along each spatial dim, from the last on."""
    for d in reversed(range(len(strides))):
        size, stride = y.shape[d + 2], strides[d]
        joined: dict[tuple[int, ...], Value] = {}
        for at in product(*(range(s) for s in strides[:d])):
            parts = [found[at + (r,)] for r in range(stride)]
            whole = parts[0]
            if stride > 1:
                one = ops.stack(b, parts, d + 3)
                shape = list(one.shape)
                shape[d + 2 : d + 4] = [simplify(one.shape[d + 2] * stride)]
                whole = ops.reshape(b, one, shape)
            joined[at] = _slice(b, whole, d + 2, 0, size)
        found = joined
    return found[()]


def _slice(b: GraphBuilder, x: Value, d: int, start: Expr | int, stop: Expr) -> Value:
    if start == 0 and equal(x.shape[d], stop):
        return x
    starts: list[Expr | int] = [0] * x.rank
    stops = list(x.shape)
    starts[d], stops[d] = start, stop
    return ops.slice(b, x, starts, stops)
