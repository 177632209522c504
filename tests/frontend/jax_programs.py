"""Programs of JAX, run by ferrule and by XLA: what each gives, and what it should.

    FERRULE_JAX_PROGRAMS=FILE python -m tests.frontend.jax_programs [NAME..]
    python -m tests.frontend.jax_programs --file FILE --native [--under grad|vmap] [NAME..]
    python -m tests.frontend.jax_programs --file FILE --platform [--under grad|vmap] [NAME..]

The file is Python that makes a dict `P` of `name: (function, arguments)`. A program is right, wrong
or refused with the reason, or late; "partly" is one that is right, and of which XLA runs a part.
Each runs in a process that is ended where it takes too long. With `--native` a program is
`ferrule.jax.jit(f)(*args)`, with `--platform` it is `jax.jit(f)(*args)` on ferrule's platform of
JAX, else it is the StableHLO of `jax.jit(f)`. With `--under` it is the gradient of that by all
floats, or a batch of two; "none" is a program that has no such thing in JAX.

Signs of vectors and the order of eigenvalues are left open by what a decomposition is: of these
functions of `jnp.linalg` the values and the product of the factors are compared. "loose" is a
program that is not right, and that XLA itself gives other results for where floats among the
arguments move by a rounding.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_FILE = "FERRULE_JAX_PROGRAMS"
_TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
_READY = "ready"
LEFT: list[str] = []


def programs(path: Path) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """The programs of a file."""
    scope: dict[str, Any] = {"__name__": path.stem}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), scope)
    found: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = scope["P"]
    return found


def leaves(tree: Any) -> list[Any]:
    """The arrays of a tree as NumPy's, keys as the numbers that they are."""
    import jax
    import jax.numpy as jnp

    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in map(jnp.asarray, jax.tree.leaves(tree))
    ]


def by_conversion(f: Callable[..., Any], args: Sequence[Any], how: str = "") -> list[Any]:
    """What the StableHLO of `jax.jit(f)` gives, compiled by ferrule."""
    assert not how
    import jax

    from ferrule.frontend.stablehlo.convert import convert
    from ferrule.frontend.stablehlo.text import read_text
    from ferrule.pipeline.compile import compile_graph
    from ferrule.runtime.arrays import NumpyCallable

    text = jax.jit(f, keep_unused=True).lower(*args).as_text()
    made = convert(read_text(text, "program"))
    program = compile_graph(made.graph)
    program.executable.bind([(p.ctypes.data, p) for p in made.params])
    given = [_storage(x) for x in leaves(args)]
    out = NumpyCallable(program.executable)(*given)
    return [_from_storage(x, t.element) for x, t in zip(out, made.outputs, strict=True)]


def _storage(x: Any) -> Any:
    if np.iscomplexobj(x):
        x = np.stack([x.real, x.imag], -1)
    return np.ascontiguousarray(x).reshape(x.shape)


def _from_storage(x: Any, element: str) -> Any:
    if element.startswith("complex"):
        return x[..., 0] + 1j * x[..., 1]
    if element == "bf16":
        import ml_dtypes

        return x.view(ml_dtypes.bfloat16)
    return x


