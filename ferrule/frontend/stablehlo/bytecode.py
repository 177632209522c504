"""Portable artifacts: MLIR's bytecode with the dialect VHLO.

    artifact = `ML\\xefR` version producer section..
    section  = number length bytes: strings, dialects, attributes and types, where these lie,
               properties of operations, resources, where these lie, and operations

Specification: MLIR bytecode format (mlir.llvm.org/docs/BytecodeFormat), versions 0 to 6, and its
reader (mlir/lib/Bytecode/Reader/BytecodeReader.cpp) for what the former leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ferrule.frontend.stablehlo.defaults import complete
from ferrule.frontend.stablehlo.encoded import Encoded, Entry
from ferrule.frontend.stablehlo.module import (
    Function,
    Module,
    Operation,
    Place,
    Region,
    Type,
    Value,
)
from ferrule.frontend.stablehlo.portable import attributes_of, name_of
from ferrule.frontend.stablehlo.stream import Stream
from ferrule.frontend.stablehlo.types import FunctionType
from ferrule.frontend.stablehlo.vhlo import OPERATIONS, VERSION

MAGIC = b"ML\xefR"

_STRINGS, _DIALECTS, _ENTRIES, _OFFSETS, _IR, _BLOBS, _BLOB_OFFSETS = range(7)
_PROPERTIES = 8
_NEWEST = 6
_MAX_DEPTH = 64
_ATTRIBUTES, _RESULTS, _OPERANDS, _SUCCESSORS, _REGIONS, _USES, _NATIVE = (1 << n for n in range(7))


def read_bytecode(data: bytes, name: str = "<bytes>") -> Module:
    """The program of a portable artifact, whose name errors tell. Raises ParseError where it is
    malformed, and UnsupportedError where it has types or operations that are not read.
    """
    return _Artifact(Stream(bytes(data), name)).module()


class _Artifact:
    """The sections of an artifact, read in part, and the functions found so far."""

    def __init__(self, stream: Stream) -> None:
        if stream.bytes(min(4, stream.left)) != MAGIC:
            raise stream.error("this is no bytecode of MLIR", 0)
        self.version = stream.varint()
        if self.version > _NEWEST:
            raise stream.unsupported(f"bytecode of version {self.version}; {_NEWEST} is supported")
        self.producer = stream.text()
        sections = _sections(stream)
        for needed in (_STRINGS, _DIALECTS, _ENTRIES, _OFFSETS, _IR):
            if needed not in sections:
                raise stream.error(f"the artifact has no section {needed}")
        self.strings = _strings(sections[_STRINGS])
        self.dialects: list[str] = []
        self.names: list[tuple[str, bool]] = []  # of operations, and whether the writer knew them
        self._read_dialects(sections[_DIALECTS])
        attributes, types = self._entries(sections[_OFFSETS], sections[_ENTRIES])
        resources = self._resources(sections)
        self.encoded = Encoded(stream, self.strings, attributes, types, resources)
        self.properties = _properties(sections.get(_PROPERTIES))
        self.ir = sections[_IR]
        self.functions: dict[str, Function] = {}
        self._known: dict[int, Value] = {}
        self._names = 0
        self._depth = 0

    # sections

    def _read_dialects(self, stream: Stream) -> None:
        for _ in range(stream.count()):
            if self.version < 1:
                self.dialects.append(stream.index(self.strings, "string"))
                continue
            at = stream.at
            number, versioned = stream.flagged()
            if number >= len(self.strings):
                raise stream.error(f"string {number} of {len(self.strings)}", at)
            self.dialects.append(self.strings[number])
            if versioned:
                stream.byte()
                stream.bytes(stream.varint())
        if self.version >= 4:
            stream.varint()  # how many names follow
        while stream.left:
            self._group(stream, lambda dialect: self._read_name(stream, dialect))

    def _read_name(self, stream: Stream, dialect: str) -> None:
        at = stream.at
        number, known = stream.flagged() if self.version >= 5 else (stream.varint(), True)
        if number >= len(self.strings):
            raise stream.error(f"string {number} of {len(self.strings)}", at)
        self.names.append((f"{dialect}.{self.strings[number]}", known))

    def _group(self, stream: Stream, read: Callable[[str], None]) -> int:
        dialect = stream.index(self.dialects, "dialect")
        number = stream.count()
        for _ in range(number):
            read(dialect)
        return number

    def _entries(self, offsets: Stream, stream: Stream) -> tuple[list[Entry], list[Entry]]:
        """Where the attributes and the types lie."""
        both: tuple[list[Entry], list[Entry]] = ([], [])
        numbers = offsets.varint(), offsets.varint()
        for entries, number in zip(both, numbers):

            def one(dialect: str, entries: list[Entry] = entries) -> None:
                size, encoded = offsets.flagged()
                start = stream.at
                stream.part(size)
                entries.append(Entry(dialect, start, stream.at, encoded))

            while len(entries) < number:
                if not self._group(offsets, one) and not offsets.left:
                    raise offsets.error(f"{len(entries)} attributes or types of {number}")
        return both

    def _resources(self, sections: dict[int, Stream]) -> dict[str, bytes]:
        """The bytes of resources by their names."""
        found: dict[str, bytes] = {}
        if _BLOBS not in sections or _BLOB_OFFSETS not in sections:
            return found
        offsets, stream = sections[_BLOB_OFFSETS], sections[_BLOBS]
        offsets.varint()
        while offsets.left:
            offsets.varint()
            for _ in range(offsets.count()):
                key = offsets.index(self.strings, "string")
                part = stream.part(offsets.varint())
                if offsets.byte() == 0:
                    alignment, size = part.varint(), part.varint()
                    part.align(alignment)
                    found[key] = part.bytes(size)
        return found

    # operations

    def module(self) -> Module:
        """The whole program."""
        stream = self.ir
        number, arguments = stream.flagged()
        if arguments or number != 1:
            raise stream.error("expected one operation, a module")
        self._module(stream)
        return Module(self.functions)

    def _module(self, stream: Stream) -> None:
        at = stream.at
        name, _ = stream.index(self.names, "operation")
        if name != "builtin.module":
            raise stream.unsupported(f"expected builtin.module, got {name}", at)
        mask = stream.byte()
        self._skipped(stream, mask)
        if not mask & _REGIONS:
            return
        number, isolated = stream.flagged()
        if number != 1:
            raise stream.error(f"a module of {number} regions")
        inner = self._isolated(stream) if isolated else stream
        if not inner.varint():  # blocks
            return
        inner.varint()  # values
        operations, arguments = inner.flagged()
        if arguments:
            raise inner.error("a module with arguments")
        for _ in range(operations):
            self._definition(inner)

    def _skipped(self, stream: Stream, mask: int) -> None:
        """Goes past what an operation has before its results, and its results are none."""
        stream.varint()  # its place in a source
        if mask & _ATTRIBUTES:
            stream.varint()
        if mask & _NATIVE:
            stream.varint()
        if mask & ~(_ATTRIBUTES | _NATIVE | _REGIONS):
            raise stream.error("an operation of a module with operands or results")

    def _isolated(self, stream: Stream) -> Stream:
        """A region that sees no values from outside: a section of its own since version 2."""
        if self.version < 2:
            return stream
        number, part = _section(stream)
        if number != _IR:
            raise stream.error(f"expected operations, got a section {number}")
        return part

    def _definition(self, stream: Stream) -> None:
        """A function, or what a module has beside them."""
        at = stream.at
        name, _ = stream.index(self.names, "operation")
        mask = stream.byte()
        if name == "sdy.mesh":
            self._skipped(stream, mask & ~_REGIONS)
            return
        if name != "vhlo.func_v1":
            raise stream.unsupported(self._unknown(name), at)
        stream.varint()
        attributes = self._attributes(stream, mask, name, True)
        if mask & ~(_ATTRIBUTES | _NATIVE | _REGIONS):
            raise stream.error("a function with operands or results")
        if not mask & _REGIONS:
            raise stream.unsupported("a function without a body", at)
        number, isolated = stream.flagged()
        if number != 1:
            raise stream.error(f"a function of {number} regions")
        self._function(self._isolated(stream) if isolated else stream, attributes, at)

    def _function(self, stream: Stream, attributes: dict[str, Any], at: int) -> None:
        name, type = attributes.get("sym_name"), attributes.get("function_type")
        if not isinstance(name, str) or not isinstance(type, FunctionType):
            raise stream.error("a function without sym_name and function_type", at)
        if name in self.functions:
            raise stream.error(f"a function @{name} was defined before", at)
        self._known, self._names = {}, 0
        body = self._region(stream, 0, True)
        types = {v.name: v.type for v in self._known.values()}
        if tuple(v.type for v in body.arguments) != type.arguments:
            raise stream.error(f"the types of @{name} are not those of its region", at)
        if tuple(types[v] for v in body.operations[-1].operands) != type.results:
            raise stream.error(f"@{name} does not return what its type says", at)
        self.functions[name] = Function(
            name, body, type.results,
            _dictionaries(attributes.get("arg_attrs"), len(type.arguments)),
            _dictionaries(attributes.get("res_attrs"), len(type.results)),
        )  # fmt: skip

    def _attributes(
        self, stream: Stream, mask: int, name: str, known: bool
    ) -> dict[str, Any]:
        """The attributes of an operation, which may be properties."""
        found: dict[str, Any] = {}
        if mask & _ATTRIBUTES:
            at, given = stream.at, self.encoded.attribute(stream)
            if not isinstance(given, dict):
                raise stream.error("expected a dictionary of attributes", at)
            found.update(given)
        if mask & _NATIVE and not known:
            at, given = stream.at, self.encoded.attribute(stream)
            if not isinstance(given, dict):
                raise stream.error("expected a dictionary of attributes", at)
            found.update(given)
        elif mask & _NATIVE:
            part = stream.index(self.properties, "properties")
            inner = Stream(part.data, part.name, part.at, part.end)
            if name.startswith("vhlo."):
                for key in OPERATIONS[name[5:]]:
                    found[key] = self.encoded.attribute(inner)
        return found

    def _unknown(self, name: str) -> str:
        if name.startswith("vhlo."):
            return f"{name} is not known (this is VHLO {VERSION}, the artifact {self.producer})"
        return f"an operation {name} of another dialect than VHLO is not supported"

    def _region(self, stream: Stream, base: int, function: bool) -> Region:
        """A region whose values have numbers from `base`."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise stream.error(f"nested more than {_MAX_DEPTH} deep")
        at, blocks = stream.at, stream.varint()
        if blocks != 1:
            what = f"a region of {blocks} blocks" if blocks else "a function without a body"
            raise stream.unsupported(f"{what} is not supported", at)
        end = base + stream.varint()
        number, given = stream.flagged()
        arguments = self._arguments(stream, base) if given else ()
        operations: list[Operation] = []
        position = base + len(arguments)
        if number > stream.left:
            raise stream.error(f"{number} operations in {stream.left} bytes")
        for _ in range(number):
            operation = self._operation(stream, position, end, function)
            position += len(operation.results)
            operations.append(operation)
        if position > end:
            raise stream.error("a region with more values than it says", at)
        if not operations or not operations[-1].name.endswith(".return"):
            raise stream.error("a region must end with a return", at)
        if not function:
            for n in range(base, position):
                del self._known[n]
        self._depth -= 1
        return Region(arguments, tuple(operations))

    def _arguments(self, stream: Stream, base: int) -> tuple[Value, ...]:
        found: list[Value] = []
        for n in range(stream.count()):
            if self.version < 4:
                type = self.encoded.value_type(stream)
                stream.varint()
            else:
                type, placed = self.encoded.flagged_type(stream)
                if placed:
                    stream.varint()
            found.append(self._value(base + n, type))
        if self.version >= 3 and stream.byte():
            _skip_uses(stream, len(found))
        return tuple(found)

    def _value(self, number: int, type: Type) -> Value:
        value = Value(str(self._names), type)
        self._names += 1
        self._known[number] = value
        return value

    def _operation(self, stream: Stream, position: int, end: int, function: bool) -> Operation:
        """An operation whose results have numbers from `position`, and the values in its regions
        from `end`.
        """
        at = stream.at
        name, known = stream.index(self.names, "operation")
        if name.startswith("vhlo.") and name[5:] not in OPERATIONS:
            raise stream.unsupported(self._unknown(name), at)
        mask = stream.byte()
        if mask & _NATIVE and known and not name.startswith(("vhlo.", "sdy.sharding_constraint")):
            raise stream.unsupported(self._unknown(name), at)
        stream.varint()  # its place in a source
        attributes = self._attributes(stream, mask, name, known)
        types: tuple[Type, ...] = ()
        if mask & _RESULTS:
            types = stream.several(lambda: self.encoded.value_type(stream))
        operands = stream.several(lambda: self._operand(stream)) if mask & _OPERANDS else ()
        if mask & _SUCCESSORS:
            raise stream.unsupported("an operation with successors is not supported", at)
        if mask & _USES and self.version >= 3:
            _skip_uses(stream, len(types))
        regions = self._regions(stream, end) if mask & _REGIONS else ()
        if name == "sdy.sharding_constraint":
            name, attributes = "stablehlo.optimization_barrier", {}
        name = name_of(name, function)
        results = tuple([self._value(position + n, type) for n, type in enumerate(types)])
        attributes = attributes_of(name, attributes)
        return Operation(
            name, tuple(v.name for v in operands), results,
            complete(name, attributes, [v.type for v in operands]), regions, Place(0, at),
        )  # fmt: skip

    def _regions(self, stream: Stream, base: int) -> tuple[Region, ...]:
        """The regions of an operation. If they use no values from outside, the numbers of theirs
        begin at 0, and these of the outside are unknown.
        """
        number, isolated = stream.flagged()
        if number > stream.left:
            raise stream.error(f"{number} regions in {stream.left} bytes")
        outside = self._known
        if isolated:
            stream, base, self._known = self._isolated(stream), 0, {}
        regions = tuple([self._region(stream, base, False) for _ in range(number)])
        self._known = outside
        return regions

    def _operand(self, stream: Stream) -> Value:
        at, number = stream.at, stream.varint()
        if number not in self._known:
            raise stream.error(f"a value {number} that is not known here", at)
        return self._known[number]


