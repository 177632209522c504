"""`ferrule run`: a model on inputs from files or at random."""

from __future__ import annotations

import argparse
import functools
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.api.programs import InferenceSession, described
from ferrule.base.errors import InputError
from ferrule.base.files import write_whole
from ferrule.cli.command import Command, add_model, add_target, add_threads, chosen
from ferrule.cli.feeds import FEEDS, add_feeds, feed_of
from ferrule.frontend.onnx.model import Array, Port
from ferrule.runtime.load import Function, load

_FIRST = 4

_ABOUT = f"""\
Compiles an ONNX model, a StableHLO program, a TensorFlow Lite file or a SavedModel of TensorFlow (a
folder), or takes an artifact of `ferrule build`, runs it once, and prints each output: its name,
dtype, shape, smallest and largest element, mean, and first elements.

{FEEDS}
examples:
  ferrule run model.onnx --random
  ferrule run model.onnx --input ids=ids.npy --input mask=mask.npy --output results
  ferrule run model.ferrule --random
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_feeds(parser)
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="save each output there, as NAME.npy"
    )
    parser.add_argument(
        "--trusted",
        type=Path,
        metavar="KEY",
        help="run the artifact only if it is signed by this public key of Ed25519, in PEM",
    )
    add_threads(parser)
    add_target(parser)


def _run(options: argparse.Namespace) -> None:
    if zipfile.is_zipfile(options.model):
        if options.target is not None:
            raise InputError("an artifact has its code already: --target is for `ferrule build`")
        built = load(options.model, trusted=options.trusted)
        inputs, names = ports_of(built), built.outputs
        run: Callable[..., list[Any]] = built.run
    else:
        if options.trusted is not None:
            raise InputError(f"{options.model} is no artifact: only those are signed")
        model = described(options.model)
        inputs, names = model.inputs, tuple(p.name for p in model.outputs)

        def run(wanted: None, arrays: Mapping[str, Array]) -> list[Any]:
            return list(InferenceSession(model.model).run(wanted, arrays))

    feed = feed_of(inputs, options, options.random)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
    print(*feed.notes, sep="\n", end="\n" if feed.notes else "")
    with chosen(options), feed.blamed():
        results = run(None, feed.arrays)
    parts = [p for name, x in zip(names, results) for p in parts_of(name, x)]
    for name, array in parts:
        print(f"output {name}: {summary(array)}" if array is not None else f"output {name}: none")
    if options.output is not None:
        save(options.output, [(name, array) for name, array in parts if array is not None])


def ports_of(model: Function) -> tuple[Port, ...]:
    """The arguments of a built model."""
    return tuple(
        Port(name, "tensor", np.dtype(np.float32), ())
        if spec is None
        else Port(name, "tensor", spec.element.numpy, spec.shape)
        for name, spec in zip(model.inputs, model.specs, strict=True)
    )


def parts_of(name: str, x: Any) -> Iterator[tuple[str, Array | None]]:
    """The arrays of an output with their names: several of a sequence, None for an empty one."""
    if isinstance(x, list | tuple):
        for i, item in enumerate(x):
            yield from parts_of(f"{name}.{i}", item)
    else:
        yield name, None if x is None else np.asarray(x)


def summary(x: Array) -> str:
    """An array's dtype, shape and values in one line."""
    kind = "string" if x.dtype == np.dtype(object) else str(x.dtype)
    parts = [f"{kind} {list(x.shape)}"]
    if x.size and x.dtype.kind not in "OcS":
        wide = x.astype(np.float64)
        whole = x.dtype.kind in "iub"
        low, high = (f"{int(v)}" if whole else f"{v:.6g}" for v in _extremes(x, wide))
        parts.append(f"min {low}, max {high}, mean {_mean(wide):.6g}")
        strange = int((~np.isfinite(wide)).sum())
        if strange:
            parts.append(f"{strange} not finite")
    if x.size:
        some = " ".join(_shown(v) for v in x.ravel()[:_FIRST])
        parts.append(f"first {some}{' ..' if x.size > _FIRST else ''}")
    return "; ".join(parts)


def _extremes(x: Array, wide: Array) -> tuple[Any, Any]:
    return (x.min(), x.max()) if x.dtype.kind in "iub" else (wide.min(), wide.max())


def _mean(wide: Array) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        return float(wide.mean())


def _shown(v: Any) -> str:
    if isinstance(v, str):
        return repr(v)
    if np.asarray(v).dtype.kind in "iubc":
        return str(v)
    return f"{float(v):.6g}"


def save(folder: Path, arrays: Sequence[tuple[str, Array]]) -> None:
    """Write each array to a file of its own, whole or not at all, and print where."""
    taken: set[str] = set()
    for name, x in arrays:
        stem = base = re.sub(r"[^\w.-]", "_", name).lstrip(".") or "output"
        while stem in taken:
            stem = f"{base}_{len(taken)}"
        taken.add(stem)
        target = folder / f"{stem}.npy"
        plain = x.astype(str) if x.dtype == np.dtype(object) else x
        write_whole(target, functools.partial(np.save, arr=plain, allow_pickle=False))
        print(f"saved {name} to {target}")


COMMAND = Command(
    "run", "a model or an artifact on inputs from files or at random", _run, _arguments, _ABOUT
)
