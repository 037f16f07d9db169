"""A second AMI connection that reads everything: what a forger would dream of, and raw traces."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import Self

from lab.exchange import Exchange


class Spy:
    """Logged in as ``ctid``; reads raw bytes for as long as it lives.

    Attributes:
        stream: Everything read since the login, or since :meth:`begin`.
        arrivals: (bytes there were, when), for each read.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.stream = bytearray()
        self.arrivals: list[tuple[int, float]] = []
        self.began = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._exchange.ami_port)
        secret_text = self._exchange.ctid_secret_file.read_text().strip()
        self._writer.write(f"Action: Login\r\nUsername: ctid\r\nSecret: {secret_text}\r\n\r\n".encode())
        self._task = asyncio.get_running_loop().create_task(self._read(reader))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()
            await self._writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            self.stream += data
            self.arrivals.append((len(self.stream), time.monotonic()))

    def begin(self) -> None:
        """Forget what was read so far; time counts from now."""
        self.stream.clear()
        self.arrivals.clear()
        self.began = time.monotonic()

    @property
    def sequence_number(self) -> int:
        """The newest genuine one; the next event will carry one more."""
        found = re.findall(rb"Timestamp: [\d.]+\r\nSequenceNumber: (\d+)\r\n", bytes(self.stream[-65536:]))
        return int(found[-1]) if found else 0

    async def variable(self, channel: str, name: str) -> str:
        """Return a channel variable as Asterisk has it.

        Raises:
            TimeoutError: Asterisk did not answer.
        """
        assert self._writer is not None
        action_id = secrets.token_hex(8)
        self._writer.write(
            f"Action: Getvar\r\nActionID: {action_id}\r\n"
            f"Channel: {channel}\r\nVariable: {name}\r\n\r\n".encode()
        )
        answer = re.compile(rf"ActionID: {action_id}\r\n(?:.*\r\n)*?Value: (.*)\r\n\r\n".encode())
        async with asyncio.timeout(5):
            while not (found := answer.search(bytes(self.stream))):
                await asyncio.sleep(0.01)
        return found[1].decode()

    async def next_number(self) -> int:
        """Provoke an event that tells the number, and return the one that comes next."""
        seen = len(self.stream)
        async with asyncio.timeout(5):
            assert self._writer is not None
            while not re.search(rb"SequenceNumber: \d+\r\n", bytes(self.stream[seen:])):
                # A wrong action makes Asterisk report RequestBadFormat; harmless, and numbered.
                self._writer.write(b"Action: NoSuchAction\r\n\r\n")
                await asyncio.sleep(0.02)
            # Until it is quiet, so that the number is the newest.
            while len(self.stream) != seen:
                seen = len(self.stream)
                await asyncio.sleep(0.03)
        return self.sequence_number + 1
