"""Damaged artifacts and objects: each is refused by an error of ferrule's own, or was not harmed.

    python -m tests.api.mutate --count 10000 [--seed 0]        1 where a case failed

A case is a subject and one mutation of its bytes, both chosen by the case's number. Subjects:

    artifact    loaded; no library but those that were built may be opened, and what runs must give
                the same bits
    packed      the same with weights packed ahead
    unverified  the same without checksums of weights, whose values may then be any
    signed      the manifest and its checksum agree, as an attacker would write them: never taken
                with the key asked for
    cached      an entry of the cache of compiled programs
    object      an object of machine code, which the linker reads
    weights     the weights of a C library, in which its native code looks for tensors

Cases run in processes of their own. One that ends its process or takes too long is found, told of,
and the rest goes on.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.base.artifact import Compiled
from ferrule.base.errors import FerruleError
from ferrule.base.manifest import MANIFEST, SIGNATURE
from ferrule.base.stored import entries_of
from ferrule.runtime import load as loading
from ferrule.runtime.library import Library

SECONDS = 60  # for one case
SUBJECTS = ("artifact", "packed", "unverified", "signed", "cached", "object", "weights")
_SHARES = (5, 3, 2, 2, 2, 2, 2)
_WAYS = ("bit", "byte", "digit", "fill", "delete", "insert", "double", "swap", "end")


class Failure(Exception):
    """What must not happen."""


# ---- subjects ------------------------------------------------------------------------------------


def make(folder: Path) -> None:
    """Writes what is mutated, and what it gives."""
    import ferrule
    from ferrule.base import config
    from ferrule.pipeline.build import DEFAULT_TARGETS
    from ferrule.pipeline.compile import compile_for
    from ferrule.target.cpu import portable
    from tests.onnx.bundled import HERE

    session = ferrule.InferenceSession(_model())
    key = _keys(folder)
    session.save(folder / "artifact", HERE)
    session.save(folder / "packed", HERE, packed=True)
    if key is not None:
        session.save(folder / "signed", HERE, sign=key)
    session.bundle(folder / "c", HERE)
    graph = session.source("main").graph
    made = compile_for(graph, portable(DEFAULT_TARGETS[0]), config.settings())
    (folder / "cached").write_bytes(made.to_bytes())
    (folder / "object").write_bytes(made.object_code)
    (folder / "weights").write_bytes((folder / "c" / "c.safetensors").read_bytes())
    np.save(folder / "expected.npy", loading.load(folder / "artifact")(INPUT))


INPUT = np.random.default_rng(0).standard_normal((3, 24)).astype("f4")


def _model() -> Any:
    """Two layers for any batch."""
    from tests.onnx.tools import model, node

    rng = np.random.default_rng(1)
    nodes = [
        node("Gemm", "x w b", "h", transB=1),
        node("Tanh", "h", "t"),
        node("Gemm", "t v c", "u", transB=1),
        node("Softmax", "u", "y"),
    ]
    constants = {
        "w": rng.standard_normal((40, 24)).astype("f4"), "b": np.ones(40, "f4"),
        "v": rng.standard_normal((9, 40)).astype("f4"), "c": np.zeros(9, "f4"),
    }  # fmt: skip
    return model(nodes, {"x": (np.float32, ["batch", 24])}, ["y"], constants)


def _keys(folder: Path) -> Path | None:
    """The file of a private key, with the public one beside it; None without cryptography."""
    try:
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        return None
    key = Ed25519PrivateKey.generate()
    own = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.Raw, form.PublicFormat.Raw)
    (folder / "private.pem").write_bytes(own)
    (folder / "public").write_bytes(public)
    return folder / "private.pem"


# ---- mutations -----------------------------------------------------------------------------------


def _regions(data: bytes) -> list[tuple[int, int]]:
    """From where to where the parts of a file lie; of one that is no zip file, its first bytes."""
    try:
        whole = memoryview(data)
        start = np.frombuffer(whole, np.uint8).ctypes.data
        found = []
        for part in entries_of(whole).values():
            at = np.frombuffer(part.data, np.uint8).ctypes.data - start
            found += [(at, at + len(part.data)), (max(at - 4096, 0), at)]
        found.append((max(end for _, end in found), len(data)))
    except ValueError:
        found = [(0, min(256, len(data)))]
    return [r for r in (*found, (0, len(data))) if r[0] < r[1]]


def _run(rng: random.Random, size: int) -> int:
    return min(1 + int(rng.expovariate(1 / 20)), size)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Something else than `data`."""
    while True:
        low, high = rng.choice(_regions(data))
        made = bytearray(data)
        at, n = rng.randrange(low, high), _run(rng, high - low)
        other = rng.randrange(len(data))
        match rng.choice(_WAYS):
            case "bit":
                made[at] ^= 1 << rng.randrange(8)
            case "byte":
                made[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case "digit":
                digits = [i for i in range(low, min(high, low + 4096)) if chr(data[i]).isdigit()]
                for i in rng.sample(digits, min(len(digits), 1)):
                    made[i] = rng.choice(b"0123456789-")
            case "fill":
                made[at : at + n] = bytes([rng.choice((0, 0xFF))]) * len(made[at : at + n])
            case "delete":
                del made[at : at + n]
            case "insert":
                made[at:at] = rng.randbytes(n)
            case "double":
                made[at:at] = made[at : at + n * rng.choice((1, 64))]
            case "swap":
                here, there = data[at : at + n], data[other : other + n]
                made[at : at + n], made[other : other + n] = there, here
            case "end":
                del made[at:]
        if made != data:
            return bytes(made)


# ---- cases ---------------------------------------------------------------------------------------


class Cases:
    """What a process runs: cases by their numbers, on the files of a folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.opened: set[bytes] = set()
        self.expected = np.load(folder / "expected.npy")
        self.here = [s for s in SUBJECTS if s == "unverified" or (folder / s).exists()]
        self.known = set()
        for name in self.here:
            if zipfile.is_zipfile(folder / name):
                parts = entries_of(memoryview((folder / name).read_bytes()))
                self.known |= {bytes(p.data) for n, p in parts.items() if n.startswith("lib/")}
        loading.Library = self._library  # type: ignore[assignment, misc]

    def _library(self, code: bytes, name: str) -> Library:
        if code not in self.known:
            raise Failure("code that was changed is opened")
        return Library(code, name)

    def run(self, number: int) -> str:
        """What became of a case: "refused", "taken". Raises Failure, and whatever must not be."""
        rng = random.Random(f"{self.seed} {number}")
        shares = [_SHARES[SUBJECTS.index(s)] for s in self.here]
        (subject,) = rng.choices(self.here, shares)
        run: Callable[[random.Random], str] = getattr(self, f"_{subject}")
        return f"{subject} {run(rng)}"

    def _changed(self, rng: random.Random, name: str) -> Path:
        path = self.folder / f"changed.{name}"
        path.write_bytes(mutated(rng, (self.folder / name).read_bytes()))
        return path

    def _loaded(self, path: Path, exact: bool = True, **options: Any) -> str:
        try:
            found = loading.load(path, **options)(INPUT)
        except FerruleError:
            return "refused"
        if exact and not np.array_equal(found, self.expected):
            raise Failure("another result")
        return "taken"

    def _artifact(self, rng: random.Random) -> str:
        return self._loaded(self._changed(rng, "artifact"))

    def _packed(self, rng: random.Random) -> str:
        return self._loaded(self._changed(rng, "packed"))

    def _unverified(self, rng: random.Random) -> str:
        name = rng.choice(("artifact", "packed"))
        return self._loaded(self._changed(rng, name), exact=False, verify=False)

    def _signed(self, rng: random.Random) -> str:
        """Entries that were changed, in a file that is whole."""
        path, changed = self.folder / "changed.signed", rng.choice((MANIFEST, SIGNATURE))
        with zipfile.ZipFile(self.folder / "signed") as old, zipfile.ZipFile(path, "w") as new:
            for info in old.infolist():
                data, name = old.read(info), info.filename
                new.writestr(name, mutated(rng, data) if name == changed else data)
        became = self._loaded(path, trusted=(self.folder / "public").read_bytes())
        if became != "refused":
            raise Failure("a wrong signature is taken")
        return became

    def _cached(self, rng: random.Random) -> str:
        data = (self.folder / "cached").read_bytes()
        try:
            Compiled.from_bytes(mutated(rng, data))
        except FerruleError:
            return "refused"
        raise Failure("a changed entry is taken")

    def _object(self, rng: random.Random) -> str:
        from ferrule.codegen.link.elf import shared_library

        data = (self.folder / "object").read_bytes()
        try:
            shared_library([mutated(rng, data)], [], "model.so", imports=())
        except FerruleError:
            return "refused"
        return "taken"

    @cached_property
    def _c(self) -> Any:
        from tests.api.clibrary import CLibrary

        return CLibrary(self.folder / "c")

    def _weights(self, rng: random.Random) -> str:
        """Values may be any; names, dtypes, shapes and the size may not."""
        from tests.api.clibrary import Failed

        path = self._changed(rng, "weights")
        try:
            model = self._c.create(path)
        except Failed:
            return "refused"
        self._c.run(model, [INPUT])
        self._c.destroy(model)
        return "taken"


def _serve(folder: Path, seed: int, numbers: Sequence[int]) -> None:
    """Tells of each case before it is run and after."""
    cases = Cases(folder, seed)
    for number in numbers:
        print(json.dumps([number, None]), flush=True)
        signal.alarm(SECONDS)
        try:
            became = cases.run(number)
        except Exception as error:
            became = f"failed: {type(error).__name__}: {error}"
        print(json.dumps([number, became]), flush=True)


def outcomes(folder: Path, seed: int, count: int) -> Iterator[tuple[int, str]]:
    """What became of the cases 0..count, by processes that go on behind one that ended."""
    first = 0
    while first < count:
        command = [sys.executable, "-m", "tests.api.mutate", "--serve", str(folder)]
        command += ["--seed", str(seed), "--first", str(first), "--count", str(count)]
        last, told = first, True
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            for line in worker.stdout:
                last, became = json.loads(line)
                told = became is not None
                if told:
                    yield last, became
            status = worker.wait()
        if not told or status:
            yield last, f"failed: its process ended with {status}"
        first = last + 1


def run(count: int, seed: int = 0, tell: Callable[[str], Any] = print) -> dict[str, int]:
    """How many cases had each outcome; those that failed are told of."""
    found = collections.Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        make(Path(name))
        for number, became in outcomes(Path(name), seed, count):
            failed = became.startswith("failed") or " " not in became
            found["failed" if failed else became] += 1
            if failed:
                tell(f"case {number}: {became}")
    return dict(sorted(found.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        _serve(options.serve, options.seed, range(options.first, options.count))
        return 0
    found = run(options.count, options.seed)
    for became, n in found.items():
        print(f"{n:6} {became}")
    return 1 if "failed" in found else 0


if __name__ == "__main__":
    sys.exit(main())
