"""Portable artifacts and exports of JAX say what the text says."""

from __future__ import annotations

import numpy as np
import pytest

from ferrule.api.programs import ProgramSession
from ferrule.base.errors import ParseError, UnsupportedError
from ferrule.frontend.stablehlo.bytecode import read_bytecode
from ferrule.frontend.stablehlo.export import Array, read_export
from ferrule.frontend.stablehlo.module import Place, TensorType
from ferrule.frontend.stablehlo.stream import Stream
from ferrule.frontend.stablehlo.text import read_text
from ferrule.frontend.stablehlo.vhlo import ATTRIBUTES, OPERATIONS, TYPES, VERSION
from tests.frontend.stablehlo import artifacts, programs
from tests.frontend.stablehlo.same import differences


def test_an_artifact_is_its_text() -> None:
    module = read_bytecode(artifacts.SMALL)
    assert not differences(module, read_text(programs.SMALL))
    place = module.functions["main"].body.operations[0].place
    assert place == Place(0, place.column)
    assert 0 < place.column < len(artifacts.SMALL)


def test_an_operation_of_another_dialect_stands_between_casts() -> None:
    main = read_bytecode(artifacts.CONSTRAINED).functions["main"]
    cast = "builtin.unrealized_conversion_cast"
    names = [operation.name for operation in main.body.operations]
    assert names[:3] == [cast, "stablehlo.optimization_barrier", cast]
    x = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(ProgramSession(artifacts.CONSTRAINED)(x), x + x)


def test_names_are_unique_in_a_function() -> None:
    for function in read_bytecode(artifacts.SMALL).functions.values():
        names: list[str] = []
        regions = [function.body]
        while regions:
            region = regions.pop()
            names += [v.name for v in region.arguments]
            for operation in region.operations:
                names += [v.name for v in operation.results]
                regions += operation.regions
        assert len(names) == len(set(names))


def test_an_export_of_jax() -> None:
    exported = read_export(artifacts.EXPORT)
    assert exported.name == "scaled"
    assert exported.inputs == (Array(("b", 3), "bf16"), Array((2,), "i32"), Array((3,), "bf16"))
    assert exported.outputs == (Array((), "bf16"), Array(("b", 3), "bf16"))
    assert exported.kept == (0, 1, 2)
    assert exported.platforms == ("cpu",)
    assert exported.effects == ()
    assert exported.convention >= 9
    main = exported.module.functions["main"]
    assert [v.type for v in main.body.arguments] == [
        TensorType((None, 3), "bf16"), TensorType((2,), "i32"), TensorType((3,), "bf16"),
    ]  # fmt: skip


def test_numbers_of_any_length() -> None:
    for value in (0, 1, 127, 128, 2**14 - 1, 2**14, 2**56 - 1, 2**56, 2**64 - 1):
        size = next(n for n in range(1, 10) if n == 9 or value < 1 << 7 * n)
        tagged = b"\0" + value.to_bytes(8, "little")
        if size < 9:
            tagged = ((value << 1 | 1) << (size - 1)).to_bytes(size, "little")
        stream = Stream(tagged, "x")
        assert stream.varint() == value
        assert not stream.left
    assert [Stream(bytes([2 * n + 1]), "x").svarint() for n in range(5)] == [0, -1, 1, -2, 2]


def test_the_table() -> None:
    assert VERSION.count(".") == 2
    assert OPERATIONS["add_v1"] == ()
    assert OPERATIONS["gather_v2"][:2] == ("collapsed_slice_dims", "index_vector_dim")
    assert all(list(names) == sorted(names) for names in OPERATIONS.values())
    assert ATTRIBUTES[15] == "TensorV1Attr"
    assert TYPES[4] == "f32"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "byte 0: this is no bytecode"),
        (b"ML\xefR", "byte 4: the artifact ends too early"),
        (b"ML\xefR\x0dproducer", "a text without an end"),
        (b"ML\xefR\x0d\0", "the artifact has no section 0"),
        (b"ML\xefR\x0d\0\x00\x09ab", "expected 4 bytes, got 2"),
        (artifacts.SMALL[:-1], "byte"),
        (artifacts.SMALL + b"\0\1", "a second section 0"),
    ],
)
def test_malformed_artifacts(data: bytes, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        read_bytecode(data)


def test_newer_artifacts() -> None:
    with pytest.raises(UnsupportedError, match="bytecode of version 7; 6 is supported"):
        read_bytecode(artifacts.SMALL[:4] + b"\x0f" + artifacts.SMALL[5:])
    newer = artifacts.SMALL.replace(b"add_v1", b"add_v9")
    assert newer != artifacts.SMALL
    with pytest.raises(UnsupportedError, match=r"byte \d+: vhlo.add_v9 is not known \(this"):
        read_bytecode(newer)


def test_malformed_exports() -> None:
    for size in (0, 7, 8, 100, len(artifacts.EXPORT) // 2):
        with pytest.raises((ParseError, UnsupportedError), match="byte"):
            read_export(artifacts.EXPORT[:size])
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(artifacts.EXPORT)
        for at in rng.integers(0, len(data), 3):
            data[at] = rng.integers(256)
        message = "byte"
        try:
            read_export(bytes(data))
        except (ParseError, UnsupportedError) as error:
            message = str(error)
        assert "byte" in message


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.9.0", "0.14.0", "1.0.0", "1.10.0"])
def test_artifacts_of_all_texts(version: str) -> None:
    """What MLIR makes of StableHLO's tests, in artifacts and in both forms of text."""
    pytest.importorskip("jaxlib")
    from jaxlib.mlir import ir

    texts = [t for t in programs.texts() if len(t) <= 20_000]
    compared = 0
    for text in texts[:: 1 if version == "1.0.0" else 5]:
        try:
            module = read_text(text)
            mlir = ir.Module.parse(text, programs.context())
        except (UnsupportedError, ir.MLIRError):
            continue
        for artifact in programs.artifacts([text], version):
            assert not differences(module, read_bytecode(artifact))
            compared += 1
        generic = mlir.operation.get_asm(print_generic_op_form=True)
        assert not differences(module, read_text(generic))
        assert not differences(module, read_text(mlir.operation.get_asm(enable_debug_info=True)))
    assert compared >= (600 if len(texts) > 1000 and version == "1.0.0" else 1)
