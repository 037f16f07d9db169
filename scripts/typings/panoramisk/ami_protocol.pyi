import asyncio
from typing import Any

from .message import Message

class AMIProtocol(asyncio.Protocol):
    transport: asyncio.Transport
    closed: bool
    responses: dict[str, Any]
    factory: Any
    encoding: str
    version: str | None
    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def handle_message(self, message: Message) -> None: ...
    def connection_lost(self, exc: BaseException | None) -> None: ...
    def close(self) -> None: ...
