"""Ports that nobody uses at the moment, and that nobody is given by chance.

The kernel gives every outgoing connection a port, from 32768 on: one found free there may
be taken before the program it is meant for gets to bind it. So these lie below, above what
Asterisk is given for RTP, and none is handed out twice by one process.
"""

from __future__ import annotations

import random
import socket
from typing import Final

_FIRST: Final = 30_000
_LAST: Final = 32_700
_TRIES: Final = 1_000
#: Not the shared generator: a test that seeds it must not make two processes alike.
_random = random.SystemRandom()
_given: set[int] = set()


def free_udp_port(ip: str) -> int:
    """Return a UDP port of ``ip`` that is free, on every address."""
    return _free(ip, socket.SOCK_DGRAM)


def free_tcp_port(ip: str) -> int:
    """Return a TCP port of ``ip`` that is free."""
    return _free(ip, socket.SOCK_STREAM)


def _free(ip: str, kind: socket.SocketKind) -> int:
    for _ in range(_TRIES):
        port = _random.randint(_FIRST, _LAST)
        if port in _given:
            continue
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((ip, port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise OSError(f"no free port on {ip} between {_FIRST} and {_LAST}")
