"""WebSocket frames as bytes, built once and written to many (RFC 6455, section 5.2).

A server's frames are not masked, so one text frame fits every client.
"""

from __future__ import annotations

import struct

_FIN_TEXT = 0x81
_FIN_CLOSE = 0x88


def text(payload: bytes) -> bytes:
    """Return one unfragmented text frame; ``payload`` is UTF-8."""
    return _head(_FIN_TEXT, len(payload)) + payload


def close(code: int, reason: str) -> bytes:
    """Return a close frame. ``reason`` is ASCII, at most 123 characters."""
    payload = struct.pack("!H", code) + reason.encode("ascii")
    return _head(_FIN_CLOSE, len(payload)) + payload


def _head(first: int, size: int) -> bytes:
    if size < 126:
        return bytes((first, size))
    if size < 1 << 16:
        return struct.pack("!BBH", first, 126, size)
    return struct.pack("!BBQ", first, 127, size)
