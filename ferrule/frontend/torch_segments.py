"""Segments: an FX graph cut into what ferrule runs and what PyTorch runs.

Each node belongs to a segment, the least level that comes after its operands' and has its own side's parity: even levels
are ferrule's, odd ones PyTorch's. So there are as few crossings as the graph's dependences allow, and a graph that is covered
whole is one segment. Arithmetic on sizes belongs to neither side: it is done anew where it is needed.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

from ferrule.frontend.torch_convert import is_size, why_not

CLAIMS = frozenset(
    {
        "aten._assert_tensor_metadata.default",
        "aten.sym_constrain_range.default",
        "aten.sym_constrain_range_for_size.default",
    }
)  # what tracing took for granted: nothing to run


@dataclass
class Segment:
    """Nodes of one side in order, what they take from elsewhere, and which of their values are used elsewhere."""

    ours: bool
    nodes: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)


def segments(
    graph: Any, refused: dict[Any, str] | None = None
) -> tuple[list[Segment], dict[str, str]]:
    """The segments of an FX graph in running order, and each operator that PyTorch runs with the reason.

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
            reasons.setdefault(str(n.target), why)
        parity = 0 if why is None else 1
        before = [level[a] for a in _operands(n) if a in level]
        at = max(before, default=parity)
        level[n] = at if at % 2 == parity else at + 1
    out = [Segment(k % 2 == 0) for k in range(max(level.values(), default=-1) + 1)]
    for n in compute:
        out[level[n]].nodes.append(n)
    for k, s in enumerate(out):
        _boundary(s, k, level)
    return [s for s in out if s.nodes], reasons


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


def _boundary(s: Segment, k: int, level: dict[Any, int]) -> None:
    inside = set(s.nodes)
    taken: dict[Any, None] = {}
    for n in s.nodes:
        for a in _operands(n) if s.ours else n.all_input_nodes:
            if a not in inside and not (is_size(a) and s.ours):
                taken[a] = None
        if isinstance(n.meta.get("val"), tuple | list) and s.ours:
            continue
        if any(u.op == "output" or level.get(u, k) != k or is_size(u) for u in n.users):
            s.outputs.append(n)
    s.inputs = list(taken)
