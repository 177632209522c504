"""`ferrule.profile`: shares, kernels, threads apart, peaks, reports."""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule.api import peaks as measured_peaks
from ferrule.api import profile as profiles
from ferrule.base import config
from ferrule.base.artifact import SLOT_HOST
from ferrule.base.errors import InputError
from ferrule.report.data import (
    CALL,
    COMPUTE,
    FORK_JOIN,
    FRAMEWORK,
    IDLE,
    LEVELS,
    MEMORY,
    PRODUCTS,
    Peaks,
)
from ferrule.runtime import cpu
from ferrule.runtime.pool import host_table

Array = np.ndarray[Any, Any]
PEAKS = Peaks(
    "a CPU", "2026-01-01", 2, (1e11, 2e11), dict.fromkeys(LEVELS, (1e10, 2e10)),
    {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20},
)  # fmt: skip


@pytest.fixture(autouse=True)
def _known_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "peaks", lambda: PEAKS)


def mlp(x: Array, small: Array, large: Array) -> Array:
    y = np.maximum(x @ small, 0)
    z = np.tanh(y @ large)
    return z / z.sum(-1, keepdims=True)


def ones(*shape: int) -> Array:
    return np.full(shape, 0.01, np.float32)


ARGUMENTS = (ones(64, 32), ones(32, 512), ones(512, 1024))


def called(f: Callable[..., Any], *arguments: Any, times: int = 5) -> profiles.Profile:
    f(*arguments)
    with ferrule.profile(f) as p:
        for _ in range(times):
            f(*arguments)
    return p


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_shares_sum_to_the_time_of_all_calls(threads: int) -> None:
    with config.override(num_threads=threads):
        p = called(ferrule.jit(mlp), *ARGUMENTS)
    assert p.report.calls == 5
    assert sum(p.shares.values()) == pytest.approx(p.wall)
    assert min(p.shares.values()) >= 0  # nothing is counted twice
    assert p.wall <= p.report.elapsed
    assert p.shares[FRAMEWORK] == 0
    assert p.shares[COMPUTE] > 0 < p.shares[CALL]
    alone = threads == 1
    assert alone == (p.shares[FORK_JOIN] + p.shares[IDLE] == 0)
    working = sum(k.working for k in p.kernels)
    assert working == pytest.approx(p.shares[COMPUTE] + p.shares[MEMORY], rel=1e-6)


def test_kernels_tell_their_work_and_the_largest_is_first() -> None:
    with config.override(num_threads=1):
        p = called(ferrule.jit(mlp), *ARGUMENTS)
    first = p.kernels[0]
    assert first.flops == pytest.approx(5 * 2 * 64 * 512 * 1024, rel=0.1)
    assert first.bytes == 5 * 4 * (64 * 512 + 512 * 1024 + 64 * 1024)
    assert first.calls == 5
    assert first.kind == COMPUTE
    assert "dot_general" in first.operators
    assert first.floor == pytest.approx(max(first.flops / 1e11, first.bytes / 1e10))
    assert first.bound == PRODUCTS
    assert first.predicted is not None
    assert first.least is not None
    assert first.least * 5 <= first.seconds
    assert any("a contraction starts a kernel of its own" in w for k in p.kernels for w in k.why)
    assert {k.kind for k in p.kernels} == {COMPUTE, MEMORY}
    lines = str(p).splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("  kernel"))
    assert lines[head + 1].split()[0] == first.name


def test_sizes_of_each_call_count() -> None:
    f = ferrule.jit(lambda x: np.exp(x).sum(-1), dynamic=True)
    f(ones(8, 64))
    with ferrule.profile(f) as p:
        for n in (8, 16, 8, 32):
            f(ones(n, 64))
    (kernel,) = p.kernels
    assert kernel.calls == 4
    assert kernel.bytes == sum(4 * (n * 64 + n) for n in (8, 16, 8, 32))


def test_what_got_slower_is_named_first() -> None:
    """Both factors of the second product grow, of the first one only one."""

    def f(x: Array, w: Array) -> Array:
        y = np.tanh(x @ w)
        return np.maximum(y @ y.T, 0)

    g = ferrule.jit(f, dynamic=True)
    with config.override(num_threads=1):
        before, after = (called(g, ones(n, 16), ones(16, 96)) for n in (32, 1024))
    comparison = before.compare(after)
    slowest = comparison.kernels[0]
    assert slowest.name == after.kernels[0].name
    assert slowest.lost == max(c.lost for c in comparison.kernels) > 0
    assert slowest.after == pytest.approx(after.kernels[0].seconds / 5)
    assert after.kernels[0].flops == pytest.approx(5 * 2 * 1024 * 1024 * 96, rel=0.1)
    lines = str(comparison).splitlines()
    kernels = next(i for i, line in enumerate(lines) if line.startswith("  kernel"))
    assert lines[kernels + 1].split()[0] == slowest.name
    back = after.compare(before)
    assert back.kernels[-1].name == slowest.name


def test_threads_that_call_at_once_keep_apart() -> None:
    f = ferrule.jit(mlp)
    f(*ARGUMENTS)
    calls, failed = 20, []

    def work() -> None:
        expected = mlp(*ARGUMENTS)
        for _ in range(calls):
            if not np.allclose(f(*ARGUMENTS), expected, rtol=1e-3):
                failed.append(1)

    with config.override(num_threads=2), ferrule.profile(f) as p:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not failed
    assert p.report.calls == 4 * calls
    assert all(k.calls == 4 * calls for k in p.kernels)
    assert sum(p.shares.values()) == pytest.approx(p.wall)
    assert min(p.shares.values()) >= 0  # nothing is counted twice
    spans = p.report.timeline
    callers = [s for s in spans if s.row.startswith("caller")]
    assert len({s.row for s in callers}) == 4
    for row in {s.row for s in callers}:
        whole = [s for s in callers if s.row == row and s.kind == CALL]
        inside = [s for s in callers if s.row == row and s.kind in (COMPUTE, MEMORY)]
        assert len(whole) == calls
        assert len(inside) == calls * len(p.kernels)
        for a, b in pairwise(inside):
            assert a.end <= b.start + 1000
        for s in inside:
            assert any(w.start - 1000 <= s.start and s.end <= w.end + 1000 for w in whole)


