"""Raw datagrams to the exchange, for what no telephone would send, and a tidy end to what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Self, cast

from lab import sip
from lab.sip import SipMessage


class RawLine(asyncio.DatagramProtocol):
    """One UDP socket that sends bytes as they are and keeps what comes back.

    Attributes:
        port: Ours.
        heard: Every response and request that could be read, oldest first.
    """

    def __init__(self, exchange: tuple[str, int], *, ip: str) -> None:
        self.exchange = exchange
        self.ip = ip
        self.port = 0
        self.heard: list[SipMessage] = []
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self.ip, 0))
        self.port = cast("tuple[str, int]", self._transport.get_extra_info("sockname"))[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._transport is not None:
            self._transport.close()

    def say(self, packet: bytes) -> None:
        """Send one datagram."""
        assert self._transport is not None
        self._transport.sendto(packet, self.exchange)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        # Whoever sends nonsense may get nonsense back; only what is SIP matters here.
        with contextlib.suppress(ValueError, IndexError):
            message = sip.parse(data)
            if message.is_request or message.status:
                self.heard.append(message)

    def error_received(self, exc: Exception) -> None:
        """The exchange is gone: whoever waits will time out."""

    def invite(
        self, extension: str, *, user: str = "13700000000", headers: Sequence[tuple[str, str]] = ()
    ) -> SipMessage:
        """Return an ordinary INVITE, to be spoilt by the caller; its audio goes nowhere."""
        target = f"sip:{extension}@{self.exchange[0]}:{self.exchange[1]}"
        lines = [
            ("via", f"SIP/2.0/UDP {self.ip}:{self.port};branch=z9hG4bK{sip.token()};rport"),
            ("max-forwards", "70"),
            ("from", f"<sip:{user}@{self.ip}>;tag={sip.token(4)}"),
            ("to", f"<{target}>"),
            ("call-id", sip.token()),
            ("cseq", "1 INVITE"),
            ("contact", f"<sip:{user}@{self.ip}:{self.port}>"),
            *headers,
            ("content-type", "application/sdp"),
        ]
        body = sip.session_description(self.ip, 9, "sendrecv", 1)
        return SipMessage(f"INVITE {target} SIP/2.0", lines, body)

    def options(self) -> SipMessage:
        """Return a question that every living exchange answers."""
        asked = self.invite("s")
        asked.start, asked.body = asked.start.replace("INVITE", "OPTIONS"), b""
        asked.headers = [(name, value) for name, value in asked.headers if name != "content-type"]
        asked.headers = [
            (name, value.replace("INVITE", "OPTIONS") if name == "cseq" else value)
            for name, value in asked.headers
        ]
        return asked

    async def final(self, call_id: str, *, within: float = 2.0, sequence: int = 0) -> SipMessage | None:
        """Wait for a final response to a request; ``None``: there was none in time."""
        give_up = time.monotonic() + within
        while time.monotonic() < give_up:
            for message in self.heard:
                is_ours = not message.is_request and message.call_id == call_id and message.status >= 200
                if is_ours and (not sequence or message.sequence[0] == sequence):
                    return message
            await asyncio.sleep(0.01)
        return None

    async def finish(self, invite: SipMessage, answer: SipMessage) -> None:
        """Acknowledge a final response; if it was a 2xx, hang up, too."""
        self.say(self._after(invite, answer, "ACK", invite.sequence[0]).encode())
        if answer.status < 300:
            number = invite.sequence[0] + 1
            self.say(self._after(invite, answer, "BYE", number).encode())
            await self.final(invite.call_id, sequence=number)

    def _after(self, invite: SipMessage, answer: SipMessage, method: str, number: int) -> SipMessage:
        is_new = answer.status < 300  # RFC 3261, 13.2.2.4: its ACK is a transaction of its own
        branch = sip.token() if is_new else invite.branch.removeprefix("z9hG4bK")
        target = sip.uri_of(answer.first("contact")) if is_new else invite.start.split()[1]
        lines = [
            ("via", f"SIP/2.0/UDP {self.ip}:{self.port};branch=z9hG4bK{branch};rport"),
            ("max-forwards", "70"),
            ("from", answer.first("from")),
            ("to", answer.first("to")),
            ("call-id", invite.call_id),
            ("cseq", f"{number} {method}"),
        ]
        return SipMessage(f"{method} {target} SIP/2.0", lines)