def _sections(stream: Stream) -> dict[int, Stream]:
    """The sections of an artifact by their numbers."""
    found: dict[int, Stream] = {}
    while stream.left:
        at = stream.at
        number, part = _section(stream)
        if number in found:
            raise stream.error(f"a second section {number}", at)
        found[number] = part
    return found


def _section(stream: Stream) -> tuple[int, Stream]:
    first, length = stream.byte(), stream.varint()
    if first & 0x80:
        stream.align(stream.varint())
    return first & 0x7F, stream.part(length)


def _strings(stream: Stream) -> list[str]:
    """The strings, whose lengths stand before them in reverse order."""
    lengths = stream.several(stream.varint)
    found = []
    for length in reversed(lengths):
        raw = stream.bytes(length)
        found.append(raw[:-1].decode("utf-8", errors="surrogateescape"))
    return found


def _properties(stream: Stream | None) -> list[Stream]:
    """The properties of operations, which these refer to by number."""
    if stream is None:
        return []
    return [stream.part(stream.varint()) for _ in range(stream.count())]


def _skip_uses(stream: Stream, values: int) -> None:
    """Goes past the order in which values are used."""
    for _ in range(stream.count() if values > 1 else 1):
        if values > 1:
            stream.varint()
        number, _ = stream.flagged()
        if number > stream.left:
            raise stream.error(f"{number} entries in {stream.left} bytes")
        for _ in range(number):
            stream.varint()


def _dictionaries(given: Any, number: int) -> tuple[dict[str, Any], ...]:
    """The attributes of each argument or result of a function."""
    if isinstance(given, tuple) and len(given) == number:
        return tuple(d if isinstance(d, dict) else {} for d in given)
    return ({},) * number
