"""Reports: what a profile has measured, as values, text, a page and a trace."""
