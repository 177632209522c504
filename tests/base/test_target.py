"""Targets: what each one claims, and that LLVM accepts it."""

from __future__ import annotations

import dataclasses
from unittest import mock

import llvmlite.binding as llvm
import pytest

from ferrule.base import config, cpu
from ferrule.base.errors import InputError
from ferrule.base.features import FEATURES, level
from ferrule.target import cpu as target
from tests.cpus import current

X86 = llvm.get_process_triple().startswith("x86_64")
NAMES = target.NAMES if X86 else ("neon", "rvv", "generic")
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
        assert current() == host
    with config.override(target="generic"):
        assert current() == target.named("generic")


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


ABILITIES = {
    "avx512": {"fma", "masks", "mask registers", "embedded broadcast"},
    "avx2": {"fma", "masks"},
    "neon": {"fma"},
    "rvv": {"fma", "masks", "mask registers"},
    "generic": set(),
}


@pytest.mark.skipif(not X86, reason="generic is SSE2 there")
@pytest.mark.parametrize("name", ABILITIES)
def test_what_a_target_can_follows_from_the_features_of_its_level(name: str) -> None:
    made = target.least(name)
    every = {a for f in FEATURES for a in f.gives}
    assert {a for a in every if made.can(a)} == ABILITIES[name]
    assert made.has_fma == ("fma" in ABILITIES[name])
    assert not made.has_dot4  # no level promises it


@pytest.mark.skipif(not X86, reason="features of x86-64")
def test_a_feature_more_gives_what_is_for_vectors_of_this_length() -> None:
    short, long = target.least("avx2"), target.least("avx512")
    assert short.having("avxvnni").can("dot4")
    assert short.having("avxvnni").features == "-avx512f,+avxvnni"
    assert long.having("avx512vnni").can("dot4")
    assert not long.having("avxvnni").can("dot4")
    for name in ("avx512vnni", "vax"):
        with pytest.raises(InputError, match=f"{name} is no feature for vectors of 32 bytes"):
            short.having(name)


@pytest.mark.parametrize("name", [n for n in NAMES if target.supports(n)])
def test_a_target_that_runs_here_has_all_that_its_level_needs(name: str) -> None:
    own, least = target.named(name), target.least(name)
    needs = () if name == "generic" else level(name).needs
    assert set(needs) <= set(own.extensions)
    assert (own.vector_bytes, own.registers) == (least.vector_bytes, least.registers)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="no target is called 'vax'"):
        target.named("vax")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("isa\t\t: rv64imafdcv_zicsr_zba", {"d", "v"}),
        ("isa\t\t: rv64imafdc_zvfh", {"d"}),
        ("flags\t\t: fpu avx avx2", {"avx", "avx2"}),
        ("Features\t: fp asimd evtstrm", {"neon"}),
    ],
)
def test_features_are_read_as_linux_spells_them(line: str, found: set[str]) -> None:
    cpu.features.cache_clear()
    try:
        with mock.patch.object(cpu.Path, "read_text", return_value=f"processor : 0\n{line}\n"):
            assert cpu.features() == found
    finally:
        cpu.features.cache_clear()
