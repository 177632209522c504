"""Frontends: a framework's program as a Graph. Each is a table from foreign operators to builder functions."""
