"""A TensorFlow Lite file as a TensorFlow program: subgraphs are its functions, and each operator is
one of TensorFlow's or of `rules`, whose names begin with "tfl.".
"""

from __future__ import annotations

from collections import Counter

from ferrule.base.errors import CompileError, UnsupportedError
from ferrule.frontend.tensorflow.model import Element, Function, Node, Port, SavedModel, Signature
from ferrule.frontend.tflite import operators as _operators  # fills the table  # noqa: F401
from ferrule.frontend.tflite.model import Entry, Lite, SubGraph
from ferrule.frontend.tflite.writer import BUILDERS, Writer

_MALFORMED = (IndexError, KeyError, OverflowError, TypeError, ValueError)
SERVING = "serving_default"


def program_of(lite: Lite) -> SavedModel:
    """A file as a program, with its signatures; one without any has "serving_default", which is
    its first subgraph. Raises UnsupportedError that lists the operators that ferrule lacks, and
    CompileError for an operator that is malformed.
    """
    lacks = Counter(
        op.name for g in lite.subgraphs for op in g.operators if op.name not in BUILDERS
    )
    if lacks:
        told = ", ".join(f"{op} ({n})" if n > 1 else op for op, n in sorted(lacks.items()))
        raise UnsupportedError(f"ferrule has no meaning for {told}")
    entries = dict(lite.entries) or {SERVING: Entry(0, {}, {})}
    functions = {
        _name(k): _function(k, g, len(lite.subgraphs)) for k, g in enumerate(lite.subgraphs)
    }
    nodes: dict[str, Node] = {}
    signatures: dict[str, Signature] = {}
    for key, entry in entries.items():
        f, g = functions[_name(entry.subgraph)], lite.subgraphs[entry.subgraph]
        nodes.update({**{n: Node(n, "Placeholder", ()) for n in f.arguments}, **f.nodes})
        given = zip(f.arguments, g.inputs)
        inputs = [_port(g, i, entry.inputs.get(i, ""), ref) for ref, i in given]
        made = zip(f.results, g.outputs)
        outputs = [_port(g, i, entry.outputs.get(i, ""), ref) for ref, i in made]
        signatures[key] = Signature(_apart(inputs), _apart(outputs))
    return SavedModel(nodes, functions, signatures)


def _name(subgraph: int) -> str:
    return f"subgraph{subgraph}"


def _function(number: int, g: SubGraph, count: int) -> Function:
    """A subgraph. Names of values are its own, so that several may stand side by side."""

    def calls(k: int) -> str:
        if not 0 <= k < count:
            raise CompileError(f"subgraph {k} of {count} is called")
        return _name(k)

    w = Writer(g, calls, prefix=f"g{number}_")
    arguments = []
    for k, place in enumerate(g.inputs):
        w.refs[place] = f"g{number}_in{k}"
        arguments.append(w.refs[place])
    for at, op in enumerate(g.operators):
        try:
            w.write(op, at)
        except _MALFORMED as error:
            raise CompileError(
                f"{op.name}, operator {at} of {_name(number)}, does not fit: "
                f"{type(error).__name__}: {error}"
            ) from error
    return Function(
        _name(number), tuple(arguments), w.nodes, tuple(w.ref(place) for place in g.outputs)
    )


def _port(g: SubGraph, place: int, name: str, ref: str) -> Port:
    t = g.tensors[place]
    return Port(name or t.name or f"t{place}", ref, Element(t.code), t.shape)


def _apart(ports: list[Port]) -> tuple[Port, ...]:
    """The ports, with names of their own."""
    taken: set[str] = set()
    out = []
    for k, p in enumerate(ports):
        name = p.name if p.name not in taken else f"{p.name}_{k}"
        taken.add(name)
        out.append(Port(name, p.value, p.element, p.shape))
    return tuple(out)
