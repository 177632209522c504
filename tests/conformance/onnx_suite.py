"""The conformance suite of the onnx package, on ferrule and on ONNX Runtime.

    python -m tests.conformance.onnx_suite                         all of it, as a table
    python -m tests.conformance.onnx_suite --only resize           tests with that in their name
    python -m tests.conformance.onnx_suite --write docs/onnx.md    and the report at a file's end

`onnx.backend.test` holds tests of single nodes, of small models, and of models and operators that
PyTorch exported. A test passes where all outputs have the expected values, dtypes and shapes.
"""

from __future__ import annotations

import argparse
import json
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BACKENDS = ("ferrule", "onnxruntime")
STATUSES = ("passed", "failed", "not supported")
HEAD = "## Conformance"


@dataclass(frozen=True)
class Result:
    """One test on one backend."""

    backend: str
    kind: str
    name: str
    status: str
    message: str = ""


class Worker:
    """A process of `onnx_worker`, started again where it dies."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.tests: list[tuple[str, str]] = []
        self._start()

    def run(self, kind: str, name: str, limit: float) -> Result:
        """One test, which may take `limit` seconds of an idle process's silence."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind} {name}\n")
        self._process.stdin.flush()
        reply = self._reply(limit)
        if reply is None:
            self._process.kill()
            code = self._process.wait()
            self._start()
            why = f"the process ended with {code}, or took over {limit:.0f} s"
            return Result(self.backend, kind, name, "failed", why)
        return Result(self.backend, kind, name, reply["status"], reply["message"])

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        command = [sys.executable, "-m", "tests.conformance.onnx_worker", self.backend]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, bufsize=1,
        )  # fmt: skip
        first = self._reply(3600.0)
        if first is None:
            raise SystemExit(f"the worker for {self.backend} did not start: {' '.join(command)}")
        self.tests = [(kind, name) for kind, name in first["tests"]]

    def _reply(self, limit: float) -> dict[str, object] | None:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], limit)
        line = self._process.stdout.readline() if ready else ""
        return json.loads(line) if line else None


def results(backend: str, only: Sequence[str], limit: float) -> Iterator[Result]:
    """The results of one backend, test by test."""
    worker = Worker(backend)
    for kind, name in list(worker.tests):
        if not only or any(part in name for part in only):
            yield worker.run(kind, name, limit)
    worker.close()


# ---- the usual types -----------------------------------------------------------------------------

UNUSUAL = (
    "STRING", "FLOAT8", "FLOAT4", "FLOAT6", "UINT4", "INT4", "UINT2", "INT2", "COMPLEX",
)  # fmt: skip
TRAINING = ("ai.onnx.preview.training", "ai.onnx.training")


def usual() -> set[str]:
    """The names of the tests without training, strings, sequences, optionals, floats and integers
    of fewer than 8 bits, 8-bit floats and complex numbers.
    """
    import onnx
    from onnx.backend.test.loader import load_model_tests

    cases = [c for kind in ("node", "simple", "pytorch-converted", "pytorch-operator")
             for c in load_model_tests(kind=kind)]  # fmt: skip
    return {
        f"{c.name}_cpu"
        for c in cases
        if _is_usual(c.model or onnx.load(str(Path(c.model_dir) / "model.onnx")))
    }


def _is_usual(model: Any) -> bool:
    """Whether all inputs and outputs are tensors of usual types, and no operator trains."""
    import onnx

    for value in (*model.graph.input, *model.graph.output):
        if value.type.WhichOneof("value") != "tensor_type":
            return False
        name = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        if name.startswith(UNUSUAL):
            return False
    return not any(n.domain in TRAINING or "Gradient" in n.op_type for n in model.graph.node)


# ---- the report ----------------------------------------------------------------------------------


def table(found: Sequence[Result]) -> list[str]:
    """Counts by backend and kind, as Markdown, and of the tests of usual types."""
    names = usual()
    lines = [
        "| | tests | " + " | ".join(STATUSES) + " | passed |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for backend in dict.fromkeys(r.backend for r in found):
        mine = [r for r in found if r.backend == backend]
        kinds = dict.fromkeys(r.kind for r in mine)
        rows = {f"{backend}, {kind}": [r for r in mine if r.kind == kind] for kind in kinds}
        rows[f"**{backend}, all**"] = mine
        rows[f"{backend}, usual types"] = [r for r in mine if r.name in names or r.kind == "Real"]
        for label, some in rows.items():
            n = Counter(r.status for r in some)
            counts = " | ".join(str(n[s]) for s in STATUSES)
            share = 100 * n["passed"] / max(1, len(some))
            lines.append(f"| {label} | {len(some)} | {counts} | {share:.1f} % |")
    return lines


def report(found: Sequence[Result]) -> str:
    """The whole report."""
    import onnx
    import onnxruntime

    out = [
        HEAD,
        "",
        f"The suite in onnx {onnx.__version__} (`onnx.backend.test`, CPU), run on ferrule and on "
        f"ONNX Runtime {onnxruntime.__version__} by one command. A test passes where every output "
        "has the expected shape, dtype and values. The usual types are all but strings, sequences, "
        "optionals, 8-bit floats, numbers of fewer bits and complex ones, without operators of "
        "training. Written by "
        "`python -m tests.conformance.onnx_suite --write docs/onnx.md`.",
        "",
        *table(found),
    ]
    passed = {b: {r.name for r in found if r.backend == b and r.status == "passed"}
              for b in BACKENDS}  # fmt: skip
    for status in STATUSES[1:]:
        some = [r for r in found if r.backend == "ferrule" and r.status == status]
        out += ["", f"### ferrule: {status}", ""]
        if not some:
            out.append("None.")
            continue
        out += ["| test | ONNX Runtime | why |", "| --- | --- | --- |"]
        for r in some:
            theirs = "passes" if r.name in passed["onnxruntime"] else "does not pass"
            out.append(f"| `{r.name.removesuffix('_cpu')}` | {theirs} | {_shown(r.message)} |")
    return "\n".join(out) + "\n"


def write(path: Path, text: str) -> None:
    """Put a report at the end of a file, in place of the one that stands there."""
    held = path.read_text(encoding="utf-8") if path.is_file() else ""
    path.write_text(held.partition(HEAD)[0] + text, encoding="utf-8")


def _shown(message: str) -> str:
    text = " ".join(message.split()).replace("|", "\\|")
    return text if len(text) <= 160 else text[:157] + "..."


def main() -> None:
    """Run, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="comma-separated parts of test names")
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--write", type=Path, help="a file that gets the report as its end")
    parser.add_argument("--json", type=Path, help="where the single results go")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds for one test")
    options = parser.parse_args()
    only = [part for part in options.only.split(",") if part]
    found: list[Result] = []
    for backend in options.backends.split(","):
        for r in results(backend, only, options.limit):
            found.append(r)
            if r.status != "passed" and backend == "ferrule":
                print(f"{r.status}: {r.name}: {_shown(r.message)}", flush=True)
    print("\n".join(table(found)))
    if options.json:
        options.json.write_text(json.dumps([vars(r) for r in found], indent=1), encoding="utf-8")
    if options.write:
        write(options.write, report(found))


if __name__ == "__main__":
    main()
