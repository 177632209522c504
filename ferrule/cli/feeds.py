"""The inputs that a command runs a model on: arrays from files, or made up at random."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.base.errors import FerruleError, InputError
from ferrule.frontend.onnx.model import Array, Port, Size
from ferrule.frontend.onnx.ports import check_input, fixed_ports, shown_shape

_IMAGE, _LENGTH = 64, 16
"""Sizes of symbolic dims that no batch has: of images, whose networks halve them, and of others."""
_OTHERS = {_IMAGE: 224, _LENGTH: 512}
"""Sizes to propose for those where a model refuses them."""
_LARGEST = 1 << 33
"""The most bytes that an array is made up with."""

FEEDS = """\
inputs:
  --input x=data.npy takes the array in a file for the input x, --input x=data.npz the one called x
  there, and --input data.npz all of its arrays, by their names. --random makes up the inputs that
  are not given: floats are normally distributed, 8-bit integers take all their values, other
  integers and booleans are 0 or 1 (they may be indices or masks). --shape x=1,3,224,224 says of
  which shape; sizes that are open are 1 for batches, 64 for images and 16 for the rest.
"""


@dataclass(frozen=True)
class Guess:
    """An input some of whose sizes were made up: these, and another shape that it may have."""

    name: str
    sizes: str
    other: str


@dataclass(frozen=True)
class Feed:
    """Arrays by input, a line about each that was made up, and their shapes where sizes were."""

    arrays: Mapping[str, Array]
    notes: tuple[str, ...] = ()
    guesses: tuple[Guess, ...] = ()

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Errors of a run inside tell of the sizes that were made up, and how to give others."""
        try:
            yield
        except FerruleError as error:
            if not self.guesses:
                raise
            taken = "; ".join(f"input {g.name}: {g.sizes}" for g in self.guesses)
            options = " ".join(f"--shape {g.name}={g.other}" for g in self.guesses)
            raise type(error)(
                f"{error}\nthese sizes were made up, and the model may need others: {taken}; give "
                f"them as in {options}"
            ) from error


def add_feeds(parser: argparse.ArgumentParser, random: bool = True) -> None:
    """Add `--input`, `--shape`, `--seed`, and where `random` is a choice `--random`."""
    parser.add_argument(
        "--input",
        type=_named_file,
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="an input's array, a .npy or .npz file; a .npz file without a name gives several",
    )
    if random:
        parser.add_argument(
            "--random", action="store_true", help="make up the inputs that are not given"
        )
    parser.add_argument(
        "--shape",
        type=_named_shape,
        action="append",
        default=[],
        metavar="NAME=SIZES",
        help="make up an input of this shape: x=1,3,224,224",
    )
    parser.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="of the random numbers (default: 0)"
    )


def feed_of(ports: Sequence[Port], options: argparse.Namespace, random: bool) -> Feed:
    """The arrays for a model's inputs, as the options of `add_feeds` say. `random` makes up what
    they do not give. Raises InputError for files that hold no arrays, names that no input has,
    shapes and dtypes that do not fit, and inputs that are missing.
    """
    given = _read(ports, options.input)
    shapes = _once(options.shape)
    twice = next((name for name in shapes if name in given), None)
    if twice is not None:
        raise InputError(f"the input {twice!r} is given by a file, so --shape can't give its shape")
    lacking = [p for p in ports if p.name not in given and p.kind != "optional"]
    if not lacking and not shapes:
        return Feed(given)
    fixed = fixed_ports(ports, {**{n: x.shape for n, x in given.items()}, **shapes})
    missing = [p for p in lacking if not random and p.name not in shapes]
    if missing:
        wanted = ", ".join(f"{p.name} ({p.type} {shown_shape(p)})" for p in missing)
        raise InputError(
            f"these inputs are missing: {wanted}; give each as --input NAME=FILE.npy, or all that "
            "are not given with --random"
        )
    rng, names = np.random.default_rng(options.seed), {p.name for p in lacking} | set(shapes)
    sizes: dict[str, int] = {}
    made = [(p.name, *_made_up(p, sizes, rng)) for p in fixed if p.name in names]
    arrays = {**given, **{name: x for name, x, _, _ in made}}
    notes = tuple(note for _, _, note, _ in made)
    return Feed(arrays, notes, tuple(guess for *_, guess in made if guess is not None))


# ---- what options say ----------------------------------------------------------------------------


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if equals and name and file:
        return name, Path(file)
    if not equals and text.endswith(".npz"):
        return "", Path(text)
    raise argparse.ArgumentTypeError(f"{text!r} must be NAME=FILE.npy, NAME=FILE.npz or FILE.npz")


