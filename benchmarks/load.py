"""Import, load, memory and size of artifacts, beside ONNX Runtime on the same models.

    python -m benchmarks.load model.onnx ..          [--rounds 7] [--target x86-64-v3,x86-64-v4]

ONNX Runtime loads the model as it is, and what it has made of it ahead of time (`optimized`, with
all its optimisations for this machine, which it then need not do again), ferrule an artifact, and
one with its weights packed ahead. Each figure is the median of processes of their own, in turn, all
with their files in the page cache. A process imports the library, loads the model, which for an
artifact includes its checksums and the packing of weights, and runs it once on zeros; its memory is
the most that was resident, over that of a process which imports numpy alone, and `private` what at
the end no other process can share. Python reads bytecode, as of packages that pip has installed.
Models whose weights lie in other files are not for this.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from ferrule.api.session import InferenceSession
from ferrule.pipeline.build import DEFAULT_TARGETS

_HEAD = """
import json, sys, time
import numpy as np
began = time.perf_counter()
"""
_TAIL = """
told = dict(line.split(":") for line in open("/proc/self/status"))
peak, own = (int(told[k].split()[0]) / 1024 for k in ("VmHWM", "RssAnon"))
print(json.dumps({"import": imported - began, "load": loaded - imported, "mb": peak, "own": own}))
"""
_NUMPY = "imported = loaded = time.perf_counter()"
_FERRULE = """
from ferrule.runtime.load import load
imported = time.perf_counter()
model = load(sys.argv[1])
loaded = time.perf_counter()
spec = [(s.name, [n if isinstance(n, int) else 1 for n in s.shape], s.element.numpy)
        for s in model.specs if s is not None]
model.run(None, {n: np.zeros(s, t) for n, s, t in spec})
"""
_ORT = """
import onnxruntime as ort
imported = time.perf_counter()
options = ort.SessionOptions()
options.log_severity_level = 4
if len(sys.argv) > 2:
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
model = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
loaded = time.perf_counter()
types = {"tensor(float)": "f4", "tensor(double)": "f8", "tensor(float16)": "f2",
         "tensor(bool)": "?", "tensor(int8)": "i1", "tensor(uint8)": "u1", "tensor(int16)": "i2",
         "tensor(int32)": "i4", "tensor(int64)": "i8"}
model.run(None, {i.name: np.zeros([n if isinstance(n, int) else 1 for n in i.shape], types[i.type])
                 for i in model.get_inputs()})
"""


def main() -> None:
    """Prints a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--target", default=",".join(DEFAULT_TARGETS))
    options = parser.parse_args()
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            built, packed = Path(folder) / "m.ferrule", Path(folder) / "packed.ferrule"
            optimized = Path(folder) / "optimized.onnx"
            session = InferenceSession(str(model))
            session.save(built, options.target.split(","))
            session.save(packed, options.target.split(","), packed=True)
            _optimized(model, optimized)
            ways: dict[str, tuple[str, list[str]]] = {
                "numpy": (_NUMPY, []),
                "ferrule": (_FERRULE, [str(built)]),
                "ferrule, packed": (_FERRULE, [str(packed)]),
                "onnxruntime": (_ORT, [str(model)]),
                "onnxruntime, optimized": (_ORT, [str(optimized), "as it is"]),
            }
            found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
            for number in range(1 + options.rounds):
                for name, (text, arguments) in ways.items():
                    row = _measured(text, arguments, Path(folder) / "bytecode")
                    if number:  # the first round has written the bytecode
                        found[name].append(row)
            sizes = {
                "ferrule": built, "ferrule, packed": packed,
                "onnxruntime": model, "onnxruntime, optimized": optimized,
            }  # fmt: skip
            print(model.name)
            for name, file in sizes.items():
                got = {k: median(r[k] for r in found[name]) for k in found[name][0]}
                memory, own = (got[k] - median(r[k] for r in found["numpy"]) for k in ("mb", "own"))
                print(
                    f"  {name:24}import {got['import'] * 1e3:4.0f} ms, load "
                    f"{got['load'] * 1e3:4.0f} ms, memory {memory:4.0f} MB, private {own:4.0f} MB, "
                    f"file {file.stat().st_size / 1e6:.2f} MB"
                )


def _optimized(model: Path, to: Path) -> None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(to)
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _measured(text: str, arguments: list[str], bytecode: Path) -> dict[str, float]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _HEAD + text + _TAIL, *arguments],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    read: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return read


if __name__ == "__main__":
    main()
