"""Passes over stages and kernels: layout, substitution, products merged, sums split, grouping."""
