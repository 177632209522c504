"""The floor that everything stands on: errors, dtypes, settings, the target machine, and the
descriptor of a compiled program.

Nothing here knows what a compiler is: an artifact ships with this folder and `ferrule/runtime/`
alone. What a load imports is kept few and light. So records are NamedTuples here, of which Python
makes six in the time of one dataclass, unless they are changed by `replace` or must be no tuples.
"""
