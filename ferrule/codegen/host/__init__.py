"""The host code of a program: its entries, shapes, launches."""
