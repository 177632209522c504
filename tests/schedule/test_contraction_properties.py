"""Contractions of every kind and size against NumPy in f64, on memory between protected pages.

A long run: `FERRULE_LONG=20` makes twenty times as many cases, other ones with each
`FERRULE_SEED`. A case that fails prints as what makes it again:

    python -m tests.schedule.guarded <<< '{"kind": "Matmul", "m": 3, ..}'
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis import strategies as st

from ferrule.base.cpu import supports
from ferrule.target.cpu import NAMES
from tests.long import LONG
from tests.schedule.contraction_cases import (
    EPILOGUES,
    POINTWISE,
    PROLOGUES,
    Attention,
    Case,
    Conv,
    Matmul,
    to_data,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="guard pages need mprotect")

ROOT = Path(__file__).parent.parent.parent
SEED = int(os.environ.get("FERRULE_SEED", "0"))


class Worker:
    """The process that runs cases; it begins again after a crash."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def complaint(self, case: Case) -> str:
        """What is wrong with the case; "" where nothing is."""
        process = self.process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(to_data(case)) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if line:
            return str(json.loads(line))
        self.process = None
        return f"the process ended with {process.wait()}: an access out of bounds?"

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.schedule.guarded"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        atexit.register(self.process.kill)
        return self.process


worker = functools.cache(Worker)


def check(case: Case) -> None:
    message = worker().complaint(case)
    assert not message, f"{json.dumps(to_data(case))}\n{message}"


def cases(count: int):
    """Settings of a property: the same cases on each run, and no shrinking in a short one."""

    def decorate(test):
        short = (Phase.explicit, Phase.generate)
        phases = (*short, Phase.shrink) if LONG > 1 else short
        bound = settings(
            max_examples=count * LONG,
            deadline=None,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        )
        return seed(SEED)(bound(test))

    return decorate


TARGETS = st.sampled_from(["host", "host", "host", *(n for n in NAMES if supports(n))])
DTYPES = st.sampled_from(["f32", "f32", "f32", "f64", "f16", "bf16"])
BLOCKINGS = st.one_of(st.just(0), st.integers(1, 1 << 20))


def sizes(high: int) -> st.SearchStrategy[int]:
    """Sizes from 1 to `high`, with more of those at the edges of vectors and blocks, and primes."""
    edges = (1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 15, 16, 17, 23, 31, 32, 33, 47, 48, 63, 64, 65, 97,
             127, 128, 129, 131, 191, 251, 256, 257, 293, 300)  # fmt: skip
    return st.one_of(st.sampled_from([e for e in edges if e <= high]), st.integers(1, high))


@st.composite
def matmuls(draw, symbolic: bool = False) -> Matmul:
    batch = draw(st.sampled_from([0, 0, 1, 2, 3]))
    high = 300 if batch < 2 else 80
    constant = draw(st.sampled_from(["", "b", "b", "a", "ab"]))
    rowwise = "a" not in constant and not (symbolic and not constant)
    return Matmul(
        *(draw(sizes(high)) for _ in range(3)),
        batch=batch,
        shared=bool(batch) and draw(st.booleans()),
        turned=draw(st.sampled_from(["", "a", "b", "ab"])),
        constant="b" if symbolic and "a" in constant else constant,
        dtype=draw(DTYPES),
        prologue=draw(st.sampled_from(PROLOGUES)),
        epilogue=draw(st.sampled_from(EPILOGUES if rowwise else ("none", "gelu", "residual"))),
        symbolic=symbolic,
        target=draw(TARGETS),
        blocking=draw(BLOCKINGS),
    )


