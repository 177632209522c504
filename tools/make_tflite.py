"""Makes the table of TensorFlow Lite's schema that the reader of `.tflite` files has.

    python tools/make_tflite.py SITE/ai_edge_litert/schema_py_generated.py \\
        > ferrule/frontend/tflite/schema.py

The input is the Python that flatc made of schema.fbs, which the package ai-edge-litert holds. The
tables there, their fields with places in the vtable, and the enumerations are written down; nothing
is imported.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from pathlib import Path

HEAD = '''"""Tables and enumerations of TensorFlow Lite's schema: field -> (number, kind, default).

Made by tools/make_tflite.py. A kind is a number ("<i4"), "text", the name of a table, "union", and
each of these in brackets for a vector. A union's number is that of the field before it.
"""

from __future__ import annotations
'''
_NUMBERS = {
    "Bool": "?", "Int8": "<i1", "Uint8": "<u1", "Int16": "<i2", "Uint16": "<u2", "Int32": "<i4",
    "Uint32": "<u4", "Int64": "<i8", "Uint64": "<u8", "Float32": "<f4", "Float64": "<f8",
}  # fmt: skip


def snake(name: str) -> str:
    """A name of flatc's as the schema has it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def field(method: ast.FunctionDef) -> tuple[int, str, object] | None:
    """(number, kind, default) of the field that a method reads; None for another method."""
    text = ast.unparse(method)
    place = re.search(r"self\._tab\.Offset\((\d+)\)", text)
    arguments = [a.arg for a in method.args.args]
    if place is None or re.search(r"(AsNumpy|Length|IsNone)$", method.name):
        return None
    number = (int(place[1]) - 4) // 2
    last = method.body[-1]
    default = ast.literal_eval(last.value) if isinstance(last, ast.Return) and last.value else None
    plain = re.search(r"self\._tab\.Get\(flatbuffers\.number_types\.(\w+)Flags", text)
    table = re.search(r"obj = (\w+)\(\)", text)
    if plain:
        kind = _NUMBERS[plain[1]]
        default = bool(default) if kind == "?" else default
    elif ".String(" in text:
        kind = "text"
    elif table:
        kind = "union" if table[1] == "Table" else table[1]
    else:
        kind = "union"
    vector = "j" in arguments
    return number, f"[{kind}]" if vector else kind, None if vector else default


def main() -> None:
    tree = ast.parse(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tables: dict[str, dict[str, tuple[int, str, object]]] = {}
    enums: dict[str, dict[int, str]] = {}
    for c in tree.body:
        if not isinstance(c, ast.ClassDef):
            continue
        methods = [m for m in c.body if isinstance(m, ast.FunctionDef)]
        if any(m.name == "GetRootAs" for m in methods):
            fields = ((snake(m.name), field(m)) for m in methods)
            tables[c.name] = {n: f for n, f in fields if f is not None}
        elif not methods:
            cases = [n for n in c.body if isinstance(n, ast.Assign)]
            enums[c.name] = {ast.literal_eval(n.value): n.targets[0].id for n in cases}
    print(HEAD)
    print(shown("TABLES", {n: tables[n] for n in sorted(tables)}))
    print()
    print(shown("ENUMS", {n: enums[n] for n in sorted(enums)}))


def shown(name: str, content: dict) -> str:
    """A dictionary of dictionaries as Python."""
    kind = "str, tuple[int, str, object]" if name == "TABLES" else "int, str"
    lines = [f"{name}: dict[str, dict[{kind}]] = {{"]
    for key, inner in content.items():
        text = ", ".join(f"{k!r}: {v!r}" for k, v in inner.items()).replace("'", '"')
        line = f'    "{key}": {{{text}}},'
        if len(line) <= 100:
            lines.append(line)
            continue
        parts = textwrap.wrap(f"{text},", 92, break_long_words=False)
        lines += [f'    "{key}": {{', *(" " * 8 + p for p in parts), "    },"]
    return "\n".join([*lines, "}  # fmt: skip"])


if __name__ == "__main__":
    main()
