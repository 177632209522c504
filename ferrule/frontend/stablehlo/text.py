"""Programs in MLIR's text, in pretty or generic form or a mixture of them.

    text      = definition.. (`module @name attributes {..} {` function.. `}` | function..)
    function  = `func.func private @name(%a: type {..}, ..) -> (type {..}, ..)` region
    region    = `{` (`^name(%a: type, ..):`)? operation.. `}`
    operation = (%a, %b:2 =)? (pretty | generic) location?
    generic   = "name"(%a, ..) <{properties}> (region, ..) {attributes} : function type

Specification: MLIR language reference (mlir.llvm.org/docs/LangRef).
"""

from __future__ import annotations

import re
from typing import Any

from ferrule.frontend.stablehlo.attributes import Attributes
from ferrule.frontend.stablehlo.defaults import complete
from ferrule.frontend.stablehlo.lexer import Cursor
from ferrule.frontend.stablehlo.module import (
    Function,
    Module,
    Operation,
    Region,
    Type,
    Value,
)
from ferrule.frontend.stablehlo.pretty import Draft, Pretty, Use
from ferrule.frontend.stablehlo.types import FunctionType, Types

_SEPARATOR = re.compile(r"^// -----.*$", re.MULTILINE)
_RESOURCE = re.compile(r'([a-zA-Z_][a-zA-Z0-9_$.]*|"[^"\n]*")\s*:\s*("0x[0-9a-fA-F]*")')
_OF_VALUES = ("arg_attrs", "res_attrs")
_SHORT = ("call", "return")  # what `func.` may be left out before
_RETURNS = ("stablehlo.return", "func.return")
_MAX_RESULTS = 1 << 16


def read_text(text: str, name: str = "<text>") -> Module:
    """The program of a text, whose name errors tell. Raises ParseError where the text is malformed,
    and UnsupportedError where it has types or operations that are not read.
    """
    return _Reader(Cursor(text, name)).module()


def read_texts(text: str, name: str = "<text>") -> tuple[Module, ...]:
    """The programs of a text that lines with `// -----` separate, as tests of StableHLO have them.
    Raises as `read_text` does.
    """
    modules: list[Module] = []
    at = line = 0
    for end in [m.start() for m in _SEPARATOR.finditer(text)] + [len(text)]:
        part = text[at:end]
        modules.append(_Reader(Cursor(part, name, 1 + line)).module())
        at, line = end, line + part.count("\n")
    return tuple(modules)


