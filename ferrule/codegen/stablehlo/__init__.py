"""Graphs as StableHLO text."""
