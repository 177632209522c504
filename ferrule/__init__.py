"""ferrule: an AI compiler in Python: tensor programs to machine code, on numpy and llvmlite."""

__version__ = "0.1.0"
