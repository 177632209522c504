"""Known models as C libraries: the bits of artifacts, and what their frameworks give.

    python -m tests.api.bundled [--only bert,vit] [--target x86-64-v3]        1 where one differs

Models are those of the benchmark at their sizes, architectures of `transformers` at tiny ones with
random weights (`tools.zoo`), and the pretrained ONNX files that are there (`tools.onnx_models`). A
line each: its name and "same"; or what differs, or why it cannot be built. `same` is that the C
library and the artifact in Python give equal bits, which are near the framework's, and that the
objects of the program import nothing.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

import ferrule
from ferrule.base.elf import undefined_symbols
from ferrule.base.errors import FerruleError
from tests.api.clibrary import CLibrary, members
from tests.onnx.bundled import HERE

Array = np.ndarray[Any, Any]
TOLERANCE = 1e-3  # of the largest element of a result
LEAST = 1e-3  # below which results are taken as small: the sigmoid of -16 is no result to compare

NETWORKS = ("resnet18", "mobilenet_v2", "dlrm", "mlp")
ARCHITECTURES = (
    "bert", "distilbert", "modernbert", "gpt2", "llama", "qwen3", "vit", "swin", "convnext",
    "resnet", "mobilenet_v2", "regnet", "segformer", "clip", "t5", "whisper", "wav2vec2",
)  # fmt: skip
FILES = ("nsnet2", "magika", "silero_16k", "silero_clip", "basic_pitch", "captcha", "ocr_cls",
         "ocr_det", "ddddocr")  # fmt: skip


class Built(NamedTuple):
    """What can be saved, the inputs by name in order, and the framework's results."""

    compiled: Any
    inputs: tuple[Array, ...]
    expected: tuple[Array, ...]


class Known(NamedTuple):
    name: str
    build: Callable[[], Built]


class Flat(torch.nn.Module):
    """A module whose arguments and results are the tensors among them."""

    def __init__(self, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        super().__init__()
        self.module = module
        leaves, self.spec = tree_flatten((args, kwargs))
        self.others = [None if isinstance(x, torch.Tensor) else x for x in leaves]
        self.places = [i for i, x in enumerate(leaves) if isinstance(x, torch.Tensor)]

    def forward(self, *tensors: torch.Tensor) -> Any:
        leaves = list(self.others)
        for i, x in zip(self.places, tensors, strict=True):
            leaves[i] = x
        args, kwargs = tree_unflatten(leaves, self.spec)
        out = tree_leaves(self.module(*args, **kwargs))
        return tuple(x for x in out if isinstance(x, torch.Tensor))


def _of_module(module: torch.nn.Module, args: Any, kwargs: Any) -> Built:
    flat = Flat(module.eval().requires_grad_(False), args, kwargs)
    given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    with torch.no_grad():
        expected = flat(*given)
    compiled = ferrule.compile(flat, tuple(given))
    return Built(compiled, tuple(x.numpy() for x in given), tuple(x.numpy() for x in expected))


def _network(name: str) -> Built:
    from benchmarks.models import find

    module, inputs = find(name)()
    return _of_module(module, inputs, {})


def _architecture(name: str) -> Built:
    from tools.zoo.table import ARCHITECTURES as ALL

    case = next(c for c in ALL if c.name == name)
    program = next(iter(case.programs()))
    call = program.calls[0]
    return _of_module(program.run, call.args, dict(call.kwargs))


def _file(name: str) -> Built:
    import onnxruntime as ort

    from tools.onnx_models import MODELS

    model = next(m for m in MODELS if m.name == name)
    feed = model.feed(np.random.default_rng(0), *model.sizes[0])
    shapes = {n: x.shape for n, x in feed.items()}
    session = ferrule.InferenceSession(str(model.path), shapes=shapes)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    theirs = ort.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    names = [p.name for p in session.model.body.inputs]
    return Built(session, tuple(feed[n] for n in names), tuple(theirs.run(None, feed)))


def known() -> Iterator[Known]:
    """All models that are there."""
    from tools.onnx_models import MODELS

    for kind, make, names in (
        ("network", _network, NETWORKS),
        ("tiny", _architecture, ARCHITECTURES),
        ("file", _file, [m.name for m in MODELS if m.name in FILES and m.path.exists()]),
    ):
        for name in names:
            yield Known(f"{kind} {name}", lambda make=make, name=name: make(name))


def outcome(one: Known, targets: Sequence[str]) -> str:
    """What became of a model: "same", or what is wrong with it."""
    try:
        built = one.build()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            built.compiled.bundle(folder / "model", targets)
            built.compiled.save(folder / "model.ferrule", targets)
            return _compared(built, folder)
    except FerruleError as error:
        return f"cannot be built: {type(error).__name__}: {str(error).splitlines()[0]}"


def _compared(built: Built, folder: Path) -> str:
    loaded = ferrule.load(folder / "model.ferrule")
    by_name = dict(zip(loaded.inputs, built.inputs, strict=True))
    theirs = loaded.run(None, by_name)
    library = CLibrary(folder / "model")
    handle = library.create(library.weights if library.weights.exists() else None)
    given = [np.ascontiguousarray(by_name[s.name.decode()]) for s in library.specs("input")]
    ours = library.run(handle, given)
    library.destroy(handle)
    for number, (a, b) in enumerate(itertools.zip_longest(ours, theirs)):
        if a is None or b is None or a.shape != b.shape or a.tobytes() != b.tobytes():
            return f"different bits in output {number}"
    for number, (a, b) in enumerate(zip(theirs, built.expected, strict=True)):
        scale = max(float(np.abs(b.astype("f8")).max(initial=0)), LEAST)
        error = float(np.abs(a.astype("f8") - b.astype("f8")).max(initial=0)) / scale
        if not error <= TOLERANCE:
            return f"output {number} is {error:.2g} of its largest element off"
    objects = members(folder / "model" / "libmodel.a")
    wanted = {s for n, code in objects.items() if "program" in n for s in undefined_symbols(code)}
    return f"its objects import {', '.join(wanted)}" if wanted else "same"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="parts of names, with commas between them")
    parser.add_argument("--target", default=HERE[-1])
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    parts, wrong, same = options.only.split(","), 0, 0
    for one in known():
        if not any(p in one.name for p in parts):
            continue
        started = time.monotonic()
        try:
            became = outcome(one, options.target.split(","))
        except Exception:
            became = "failed: " + traceback.format_exc(limit=-1).splitlines()[-1]
        same += became == "same"
        wrong += became != "same" and not became.startswith("cannot be built")
        print(f"{one.name:24}{became}  ({time.monotonic() - started:.0f} s)", flush=True)
    print(f"{same} the same, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
