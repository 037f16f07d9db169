"""File descriptors are kept for what matters most: log and AMI first, then calls, then screens.

The kernel gives a new socket the lowest free number, so its number tells how many are in use:
at least so many. A listener that turns away sockets with high numbers leaves the rest to
those that are stricter with themselves.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from contextlib import suppress
from typing import Final

CORE: Final = 12
"""Spool, inputs log, AMI, PostgreSQL, a file of a recording: never given to who knocks."""
FASTAGI: Final = 16
"""At least so many calls can ask at once, whatever the screens do."""


def limit() -> int:
    """Return how many descriptors this process may have; may be changed from outside (prlimit)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def raise_limit() -> int:
    """Take as many as the system lets us have (systemd: ``LimitNOFILE``), and return that."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return limit()


def for_calls(number: int) -> bool:
    """Say whether a call may have the descriptor ``number``."""
    return number < limit() - CORE


def for_screens(number: int) -> bool:
    """Say whether a screen may have the descriptor ``number``; a quarter of all is kept for calls."""
    most = limit()
    return number < most - CORE - max(FASTAGI, most // 4)


def of(transport: asyncio.BaseTransport) -> int:
    """Return a connection's descriptor; -1 if it is closed already."""
    connection = transport.get_extra_info("socket")
    return connection.fileno() if connection is not None else -1


class Door(asyncio.Protocol):
    """Lets a connection in, or closes it before a byte of it is read.

    Args:
        inside: Makes the protocol that takes over.
        is_room: Asked with the descriptor's number.
    """

    def __init__(self, inside: Callable[[], asyncio.BaseProtocol], is_room: Callable[[int], bool]) -> None:
        self._inside = inside
        self._is_room = is_room

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._is_room(of(transport)):
            transport.abort()  # type: ignore[attr-defined]  # uvloop's is no asyncio.Transport
            return
        protocol = self._inside()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
