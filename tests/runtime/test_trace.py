"""The text of `trace`, for each CPU that it is for."""

from __future__ import annotations

import time

import llvmlite.binding as llvm
import pytest

from ferrule.base.errors import UnsupportedError
from ferrule.runtime.trace import Clock, compiled, ir_text


def test_it_reads_the_counter_of_each_cpu() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    for triple, reads in (("x86_64-linux", "rdtsc"), ("riscv64-linux", "rdtime")):
        machine = llvm.Target.from_triple(triple).create_target_machine(opt=2)
        code = machine.emit_assembly(llvm.parse_assembly(ir_text(triple)))
        assert reads in code.partition("ferrule_cycles:")[2].partition("ret")[0]
    arm = str(llvm.parse_assembly(ir_text("arm64-apple-darwin")))
    assert arm.count("mrs $0, cntvct_el0") == 7


def test_a_cpu_without_a_counter() -> None:
    with pytest.raises(UnsupportedError, match="s390x has none"):
        ir_text("s390x-linux-gnu")


def test_the_clock_goes_with_that_of_python() -> None:
    clock = Clock()
    before = time.perf_counter_ns()
    cycles = compiled().cycles()
    after = time.perf_counter_ns()
    clock.settle()
    again = compiled().cycles()
    slack = 200_000
    assert before - slack <= clock.at(cycles) <= after + slack
    assert clock.at(cycles) < clock.at(again) <= time.perf_counter_ns() + slack
    assert clock.seconds(again - cycles) == pytest.approx(
        (clock.at(again) - clock.at(cycles)) * 1e-9, abs=1e-6
    )
