"""Passes over Graph and System: simplification, layout, fusion into kernels."""