def settled(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function f, or what of its result is the only one: of `eigh`, `svd` and `eigvals`."""
    import jax.numpy as jnp

    def eigh(a: Any) -> Any:
        w, v = f(a)
        return w, (v * w[..., None, :]) @ jnp.conj(jnp.swapaxes(v, -1, -2))

    def svd(a: Any) -> Any:
        u, s, vh = f(a)
        k = s.shape[-1]
        return s, (u[..., :k] * s[..., None, :]) @ vh[..., :k, :]

    def eigvals(a: Any) -> Any:
        w = f(a)
        return jnp.take_along_axis(w, jnp.lexsort((w.imag, w.real)), -1)

    known = {jnp.linalg.eigh: eigh, jnp.linalg.svd: svd, jnp.linalg.eigvals: eigvals}
    return known.get(f, f)


def moved(args: Any, seed: int) -> Any:
    """Arguments whose floats are a rounding away."""
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(seed)

    def other(x: Any) -> Any:
        x = jnp.asarray(x)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        signs = rng.choice([-1.0, 1.0], x.shape)
        return (x * (1 + signs * float(jnp.finfo(x.dtype).eps))).astype(x.dtype)

    return jax.tree.map(other, args)


def natively(f: Callable[..., Any], args: Sequence[Any], how: str = "") -> list[Any]:
    """What `ferrule.jax.jit(f)` gives; `LEFT` has what of it XLA runs."""
    import ferrule
    import ferrule.jax

    ferrule.reset_counters()
    out = leaves(under(how, ferrule.jax.jit(f), args))
    LEFT[:] = ferrule.counters()["fallbacks"]
    return out


def on_platform(f: Callable[..., Any], args: Sequence[Any], how: str = "") -> list[Any]:
    """What `jax.jit(f)` gives on ferrule's platform. Raises UnsupportedError for what it lacks."""
    import jax

    from ferrule.base.errors import UnsupportedError

    (device,) = jax.devices("ferrule")
    try:
        with jax.default_device(device):
            out = under(how, jax.jit(f), jax.device_put(args, device))
            return leaves(jax.block_until_ready(out))
    except (RuntimeError, ValueError) as error:
        if "UNIMPLEMENTED" in str(error) or "EmitPythonCallback" in str(error):
            raise UnsupportedError(str(error)) from error
        raise


def under(how: str, f: Callable[..., Any], args: Sequence[Any]) -> Any:
    """What f gives, its gradient, or a batch of two of it."""
    import jax
    import jax.numpy as jnp

    if how == "vmap":
        return jax.vmap(f)(*jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 2), args))
    if not how:
        return f(*args)
    every, tree = jax.tree.flatten(args)
    smooth = [jnp.issubdtype(jnp.asarray(x).dtype, jnp.floating) for x in every]

    def total(chosen: list[Any]) -> Any:
        rest = iter(chosen)
        own = [next(rest) if s else x for x, s in zip(every, smooth)]
        out = jax.tree.leaves(f(*jax.tree.unflatten(tree, own)))
        return sum(y.real.sum() for y in out if jnp.issubdtype(y.dtype, jnp.inexact))

    return jax.grad(total)([jnp.asarray(x) for x, s in zip(every, smooth) if s])


def different(x: Any, y: Any) -> str | None:
    """How `x` is not `y`, or None."""
    if x.shape != y.shape:
        return f"shape {x.shape}, not {y.shape}"
    if y.dtype.kind in "biu":
        return None if np.array_equal(x, y) else f"{x.reshape(-1)[:6]}, not {y.reshape(-1)[:6]}"
    near = _TOLERANCE.get(str(y.real.dtype), 1e-4)
    wide = np.complex128 if np.iscomplexobj(y) else np.float64
    a, b = x.astype(wide), y.astype(wide)
    size = np.abs(b[np.isfinite(b)]).max(initial=1)
    ok = np.isclose(a, b, rtol=near, atol=near * min(size, 1e3) * 0.1, equal_nan=True)
    if ok.all():
        return None
    at = np.argwhere(~ok)[0]
    values = f"{a[tuple(at)]} should be {b[tuple(at)]} at {at.tolist()}"
    return f"{values}; {(~ok).sum()} of {ok.size}"


_RUNS = {"native": natively, "platform": on_platform, "": by_conversion}


def judged(
    f: Callable[..., Any], args: Sequence[Any], run: str, how: str
) -> tuple[str, str]:
    """Whether a program is right, and why not."""
    import jax

    from ferrule.base.errors import FerruleError, UnsupportedError

    f = settled(f)
    try:
        want = leaves(under(how, jax.jit(f), args))
    except Exception as error:
        return "none", f"{type(error).__name__}: {error}"
    try:
        got = _RUNS[run](f, args, how)
    except UnsupportedError as error:
        return "refused", str(error)
    except FerruleError as error:
        return "refused", f"{type(error).__name__}: {error}"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return "crash", f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
    if len(got) != len(want):
        return "wrong", f"{len(got)} results, not {len(want)}"
    for k, (x, y) in enumerate(zip(got, want)):
        message = different(x, y)
        if message is not None:
            own = (leaves(under(how, jax.jit(f), moved(args, seed)))[k] for seed in range(3))
            loose = any(different(z, y) for z in own)
            return "loose" if loose else "wrong", f"result {k}: {message}"
    return ("partly", f"XLA runs {', '.join(LEFT)}") if LEFT else ("right", "")


