"""Loading an artifact: a model that was compiled ahead of time, run with numpy alone.

    model = load("m.ferrule")
    y = model(x)                                  # or model.run(None, {"x": x}), as in a session
    model["decode"](x)                            # one of several functions

The code is that of the best level that this CPU has. It is read into memory, compared with its
SHA-256, and only then opened. Weights are mapped from the file: processes share them.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.base.artifact import ALIGNMENT, Compiled, TensorSpec
from ferrule.base.cpu import architecture
from ferrule.base.errors import InputError
from ferrule.base.manifest import (
    LEVEL,
    MANIFEST,
    SIGNATURE,
    WEIGHTS,
    Entry,
    Input,
    Manifest,
    Result,
    manifest_of,
)
from ferrule.base.safetensors import tensors_of
from ferrule.base.signed import Key, check
from ferrule.base.stored import entries_of
from ferrule.runtime import pool
from ferrule.runtime.arrays import NumpyCallable
from ferrule.runtime.cpu import Executable
from ferrule.runtime.library import Library

if TYPE_CHECKING:
    from numpy.typing import NDArray  # which takes long to import

    Array = NDArray[Any]

def load(
    path: str | os.PathLike[str], *, verify: bool = True, trusted: Key | None = None
) -> Model:
    """The model in an artifact, ready to run.

    The code's checksum is always looked at; without `verify` that of the weights is not, so that
    their pages are read when they are first used. With `trusted`, a file with a public key of
    Ed25519 in PEM or the key's 32 bytes, the artifact must be signed by it (`ferrule.base.signed`).
    Raises InputError for what is no artifact, is damaged, is of a later format, has no code that
    this machine runs, or is not signed by whom it should.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            return _Reader(name, file, verify, trusted).model()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error}") from error


