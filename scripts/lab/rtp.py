"""Sound of a simulated phone: a tone out, what was heard in (PCMU, 20 ms packets)."""

from __future__ import annotations

import asyncio
import math
import random
import struct
import time
from collections import deque
from typing import cast

_RATE = 8000
_PACKET = 160  # samples, 20 ms
_EVENT_PAYLOAD = 101  # telephone-event, as offered in sip.session_description
_HEARD_LIMIT = 120 * _RATE  # bytes kept of what was heard
_DIGITS = "0123456789*#"


def ulaw(sample: int) -> int:
    """Encode one 16-bit sample (ITU-T G.711)."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 132
    exponent = max(magnitude.bit_length() - 8, 0)
    return ~(sign | exponent << 4 | (magnitude >> (exponent + 3)) & 15) & 255


def tone(frequency: float) -> bytes:
    """One second of a sine, PCMU; whole cycles if ``frequency`` is a whole number of hertz."""
    step = 2 * math.pi * frequency / _RATE
    return bytes(ulaw(round(8000 * math.sin(step * i))) for i in range(_RATE))


def amplitude(samples: bytes, frequency: float) -> float:
    """Strength of one frequency in PCMU ``samples``: about 8000 for our own tone, near 0 else."""
    step = 2 * math.pi * frequency / _RATE
    real = imaginary = 0.0
    for i, code in enumerate(samples):
        value = _LINEAR[code]
        real += value * math.cos(step * i)
        imaginary += value * math.sin(step * i)
    return 2 * math.hypot(real, imaginary) / max(1, len(samples))


def _linear(code: int) -> int:
    code = ~code & 255
    magnitude = ((((code & 15) << 3) + 132) << ((code >> 4) & 7)) - 132
    return -magnitude if code & 0x80 else magnitude


_LINEAR = [_linear(code) for code in range(256)]


class RtpStream(asyncio.DatagramProtocol):
    """One call's audio.

    Attributes:
        port: Our UDP port.
        remote: Where to send; ``None`` until the other side told.
        sending: ``False`` on hold.
        received: Packets heard so far.
        digits: Keys the other side pressed, RFC 4733.
    """

    def __init__(self, ip: str, frequency: float) -> None:
        self.port = 0
        self.remote: tuple[str, int] | None = None
        self.sending = True
        self.received = 0
        self.digits = ""
        self._digit_stamp = -1
        self._ip = ip
        self._sound = tone(frequency)
        self._heard = bytearray()
        self._digits: deque[str] = deque()
        self._transport: asyncio.DatagramTransport | None = None
        self._task: asyncio.Task[None] | None = None
        self._sequence = random.randrange(30_000)
        self._stamp = 0
        self._ssrc = random.getrandbits(32)

    async def open(self) -> None:
        """Take a free UDP port."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self._ip, 0))
        self._transport = transport
        self.port = cast("tuple[str, int]", transport.get_extra_info("sockname"))[1]

    def start(self) -> None:
        """Begin to send the tone; harmless when already begun."""
        if self._task is None and self._transport is not None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """Stop and free the port."""
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.close()

    def press(self, digits: str) -> None:
        """Send keys as RFC 4733 events, 260 ms each."""
        self._digits.extend(digits)

    def heard(self, frequency: float, *, seconds: float = 0.5) -> float:
        """Return how strong a frequency was in the last ``seconds`` heard."""
        return amplitude(bytes(self._heard[-int(seconds * _RATE) :]), frequency)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) > 12 and data[1] & 0x7F == 0:
            self.received += 1
            self._heard += data[12:]
            if len(self._heard) > 2 * _HEARD_LIMIT:
                del self._heard[:-_HEARD_LIMIT]
        elif len(data) >= 16 and data[1] & 0x7F == _EVENT_PAYLOAD:
            self._take_digit(data)

    def _take_digit(self, packet: bytes) -> None:
        """Note a key once: all packets of one event have the same time stamp."""
        (stamp,) = struct.unpack("!I", packet[4:8])
        if stamp != self._digit_stamp and packet[12] < len(_DIGITS):
            self._digit_stamp = stamp
            self.digits += _DIGITS[packet[12]]

    def error_received(self, exc: Exception) -> None:
        """The other side closed its port first: normal at the end of a call."""

    async def _run(self) -> None:
        due = time.monotonic()
        position = 0
        while True:
            if self._digits and self.remote:
                due = await self._send_digit(self._digits.popleft(), due)
            elif self.remote and self.sending:
                self._send(0, self._sound[position : position + _PACKET])
            position = (position + _PACKET) % _RATE
            self._stamp += _PACKET
            due += 0.02
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _send_digit(self, digit: str, due: float) -> float:
        for i in range(13):
            end = 0x80 if i >= 10 else 0
            duration = min(_PACKET * (i + 1), 10 * _PACKET)
            body = struct.pack("!BBH", _DIGITS.index(digit), end | 10, duration)
            self._send(_EVENT_PAYLOAD | (0x80 if i == 0 else 0), body)
            due += 0.02
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        self._stamp += 13 * _PACKET
        return due

    def _send(self, payload: int, body: bytes) -> None:
        head = struct.pack(
            "!BBHII", 0x80, payload, self._sequence & 0xFFFF, self._stamp & 0xFFFFFFFF, self._ssrc
        )
        self._sequence += 1
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(head + body, self.remote)
