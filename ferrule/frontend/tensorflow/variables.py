"""Which variable lies where in a checkpoint: what the program's own restoring function says.

A SavedModel restores itself by `RestoreV2`, whose operand names a key for each result, and
assignments of these results to variables, in the graph or in a function that the graph calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ferrule.frontend.tensorflow.model import Array, Called, Function, Node

HANDLES = ("VarHandleOp", "VariableV2", "Variable")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_ASSIGNS = ("AssignVariableOp", "Assign")
_SAME = ("Identity", "IdentityN", "Cast")


def keys_of(
    nodes: Mapping[str, Node], functions: Mapping[str, Function], restore: str
) -> dict[str, str]:
    """The checkpoint's key of each variable, by the name of the node that makes the variable.
    `restore` names the node that restores; without one each variable has its own name as its key.
    """
    out = {n.name: _own(n) for n in nodes.values() if n.op in HANDLES}
    out.update(_restored(nodes))
    call = nodes.get(restore.partition(":")[0])
    if call is not None and call.op in _CALLS:
        called = call.attrs.get("f")
        function = functions.get(called.name) if isinstance(called, Called) else None
        if function is not None:
            given = dict(zip(function.arguments, call.operands))
            for name, key in _restored(function.nodes):
                handle = given.get(name, "").partition(":")[0]
                if handle in out:
                    out[handle] = key
    return out


def _own(n: Node) -> str:
    shared = n.attrs.get("shared_name")
    return shared.decode(errors="replace") if isinstance(shared, bytes) and shared else n.name


def _restored(nodes: Mapping[str, Node]) -> Iterator[tuple[str, str]]:
    """(what is assigned to, the key of what is assigned to it)."""
    for n in nodes.values():
        if n.op in _ASSIGNS and len(n.operands) == 2:
            key = _key(nodes, n.operands[1])
            if key is not None:
                yield n.operands[0].partition(":")[0], key


def _key(nodes: Mapping[str, Node], value: str) -> str | None:
    """The key of a value that comes from a checkpoint; None for others."""
    for _ in range(len(nodes)):
        name, *place = value.split(":")
        n = nodes.get(name)
        if n is None or not n.operands:
            return None
        if n.op == "RestoreV2" and len(n.operands) == 3:
            names = _constant(nodes, n.operands[1])
            i = int(place[-1]) if place and place[-1].isdigit() else 0
            if names is None or i >= names.size:
                return None
            found = names.reshape(-1)[i]
            return found.decode(errors="replace") if isinstance(found, bytes) else None
        if n.op not in _SAME:
            return None
        value = n.operands[0]
    return None


def _constant(nodes: Mapping[str, Node], value: str) -> Array | None:
    n = nodes.get(value.partition(":")[0])
    held = n.attrs.get("value") if n is not None and n.op == "Const" else None
    return held if isinstance(held, np.ndarray) else None
