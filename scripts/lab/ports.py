"""Ports that nobody uses at the moment."""

import socket


def free_udp_port(ip: str) -> int:
    """Return a UDP port of ``ip`` that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((ip, 0))
        port: int = probe.getsockname()[1]
        return port


def free_tcp_port(ip: str) -> int:
    """Return a TCP port of ``ip`` that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((ip, 0))
        port: int = probe.getsockname()[1]
        return port
