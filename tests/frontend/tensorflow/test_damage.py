"""Damaged files: they are refused, or read; never a crash, a hang, or much memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferrule.api.saved_model import read_saved
from ferrule.base.errors import FerruleError, InputError, ParseError
from ferrule.frontend.tensorflow.checkpoint import read_checkpoint, table, unsnapped
from ferrule.frontend.tensorflow.convert import convert
from ferrule.frontend.tensorflow.read import parse
from ferrule.frontend.tensorflow.wire import Message, varint
from tests.frontend.tensorflow.programs import unpack
from tests.long import LONG


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """`data` with a byte changed, a part cut out, or a part twice."""
    at = int(rng.integers(len(data)))
    kind = rng.integers(3)
    if kind == 0:
        return data[:at] + bytes([rng.integers(256)]) + data[at + 1 :]
    n = int(rng.integers(1, 40))
    if kind == 1:
        return data[:at] + data[at + n :]
    return data[:at] + data[at : at + n] * 2 + data[at + n :]


@pytest.mark.parametrize("name", ["mlp", "control"])
def test_a_damaged_program_is_refused_or_read(name: str, tmp_path: Path) -> None:
    folder, _, _ = unpack(name, tmp_path)
    file = folder / "saved_model.pb"
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(60 * LONG):
        file.write_bytes(mutated(whole, rng))
        try:
            saved = read_saved(folder)
            assert saved is not None
            convert(saved.program, saved.signature, saved.array)
        except FerruleError as error:
            refused += bool(str(error))
    assert refused > 10


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_program_that_is_cut_off_is_malformed(share: float, tmp_path: Path) -> None:
    folder, _, _ = unpack("mlp", tmp_path)
    file = folder / "saved_model.pb"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ParseError, match=r"saved_model.pb is malformed: "):
        read_saved(folder)


def test_a_damaged_checkpoint_is_refused_or_read(tmp_path: Path) -> None:
    folder, _, _ = unpack("mlp", tmp_path)
    prefix = folder / "variables" / "variables"
    file = prefix.with_name("variables.index")
    whole, rng = file.read_bytes(), np.random.default_rng(1)
    refused = 0
    for _ in range(300 * LONG):
        file.write_bytes(mutated(whole, rng))
        try:
            held = read_checkpoint(prefix)
            for key in held.entries:
                held.array(key)
        except FerruleError:
            refused += 1
    assert refused > 50


def test_data_that_are_missing_or_short_are_named(tmp_path: Path) -> None:
    folder, _, _ = unpack("mlp", tmp_path)
    prefix = folder / "variables" / "variables"
    data = next(prefix.parent.glob("*.data*"))
    data.write_bytes(data.read_bytes()[:100])
    held = read_checkpoint(prefix)
    key = max(held.entries, key=lambda k: held.entries[k].offset * k.endswith("VALUE"))
    with pytest.raises(ParseError, match=r"lies behind the end of .*data-00000-of-00001"):
        held.array(key)
    data.unlink()
    with pytest.raises(InputError, match="can't be read"):
        read_checkpoint(prefix).array("_all_variables/0/.ATTRIBUTES/VARIABLE_VALUE")
    with pytest.raises(InputError, match="has no tensor 'other'"):
        held.array("other")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x08", "cut off or too long at byte 1"),
        (b"\x08" + b"\xff" * 11, "cut off or too long"),
        (b"\x0a\x7fab", "a field of 127 bytes at byte 2, where 2 are left"),
        (b"\x0b", "a field of kind 3 at byte 1"),
        (b"\x09abc", "a field of 8 bytes"),
    ],
)
def test_a_malformed_message_tells_the_place(data: bytes, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        Message(data)


def test_a_field_of_another_kind_is_refused() -> None:
    with pytest.raises(ParseError, match="bytes where a number should be"):
        Message(b"\x0a\x01a").integer(1)
    with pytest.raises(ParseError, match="a number where bytes should be"):
        Message(b"\x08\x01").message(1)
    with pytest.raises(ParseError, match="no text"):
        Message(b"\x0a\x01\xff").text(1)
    with pytest.raises(ParseError, match="it has no graph"):
        parse(b"")


def test_numbers_of_a_message_may_be_packed() -> None:
    assert Message(b"\x0a\x03\x01\x96\x01\x08\x05").integers(1) == [1, 150, 5]
    assert Message(b"\x08" + b"\xff" * 9 + b"\x01").integer(1) == -1


# ---- tables --------------------------------------------------------------------------------------


def number(n: int) -> bytes:
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def block(entries: dict[bytes, bytes], prefix: int = 0) -> bytes:
    """A block in which every key but the first has its first `prefix` bytes from the one before."""
    out = b""
    for k, (key, value) in enumerate(entries.items()):
        shared = prefix if k else 0
        out += number(shared) + number(len(key) - shared) + number(len(value))
        out += key[shared:] + value
    return out + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")


def snapped(data: bytes) -> bytes:
    """`data` as Snappy's literals of at most 60 bytes."""
    parts = [data[k : k + 60] for k in range(0, len(data), 60)]
    return number(len(data)) + b"".join(bytes([len(p) - 1 << 2]) + p for p in parts)


def written(held: bytes, kind: int) -> bytes:
    """A table of one block."""
    index = block({b"z": number(0) + number(len(held))})
    out = held + bytes([kind]) + b"\0" * 4
    at = len(out)
    out += index + b"\0" * 5
    footer = number(0) + number(0) + number(at) + number(len(index))
    return out + footer.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")


@pytest.mark.parametrize(("pack", "kind"), [(bytes, 0), (snapped, 1)])
def test_a_table_is_read_with_prefixes_and_compression(pack: Any, kind: int) -> None:
    entries = {b"layer/bias": b"1" * 70, b"layer/kernel": b"22", b"layer/x": b""}
    assert dict(table(written(pack(block(entries, 6)), kind))) == entries


def test_tables_that_do_not_hold_are_refused() -> None:
    early = block({b"a": b"", b"bcdefgh": b""}, 5)
    for data, message in (
        (b"", "it is no table"),
        (written(b"ab", 0), "a block that is cut off"),
        (written(block({b"a": b""}), 7), "unknown compression: 7"),
        (written(early, 0), "an entry that is cut off"),
    ):
        with pytest.raises(ParseError, match=message):
            list(table(data))


def test_snappy_copies_may_overlap() -> None:
    data = number(9) + bytes([0]) + b"a" + bytes([(8 - 4) << 2 | 1, 1])
    assert unsnapped(memoryview(data)) == b"a" * 9
    two = number(8) + bytes([3 << 2]) + b"abcd" + bytes([3 << 2 | 2, 4, 0])
    assert unsnapped(memoryview(two)) == b"abcdabcd"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xff\xff\x7f\x00a", "cannot hold"),
        (b"\x05\x00a", "of 1 bytes where 5"),
        (b"\x05\x01\x00", "refer to themselves"),
        (b"\x05\x01\x03", "refer to what is before them"),
        (b"\x05\x10a", "cut off"),
        (b"\x05\x02", "cut off"),
    ],
)
def test_compressed_data_that_do_not_hold_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        unsnapped(memoryview(data))


def test_a_varint_has_64_bits() -> None:
    assert varint(memoryview(b"\xff" * 9 + b"\x01"), 0) == ((1 << 64) - 1, 10)
