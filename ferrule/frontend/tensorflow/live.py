"""Functions and Keras models of a TensorFlow that is loaded, as programs.

A function is traced by TensorFlow; the graph that this gives is read as a file's is. What it
captures, variables and tensors, are arrays with the values that they have now. TensorFlow is
imported by whoever made the function, and only then here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ferrule.base.dtype import to_storage
from ferrule.base.errors import InputError
from ferrule.frontend.tensorflow.model import (
    DTYPES,
    RESOURCE,
    Array,
    Element,
    Node,
    Port,
    SavedModel,
    Shape,
    Signature,
)
from ferrule.frontend.tensorflow.read import program_of

SERVING = "serving_default"


def is_live(x: Any) -> bool:
    """Whether `x` is a function of TensorFlow or a Keras model that runs on TensorFlow."""
    return _is_function(x) or hasattr(x, "get_concrete_function") or _is_keras(x)


def _is_function(x: Any) -> bool:
    return hasattr(x, "structured_input_signature") and hasattr(x, "captured_inputs")


def _is_keras(x: Any) -> bool:
    kinds = type(x).__mro__
    names = {f"{c.__module__.partition('.')[0]}.{c.__name__}" for c in kinds}
    return "keras.Model" in names and not any(n.startswith("torch.") for n in names)


def captured(x: Any, examples: tuple[Any, ...]) -> tuple[str, SavedModel, Mapping[str, Array]]:
    """(a name, the program with the signature "serving_default", the arrays of its variables by
    node). Raises InputError where neither the function nor examples tell the types of arguments.
    """
    f = _concrete(x, examples)
    nodes, functions = program_of(f.graph.as_graph_def().SerializeToString())
    made, arrays = dict(nodes), dict[str, Array]()
    variables = {id(v.handle): v for v in f.graph.variables}
    for outer, inner in f.graph.captures:
        name = inner.name.partition(":")[0]
        code = inner.dtype.as_datatype_enum
        if code == RESOURCE and id(outer) in variables:
            v = variables[id(outer)]
            element = Element(v.dtype.as_datatype_enum)
            arrays[name] = to_storage(v.numpy(), element.dtype)
            made[name] = Node(name, "VarHandleOp", (), {"dtype": element})
        elif code in DTYPES:
            array = to_storage(outer.numpy(), DTYPES[code])
            made[name] = Node(name, "Const", (), {"value": array, "dtype": Element(code)})
    outside = {inner.name for _, inner in f.graph.captures}
    inputs = tuple(_port(t, _label(t.name)) for t in f.inputs if t.name not in outside)
    keys = _keys(f.structured_outputs, len(f.outputs))
    outputs = tuple(_port(t, key) for t, key in zip(f.outputs, keys, strict=True))
    effects = tuple(op.name for op in f.graph.control_outputs)
    signatures = {SERVING: Signature(inputs, outputs, effects)}
    return _name(x), SavedModel(made, functions, signatures), arrays


def _concrete(x: Any, examples: tuple[Any, ...]) -> Any:
    """The function that TensorFlow makes of `x` for arguments like these."""
    import tensorflow as tf

    if _is_function(x):
        return x
    specs = [tf.TensorSpec(np.shape(e), np.asarray(e).dtype, f"x{k}") for k, e in
             enumerate(examples)]  # fmt: skip
    if not _is_keras(x):
        try:
            return x.get_concrete_function(*specs)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the tf.function can't be traced, give it an input_signature or ferrule.compile "
                f"example inputs: {error}"
            ) from error
    if not specs:
        if not getattr(x, "inputs", None):
            raise InputError("the Keras model has no inputs yet: give example inputs")
        specs = [tf.TensorSpec(i.shape, i.dtype, i.name) for i in x.inputs]
    several = len(specs) > 1
    run = tf.function(
        lambda *xs: x(list(xs) if several else xs[0], training=False), input_signature=specs
    )
    return run.get_concrete_function()


def _port(t: Any, name: str) -> Port:
    return Port(name, t.name, Element(t.dtype.as_datatype_enum), _shape(t.shape))


def _shape(shape: Any) -> Shape:
    if shape.rank is None:
        return None
    return tuple(-1 if n is None else int(n) for n in shape.as_list())


def _label(name: str) -> str:
    return str(name.partition(":")[0])


def _keys(structured: Any, count: int) -> list[str]:
    """The outputs' names: their keys, or output_0 and so on."""
    if isinstance(structured, dict) and len(structured) == count:
        return sorted(map(str, structured))
    return [f"output_{k}" for k in range(count)]


def _name(x: Any) -> str:
    return str(getattr(x, "name", None) or getattr(x, "__name__", None) or "main")