@st.composite
def convs(draw, transposed: bool = False) -> Conv:
    rank = draw(st.sampled_from([1, 2, 2, 2, 3]))
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    dilation = tuple(draw(st.sampled_from([1, 1, 1, 2, 3])) for _ in range(rank))
    stride = tuple(draw(st.sampled_from([1, 1, 2, 3])) for _ in range(rank))
    reach = [(k - 1) * d for k, d in zip(kernel, dilation)]
    padding = tuple((draw(st.integers(0, r + 1)), draw(st.integers(0, r + 1))) for r in reach)
    if transposed:  # what is cut off must leave something
        padding = tuple((min(a, r // 2), min(b, r // 2)) for (a, b), r in zip(padding, reach))
    high = {1: 120, 2: 30, 3: 9}[rank]
    size = tuple(
        max(draw(sizes(high)), 1 if transposed else r + 1 - a - b)
        for r, (a, b) in zip(reach, padding)
    )
    groups, into, out = draw(channels())
    return Conv(
        draw(st.sampled_from([1, 1, 2, 3])), (into, out), size, kernel, stride, padding, dilation,
        groups=groups,
        transposed=transposed,
        last=draw(st.booleans()),
        dtype=draw(DTYPES),
        prologue=draw(st.sampled_from(PROLOGUES)),
        epilogue=draw(st.sampled_from(POINTWISE)),
        target=draw(TARGETS),
        blocking=draw(BLOCKINGS),
    )  # fmt: skip


@st.composite
def windows(draw) -> Conv:
    """What Winograd's algorithms are for: windows of 3 x 3 that move by one, many channels."""
    padding = tuple((draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in range(2))
    size = (draw(st.integers(10, 40)), draw(st.integers(10, 40)))
    into, out = (draw(st.sampled_from([16, 32, 48, 96])) for _ in range(2))
    return Conv(
        draw(st.integers(1, 2)), (into, out), size, (3, 3), (1, 1), padding, (1, 1),
        last=draw(st.booleans()),
        prologue=draw(st.sampled_from(["none", "none", *PROLOGUES])),
        epilogue=draw(st.sampled_from(POINTWISE)),
        target=draw(TARGETS),
    )  # fmt: skip


@st.composite
def channels(draw) -> tuple[int, int, int]:
    """Groups, and the channels into and out of one: dense, grouped, depthwise."""
    kind = draw(st.sampled_from(["dense", "dense", "grouped", "depthwise"]))
    if kind == "dense":
        return 1, draw(st.one_of(st.just(3), sizes(70))), draw(sizes(70))
    if kind == "grouped":
        return draw(st.integers(2, 4)), draw(sizes(24)), draw(sizes(24))
    return draw(sizes(70)), 1, draw(st.sampled_from([1, 1, 1, 2]))


@st.composite
def attentions(draw) -> Attention:
    shared = draw(st.sampled_from([1, 1, 2, 3]))
    kv_heads = draw(st.integers(1, 3))
    mask = draw(st.sampled_from(["none", "causal", "added"]))
    rows = draw(sizes(150))
    return Attention(
        draw(st.sampled_from([1, 1, 2])),
        shared * kv_heads,
        kv_heads,
        rows,
        rows if mask == "causal" else draw(sizes(150)),
        draw(st.sampled_from([1, 8, 17, 32, 40, 64, 80, 96, 128, 256])),
        mask=mask,
        dtype=draw(st.sampled_from(["f32", "f32", "f64", "f16", "bf16"])),
        symbolic=draw(st.sampled_from([False, False, True])),
        target=draw(TARGETS),
        blocking=draw(BLOCKINGS),
    )


@cases(20)
@given(matmuls())
def test_products(case: Matmul) -> None:
    check(case)


@cases(5)
@given(matmuls(symbolic=True))
def test_products_of_symbolic_sizes(case: Matmul) -> None:
    check(case)


ALL_PADDING = Conv(1, (3, 1), (1, 2), (2, 2), (2, 1), ((2, 0), (0, 0)), (1, 1), target="generic")


@cases(15)
@given(convs())
@example(ALL_PADDING)
def test_convolutions(case: Conv) -> None:
    check(case)


@cases(4)
@given(windows())
def test_windows_of_3_by_3(case: Conv) -> None:
    check(case)


@cases(4)
@given(convs(transposed=True))
def test_transposed_convolutions(case: Conv) -> None:
    check(case)


NARROW = Attention(1, 2, 2, 4, 4, 1, mask="causal")


@cases(7)
@given(attentions())
@example(NARROW)
def test_attention(case: Attention) -> None:
    check(case)


def test_the_guards_bite() -> None:
    """An operand whose size is understated is read out of bounds, and that is seen."""
    code = (
        "from tests.schedule.guarded import Guarded; import ctypes; g = Guarded(100); "
        "ctypes.string_at(g.address, 100); print('in', flush=True); "
        "ctypes.string_at(g.address, 101)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "in\n"
    assert done.returncode < 0
