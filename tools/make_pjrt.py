"""Makes the table of PJRT's C interface that the plugin for JAX has.

    pip download --no-deps tensorflow-cpu==2.21.0     (or a clone of openxla/xla at another version)
    python tools/make_pjrt.py xla/pjrt/c/pjrt_c_api.h > ferrule/api/jax/pjrt/layout.py

Structures only ever grow at their ends within a major version, so that a table serves all later
jaxlibs of it. The sizes stand in the table as a C compiler (`cc`) has them, and the plugin checks
its own against them when it is loaded. Here each offset is compared as well.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from ferrule.api.jax.pjrt.structs import structures

HEAD = '''"""PJRT's C interface: structures, functions and numbers, from pjrt_c_api.h (openxla/xla).

Made by tools/make_pjrt.py from version {major}.{minor}.
"""

from __future__ import annotations

VERSION = ({major}, {minor})
'''
PLAIN = {
    "size_t": "size", "int64_t": "int64", "int32_t": "int", "int": "int", "uint64_t": "uint64",
    "bool": "bool", "float": "float", "intptr_t": "int64", "uintptr_t": "size",
}  # fmt: skip
LEFT_OUT = ("_Extension_Base", "KeyValue", "AsyncHostToDevice", "CopyToDeviceStream", "ProcessInfo",
            "PJRT_Chunk", "CallbackInfo")  # fmt: skip
ENUMS = ("PJRT_Error_Code", "PJRT_NamedValue_Type", "PJRT_Buffer_Type",
         "PJRT_Buffer_MemoryLayout_Type")  # fmt: skip


def plain_text(header: Path) -> str:
    """A header without comments, and without what the preprocessor reads."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", header.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"(?m)^#(.*\\\n)*.*$", "", text)


def version(header: Path) -> tuple[int, int]:
    """The major and the minor version."""
    text = header.read_text(encoding="utf-8")
    numbers = dict(re.findall(r"#define PJRT_API_(MAJOR|MINOR)\s+(\d+)", text))
    return int(numbers["MAJOR"]), int(numbers["MINOR"])


def enumerations(text: str) -> dict[str, dict[str, int]]:
    """The numbers of each enumeration by their names, without what these begin with in common."""
    found = {}
    for body, name in re.findall(r"typedef enum\s*\{([^{}]*)\}\s*(\w+);", text):
        numbers, following = {}, 0
        for entry in filter(None, map(str.strip, body.split(","))):
            case, _, given = map(str.strip, entry.partition("="))
            following = int(given) if given else following
            stem = name if case.startswith(name) else name.removesuffix("_Type")
            numbers[case.removeprefix(f"{stem}_")] = following
            following += 1
        found[name] = numbers
    return found


def bodies(text: str) -> dict[str, str]:
    """What stands between the braces of each structure; a union in one is a structure of its own,
    which the other has as a field without a name.
    """
    found = {}
    pattern = r"(?:typedef )?struct (\w+) \{((?:[^{}]|\{[^{}]*\})*)\}"
    for name, body in re.findall(pattern, text):
        union = re.search(r"union\s*\{([^{}]*)\};", body)
        if union:
            found[f"{name}_Union"] = union[1]
            body = body.replace(union[0], f"{name}_Union _;")
        found[name] = body
    return found


def fields_of(body: str, enums: set[str], structs: set[str]) -> list[tuple[str, str]]:
    """Pairs of a kind and a name: kinds are those of PLAIN, "enum", "pointer", and structures."""
    found = []
    for field in filter(None, (" ".join(f.split()) for f in split_fields(body))):
        function = re.match(r".*\(\*(\w+)\)\(.*\)$", field)
        of_api = re.match(r"_PJRT_API_STRUCT_FIELD\((\w+)\)$", field)
        if function or of_api:
            found.append(("pointer", (function or of_api)[1]))
            continue
        kind, name = re.match(r"(.*[ *])(\w+)$", field).groups()
        kind = kind.replace("const ", "").removeprefix("struct ").strip()
        if kind.endswith(("*", "* const", "Callback", "Deleter")):
            found.append(("pointer", name))
        elif kind in enums:
            found.append(("enum", name))
        else:
            assert kind in PLAIN or kind in structs, f"{field}: {kind} is not known"
            found.append((PLAIN.get(kind, kind), name))
    return found


