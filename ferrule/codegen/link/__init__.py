"""Relocatable objects as a shared library, without a linker."""
