"""Passes from Graph to Graph."""
