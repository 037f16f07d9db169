"""Logs as data: JSON lines in production, colours at a terminal.

A caller chooses his name and, within limits, his number. So nothing of it may forge a line or
move a terminal's cursor, and telephone numbers are masked whatever key they come under, in
lists, records and tracebacks too, ours and those of libraries.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Any

import orjson
import structlog

from ctid.settings import Log

_NUMBER = re.compile(
    # What only looks like a telephone number stays: UUIDs, Uniqueids, the serial number of a channel.
    r"(?P<kept>\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
    r"|(?<![0-9A-Za-z])\d{10}\.\d+|-0\d{7}\b)"
    # A number may follow the n of an escaped line feed.
    r"|(?:(?<![0-9A-Za-z])(?<!\d\.)|(?<=\\[nrt]))\+?\d{7,}(?![0-9A-Za-z])"
)
_SAFE_KEYS = frozenset({"timestamp", "level", "pid", "port"})

#: Control characters, and those that turn text around or begin a line in some viewers.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def masked(number: str) -> str:
    """Hide the middle of a telephone number: ``13812348000`` is ``138****8000``."""
    return f"{number[:3]}****{number[-4:]}" if len(number) > 7 else "****"


def without_numbers(text: str) -> str:
    """Mask every telephone number in a text."""
    return _NUMBER.sub(lambda found: found[0] if found["kept"] else masked(found[0]), text)


def escaped(text: str) -> str:
    """Write control characters, line breaks and what turns text around as a programmer would."""
    return _UNPRINTABLE.sub(lambda found: _SHORT.get(found[0]) or _code(found[0]), text)


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """Apply ``change`` to every text in ``value``; what is no plain value becomes text first."""
    match value:
        case str():
            return change(value)
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {change(str(key)): _each(item, change) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_each(item, change) for item in value]
    return change(str(value))


def _mask(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {
        without_numbers(key): value if key in _SAFE_KEYS else _each(value, without_numbers)
        for key, value in event.items()
    }


def _escape(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For a terminal, which would obey; JSON escapes by itself."""
    trace = event.pop("exception", None)
    event = {escaped(key): _each(value, escaped) for key, value in event.items()}
    if trace is not None:
        # Indented, so that no line of it can look like a record.
        event["exception"] = "\n".join(f"    {escaped(line)}" for line in str(trace).split("\n"))
    return event


def _json(event: object, **_options: object) -> bytes:
    """Render one line; what JSON lets through but a terminal or a viewer obeys is escaped, too."""
    text = orjson.dumps(event, default=str).decode()
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


class _Bridge(logging.Handler):
    """Leads what libraries log into our own log, where it is masked and escaped."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        say = structlog.get_logger()
        say.log(max(record.levelno, logging.DEBUG), text, logger=record.name, exc_info=record.exc_info)


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log what ends the process as a record, not as a bare traceback."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger().critical("ctid fails", exc_info=(kind, error, trace))


def _console() -> structlog.dev.ConsoleRenderer:
    # Plain: a pretty traceback shows the values of variables, secrets and numbers among them.
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def configure(settings: Log) -> None:
    """Set up structlog, and route what libraries log through it as plain lines."""
    terminal = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    level = getattr(logging, settings.level.upper())
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[_Bridge()], force=True)
    sys.excepthook = _crashed
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _mask,
    ]
    if terminal:
        structlog.configure(
            processors=[*shared, _escape, _console()],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
            cache_logger_on_first_use=True,
        )
        return
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(_json)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
