"""Command line: ``python -m ctid``."""
