"""The barest AMI client: no code of ctid's, so that tests can hold ctid's against it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Self

Frame = dict[str, str]
"""Header -> value; of equal headers the last."""


class AmiLink:
    """One connection, logged in.

    Attributes:
        events: Everything heard so far that is no reply, oldest first.
    """

    def __init__(self, port: int, user: str, secret_file: Path) -> None:
        self.events: list[Frame] = []
        self._port, self._user = port, user
        self._secret = secret_file.read_text(encoding="utf-8").strip()
        self._replies: dict[str, asyncio.Queue[Frame]] = {}
        self._numbers = count(1)
        self._heard = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._listening = asyncio.create_task(self._listen())
        try:
            await self.ask("Login", Username=self._user, Secret=self._secret)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def ask(self, action: str, **headers: str) -> Frame:
        """Send an action, return the first frame of its reply.

        Raises:
            TimeoutError: No reply within 5 seconds.
        """
        identity = f"{self._user}-{next(self._numbers)}"
        replies = self._replies[identity] = asyncio.Queue()
        lines = [f"Action: {action}", f"ActionID: {identity}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        return await asyncio.wait_for(replies.get(), 5)

    async def event(
        self, name: str, test: Callable[[Frame], bool] = lambda frame: True, timeout: float = 10
    ) -> Frame:
        """Return the first event of that name that passes ``test``, past or to come.

        Raises:
            TimeoutError: None within ``timeout`` seconds.
        """

        def found() -> Frame | None:
            return next((frame for frame in self.events if frame["Event"] == name and test(frame)), None)

        async with asyncio.timeout(timeout), self._heard:
            await self._heard.wait_for(lambda: found() is not None)
        result = found()
        assert result is not None
        return result

    def named(self, name: str) -> list[Frame]:
        """Return the events of one name so far."""
        return [frame for frame in self.events if frame["Event"] == name]

    async def _listen(self) -> None:
        await self._reader.readline()  # the banner
        while True:
            raw = await self._reader.readuntil(b"\r\n\r\n")
            lines = raw.decode("utf-8", "replace").split("\r\n")
            frame = {key: value for key, _, value in (line.partition(": ") for line in lines) if key}
            if replies := self._replies.get(frame.get("ActionID", "")):
                replies.put_nowait(frame)
            if "Event" in frame:
                async with self._heard:
                    self.events.append(frame)
                    self._heard.notify_all()