def work(path: Path, run: str, how: str) -> None:
    """Judges the programs whose names come in, a line each."""
    if run == "platform":
        import jax

        import ferrule.jax

        jax.config.update("jax_platforms", "cpu,ferrule")
        ferrule.jax.register_platform()
    found = programs(path)
    print(json.dumps([_READY, list(found)]), flush=True)
    for line in sys.stdin:
        print(json.dumps(judged(*found[json.loads(line)], run, how)), flush=True)


class Worker:
    """A process that judges programs."""

    def __init__(self, path: Path, options: Sequence[str]) -> None:
        command = [sys.executable, "-m", __spec__.name, "--file", str(path), "--work", *options]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, bufsize=0,
        )  # fmt: skip
        self.names = self.answer(600)[1]

    def ask(self, name: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(name).encode() + b"\n")

    def answer(self, limit: float) -> Any:
        """The next line that is one; raises TimeoutError and EOFError."""
        out, until, kept = self.process.stdout, time.monotonic() + limit, b""
        assert out is not None
        while True:
            ready, _, _ = select.select([out], [], [], max(0, until - time.monotonic()))
            if not ready:
                raise TimeoutError
            got = os.read(out.fileno(), 1 << 16)
            if not got:
                raise EOFError
            kept += got
            *lines, kept = kept.split(b"\n")
            for line in lines:
                if line.startswith(b"["):
                    try:
                        return json.loads(line)
                    except ValueError:
                        continue

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def verdicts(
    path: Path, options: Sequence[str], names: Sequence[str], limit: float
) -> Iterator[tuple[str, str, str, float]]:
    """Name, verdict, reason and seconds of each program."""
    worker = Worker(path, options)
    for name in names or worker.names:
        started = time.monotonic()
        try:
            worker.ask(name)
            verdict, why = worker.answer(limit)
        except TimeoutError:
            verdict, why = "late", f"more than {limit:g} s"
        except EOFError:
            verdict, why = "crash", f"the process ended: {worker.process.wait()}"
        yield name, verdict, why, time.monotonic() - started
        if worker.process.poll() is not None or verdict == "late":
            worker.end()
            worker = Worker(path, options)
    worker.end()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--file", type=Path, default=os.environ.get(_FILE))
    parser.add_argument(
        "--native", dest="run", action="store_const", const="native", default="",
        help="through ferrule.jax.jit",
    )  # fmt: skip
    parser.add_argument(
        "--platform", dest="run", action="store_const", const="platform",
        help="on ferrule's platform of JAX",
    )  # fmt: skip
    parser.add_argument("--under", choices=("grad", "vmap"), default="")
    parser.add_argument("--limit", type=float, default=120, help="seconds for each program")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    o = parser.parse_args(arguments)
    if o.file is None:
        parser.error(f"name the file of programs by --file or {_FILE}")
    if o.work:
        work(Path(o.file), o.run, o.under)
        return 0
    if o.under and not o.run:
        parser.error("--under goes with --native and --platform")
    options = [f"--{o.run}"] * bool(o.run) + ["--under", o.under] * bool(o.under)
    counts: Counter[str] = Counter()
    for name, verdict, why, seconds in verdicts(Path(o.file), options, o.names, o.limit):
        counts[verdict] += 1
        first = " ".join(why.split())[:300]
        print(f"{verdict:8}{seconds:6.1f} s  {name}{': ' + first if first else ''}", flush=True)
    print(", ".join(f"{n} {v}" for v, n in sorted(counts.items())))
    return 0 if set(counts) <= {"right", "partly", "none", "loose"} else 1


if __name__ == "__main__":
    sys.exit(main())
