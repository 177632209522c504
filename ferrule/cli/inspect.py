"""`ferrule inspect`: what an ONNX model, a SavedModel or a TensorFlow Lite file holds, and what
ferrule makes of it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import prod

import numpy as np

from ferrule.api.saved_model import Saved, read_saved
from ferrule.api.session import InferenceSession, read_model
from ferrule.base import config
from ferrule.base.errors import FerruleError
from ferrule.cli.command import Command, add_model, add_target, chosen
from ferrule.cli.feeds import add_feeds, feed_of
from ferrule.frontend.onnx.load import load_model
from ferrule.frontend.onnx.model import Array, Body, Model, Op, Port, walk_ops
from ferrule.frontend.onnx.operators import known
from ferrule.frontend.onnx.ports import shown_shape
from ferrule.frontend.onnx.table import GRAPH, HOST
from ferrule.frontend.tensorflow.census import needed
from ferrule.frontend.tensorflow.table import RULES
from ferrule.frontend.tflite.rules import LITE
from ferrule.ir.graph import Graph
from ferrule.pipeline.compile import CompiledGraph, compile_graph, native

_ABOUT = """\
Prints a model's operator sets and producer, its inputs and outputs, its parameters, its operators
with how often each stands there (functions expanded, inner graphs included), and those that ferrule
has no meaning for. Nothing is compiled or run, unless by --kernels: that compiles the model, runs
it once on made-up inputs (see `ferrule run --help` for --shape and --input), and prints the
programs, the kernels of each, and the operators that ran in NumPy. Of a SavedModel (a folder) or a
TensorFlow Lite file it prints what its signature "serving_default" needs, as the operators of
TensorFlow that it is read as.

examples:
  ferrule inspect model.onnx
  ferrule inspect model.onnx --kernels --shape x=1,3,224,224
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--kernels", action="store_true", help="compile and run the model, and print its kernels"
    )
    add_feeds(parser, random=False)
    add_target(parser)


def _run(options: argparse.Namespace) -> None:
    saved = read_saved(options.model)
    model = load_model(options.model, known) if saved is None else saved
    print("\n".join(_lines(model) if isinstance(model, Model) else _saved_lines(model)))
    if options.kernels:
        with chosen(options):
            print("\n".join(_kernels(read_model(options.model), options)))


# ---- what the model holds ------------------------------------------------------------------------


def _lines(model: Model) -> Iterator[str]:
    body = model.body
    sets = ", ".join(f"{d or 'ai.onnx'} {v}" for d, v in sorted(model.opsets.items()))
    yield f"operator sets: {sets}"
    yield f"producer: {model.producer or 'not named'}"
    yield from _ports("inputs", body.inputs)
    yield from _ports("outputs", body.outputs)
    arrays = list(_constants(body))
    elements = sum(x.size for x in arrays)
    yield f"parameters: {elements:,} in {len(arrays)} tensors, {sum(x.nbytes for x in arrays):,} B"
    ops = list(walk_ops(body))
    yield f"operators: {len(ops)}"
    counts = Counter(op.title for op in ops)
    width = max(map(len, counts), default=0)
    for title, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        yield f"  {title:{width}}  {n}"
    yield from _unsupported(ops)


def _saved_lines(saved: Saved) -> Iterator[str]:
    """The same of a SavedModel or TensorFlow Lite file: of the signature that is run."""
    program = saved.program
    yield f"signatures: {', '.join(sorted(program.signatures))}"
    yield from _ports("inputs", saved.inputs)
    yield from _ports("outputs", saved.outputs)
    nodes = list(needed(program, saved.signature, False))
    held = {} if saved.checkpoint is None else saved.checkpoint.entries
    keys = (program.keys.get(n.name, "") for n in nodes)
    own = [held[key] for key in keys if key in held]
    elements, size = sum(prod(e.shape) for e in own), sum(e.size for e in own)
    yield f"variables: {elements:,} in {len(own)} tensors, {size:,} B"
    consts = [x for n in nodes if n.op == "Const" and isinstance(x := n.attrs["value"], np.ndarray)]
    total, size = sum(x.size for x in consts), sum(x.nbytes for x in consts)
    yield f"constants: {total:,} in {len(consts)} tensors, {size:,} B"
    counts = Counter(n.op for n in nodes)
    yield f"operators: {counts.total()}"
    width = max(map(len, counts), default=0)
    for op, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        yield f"  {op:{width}}  {n}"
    lacks = sorted(op for op in counts if op not in {*RULES, *LITE, "Placeholder"})
    yield "not supported:" if lacks else "not supported: none"
    yield from (f"  {op} ({counts[op]})" for op in lacks)


def _ports(title: str, ports: tuple[Port, ...]) -> Iterator[str]:
    yield f"{title}:" if ports else f"{title}: none"
    width = max((len(p.name) for p in ports), default=0)
    for p in ports:
        yield f"  {p.name:{width}}  {p.type} {shown_shape(p)}"


def _constants(body: Body) -> Iterator[Array]:
    yield from body.constants.values()
    for op in body.ops:
        for inner in op.bodies:
            yield from _constants(inner)


def _unsupported(ops: list[Op]) -> Iterator[str]:
    """The operators without a meaning, each with the reason."""
    counts = Counter(
        (op.domain, op.type, op.version) for op in ops if not known(op.domain, op.type, op.version)
    )
    yield "not supported:" if counts else "not supported: none"
    for (domain, name, version), n in sorted(counts.items()):
        yield f"  {domain or 'ai.onnx'}::{name} ({n}): {_why(domain, name, version)}"


def _why(domain: str, name: str, version: int) -> str:
    rules = (*GRAPH.get((domain, name), ()), *HOST.get((domain, name), ()))
    if rules:
        since = min(rule.since for rule in rules)
        return f"version {version} is too old, ferrule has it from version {since} on"
    return (
        f"no meaning in ferrule, and no function body in version {version}; register one with "
        "ferrule.api.session.custom_operator"
    )


# ---- what is compiled ----------------------------------------------------------------------------


def _kernels(model: Model | Saved, options: argparse.Namespace) -> Iterator[str]:
    programs: list[tuple[str, CompiledGraph]] = []

    def collect(graph: Graph) -> CompiledGraph:
        programs.append((graph.name, compile_graph(graph)))
        return programs[-1][1]

    inputs = model.inputs if isinstance(model, Saved) else model.body.inputs
    feed = feed_of(inputs, options, random=True)
    own = replace(native(config.settings()), program_of=collect)
    session = InferenceSession(model, compiler=own)
    yield ""
    yield from feed.notes
    failed = ""
    try:
        session.run(None, feed.arrays)
    except FerruleError as error:
        failed = f"the run did not succeed, so what follows may not be all: {error}"
    for name, compiled in programs:
        yield f"program {name}: {compiled.kernels} kernels"
        for line in compiled.explain().splitlines():
            if line.startswith("kernel "):
                yield f"  {line}"
    yield f"in NumPy: {', '.join(session.in_numpy) or 'none'}"
    if failed:
        yield failed


COMMAND = Command(
    "inspect", "what an ONNX model holds, and what is not supported", _run, _arguments, _ABOUT
)
