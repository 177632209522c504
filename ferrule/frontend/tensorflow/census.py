"""What a signature needs of a program: which operators, and whether they change variables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.model import Called, Node, SavedModel, Signature

_WRITES = ("Assign", "ResourceScatter", "ResourceApply", "ResourceStridedSliceAssign")
"""What the names of operators that write into variables begin with."""


def check_effects(program: SavedModel, signature: Signature) -> None:
    """Raises UnsupportedError where a call writes into variables: a compiled program has none."""
    writes = Counter(n.op for n in needed(program, signature, True) if n.op.startswith(_WRITES))
    if writes:
        raise UnsupportedError(
            f"the program writes into its variables ({_counts(writes)}), and a compiled one has "
            "constants in their place: export the model for inference"
        )


def missing(program: SavedModel, signature: Signature, known: Collection[str]) -> str:
    """What to say about the operators that have no rule."""
    lacks = Counter(n.op for n in needed(program, signature, False) if n.op not in known)
    return f"ferrule has no meaning for {_counts(lacks)}"


def _counts(found: Counter[str]) -> str:
    return ", ".join(f"{op} ({n})" if n > 1 else op for op, n in sorted(found.items()))


def needed(program: SavedModel, signature: Signature, effects: bool) -> Iterator[Node]:
    """The nodes that the outputs need, those of functions once; with `effects` those too that only
    run before or beside them.
    """
    given = {p.value.partition(":")[0] for p in signature.inputs}
    outputs = [p.value for p in signature.outputs]
    first = [*outputs, *(signature.effects if effects else ())]
    own = list(_behind(program.nodes, first, given, effects))
    yield from own
    seen: set[str] = set()
    waiting = [name for n in own for name in _called(n.attrs)]
    while waiting:
        name = waiting.pop()
        f = program.functions.get(name)
        if f is None or name in seen:
            continue
        seen.add(name)
        roots = [*f.results, *(f.effects if effects else ())]
        for n in _behind(f.nodes, roots, set(f.arguments), effects):
            yield n
            waiting += _called(n.attrs)


def _behind(
    nodes: Mapping[str, Node], roots: list[str], given: set[str], effects: bool
) -> Iterator[Node]:
    seen, waiting = set(given), [r.partition(":")[0] for r in roots]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        n = nodes[name]
        yield n
        waiting += [x.partition(":")[0] for x in n.operands]
        waiting += n.before if effects else ()


def _called(attrs: Mapping[str, Any]) -> list[str]:
    out = []
    for value in attrs.values():
        several = value if isinstance(value, tuple) else (value,)
        out += [v.name for v in several if isinstance(v, Called)]
    return out
