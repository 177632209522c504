"""Makes the table of VHLO's operations, attributes and types that the reader of portable artifacts
has.

    git clone https://github.com/openxla/stablehlo
    python tools/make_vhlo.py stablehlo > ferrule/frontend/stablehlo/vhlo.py

Operations with their attributes come from VhloOps.td, cases of enumerations from VhloEnums.td, and
the codes of attributes and types in bytecode from VhloBytecode.cpp.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

HEAD = '''"""VHLO, the dialect of portable artifacts: names and codes, from openxla/stablehlo.

Made by tools/make_vhlo.py from version {version} (commit {commit}).
"""

from __future__ import annotations

VERSION = "{version}"
'''


def source(repository: str, file: str) -> str:
    """The text of a file of the dialect at the commit that the repository is at, without comments.
    """
    path = f"HEAD:stablehlo/dialect/{file}"
    command = ["git", "-C", repository, "show", path]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return re.sub(r"(?m)//.*$", "", text)


def operations(text: str) -> dict[str, tuple[str, ...]]:
    """The attributes of each operation, in the order in which its properties are written."""
    found = {}
    for definition in re.split(r"(?m)^(?=def )", text):
        name = re.match(r'def \w+\s*:\s*VHLO_Op<\s*"([^"]+)"', definition)
        if name:
            names = re.findall(r"VHLO_AnyAttr:\$(\w+)", definition)
            found[name[1]] = tuple(sorted(names))
    return found


def enumerations(text: str) -> dict[str, dict[int, str]]:
    """The cases of each enumeration by their numbers."""
    cases = {
        name: (case, int(number))
        for name, case, number in re.findall(
            r'def (\w+)\s*:\s*I32EnumAttrCase<"(\w+)",\s*(\d+)>', text
        )
    }
    found = {}
    for name, listed in re.findall(r'VHLO_I32EnumAttr<"(\w+)",\s*\[(.*?)\]', text, re.DOTALL):
        found[name] = {cases[c][1]: cases[c][0] for c in re.findall(r"\w+", listed)}
    return found


def codes(text: str, enum: str) -> dict[int, str]:
    """The names behind the codes of an enumeration of VhloBytecode.cpp (`AttributeCode`)."""
    body = re.search(rf"enum {enum} \{{(.*?)\}};", text, re.DOTALL)
    assert body, enum
    return {int(number): name for name, number in re.findall(r"k(\w+) = (\d+)", body[1])}


def types(text: str) -> dict[str, str]:
    """What MLIR writes for each type of VHLO ("BooleanV1": "i1")."""
    pairs = re.findall(r'VHLO_TypeDef<"(\w+)",\s*"(\w+)_v\d+"', text)
    renamed = {"bool": "i1", "tf31": "tf32"}  # the second is a slip of the dialect itself
    return {name: renamed.get(mnemonic, mnemonic) for name, mnemonic in pairs}


def table(name: str, content: dict) -> str:
    """A dictionary as Python."""
    lines = []
    for key, value in sorted(content.items()):
        line = f"    {key!r}: {value!r},".replace("'", '"')
        if len(line) > 100:  # what is in the brackets goes on lines of its own
            first, last = re.search(r"[({]", line).end(), len(line) - 2
            inner = textwrap.wrap(line[first:last].rstrip(",") + ",", 92, break_long_words=False)
            lines += [line[:first], *(" " * 8 + part for part in inner), "    " + line[last:]]
        else:
            lines.append(line)
    return "\n".join([f"{name} = {{", *lines, "}  # fmt: skip"])


def main() -> None:
    repository = sys.argv[1]
    version = re.search(
        r"getCurrentVersion\(\) \{ return Version\((\d+), (\d+), (\d+)\)",
        source(repository, "Version.h"),
    )
    assert version, "no version"
    command = ["git", "-C", repository, "rev-parse", "HEAD"]
    commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    bytecode = source(repository, "VhloBytecode.cpp")
    names = types(source(repository, "VhloTypes.td"))
    types_of = codes(bytecode, "TypeCode")
    tables = {
        "OPERATIONS": operations(source(repository, "VhloOps.td")),
        "ENUMERATIONS": enumerations(source(repository, "VhloEnums.td")),
        "ATTRIBUTES": codes(bytecode, "AttributeCode"),
        "TYPES": {c: names.get(n.removesuffix("Type"), "encoded") for c, n in types_of.items()},
    }
    print(HEAD.format(version=".".join(version.groups()), commit=commit[:12]))
    print("\n\n".join(table(name, content) for name, content in tables.items()))


if __name__ == "__main__":
    main()
