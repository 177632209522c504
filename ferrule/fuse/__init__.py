"""Passes over Compute: layout, substitution, products merged, sums split, stages grouped."""