class Function:
    """One function of a model, on NumPy arrays. May be called from many threads at once.

    `inputs` and `outputs` are the names of its arguments and results. bf16 tensors are `uint16`
    arrays of their bits.
    """

    def __init__(
        self,
        entry: Entry,
        compiled: Compiled,
        library: Library,
        tensors: Mapping[str, Array],
        constants: memoryview | None,
    ) -> None:
        self.name = entry.name
        self.inputs = entry.arguments
        self.outputs = tuple(r.name for r in entry.outputs)
        self.target = str(compiled.meta.get("target"))
        self._entry, self._inputs = entry, entry.inputs
        executable = Executable(compiled, library)
        if entry.params:
            params = [tensors.get(n) for n in entry.params]
            packed = None if constants is None else _place(np.frombuffer(constants, np.uint8))
            executable.bind([(0, None) if x is None else _place(x) for x in params], packed)
        self._constants = {r.tensor: tensors[r.tensor] for r in entry.outputs if r.place is None}
        self._call = NumpyCallable(executable)
        self._plain = entry.inputs == tuple(map(Input, range(len(entry.arguments))))

    @property
    def specs(self) -> tuple[TensorSpec | None, ...]:
        """The dtype and shape of each argument, by extents that are numbers or text over dims; None
        for one that nothing reads.
        """
        known: dict[int, TensorSpec] = {}
        for x, spec in zip(self._inputs, self._call.executable.compiled.inputs):
            order = x.order or tuple(range(len(spec.shape)))
            shape = tuple(spec.shape[order.index(d)] for d in range(len(order)))
            known[x.place] = TensorSpec(self.inputs[x.place], spec.dtype, shape)
        return tuple(known.get(i) for i in range(len(self.inputs)))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The results for arguments in order or by name: one array, or a tuple of several. Raises
        InputError, InputTypeError and GuardError for arguments that do not fit, and RunError where
        the program fails.
        """
        names = self.inputs
        if len(args) > len(names):
            raise InputError(f"{self.name} takes {len(names)} inputs, not {len(args)}")
        out = self._results(list(args) if not kwargs else self._named(args, kwargs))
        return out[0] if len(out) == 1 else tuple(out)

    def run(self, output_names: Sequence[str] | None, feed: Mapping[str, Any]) -> list[Any]:
        """The outputs of these names (all of them for None), for inputs by name."""
        names = self.outputs if output_names is None else output_names
        for name in names:
            if name not in self.outputs:
                raise InputError(
                    f"{self.name} has no output {name!r}; its outputs are: "
                    f"{', '.join(self.outputs)}"
                )
        out = dict(zip(self.outputs, self._results(self._named((), feed)), strict=True))
        return [out[name] for name in names]

    def _named(self, args: Sequence[Any], more: Mapping[str, Any]) -> list[Any]:
        given = {**dict(zip(self.inputs, args)), **more}
        twice = set(self.inputs[: len(args)]) & more.keys()
        unknown = [n for n in more if n not in self.inputs]
        missing = [n for n in self.inputs if n not in given]
        if unknown or missing or twice:
            what = f"{', '.join(sorted(twice))} is given twice" if twice else ""
            what = what or (f"it lacks {', '.join(missing)}" if missing else "")
            what = what or f"it has no {', '.join(unknown)}"
            raise InputError(f"{self.name} takes {', '.join(self.inputs) or 'nothing'}: {what}")
        return [given[n] for n in self.inputs]

    def _results(self, given: list[Any]) -> list[Any]:
        if len(given) != len(self.inputs):
            missing = ", ".join(self.inputs[len(given) :])
            raise InputError(f"{self.name} takes {len(self.inputs)} inputs: it lacks {missing}")
        out = self._call(*(given if self._plain else [self._input(x, given) for x in self._inputs]))
        return [self._result(r, out) for r in self._entry.outputs]

    def _input(self, x: Input, given: Sequence[Any]) -> Any:
        value = given[x.place]
        if x.order is None:
            return value
        if not isinstance(value, np.ndarray) or value.ndim != len(x.order):
            raise InputError(
                f"the argument {self.inputs[x.place]} of {self.name} must be an array of rank "
                f"{len(x.order)}"
            )
        return value.transpose(x.order)

    def _result(self, r: Result, out: Sequence[Array]) -> Array:
        if r.place is None:
            return self._constants[r.tensor].copy()
        x = out[r.place]
        return x if r.order is None else x.transpose(np.argsort(r.order))


class Model(Function):
    """A loaded artifact: its first function, and the others by name."""

    def __init__(self, manifest: Manifest, functions: Mapping[str, Function]) -> None:
        first = next(iter(functions.values()))
        self.__dict__.update(first.__dict__)
        self.manifest, self.functions = manifest, dict(functions)

    def __getitem__(self, name: str) -> Function:
        """The function of that name. Raises InputError if there is none."""
        if name not in self.functions:
            known = ", ".join(self.functions)
            raise InputError(f"{self.manifest.name} has no function {name!r}; it has: {known}")
        return self.functions[name]


class _Reader:
    """An artifact's file, opened."""

    def __init__(self, name: str, file: Any, verify: bool, trusted: Key | None) -> None:
        self.name, self.verify = name, verify
        try:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            self.parts = entries_of(content)
            text = self.parts[MANIFEST].checked()
        except (ValueError, KeyError) as error:
            raise InputError(f"{name} is no artifact of ferrule, or is damaged: {error}") from error
        try:
            if trusted is not None:
                signature = self.parts.get(SIGNATURE)
                check(text, None if signature is None else bytes(signature.data), trusted)
            self.manifest = manifest_of(text)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error

    def model(self) -> Model:
        if not self.manifest.entries:
            raise InputError(f"{self.name} has no function")
        library, levels = self._library()
        tensors: Mapping[str, Array] = {}
        if WEIGHTS in self.manifest.files:
            tensors = tensors_of(self._data(WEIGHTS))
        functions = {}
        for entry in self.manifest.entries:
            level = next((k for k in levels if k in entry.programs), None)
            if level is None:
                raise InputError(f"{self.name}: {entry.name} has no code for this machine")
            compiled = entry.programs[level]
            self._look(entry, level, tensors)
            constants = self._constants(entry, level)
            functions[entry.name] = Function(entry, compiled, library, tensors, constants)
        return Model(self.manifest, functions)

    def _look(self, entry: Entry, level: str, tensors: Mapping[str, Array]) -> None:
        """Raises InputError where the weights are not those of the program for this level."""
        missing = [n for n in entry.needed(level) if n not in tensors]
        if missing:
            raise InputError(f"{self.name}: the weights lack {', '.join(missing)}")
        for name, spec in zip(entry.params, entry.programs[level].params):
            x = tensors.get(name)
            if x is not None and (x.shape, x.dtype) != (spec.shape, spec.element.numpy):
                raise InputError(f"{self.name}: the weights have another {name} than the code")

    def _constants(self, entry: Entry, level: str) -> memoryview | None:
        """What the program for this level prepares, or None where it has to do so itself."""
        if level not in entry.packed:
            return None
        file, size = entry.packed[level], entry.programs[level].const_bytes
        data = self._data(file) if file else memoryview(b"")
        if len(data) != size:
            raise InputError(f"{self.name} is damaged: {file} has not the size of its constants")
        return data

    def _data(self, file: str) -> memoryview:
        """The bytes of an entry, which are compared where that is wanted."""
        data = self._bytes(file)
        if self.verify:
            self._compare(file, data)
        return _aligned(data)

    def _library(self) -> tuple[Library, tuple[str, ...]]:
        """The code for this machine, and the keys of the levels that it runs, the best first."""
        machine = architecture()
        system = platform.system().lower()
        images = self.manifest.libraries.get(f"{machine}-{system}")
        if images is None:
            raise InputError(f"{self._lacks()}, and this machine is {machine}-{system}")
        code = bytes(self._bytes(images.file))  # a copy: the file may change after it is compared
        self._compare(images.file, code)
        library = Library(code, self.manifest.name or "model")
        best = ctypes.CFUNCTYPE(ctypes.c_int64)(library.address(LEVEL))()
        if not 0 <= best < len(images.levels):
            raise InputError(f"{self._lacks()}, all of which ask for more than this CPU has")
        pool.install(library.address)
        return library, images.levels[best::-1]

    def _lacks(self) -> str:
        held = (k for images in self.manifest.libraries.values() for k in images.levels)
        return f"{self.name} has code for {', '.join(held) or 'nothing'} alone"

    def _bytes(self, file: str) -> memoryview:
        """The bytes of an entry, as many as the manifest says."""
        found, wanted = self.parts.get(file), self.manifest.files.get(file)
        if found is None or wanted is None:
            raise InputError(f"{self.name} is damaged: it lacks {file}")
        if len(found.data) != wanted.size:
            raise InputError(f"{self.name} is damaged: {file} is not stored as it was")
        return found.data

    def _compare(self, file: str, data: bytes | memoryview) -> None:
        """Raises InputError where these are not the bytes that the manifest speaks of."""
        wanted = self.manifest.files[file]
        if len(data) != wanted.size or hashlib.sha256(data).hexdigest() != wanted.sha256:
            raise InputError(f"{self.name} is damaged: the checksum of {file} does not match")


def _aligned(data: memoryview) -> memoryview:
    """These bytes as code may read them: a copy where another program wrote the file again and left
    them at some odd place.
    """
    given = np.frombuffer(data, np.uint8)
    if given.ctypes.data % ALIGNMENT == 0:
        return data
    room = np.empty(len(given) + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    copy = room[start : start + len(given)]
    copy[:] = given
    return copy.data


def _place(x: Array) -> tuple[int, Array]:
    return x.ctypes.data, x