def split_fields(body: str) -> list[str]:
    return [f.strip() for f in body.split(";")]


def measured(header: Path, table: dict[str, list[tuple[str, str]]]) -> dict[str, list[int]]:
    """The size of each structure and the offsets of its fields, by the C compiler."""
    lines = []
    for name, fields in table.items():
        places = [f"offsetof({name}, {f})" for _, f in fields if f != "_"]
        numbers = ", ".join([f"sizeof({name})", *places])
        form = " ".join(["%zu"] * (1 + len(places)))
        lines.append(f'  printf("{name} {form}\\n", {numbers});')
    code = "\n".join([
        "#include <stdio.h>", f'#include "{header.resolve()}"', "int main() {", *lines, "}",
    ])  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "sizes.c"), Path(folder, "sizes")
        source.write_text(code)
        subprocess.run(["cc", "-w", str(source), "-o", str(program)], check=True)
        out = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    return {name: list(map(int, rest)) for name, *rest in map(str.split, out.splitlines())}


def checked_sizes(header: Path, table: dict[str, list[tuple[str, str]]]) -> dict[str, int]:
    """The sizes of the structures, after all that ctypes makes of the table was compared."""
    found = measured(header, {n: f for n, f in table.items() if not n.endswith("_Union")})
    made = structures({n: f"0 {described(fs)}" for n, fs in table.items()})
    for name, (size, *offsets) in found.items():
        own = [getattr(made[name], f).offset for _, f in table[name] if f != "_"]
        assert [size, *offsets] == [ctypes.sizeof(made[name]), *own], f"{name} is not as in C"
    return {name: size for name, (size, *_) in found.items()}


def described(fields: list[tuple[str, str]]) -> str:
    """The fields as the table has them; "head" are the two that most structures begin with."""
    text = " ".join(f"{kind}:{name}" for kind, name in fields)
    return text.replace("size:struct_size pointer:extension_start", "head")


def shown(name: str, text: str, indent: int) -> str:
    """An entry of a dict whose value is a text, in lines of no more than 100 columns."""
    pad = " " * indent
    if len(whole := f'{pad}"{name}": "{text}",') <= 100:
        return whole
    parts = textwrap.wrap(text, 90 - indent, break_long_words=False, break_on_hyphens=False)
    lines = [f'{pad}    "{p}{" " if i < len(parts) - 1 else ""}"' for i, p in enumerate(parts)]
    return "\n".join([f'{pad}"{name}": (', *lines, f"{pad}),"])


def wrapped(items: list[str]) -> str:
    """Items in lines of no more than 100 columns; a `~` is a space that ends none."""
    lines = textwrap.wrap(", ".join(items) + ",", 94, break_long_words=False)
    return textwrap.indent("\n".join(lines).replace("~", " "), "    ")


def main(path: str) -> None:
    """Prints the table of a header."""
    header = Path(path)
    text = plain_text(header)
    enums, found = enumerations(text), bodies(text)
    structs = {n: fields_of(b, set(enums), set(found)) for n, b in found.items()}
    api = structs["PJRT_Api"]
    functions = [name for kind, name in api if kind == "pointer" and name.startswith("PJRT_")]
    kept = {n: fields for n, fields in structs.items() if not any(s in n for s in LEFT_OUT)}
    last = dict(re.findall(r"PJRT_DEFINE_STRUCT_TRAITS\(\s*(\w+),\s*(\w+)\s*\)", text))
    wrong = [n for n, field in last.items() if structs[n][-1][1] != field]
    assert not wrong, f"the last fields of these differ from what the header says: {wrong}"
    sizes = checked_sizes(header, kept)
    print(HEAD.format(major=version(header)[0], minor=version(header)[1]))
    print("FUNCTIONS = (")
    print(wrapped([f'"{name}"' for name in functions]))
    print(')\n"""The functions of PJRT_Api in their order."""\n')
    print("STRUCTURES = {")
    for name, fields in kept.items():
        if name != "PJRT_Api":
            print(shown(name, f"{sizes.get(name, 0)} {described(fields)}", 4))
    print('}\n"""The size of each structure (0: of a union) and its fields, as kind:name."""')
    for name in ENUMS:
        print(f"\n{name} = {{")
        print(wrapped([f'"{c}":~{n}' for c, n in enums[name].items()]))
        print("}")


if __name__ == "__main__":
    main(*sys.argv[1:])
