"""Time by module."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ferrule.api.measured import module_of
from ferrule.report.data import COMPUTE, MEMORY, SHARES, Kernel, Report
from ferrule.report.flame import Module, flame, tree
from ferrule.report.page import page
from ferrule.report.text import text


def kernel(name: str, seconds: float, module: str, kind: str = COMPUTE) -> Kernel:
    return Kernel(name, "p", kind, 1, seconds, seconds, seconds, 1, None, None, None, module=module)


def report(*kernels: Kernel) -> Report:
    shares = dict.fromkeys(SHARES, 0.0) | {COMPUTE: 1.0}
    return Report("net", "today", 2, 1.0, 1.0, 1, shares, kernels)


KERNELS = (
    kernel("a", 4.0, "layers.10.attn"), kernel("b", 3.0, "layers.2.attn"),
    kernel("c", 2.0, "layers.2", MEMORY), kernel("d", 1.0, ""), kernel("b", 0.5, "layers.2.attn"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("places", "module"),
    [
        (["layers.0.attn, activation.py:1494"], "layers.0.attn"),
        (["layers.0.mlp.0, linear.py:134", "layers.0.mlp.1, activation.py:8"], "layers.0.mlp"),
        (["layers.0.mlp.0", "layers.1.mlp.0"], "layers"),
        (["layers.0.mlp.2", "net.py:13"], ""),
        (["/encoder/layer.0/attention/MatMul", "/encoder/layer.0/Add"], "encoder.layer.0"),
        (["/MatMul"], ""),
        ([], ""),
    ],
)
def test_the_module_around_all_operators(places: list[str], module: str) -> None:
    assert module_of(places) == module


def test_each_module_has_the_time_of_what_is_in_it() -> None:
    root = tree(report(*KERNELS))

    def sums(m: Module) -> None:
        if m.kernel is None:
            assert m.seconds == pytest.approx(sum(p.seconds for p in m.parts.values()))
        for p in m.parts.values():
            sums(p)

    sums(root)
    assert root.seconds == 10.5
    assert root.parts["layers"].parts["2"].seconds == 5.5
    assert len(root.parts["layers"].parts["2"].parts["attn"].parts) == 2  # of one name
    assert root.depth == 5


def test_the_chart_tells_modules_in_the_order_of_their_numbers() -> None:
    svg = flame(report(*KERNELS))
    told = re.findall(r"<title>([^<]*):", svg)
    assert told[:5] == ["net", "layers", "layers.2", "layers.2.attn", "layers.2.attn.b"]
    assert told.index("layers.2") < told.index("layers.10")
    assert svg.count('class="memory"') == 1
    boxes = re.findall(r'x="([\d.]+)" y="\d+" width="([\d.]+)', svg)
    assert all(0 <= float(x) + float(w) <= 1000.01 for x, w in boxes)


def test_names_are_escaped_and_a_thousand_layers_fit() -> None:
    svg = flame(report(kernel("<b>", 1.0, 'a"<i>')))
    assert "<b>" not in svg
    assert "<i>" not in svg
    many = [kernel(f"k{i}", 1.0, f"layers.{i}") for i in range(5000)]
    assert flame(report(*many)).count("<rect") < 100  # what is too small to be seen is left out


def test_without_modules_there_is_no_chart() -> None:
    plain = report(kernel("a", 1.0, ""))
    assert flame(plain) == ""
    assert "Modules" not in page(plain)
    assert "Modules" in page(report(*KERNELS))
    assert flame(report(kernel("a", 0.0, "x"))) == ""


def test_counts_and_why_there_are_none_are_told() -> None:
    counted = replace(
        report(*KERNELS),
        counters={"cycles": 2_000_000, "instructions": 5_000_000},
        uncounted={"cache misses": "this machine shows none", "x": "this machine shows none"},
    )
    for shown in (text(counted), page(counted)):
        assert "2.50 instructions a cycle" in shown
        assert "2.50 M instructions" in shown  # two calls
        assert "ot counted: cache misses, x: this machine shows none" in shown
