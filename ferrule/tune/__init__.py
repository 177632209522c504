"""tune: what tuning needs of any schedule space: a search, a database, a progress display."""