def test_a_profile_is_of_its_model_alone() -> None:
    f, g = ferrule.jit(mlp), ferrule.jit(lambda x: np.exp(x) + 1)
    f(*ARGUMENTS)
    g(ones(4))
    with ferrule.profile(f) as p:
        f(*ARGUMENTS)
        g(ones(4))
    with ferrule.profile() as every:
        f(*ARGUMENTS)
        g(ones(4))
    assert p.report.calls == 1
    assert all("dot_general" in k.operators or k.kind == MEMORY for k in p.kernels)
    assert len(every.kernels) == len(p.kernels) + 1
    assert every.report.calls == 2


def test_after_a_profile_nothing_is_left() -> None:
    f = ferrule.jit(mlp)
    method = type(f).__call__
    p = called(f, *ARGUMENTS)
    (executable,) = f.executables
    binding = executable._binding
    assert binding is not None
    before = p.report
    f(*ARGUMENTS)
    for state in binding.states:
        assert state.trace is None
        host = int.from_bytes(state.args[8 * SLOT_HOST : 8 * SLOT_HOST + 8], "little")
        assert host == ctypes.addressof(host_table())
    assert cpu._tracer is None
    assert type(f).__call__ is method
    assert p.report is before


def test_a_profile_that_runs_already_and_what_cannot_be_profiled() -> None:
    f = ferrule.jit(mlp)
    with ferrule.profile(f), pytest.raises(InputError, match="is running"), ferrule.profile(f):
        pass
    with pytest.raises(InputError, match="not of int"):
        ferrule.profile(3)
    with pytest.raises(InputError, match="after its `with` block"):
        _ = ferrule.profile(f).shares
    with ferrule.profile(f) as p:  # the one before has ended
        f(*ARGUMENTS)
    assert p.report.calls == 1
    with pytest.raises(ZeroDivisionError), ferrule.profile(f):
        _ = 1 // 0
    with ferrule.profile(f) as p:
        f(*ARGUMENTS)
    assert p.report.calls == 1


def test_a_program_with_a_loop_and_launches_of_several_kernels() -> None:
    def f(x: Array) -> tuple[Array, Array, Array]:
        return np.tanh(x).sum(0), np.exp(x).max(1), x @ x.T

    with config.override(num_threads=2):
        p = called(ferrule.jit(f), ones(256, 256))
    facts = ferrule.jit(f)
    facts(ones(256, 256))
    launches = facts.executables[0].compiled.meta["launches"]
    assert len({x["phase"] for x in launches}) < len(launches)
    assert len(p.kernels) == len(launches)
    assert sum(p.shares.values()) == pytest.approx(p.wall)
    assert min(p.shares.values()) >= 0  # nothing is counted twice


class _Page(HTMLParser):
    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_whole_and_tells_each_kernel(tmp_path: Any) -> None:
    p = called(ferrule.jit(mlp), *ARGUMENTS)
    file = tmp_path / "report.html"
    p.html(file)
    text = file.read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert not page.open
    assert not page.addresses
    assert "http" not in text
    words = " ".join(page.text)
    for k in p.kernels:
        assert k.name in page.text
        assert all(w in words for w in (*k.why, *k.equations))
    for name in p.shares:
        assert name in page.text
    assert text.count('class="dot') == len([k for k in p.kernels if k.flops])


def test_a_trace_is_json_with_times_in_order(tmp_path: Any) -> None:
    with config.override(num_threads=2):
        p = called(ferrule.jit(mlp), *ARGUMENTS)
    file = tmp_path / "trace.json"
    p.trace(file)
    events = json.loads(file.read_text())["traceEvents"]
    whole = [e for e in events if e["ph"] == "X"]
    assert [e["ts"] for e in whole] == sorted(e["ts"] for e in whole)
    assert all(e["dur"] >= 0 and e["ts"] >= 0 for e in whole)
    assert sum(e["cat"] == CALL for e in whole) == 5
    names = [e["name"] for e in whole if e["tid"] == 1]
    assert all(names.count(k.name) == 5 for k in p.kernels)
    assert {e["name"] for e in events if e["ph"] == "M"} >= {"thread_name", "process_name"}


def test_peaks_are_measured_and_kept(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_peaks, "_SECONDS", 1e-4)
    with config.override(cache_dir=str(tmp_path), num_threads=2):
        found = measured_peaks.peaks()
        assert found is not None
        assert measured_peaks.peaks() == found
        (file,) = tmp_path.glob("peaks.json")
        kept = json.loads(file.read_text())
        (key,) = kept
        kept[key]["date"] = "2020-01-01T00:00:00+00:00"
        file.write_text(json.dumps(kept))
        again = measured_peaks.peaks()
        assert again is not None
        assert again.date != kept[key]["date"]
        file.write_text("{")
        assert measured_peaks.peaks() is not None
    assert min(found.flops) > 0 < min(found.bandwidth["L1"])
    assert set(found.bandwidth) == set(LEVELS)
    assert found.level(1000, 1) == "L1"
    assert found.level(1 << 40, 1) == "DRAM"
