"""An agent's screen: a real WebSocket client of ctid that notes when each message arrived."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp

from lab.dialog import Moment

_SIGN_IN_WITHIN = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Received:
    """One message from ctid, and when it was here."""

    at: Moment
    message: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.message["type"])

    @property
    def pop(self) -> dict[str, Any]:
        """The pop it is about; empty for other messages."""
        return self.message.get("pop") or {}


@dataclass(eq=False)
class Screen:
    """One signed-in page.

    Attributes:
        url: Of ctid's web listener, e.g. ``http://127.0.0.1:8080``.
        received: Everything, oldest first.
    """

    url: str
    token: str
    received: list[Received] = field(default_factory=list)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    _session: aiohttp.ClientSession | None = None
    _socket: aiohttp.ClientWebSocketResponse | None = None
    _task: asyncio.Task[None] | None = None
    _commands: int = 0

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(self.url, headers={"Authorization": f"Bearer {self.token}"})
        try:
            self._socket = await self._session.ws_connect("/ws", max_msg_size=0)
            self._task = asyncio.get_running_loop().create_task(self._read(self._socket))
            await self.tell({"type": "auth", "token": self.token})
            await self.expect(lambda it: it.type == "hello", timeout=_SIGN_IN_WITHIN)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._socket is not None:
            await self._socket.close()
        if self._session is not None:
            await self._session.close()

    @property
    def is_connected(self) -> bool:
        return self._task is not None and not self._task.done()

    async def tell(self, command: dict[str, Any]) -> int:
        """Send a command; return the id that its ack will carry."""
        if self._socket is None:
            raise RuntimeError("the screen is not connected")
        self._commands += 1
        await self._socket.send_str(json.dumps(command | {"id": self._commands}))
        return self._commands

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Call the API as this user; return the status and the JSON it answered."""
        if self._session is None:
            raise RuntimeError("the screen is not connected")
        async with self._session.request(method, path, json=body) as response:
            text = await response.text()
            return response.status, json.loads(text) if text.startswith(("{", "[")) else text

    async def expect(
        self, wanted: Callable[[Received], bool], *, after: int = 0, timeout: float = 5.0
    ) -> Received:
        """Wait for the first message, from the ``after``-th on, that is ``wanted``.

        Raises:
            TimeoutError: None came in time; the text lists what came instead.
        """
        try:
            async with asyncio.timeout(timeout), self._arrived:
                while True:
                    for found in self.received[after:]:
                        if wanted(found):
                            return found
                    after = len(self.received)
                    await self._arrived.wait()
        except TimeoutError as error:
            raise TimeoutError(f"came instead: {[it.type for it in self.received]}") from error

    async def pop(self, type_: str, caller: str, *, timeout: float = 5.0) -> Received:
        """Wait for a ``pop.…`` message about the caller's number."""
        return await self.expect(
            lambda it: it.type == type_ and it.pop.get("caller_number") == caller, timeout=timeout
        )

    def pops_of(self, caller: str) -> list[Received]:
        """Return every message so far about pops of the caller's number."""
        return [it for it in self.received if it.pop.get("caller_number") == caller]

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for frame in socket:
            if frame.type is aiohttp.WSMsgType.TEXT:
                received = Received(Moment.now(), json.loads(frame.data))
                async with self._arrived:
                    self.received.append(received)
                    self._arrived.notify_all()
