"""Schedules of contractions: blocking, packing, register blocks."""
