"""Fakes that stand in for machines, not for our own code.

Unrealistic about :class:`FakeAsterisk`: it has no calls of its own, executes nothing, and
lists what it is told to list. Its frames look as 16.28 and 22.10 write them with
``debug = on`` and ``timestampevents = yes``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Self

from ctid.settings import AmiAccount, Asterisk

SECRET = "ami-secret"
START = 1795379679.5
"""When the fake Asterisk began, seconds since the epoch; its first event is a second later."""

Headers = Mapping[str, str | int]
NONE: Headers = MappingProxyType({})


def lines(headers: Iterable[tuple[str, str | int]]) -> bytes:
    """One frame, with its empty line."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode() + b"\r\n"


def event(name: str, number: int | None, headers: Headers = NONE, *, at: float = START + 1) -> bytes:
    """One live event; ``number`` ``None``: as with ``debug = off``."""
    numbered = [] if number is None else [("SequenceNumber", number), ("File", "manager.c"), ("Line", 593)]
    first = [("Event", name), ("Privilege", "call,all"), ("Timestamp", f"{at:.6f}")]
    return lines([*first, *numbered, *headers.items()])


def leg(
    uniqueid: str = "1.1", linkedid: str = "", *, channel: str = "PJSIP/t-1", number: str = "15551234"
) -> dict[str, str | int]:
    """Describe a channel as every event about one does."""
    return {
        "Channel": channel,
        "ChannelState": 4,
        "ChannelStateDesc": "Ring",
        "CallerIDNum": number,
        "CallerIDName": "王小明",
        "ConnectedLineNum": "<unknown>",
        "ConnectedLineName": "<unknown>",
        "Language": "zh",
        "AccountCode": "",
        "Context": "from-trunk",
        "Exten": "5001",
        "Priority": 1,
        "Uniqueid": uniqueid,
        "Linkedid": linkedid or uniqueid,
    }


def ami_settings(folder: Path, port: int, *, secret: str = SECRET, **others: object) -> Asterisk:
    """Settings for a fake; deadlines short enough for tests unless told otherwise."""
    file = folder / "ami.secret"
    file.write_text(secret)
    values: dict[str, object] = {
        "ping_every": timedelta(seconds=0.2),
        "dead_after": timedelta(seconds=5),
        "action_timeout": timedelta(seconds=2),
    }
    account = AmiAccount(username="ctid", secret_file=file)
    return Asterisk(host="127.0.0.1", port=port, account=account, **(values | others))  # type: ignore[arg-type]


class FakeAsterisk:
    """A scripted AMI server on a free port of the loopback.

    Attributes:
        asked: Every action received, headers by name, over all connections.
        logins: When somebody tried to log in, monotonic seconds.
        answers: Instead of the built-in answer to an action: gets its headers, returns bytes.
        listed: Items of CoreShowChannels and QueueStatus: (action, event, headers).
        boots: Send FullyBooted after the login.
        is_deaf: Accept, read, and never answer again (a stopped process, a dropped route).
        number: SequenceNumber of the next event.
    """

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[dict[str, str]] = []
        self.logins: list[float] = []
        self.answers: dict[str, Callable[[dict[str, str]], bytes]] = {}
        self.listed: list[tuple[str, str, Headers]] = []
        self.boots = True
        self.is_deaf = False
        self.number = 100
        self.banner = b"Asterisk Call Manager/11.0.0\r\n"
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- what a test does ----------------------------------------------------

    def send(self, data: bytes) -> None:
        """Write bytes to everybody who is connected."""
        for writer in self._writers:
            writer.write(data)

    def happen(self, name: str, headers: Headers = NONE, *, at: float | None = None) -> None:
        """Send a live event with the next number."""
        self.send(event(name, self.number, headers, at=time.time() if at is None else at))
        self.number += 1

    def cut(self, *, reset: bool = False) -> None:
        """End every connection, politely or with a reset."""
        for writer in self._writers:
            if reset:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            writer.close()
        self._writers.clear()

    def asked_for(self, action: str) -> list[dict[str, str]]:
        """Return the actions of this name received so far."""
        return [asked for asked in self.asked if asked.get("Action") == action]

    async def until_asked(self, action: str, times: int = 1) -> dict[str, str]:
        """Wait until an action came so often; return the last."""
        while len(self.asked_for(action)) < times:
            self._changed.clear()
            await self._changed.wait()
        return self.asked_for(action)[times - 1]

    # -- what it does by itself ------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.append(writer)
        writer.write(self.banner)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                text = (await reader.readuntil(b"\r\n\r\n")).decode()
                asked = dict(line.split(": ", 1) for line in text.strip().split("\r\n"))
                self.asked.append(asked)
                self._changed.set()
                if not self.is_deaf:
                    writer.write(self._answer(asked))
        writer.close()

    def _answer(self, asked: dict[str, str]) -> bytes:
        action = asked["Action"]
        if action == "Login":
            self.logins.append(time.monotonic())
        if action in self.answers:
            return self.answers[action](asked)
        if action == "Login":
            return self._log_in(asked)
        if action in ("CoreShowChannels", "QueueStatus"):
            return self.list_of(asked)
        extra = {
            "Ping": {"Ping": "Pong", "Timestamp": f"{time.time():.6f}"},
            "CoreSettings": {"SystemName": "fake"},
            "CoreStatus": {"CoreStartupDate": "2026-11-22", "CoreStartupTime": "20:34:39"},
        }.get(action, {"Message": "Done"})
        return reply(asked, **extra)

    def _log_in(self, asked: dict[str, str]) -> bytes:
        if asked.get("Secret") != SECRET:
            return reply(asked, "Error", Message="Authentication failed")
        booted = lines([("Event", "FullyBooted"), ("Uptime", int(time.time() - START))])
        return reply(asked, Message="Authentication accepted") + (booted if self.boots else b"")

    def list_of(self, asked: dict[str, str], *, complete: bool = True, count: int | None = None) -> bytes:
        """Return the list an action asks for."""
        action, action_id = asked["Action"], asked["ActionID"]
        items = [(name, headers) for of, name, headers in self.listed if of == action]
        out = reply(asked, EventList="start", Message="List will follow")
        for name, headers in items:
            out += lines([("Event", name), ("ActionID", action_id), *headers.items()])
        end: Headers = {
            "Event": f"{action}Complete",
            "ActionID": action_id,
            "EventList": "Complete",
            "ListItems": len(items) if count is None else count,
        }
        return out + (lines(end.items()) if complete else b"")


def reply(asked: Mapping[str, str], result: str = "Success", /, **headers: str) -> bytes:
    """The answer to an action."""
    return lines([("Response", result), ("ActionID", asked["ActionID"]), *headers.items()])
