"""The instructions of each architecture as tables: `x86.py`, `arm.py`, `riscv.py`, `wasm.py`.
`select.py` finds those that mean what is to be computed.
"""
