"""Import, load, memory and size of artifacts, beside ONNX Runtime on the same models.

    python -m benchmarks.load model.onnx ..          [--rounds 7] [--target x86-64-v3,x86-64-v4]

Each figure is the median of processes of their own, in turn. A process imports, loads, and runs the
model once on zeros; its memory is the most that was resident, over that of a process which imports
numpy alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
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
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": loaded - began, "mb": int(peak.split()[1]) / 1024}))
"""
_NUMPY = "loaded = time.perf_counter()"
_FERRULE = """
from ferrule.runtime.load import load
model = load(sys.argv[1])
loaded = time.perf_counter()
spec = [(s.name, [n if isinstance(n, int) else 1 for n in s.shape], s.element.numpy)
        for s in model.specs if s is not None]
model.run(None, {n: np.zeros(s, t) for n, s, t in spec})
"""
_ORT = """
import onnxruntime as ort
options = ort.SessionOptions()
options.log_severity_level = 4
model = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
loaded = time.perf_counter()
types = {"tensor(float)": "f4", "tensor(int64)": "i8", "tensor(int32)": "i4"}
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
            built = Path(folder) / "m.ferrule"
            InferenceSession(str(model)).save(built, options.target.split(","))
            ways = {"numpy": (_NUMPY, model), "ferrule": (_FERRULE, built), "ort": (_ORT, model)}
            found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
            for _ in range(options.rounds):
                for name, (text, file) in ways.items():
                    found[name].append(_measured(text, file))
            got = {
                name: {k: median(r[k] for r in several) for k in several[0]}
                for name, several in found.items()
            }
            print(f"{model.name}: {_line(got, built.stat().st_size, model.stat().st_size)}")


def _line(got: Mapping[str, Mapping[str, float]], built: int, model: int) -> str:
    ours, peer, bare = got["ferrule"], got["ort"], got["numpy"]["mb"]
    load, other = ours["seconds"] * 1e3, peer["seconds"] * 1e3
    memory, others = ours["mb"] - bare, peer["mb"] - bare
    return (
        f"load {load:.0f} ms, ort {other:.0f} ({load / other:.2f}); memory {memory:.0f} MB, ort "
        f"{others:.0f} ({memory / others:.2f}); file {built / 1e6:.2f} MB, model {model / 1e6:.2f} "
        f"({built / model:.3f})"
    )


def _measured(text: str, file: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _HEAD + text + _TAIL, str(file)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    read: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return read


if __name__ == "__main__":
    main()
