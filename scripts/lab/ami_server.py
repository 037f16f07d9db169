"""AMI as a pretend Asterisk speaks it: logs in, answers, lists, announces; cuts who does not read."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from ctid.ami.events import AmiEvent
from lab.ami_text import Announcer, channel_list, queue_list
from lab.switchboard import Switchboard

_END: Final = b"\r\n\r\n"
#: Seconds between two looks at a connection that does not take everything at once.
_LOOK: Final = 0.02


class _Connection(asyncio.Protocol):
    """One client.

    Real Asterisk gives each event ``writetimeout`` to leave (manager.c, send_string); so a
    client is cut when nothing at all left for so long, not when much is still on its way.
    """

    transport: asyncio.Transport

    def __init__(self, server: AmiServer) -> None:
        self.is_in = False
        self._server = server
        self._heard = b""
        self._written = 0
        self._left = (0.0, 0)
        self._look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._server.connections.add(self)
        self.write(b"Asterisk Call Manager/11.0.0\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._look:
            self._look.cancel()

    def data_received(self, data: bytes) -> None:
        *whole, self._heard = (self._heard + data).split(_END)
        for text in whole:
            lines = (line.partition(": ") for line in text.decode().split("\r\n"))
            self._server.asked(self, {name: value for name, _, value in lines})

    def write(self, data: bytes) -> None:
        """Send; begin to watch if it does not leave at once."""
        if self.transport.is_closing():
            return
        self.transport.write(data)
        self._written += len(data)
        if self._server.cut_after and self._look is None and self.transport.get_write_buffer_size():
            loop = asyncio.get_running_loop()
            self._left = (loop.time(), self._gone)
            self._look = loop.call_later(_LOOK, self._watch)

    @property
    def _gone(self) -> int:
        return self._written - self.transport.get_write_buffer_size()

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._look = None
        since, gone = self._left
        if not self.transport.get_write_buffer_size():
            return
        if self._gone > gone:
            self._left = (loop.time(), self._gone)
        elif loop.time() - since >= self._server.cut_after:
            self._server.cut += 1
            self.reset()
            return
        self._look = loop.call_later(_LOOK, self._watch)

    def reset(self) -> None:
        """End it with a RST."""
        link = self.transport.get_extra_info("socket")
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class AmiServer:
    """Serves one switchboard.

    Args:
        cut_after: Seconds a client may take nothing; 0: for ever (``writetimeout``).
        tell: Called after an action changed the switchboard.

    Attributes:
        connections: Clients.
        announced, logins, cut: Counts, over all runs.
        is_up: It listens.
    """

    def __init__(
        self,
        board: Switchboard,
        *,
        port: int,
        secret: str,
        cut_after: float = 0.0,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self.connections: set[_Connection] = set()
        self.announced = self.logins = self.cut = 0
        self.cut_after = cut_after
        self.is_up = False
        self._board = board
        self._port = port
        self._secret = secret
        self._tell = tell
        self._announcer = Announcer(board.system)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self._port)
        self.is_up = True

    async def stop(self) -> None:
        """Be gone, as a killed Asterisk is: no connection, no port, and the count begins anew."""
        self.is_up = False
        if self._server:
            self._server.close()
            self._server = None
        self.drop()
        self._announcer.restart()

    def drop(self) -> None:
        """Cut every connection."""
        for connection in list(self.connections):
            connection.reset()

    def announce(self, events: Iterable[AmiEvent]) -> None:
        """Send live events to everybody who is logged in."""
        before = self._announcer.number
        text = self._announcer.text(events)
        self.announced += self._announcer.number - before
        for connection in list(self.connections):
            if connection.is_in:
                connection.write(text)

    def asked(self, connection: _Connection, asked: dict[str, str]) -> None:
        """Answer one action."""
        action, action_id = asked.get("Action", ""), asked.get("ActionID", "")
        if action == "Login":
            self._log_in(connection, asked, action_id)
        elif not connection.is_in:
            connection.write(_reply(action_id, "Error", Message="Permission denied"))
        elif action == "CoreShowChannels":
            connection.write(channel_list(self._board.snapshot(), action_id))
        elif action == "QueueStatus":
            connection.write(queue_list(self._board.snapshot(), action_id))
        elif action == "QueuePause":
            self._pause(connection, asked, action_id)
        else:
            connection.write(_reply(action_id, **self._facts(action)))

    def _facts(self, action: str) -> dict[str, str]:
        boot = self._board.boot
        return {
            "Ping": {"Ping": "Pong", "Timestamp": f"{time.time():.6f}"},
            "CoreSettings": {"AsteriskVersion": "22.10.1", "SystemName": self._board.system},
            "CoreStatus": {"CoreStartupDate": f"{boot:%Y-%m-%d}", "CoreStartupTime": f"{boot:%H:%M:%S}"},
        }.get(action, {"Message": "Done"})

    def _log_in(self, connection: _Connection, asked: dict[str, str], action_id: str) -> None:
        if asked.get("Secret") != self._secret:
            connection.write(_reply(action_id, "Error", Message="Authentication failed"))
            return
        self.logins += 1
        up = int((datetime.now(UTC) - self._board.boot).total_seconds())
        connection.write(_reply(action_id, Message="Authentication accepted"))
        connection.write(
            f"Event: FullyBooted\r\nPrivilege: system,all\r\nUptime: {up}\r\nLastReload: {up}\r\n"
            "Status: Fully Booted\r\n\r\n".encode()
        )
        connection.is_in = True

    def _pause(self, connection: _Connection, asked: dict[str, str], action_id: str) -> None:
        interface, is_paused = (
            asked.get("Interface", ""),
            asked.get("Paused", "").lower() in ("1", "true", "yes"),
        )
        if not any(seat.interface == interface for seat in self._board.seats.values()):
            connection.write(_reply(action_id, "Error", Message="Interface not found"))
            return
        self._board.at = max(self._board.at, datetime.now(UTC))
        queues = [asked["Queue"]] if asked.get("Queue") else []
        self._board.pause(interface, asked.get("Reason", "") if is_paused else None, *queues)
        words = "paused" if is_paused else "unpaused"
        connection.write(_reply(action_id, Message=f"Interface {words} successfully"))
        self._tell()


def _reply(action_id: str, result: str = "Success", **headers: str) -> bytes:
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"Response: {result}\r\nActionID: {action_id}\r\n{more}\r\n".encode()
