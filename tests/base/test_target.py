"""Targets: what each one claims, and that LLVM accepts it."""

from __future__ import annotations

import dataclasses

import llvmlite.binding as llvm
import pytest

from ferrule.base import config
from ferrule.base.errors import InputError
from ferrule.target import cpu as target

X86 = llvm.get_process_triple().startswith("x86_64")
NAMES = target.NAMES if X86 else ("neon", "generic")
SOURCE = "define <16 x float> @f(<16 x float> %a) {\n ret <16 x float> %a\n}"


@pytest.mark.parametrize("name", NAMES)
def test_llvm_makes_code_for_every_target(name: str) -> None:
    t = target.named(name)
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(t.triple).create_target_machine(t.cpu, t.features)
    assert "f:" in machine.emit_assembly(llvm.parse_assembly(SOURCE))


@pytest.mark.skipif(not X86, reason="registers of x86-64")
@pytest.mark.parametrize(("name", "register"), [("avx512", "zmm"), ("avx2", "ymm")])
def test_vectors_are_as_wide_as_the_target_says(name: str, register: str) -> None:
    t = target.named(name)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    lanes = t.lanes(4)
    source = f"""
define void @f(ptr %p) {{
  %x = load <{lanes} x float>, ptr %p, align 4
  %y = fadd <{lanes} x float> %x, %x
  store <{lanes} x float> %y, ptr %p, align 4
  ret void
}}"""
    machine = llvm.Target.from_triple(t.triple).create_target_machine(t.cpu, t.features)
    text = machine.emit_assembly(llvm.parse_assembly(source))
    assert register in text
    assert text.count("vaddps") == 1


def test_the_host_is_supported_and_is_the_default() -> None:
    host = target.host()
    assert target.supports(host.name)
    assert not target.supports("vax")
    with config.override(target="host"):
        assert target.current() == host
    with config.override(target="generic"):
        assert target.current() == target.named("generic")


def test_facts_are_sane() -> None:
    host = target.host()
    assert 4096 <= host.l1 <= host.l2
    assert host.lanes(4) * 4 == host.vector_bytes
    assert host.lanes(1024) == 1


def test_the_key_tells_targets_apart() -> None:
    host = target.host()
    wider = dataclasses.replace(host, l1=host.l1 * 2)
    assert len({host.key, wider.key, dataclasses.replace(host, features="")}) == 3
    assert dataclasses.replace(host).key == host.key


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="no target is called 'vax'"):
        target.named("vax")
