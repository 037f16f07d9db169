"""What comes in at the TCP level: opened and closed, never finished, taken ports, closing in time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import aiohttp
import pytest

from ctid.settings import Metrics
from ctid.web.gate import Gate
from ctid.web.server import MetricsServer
from tests.fakes_web import WebDaemon, running


@pytest.mark.parametrize("which", ["web", "metrics"])
async def test_a_thousand_connections_opened_and_closed(daemon: WebDaemon, which: str) -> None:
    port = int(daemon.url.rpartition(":")[2]) if which == "web" else daemon.metrics.port
    path = "healthz" if which == "web" else "metrics"

    def open_and_close() -> None:
        for n in range(1000):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
                if n % 3 == 1:
                    raw.sendall(b"GET / HT")
                elif n % 3 == 2:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # reset

    await asyncio.to_thread(open_and_close)
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/{path}") as answer:
        assert answer.status == 200


async def test_metrics_are_rendered_off_the_loop(daemon: WebDaemon) -> None:
    threads = []

    def render() -> bytes:
        threads.append(threading.current_thread())
        return b"ctid_up 1\n"

    server = MetricsServer(Metrics(port=0), render=render)
    await server.start()
    try:
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{server.port}/metrics") as answer:
                assert (answer.status, await answer.text()) == (200, "ctid_up 1\n")
                assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            async with http.get(f"http://127.0.0.1:{server.port}/") as answer:
                assert answer.status == 404
    finally:
        await server.close()
    assert threading.main_thread() not in threads


async def test_a_taken_port_is_an_oserror_and_leaves_nothing_open(daemon: WebDaemon) -> None:
    taken = Metrics(port=daemon.metrics.port)
    with pytest.raises(OSError, match="address already in use"):
        await MetricsServer(taken, render=lambda: b"").start()
    second = WebDaemon(port=int(daemon.url.rpartition(":")[2]))
    with pytest.raises(OSError, match="address already in use"):
        await second.web.start()


async def test_s19_a_request_that_is_never_finished_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctid.web.server.IDLE_SECONDS", 0.3)
    async with running(WebDaemon()) as daemon:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(daemon.url.rpartition(":")[2]))
        trickle = asyncio.create_task(_trickle(writer))
        async with asyncio.timeout(15):
            with contextlib.suppress(ConnectionError):
                assert b"200" not in await reader.read()
        trickle.cancel()
        writer.close()


async def _trickle(writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET /ws HTTP/1.1\r\n")
    while not writer.is_closing():
        writer.write(b"X: y\r\n")
        await asyncio.sleep(0.02)


def test_public_url_is_the_origin_and_not_the_bind_address() -> None:
    gate = Gate(WebDaemon().sessions, "https://CTID.example/")
    gate.allow_hosts(8080)
    assert gate.origin == "https://ctid.example"
    assert "ctid.example" in gate.hosts
