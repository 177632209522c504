"""Programs for tests: SavedModels that TensorFlow wrote (`tools/make_saved_models.py`), with what
it computed, and programs written down node by node.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.frontend.tensorflow.convert import Conversion, convert
from ferrule.frontend.tensorflow.model import (
    DTYPES,
    Called,
    Element,
    Function,
    Node,
    Port,
    SavedModel,
    Signature,
)
from ferrule.ir.interp import run_graph

DATA = Path(__file__).parent / "data"
NAMES = tuple(sorted(p.stem for p in DATA.glob("*.zip")))
I32, F32, BOOL = Element(3), Element(1), Element(10)


def unpack(name: str, folder: Path) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """A SavedModel in a folder, the inputs of a call and its outputs."""
    place = folder / name
    with zipfile.ZipFile(DATA / f"{name}.zip") as held:
        held.extractall(place)
    arrays = dict(np.load(io.BytesIO((place / "expected.npz").read_bytes())))
    given = {k[3:]: x for k, x in arrays.items() if k.startswith("in:")}
    return place, given, {k[4:]: x for k, x in arrays.items() if k.startswith("out:")}


def element(x: Any) -> Element:
    """The element type of an array."""
    kinds = {d.numpy: code for code, d in DTYPES.items() if code != 14}
    return Element(kinds[np.asarray(x).dtype])


def const(name: str, x: Any, dtype: Any = np.int32) -> Node:
    """A constant."""
    array = np.asarray(x, dtype)
    return Node(name, "Const", (), {"value": array, "dtype": element(array)})


def node(name: str, op: str, *inputs: str, **attrs: Any) -> Node:
    """An operator."""
    return Node(name, op, inputs, attrs)


def function(name: str, arguments: Sequence[str], nodes: Sequence[Node], *results: str) -> Function:
    """A function."""
    return Function(name, tuple(arguments), {n.name: n for n in nodes}, results)


def called(f: Function) -> Called:
    return Called(f.name)


def program(
    inputs: dict[str, tuple[Element, Any]], nodes: Sequence[Node], results: Sequence[str],
    functions: Sequence[Function] = (),
) -> SavedModel:  # fmt: skip
    """A program with one signature, "serving_default"; inputs are (element type, shape)."""
    given = [Node(n, "Placeholder", ()) for n in inputs]
    signature = Signature(
        tuple(Port(n, n, e, s) for n, (e, s) in inputs.items()),
        tuple(Port(f"y{k}", r, F32, None) for k, r in enumerate(results)),
    )
    return SavedModel(
        {n.name: n for n in (*given, *nodes)}, {f.name: f for f in functions},
        {"serving_default": signature},
    )  # fmt: skip


def converted(p: SavedModel) -> Conversion:
    """Its conversion."""
    return convert(p, p.signatures["serving_default"], lambda name: np.zeros(()))


def results(p: SavedModel, *arrays: Any) -> list[Any]:
    """What a program makes of its inputs, by the meaning of its graph."""
    made = converted(p)
    return list(run_graph(made.graph, [*map(np.asarray, arrays), *made.params]))
