"""Frontends: a framework's program as a Graph, each a table from foreign operators to builders."""