class _Reader:
    """Reads a program at a cursor: the values that are known there, and the functions so far."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.types = Types(cursor)
        self.attributes = Attributes(cursor, self.types)
        self.pretty = Pretty(cursor, self.types, self.attributes, self)
        self.functions: dict[str, Function] = {}
        self._known: dict[str, tuple[Value, ...]] = {}
        self._trail: list[str] = []  # the keys of _known, in the order they became known
        self._used: dict[str, int] = {}
        self._returned: tuple[Type, ...] = ()

    # the whole

    def module(self) -> Module:
        cursor = self.cursor
        self._resources()
        self._definitions()
        if cursor.at("module") or cursor.at("builtin.module"):
            cursor.advance()
            if cursor.kind == "symbol":
                cursor.symbol()
            if cursor.accept("attributes"):
                self.attributes.dictionary()
            cursor.expect("{")
            self._functions("}")
        elif cursor.kind == "string" and cursor.token == '"builtin.module"':
            self._generic_module()
        else:
            self._functions("end")
        cursor.skip_location()
        self._definitions()
        if cursor.kind != "end" and not cursor.at("{-#"):
            raise cursor.expected("the end of the text")
        return Module(self.functions)

    def _definitions(self) -> None:
        """`#name = attribute` and `!name = type`, of which locations mean nothing here."""
        cursor = self.cursor
        while cursor.kind in ("hash", "exclaim"):
            kind, name = cursor.kind, cursor.advance()[1:]
            cursor.expect("=")
            if kind == "exclaim":
                self.types.aliases[name] = self.types.any()
            else:
                self.attributes.aliases[name] = self.attributes.any()

    def _resources(self) -> None:
        """Finds the bytes of `dense_resource`s, which stand after all else in `{-# .. #-}`."""
        at = self.cursor.text.rfind("{-#")
        if at >= 0:
            for m in _RESOURCE.finditer(self.cursor.text, at):
                self.attributes.resources[m[1].strip('"')] = (m[2], m.start(2))

    def _functions(self, close: str) -> None:
        cursor = self.cursor
        while not (cursor.kind == "end" if close == "end" else cursor.accept(close)):
            if close == "end" and (cursor.kind in ("hash", "exclaim") or cursor.at("{-#")):
                return
            if cursor.at("func.func") or cursor.at("func"):
                cursor.advance()
                self._function()
            elif cursor.kind == "string" and cursor.token == '"func.func"':
                self._generic_function()
            elif cursor.at("sdy.mesh"):
                cursor.advance()
                cursor.symbol()
                cursor.expect("=")
                cursor.skip_balanced()
                self.attributes.optional()
            elif cursor.at("module") or cursor.at("builtin.module"):
                raise cursor.unsupported("a module in a module is not supported")
            else:
                raise cursor.expected("a function (func.func)")
            cursor.skip_location()

    def _generic_module(self) -> None:
        cursor = self.cursor
        cursor.string()
        cursor.expect("(")
        cursor.expect(")")
        self._properties()
        cursor.expect("(")
        cursor.expect("{")
        if cursor.kind == "block":
            cursor.advance()
            cursor.expect(":")
        self._functions("}")
        cursor.expect(")")
        self.attributes.optional()
        cursor.expect(":")
        self.types.function()

    # functions

    def _function(self) -> None:
        cursor = self.cursor
        for word in ("public", "private", "nested"):
            if cursor.accept(word):
                break
        at, name = cursor.start, cursor.symbol()
        arguments: list[tuple[Use, Type]] = []
        given: list[dict[str, Any]] = []

        def argument() -> None:
            if self.types.at_type():
                raise cursor.unsupported(f"the function @{name} has no body")
            arguments.append(self.pretty.argument())
            given.append(self.attributes.optional())
            cursor.skip_location()

        cursor.expect("(")
        cursor.list_of(argument, ")")
        results, attributes = self._function_results()
        if cursor.accept("attributes"):
            self.attributes.dictionary()
        if not cursor.at("{"):
            raise cursor.unsupported(f"the function @{name} has no body", at)
        self._add(name, at, arguments, FunctionType((), results), given, attributes)

    def _function_results(self) -> tuple[tuple[Type, ...], list[dict[str, Any]]]:
        cursor = self.cursor
        types: list[Type] = []
        attributes: list[dict[str, Any]] = []

        def result() -> None:
            types.append(self.types.value())
            attributes.append(self.attributes.optional())

        if cursor.accept("->"):
            if cursor.accept("("):
                cursor.list_of(result, ")")
            else:
                types.append(self.types.value())
                attributes.append({})
        return tuple(types), attributes

    def _add(
        self,
        name: str,
        at: int,
        arguments: list[tuple[Use, Type]] | None,
        type: FunctionType,
        given: list[dict[str, Any]],
        attributes: list[dict[str, Any]],
    ) -> None:
        """Reads the region of a function and keeps it. `arguments` is None if the region has them.
        """
        if name in self.functions:
            raise self.cursor.error(f"a function @{name} was defined before", at)
        self._known, self._trail, self._used = {}, [], {}
        start = self.cursor.start
        body = self.region(arguments)
        if arguments is None and tuple(v.type for v in body.arguments) != type.arguments:
            raise self.cursor.error(f"the types of @{name} are not those of its region", start)
        last = body.operations[-1]
        if last.name not in _RETURNS or self._returned != type.results:
            raise self.cursor.error(f"@{name} does not return what its type says", start)
        empty: list[dict[str, Any]] = [{}] * len(body.arguments)
        self.functions[name] = Function(
            name, body, type.results, tuple(given or empty),
            tuple(attributes or [{}] * len(type.results)),
        )  # fmt: skip

    def _generic_function(self) -> None:
        cursor = self.cursor
        at = cursor.start
        cursor.string()
        cursor.expect("(")
        cursor.expect(")")
        attributes = self._properties()
        name, type = attributes.get("sym_name"), attributes.get("function_type")
        if not isinstance(name, str) or not isinstance(type, FunctionType):
            raise cursor.error("a function without sym_name and function_type in <{..}>", at)
        cursor.expect("(")
        self._add(name, at, None, type, *(_dictionaries(attributes, k) for k in _OF_VALUES))
        cursor.expect(")")
        self.attributes.optional()
        cursor.expect(":")
        self.types.function()

    def _properties(self) -> dict[str, Any]:
        if not self.cursor.accept("<"):
            return {}
        found = self.attributes.dictionary()
        self.cursor.expect(">")
        return found

    # regions

    def region(self, arguments: list[tuple[Use, Type]] | None = None) -> Region:
        """A region in braces, which is given these arguments unless it names them itself."""
        cursor = self.cursor
        with cursor.nested():
            start = cursor.start
            cursor.expect("{")
            if cursor.kind == "block":
                if arguments:
                    raise cursor.error("a region that was given arguments and names others")
                arguments = self._block()
            mark = len(self._trail)
            values = tuple(self._define(use, type) for use, type in arguments or ())
            operations: list[Operation] = []
            while not cursor.accept("}"):
                if cursor.kind == "block":
                    raise cursor.unsupported("a region of several blocks is not supported")
                if operations and operations[-1].name in _RETURNS:
                    raise cursor.expected("'}' after a return")
                operations.append(self._operation())
            if not operations or operations[-1].name not in _RETURNS:
                raise cursor.error("a region must end with a return", start)
            for name in self._trail[mark:]:
                del self._known[name]
            del self._trail[mark:]
        return Region(values, tuple(operations))

    def _block(self) -> list[tuple[Use, Type]]:
        """`^name(%a: type, ..):`."""
        cursor = self.cursor
        cursor.advance()
        found: list[tuple[Use, Type]] = []
        if cursor.accept("("):
            cursor.list_of(lambda: found.append(self.pretty.argument()), ")")
        cursor.expect(":")
        return found

    # values

    def fresh(self, name: str, type: Type) -> Value:
        """A value with a name that nothing in the function has, made from this one."""
        number = self._used.get(name, 0)
        self._used[name] = number + 1
        return Value(f"{name}~{number}" if number else name, type)

    def _define(self, use: Use, type: Type) -> Value:
        value = self.fresh(use.name, type)
        self._learn(use, (value,))
        return value

    def _learn(self, use: Use, values: tuple[Value, ...]) -> None:
        if use.name in self._known:
            raise self.cursor.error(f"a value %{use.name} was defined before", use.at)
        if "#" in use.name:
            raise self.cursor.error(f"%{use.name} is one of several values, not a name", use.at)
        self._known[use.name] = values
        self._trail.append(use.name)

    def _find(self, use: Use) -> Value:
        name, _, number = use.name.partition("#")
        values = self._known.get(name)
        if values is None:
            raise self.cursor.error(f"no value %{name} is known here", use.at)
        index = int(number[:9] or 0)
        if index >= len(values):
            raise self.cursor.error(f"%{name} has {len(values)} values, not %{use.name}", use.at)
        return values[index]

    # operations

    def _operation(self) -> Operation:
        cursor = self.cursor
        names = self._names()
        at = cursor.start
        with cursor.nested():
            if cursor.kind == "string":
                draft = self._generic(cursor.string())
            else:
                if "." not in cursor.token and cursor.token not in _SHORT:
                    raise cursor.expected("an operation")
                name = cursor.take("bare", "an operation")
                name = f"func.{name}" if name in _SHORT else name
                if name == "sdy.sharding_constraint":
                    draft = self._constraint()
                else:
                    draft = self.pretty.read(name, at)
        cursor.skip_location()
        return self._made(draft, names, at)

    def _made(self, draft: Draft, names: list[tuple[Use, int]], at: int) -> Operation:
        cursor = self.cursor
        operands = [self._find(use) for use in draft.operands]
        types = tuple(value.type for value in operands)
        if draft.types is not None and draft.types != types:
            self._differ(draft, types, at)
        if draft.name in _RETURNS:
            self._returned = types
        number = sum(count for _, count in names)
        if number != len(draft.results):
            raise cursor.error(
                f"{draft.name} has {len(draft.results)} results, and {number} names for them", at
            )
        results: list[Value] = []
        for use, count in names:
            given = draft.results[len(results) : len(results) + count]
            labels = [use.name] if count == 1 else [f"{use.name}#{n}" for n in range(count)]
            values = tuple(self.fresh(label, type) for label, type in zip(labels, given))
            self._learn(use, values)
            results += values
        attributes = complete(draft.name, draft.attributes, types)
        return Operation(
            draft.name, tuple(v.name for v in operands), tuple(results), attributes,
            tuple(draft.regions), cursor.place(at),
        )  # fmt: skip

    def _differ(self, draft: Draft, types: tuple[Type, ...], at: int) -> None:
        """Raises the ParseError that operands do not have the types which the text says."""
        said = draft.types or ()
        if len(said) != len(types):
            raise self.cursor.error(
                f"{draft.name} has {len(types)} operands, and types of {len(said)}", at
            )
        for use, type, other in zip(draft.operands, types, said):
            if type != other:
                raise self.cursor.error(f"%{use.name} is a {type}, not a {other}", use.at)

    def _names(self) -> list[tuple[Use, int]]:
        """`%a, %b:2 =`: the names of an operation's results, and how many each stands for."""
        cursor = self.cursor
        found: list[tuple[Use, int]] = []
        if cursor.kind != "value":
            return found
        while True:
            use, count = self.pretty.use(), 1
            if cursor.accept(":"):
                count = cursor.integer()
                if not 1 <= count <= _MAX_RESULTS:
                    raise cursor.error(f"a name for {count} results")
            found.append((use, count))
            if not cursor.accept(","):
                break
        cursor.expect("=")
        return found

    def _generic(self, name: str) -> Draft:
        """`(%a, ..) <{..}> (region, ..) {..} : function`, past the name."""
        cursor = self.cursor
        draft = Draft(name, self.pretty.uses())
        if cursor.at("["):
            raise cursor.unsupported("an operation with successors is not supported")
        draft.attributes = self._properties()
        if cursor.accept("("):
            cursor.list_of(lambda: draft.regions.append(self.region()), ")")
        draft.attributes.update(self.attributes.optional())
        cursor.expect(":")
        type = self.types.function()
        draft.types, draft.results = type.arguments, type.results
        return draft

    def _constraint(self) -> Draft:
        """`%x <@mesh, [..]> : type`, which is %x."""
        operand = self.pretty.use()
        self.cursor.skip_balanced()
        self.attributes.optional()
        self.cursor.expect(":")
        type = self.types.value()
        return Draft("stablehlo.optimization_barrier", [operand], (type,), (type,))


def _dictionaries(attributes: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The attributes of each argument or result in the generic form of a function."""
    found = attributes.get(key, ())
    return [d if isinstance(d, dict) else {} for d in found] if isinstance(found, tuple) else []
