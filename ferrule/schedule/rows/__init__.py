"""Schedules of kernels without contractions: loops, vectors, hints."""