def _named_shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, sizes = text.partition("=")
    try:
        shape = tuple(int(s) for s in sizes.split(",")) if sizes else ()
    except ValueError:
        equals = ""
    if not equals or not name or any(n < 0 for n in shape):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be an input's name and its sizes, such as x=1,3,224,224"
        )
    return name, shape


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 0 on")
    return int(text)


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in pairs:
        if name in out:
            raise InputError(f"the input {name!r} is given twice")
        out[name] = value
    return out


# ---- files ---------------------------------------------------------------------------------------


def _read(ports: Sequence[Port], files: Sequence[tuple[str, Path]]) -> dict[str, Array]:
    """The arrays in files, checked against the inputs."""
    named = {p.name: p for p in ports}
    found = _once(pair for name, path in files for pair in _arrays(name, path).items())
    for name in found:
        if name not in named:
            raise InputError(f"the model has no input {name!r}; its inputs are: {', '.join(named)}")
        if named[name].kind != "tensor":
            raise InputError(
                f"the input {name!r} is a {named[name].type}, and files hold tensors alone: run "
                "the model from Python, with ferrule.InferenceSession"
            )
    return {name: check_input(named[name], _typed(named[name], x)) for name, x in found.items()}


def _arrays(name: str, path: Path) -> dict[str, Array]:
    """The arrays of a file by input: one for `name`, or all that a .npz file has for ""."""
    try:
        held = np.load(path, allow_pickle=False)
        if isinstance(held, np.ndarray):
            return {name: held}
        with held:
            arrays = {n: held[n] for n in (held.files if not name else {name} & set(held.files))}
    except OSError as error:
        why = error.strerror or "it is no .npy or .npz file"
        raise InputError(f"the file {str(path)!r} can't be read: {why}") from None
    except (ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise InputError(f"the file {str(path)!r} holds no NumPy arrays: {error}") from None
    if name and not arrays:
        raise InputError(f"{path} has no array {name!r}; it holds: {', '.join(held.files)}")
    return arrays


def _typed(port: Port, x: Array) -> Array:
    """An array of the input's dtype where that is one that .npy files have no name for."""
    if port.dtype is not None and x.dtype.kind == "V" and x.dtype.itemsize == port.dtype.itemsize:
        return x.view(port.dtype)
    return x


# ---- at random -----------------------------------------------------------------------------------


def _made_up(
    port: Port, chosen: dict[str, int], rng: np.random.Generator
) -> tuple[Array, str, Guess | None]:
    """An array for an input, and what to tell about it. `chosen` are sizes by symbolic name."""
    if port.kind != "tensor" or port.dtype is None or port.shape is None:
        kind = port.type if port.kind != "tensor" or port.dtype is None else "tensor of any rank"
        way = "--input NAME=FILE.npy, or --shape" if port.kind == "tensor" else "Python"
        raise InputError(f"the input {port.name!r} is a {kind}, which can't be made up: use {way}")
    own: dict[str, int] = {}
    shape = []
    for axis, size in enumerate(port.shape):
        if not isinstance(size, int):
            label = size or f"axis {axis}"
            usual = _size(label, axis, port.shape)
            size = own[label] = chosen.setdefault(size, usual) if size else usual
        shape.append(size)
    if prod(shape) * port.dtype.itemsize > _LARGEST:
        raise InputError(
            f"the input {port.name!r} of {port.dtype} {shape} would take more than "
            f"{_LARGEST >> 30} GiB: give smaller sizes with --shape"
        )
    sizes = ", ".join(f"{label} = {n}" for label, n in own.items())
    note = f"input {port.name}: {port.dtype} {shape}, at random"
    array = _random(port.dtype, shape, rng)
    if not own:
        return array, note, None
    is_open = [not isinstance(s, int) for s in port.shape]
    other = ",".join(str(_OTHERS.get(n, n) if o else n) for n, o in zip(shape, is_open))
    return array, f"{note}; sizes taken: {sizes}", Guess(port.name, sizes, other)


def _size(label: str, axis: int, shape: Sequence[Size]) -> int:
    """A size for an axis that is open. The state of recurrent layers is [layers, batch, width]."""
    state = len(shape) == 3 and axis == 1 and all(isinstance(s, int) for s in shape[::2])
    if axis == 0 or state or "batch" in label.lower():
        return 1
    return _IMAGE if len(shape) > 3 and axis > 1 else _LENGTH


def _random(dtype: np.dtype[Any], shape: Sequence[int], rng: np.random.Generator) -> Array:
    if dtype == np.dtype(object):
        return rng.choice(np.array(["a", "b", "c"], object), shape)
    if dtype.name in ("int8", "uint8"):
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype.type, endpoint=True)
    if "int" in dtype.name or dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    if dtype.kind == "c":
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    return rng.standard_normal(shape, np.float32).astype(dtype)
