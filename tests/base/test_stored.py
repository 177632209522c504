"""The reader of zip files, against Python's writer."""

from __future__ import annotations

import io
import random
import zipfile
from unittest import mock

import pytest

from ferrule.base.stored import entries_of

CONTENT = {"manifest.json": b"{}", "lib/a.so": bytes(range(256)) * 9, "leer/ä": b""}


def written(method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in CONTENT.items():
            archive.writestr(name, data)
    return stream.getvalue()


@pytest.mark.parametrize("limit", [1 << 31, 100, 0])
def test_entries_are_those_that_were_written(limit: int) -> None:
    """Beyond a limit, a zip file says its numbers in other fields."""
    with mock.patch("zipfile.ZIP64_LIMIT", limit):
        data = written()
    assert {n: part.checked() for n, part in entries_of(memoryview(data)).items()} == CONTENT


def test_more_entries_than_sixteen_bits_count() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for k in range(65_536):
            archive.writestr(zipfile.ZipInfo(str(k)), b"")
    assert len(entries_of(memoryview(stream.getvalue()))) == 65_536


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no zip file"),
        (written() + b"\0", "more follows"),
        (written()[100:], "damaged|should be"),
        (written(zipfile.ZIP_DEFLATED), "not stored as it was"),
    ],
)
def test_what_is_none_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        entries_of(memoryview(data))


def test_a_name_may_stand_there_once() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x", b"2")
    with pytest.raises(ValueError, match="it has x twice"):
        entries_of(memoryview(stream.getvalue()))


def test_checksums_are_compared_where_bytes_are_asked_for() -> None:
    data = bytearray(written())
    data[data.index(b"{}")] ^= 1
    entries = entries_of(memoryview(data))
    with pytest.raises(ValueError, match="checksum"):
        entries["manifest.json"].checked()
    assert entries["lib/a.so"].checked() == CONTENT["lib/a.so"]


@pytest.mark.parametrize("limit", [1 << 31, 0])
def test_changed_bytes_raise_nothing_else(limit: int) -> None:
    rng = random.Random(1)
    with mock.patch("zipfile.ZIP64_LIMIT", limit):
        data = written()
    refused = 0
    for _ in range(3000):
        changed = bytearray(data)
        changed[rng.randrange(len(data))] = rng.randrange(256)
        del changed[rng.randrange(len(data)) if rng.random() < 0.1 else len(data) :]
        try:
            found = entries_of(memoryview(changed))
        except ValueError:
            refused += 1
            continue
        assert sum(len(part.data) for part in found.values()) <= 3 * len(data)
    assert refused > 300
