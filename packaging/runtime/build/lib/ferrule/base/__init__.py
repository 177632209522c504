"""The floor that everything stands on: errors, dtypes, settings, the target machine, and the
descriptor of a compiled program.

Nothing here knows what a compiler is: an artifact ships with this folder and `ferrule/runtime/`
alone.
"""
