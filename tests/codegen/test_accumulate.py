"""Register blocks whose multiply-adds load the element of A themselves."""

from __future__ import annotations

import re

import pytest

from ferrule.codegen.llvm.compile import assembly
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from tests.cpus import server
from tests.systems import linear

OPERAND = re.compile(r"vfmadd\d+ps\s+(-?\d*\([^)]*\))\{1to16\}")


def product(rows: int, columns: int, terms: int, target: str) -> str:
    """The assembly of a product with a parameter."""
    machine = server(target)
    made = lowered(linear(rows, columns, terms), "llvm", options_for(machine))
    return assembly(made.text, machine)


@pytest.mark.parametrize("rows", [16, 34])
def test_elements_are_operands_where_a_row_has_one_vector(rows):
    found = OPERAND.findall(product(rows, 64, 96, "avx512"))
    assert len(found) >= 16
    assert not any("," in address for address in found)  # a register and a constant


def test_each_vector_of_a_row_has_an_operand():
    text = product(196, 32, 96, "avx512")
    registers = {address.split("(")[1] for address in OPERAND.findall(text)}
    assert len(registers) >= 2


@pytest.mark.parametrize(
    ("rows", "target"), [(192, "avx512"), (192, "avx2"), (16, "avx2"), (16, "neon"), (1, "avx512")]
)
def test_elsewhere_a_row_shares_what_was_loaded(rows, target):
    assert not OPERAND.search(product(rows, 64, 96, target))
