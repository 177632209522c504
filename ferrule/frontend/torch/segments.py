"""Segments: an FX graph cut into what ferrule runs and what PyTorch runs.

Each node belongs to a segment, the least level that comes after its operands' and has its own
side's parity: even levels are ferrule's, odd ones PyTorch's. So there are as few crossings as the
graph's dependences allow, and a graph that is covered whole is one segment. Arithmetic on sizes
belongs to neither side: it is done anew where it is needed. So are results that are views of an
argument or of another result: they have to share its memory, as in eager.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

from ferrule.frontend.torch.convert import CLAIMS, is_size, why_not


@dataclass
class Segment:
    """Nodes of one side in order, what they take from elsewhere, and which of their values are used
    elsewhere.
    """

    ours: bool
    nodes: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)


def segments(
    graph: Any, refused: dict[Any, str] | None = None
) -> tuple[list[Segment], dict[str, str]]:
    """The segments of an FX graph in running order, and each operator that PyTorch runs with the
    reason.

    `refused` are nodes that ferrule could not compile, with the cause.
    """
    refused = refused or {}
    level: dict[Any, int] = {}
    reasons: dict[str, str] = {}
    compute = [
        n
        for n in graph.nodes
        if n.op == "call_function" and not is_size(n) and str(n.target) not in CLAIMS
    ]
    for n in compute:
        if n.target is operator.getitem:
            level[n] = level[n.args[0]]
            continue
        why = refused.get(n) or why_not(n)
        if why is not None:
            reasons.setdefault(operator_name(n), why)
        parity = 0 if why is None else 1
        before = [level[a] for a in _operands(n) if a in level]
        at = max(before, default=parity)
        level[n] = at if at % 2 == parity else at + 1
    out = [Segment(k % 2 == 0) for k in range(max(level.values(), default=-1) + 1)]
    for n in compute:
        out[level[n]].nodes.append(n)
    asked = wanted(graph)
    for k, s in enumerate(out):
        _boundary(s, k, level, asked)
    return [s for s in out if s.nodes and (s.outputs or not s.ours)], reasons


def operator_name(n: Any) -> str:
    """What a node runs, as PyTorch writes it; for one of several results, what gives them."""
    while n.target is operator.getitem:
        n = n.args[0]
    name = str(n.target)
    return str(n.args[1]) if name == "with_effects" else name


def wanted(graph: Any) -> set[Any]:
    """The nodes whose values the results need: results, or what they are views of where that is
    seen elsewhere too.
    """
    results = {r for n in graph.nodes if n.op == "output" for r in n.all_input_nodes}
    bases = {r: _base(r) for r in results}
    seen = list(bases.values())
    return {
        base if base.op != "call_function" or seen.count(base) > 1 else r
        for r, base in bases.items()
    }


def _base(n: Any) -> Any:
    """The node whose memory a node's value is a view of; itself where it is none."""
    while n.op == "call_function":
        if n.target is operator.getitem and getattr(n.args[0].target, "is_view", False):
            n = n.args[0]
        if not getattr(n.target, "is_view", False):
            break
        n = n.args[0]
    return n


def _operands(n: Any) -> list[Any]:
    """Tensor operands, those behind arithmetic on sizes included."""
    found: list[Any] = []
    stack = list(n.all_input_nodes)
    while stack:
        a = stack.pop()
        if a.op == "call_function" and is_size(a):
            stack.extend(a.all_input_nodes)
        else:
            found.append(a)
    return found


def _boundary(s: Segment, k: int, level: dict[Any, int], asked: set[Any]) -> None:
    several = [n for n in s.nodes if isinstance(n.meta.get("val"), tuple | list)]
    for n in s.nodes:
        elsewhere = n in asked or any(level.get(u, k) != k or is_size(u) for u in n.users)
        if elsewhere and not (s.ours and n in several):
            s.outputs.append(n)
    if s.ours:
        s.nodes = _reaching(s.outputs, s.nodes)
    inside = set(s.nodes)
    taken: dict[Any, None] = {}
    for n in s.nodes:
        for a in _operands(n) if s.ours else n.all_input_nodes:
            if a not in inside and not (is_size(a) and s.ours):
                taken[a] = None
    s.inputs = list(taken)


def _reaching(outputs: list[Any], nodes: list[Any]) -> list[Any]:
    """Those of `nodes`, in order, that `outputs` depend on."""
    needed = set(outputs)
    for n in reversed(nodes):
        if n in needed:
            needed.update(_operands(n))
    return [n for n in nodes if n in needed]
