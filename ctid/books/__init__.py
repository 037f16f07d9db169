"""Asterisk's own books: queue_log and CEL, read, followed, and held against ours."""
