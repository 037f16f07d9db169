"""Logs as data: JSON lines in production, colours at a terminal.

Values are escaped by the renderer, so a caller's name can not forge a line, and
telephone numbers are masked whatever key they come under.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

from ctid.settings import Log

_NUMBER = re.compile(r"(?<![\w.:-])\+?\d{7,15}(?![\w.:-])")
_SAFE_KEYS = frozenset({"timestamp", "level", "logger", "call", "leg", "boot", "port", "pid"})


def masked(number: str) -> str:
    """Hide the middle of a telephone number: ``13812348000`` is ``138****8000``."""
    return f"{number[:3]}****{number[-4:]}" if len(number) > 7 else "****"


def _mask_numbers(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if key not in _SAFE_KEYS and isinstance(value, str):
            event[key] = _NUMBER.sub(lambda found: masked(found[0]), value)
    return event


def _json(event: object, **_options: object) -> bytes:
    return orjson.dumps(event, default=str)


def configure(settings: Log) -> None:
    """Set up structlog, and route what libraries log through it as plain lines."""
    terminal = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    level = getattr(logging, settings.level.upper())
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr, format="%(name)s: %(message)s")
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask_numbers,
    ]
    if terminal:
        structlog.configure(
            processors=[*shared, structlog.dev.ConsoleRenderer()],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
            cache_logger_on_first_use=True,
        )
        return
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
