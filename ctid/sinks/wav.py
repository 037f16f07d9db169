"""One-channel WAV files of Asterisk into one file with two channels.

Asterisk writes the length into the header only when it closes the file (format_wav.c),
so after a crash the header says 0 although the sound is there: what counts is the size
of the file. Two bytes are a sample, little-endian; only their places change here.
"""

from __future__ import annotations

import hashlib
import os
import struct
from array import array
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import msgspec

from ctid.errors import CtidError

_SAMPLE_BYTES: Final = 2
_HEADER: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")
_HEAD_BYTES: Final = 4096
_CHUNK_FRAMES: Final = 1 << 18
_MOST: Final = 0xFFFFFFFF
_PCM: Final = 1


class NotWav(CtidError):
    """The file is not what Asterisk writes: 16-bit PCM with one channel."""


class Leg(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The sound of one side, as far as it is there.

    Attributes:
        offset: Where the samples begin, bytes.
        frames: Whole samples present.
        rate: Per second; 0 if the file ends before it says.
        is_finished: Header and size agree: Asterisk closed the file.
    """

    offset: int
    frames: int
    rate: int
    is_finished: bool


class Sound(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A joined file.

    Attributes:
        sha256: Hexadecimal, of the whole file.
    """

    frames: int
    rate: int
    size_bytes: int
    sha256: str

    @property
    def duration(self) -> timedelta:
        return timedelta(seconds=self.frames / self.rate) if self.rate else timedelta(0)


def read_leg(file: int) -> Leg:
    """Look at a one-channel file.

    Args:
        file: Descriptor, open for reading; its position is left alone.

    Raises:
        NotWav: It is something else. A file cut short is not: it holds fewer frames.
        OSError: It can not be read.
    """
    size = os.fstat(file).st_size
    head = os.pread(file, _HEAD_BYTES, 0)
    if not head.startswith(b"RIFF"[: len(head)]) or (len(head) >= 12 and head[8:12] != b"WAVE"):
        raise NotWav("it does not begin like a WAV file")
    at, rate = 12, 0
    while at + 8 <= len(head):
        name, length = struct.unpack_from("<4sI", head, at)
        at += 8
        if name == b"fmt " and at + 16 <= len(head):
            rate = _rate(head, at)
        if name == b"data":
            return _leg(offset=at, declared=length, rate=rate, size=size, riff=_riff(head))
        at += length + length % 2
    if size > _HEAD_BYTES:
        raise NotWav("it has no samples near its beginning")
    return Leg(offset=size, frames=0, rate=rate, is_finished=False)


def _riff(head: bytes) -> int:
    (length,) = struct.unpack_from("<I", head, 4)
    return int(length) + 8


def _rate(head: bytes, at: int) -> int:
    form, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", head, at)
    if (form, channels, bits) != (_PCM, 1, 8 * _SAMPLE_BYTES) or not 4000 <= rate <= 192_000:
        raise NotWav(
            f"format {form}, {channels} channels, {bits} bits, {rate}/s; want 16-bit PCM, one channel"
        )
    return int(rate)


def _leg(*, offset: int, declared: int, rate: int, size: int, riff: int) -> Leg:
    if not rate:
        raise NotWav("it does not say its sample rate")
    present = size - offset
    # Other chunks may follow the samples only if the outer length covers them. Nothing at all
    # may as well be what Asterisk still holds in its buffer.
    is_finished = 0 < declared == present or (0 < declared < present and riff == size)
    return Leg(
        offset=offset,
        frames=(declared if is_finished else present) // _SAMPLE_BYTES,
        rate=rate,
        is_finished=is_finished,
    )


def join(left: tuple[int, Leg] | None, right: tuple[int, Leg] | None, into: int) -> Sound:
    """Write a two-channel file; the shorter side is filled up with silence at its end.

    Args:
        left, right: Descriptor and look of each side; ``None``: silence throughout.
        into: Descriptor of an empty file, open for reading and writing.

    Returns:
        What was written, read back and compared.

    Raises:
        NotWav: The sides have different sample rates, or what was written reads differently.
        OSError: No room, or no access.
    """
    sides = [side for side in (left, right) if side]
    rates = {leg.rate for _, leg in sides if leg.rate}
    if len(rates) > 1:
        raise NotWav(f"the two sides have different sample rates: {sorted(rates)}")
    rate = rates.pop() if rates else 8000
    frames = max((leg.frames for _, leg in sides), default=0)
    written = hashlib.sha256()
    for block in _stereo(left, right, frames, rate):
        written.update(block)
        _write_all(into, block)
    os.fsync(into)
    sound = read_joined(into)
    if sound.sha256 != written.hexdigest():
        raise NotWav("what was written reads differently")
    return sound


def _stereo(
    left: tuple[int, Leg] | None, right: tuple[int, Leg] | None, frames: int, rate: int
) -> Iterator[bytes]:
    frame_bytes = 2 * _SAMPLE_BYTES
    length = min(frames * frame_bytes, _MOST - _HEADER.size)
    yield _HEADER.pack(
        b"RIFF", length + _HEADER.size - 8, b"WAVE",
        b"fmt ", 16, _PCM, 2, rate, rate * frame_bytes, frame_bytes, 8 * _SAMPLE_BYTES,
        b"data", length,
    )  # fmt: skip
    for start in range(0, frames, _CHUNK_FRAMES):
        count = min(_CHUNK_FRAMES, frames - start)
        both = array("h", bytes(count * frame_bytes))
        both[0::2] = _samples(left, start, count)
        both[1::2] = _samples(right, start, count)
        yield both.tobytes()


def _samples(side: tuple[int, Leg] | None, start: int, count: int) -> array[int]:
    there = min(count, max(0, side[1].frames - start)) if side else 0
    found = b""
    if side and there:
        found = os.pread(side[0], there * _SAMPLE_BYTES, side[1].offset + start * _SAMPLE_BYTES)
    return array("h", found.ljust(count * _SAMPLE_BYTES, b"\0"))


def _write_all(file: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(file, rest) :]


def read_joined(file: int) -> Sound:
    """Read a file that ``join`` wrote, whole.

    Raises:
        NotWav: It is not one, or is cut.
        OSError: It can not be read.
    """
    head = os.pread(file, _HEADER.size, 0)
    size = os.fstat(file).st_size
    if len(head) < _HEADER.size:
        raise NotWav("it is cut in its header")
    riff, _, wave, _, _, form, channels, rate, _, _, bits, data, length = _HEADER.unpack(head)
    is_ours = (riff, wave, data, form, channels, bits) == (b"RIFF", b"WAVE", b"data", _PCM, 2, 16) and rate
    if not is_ours or length != size - _HEADER.size:
        raise NotWav("it is not a whole two-channel file")
    digest, at = hashlib.sha256(), 0
    while block := os.pread(file, 1 << 20, at):
        digest.update(block)
        at += len(block)
    return Sound(frames=length // (2 * _SAMPLE_BYTES), rate=rate, size_bytes=size, sha256=digest.hexdigest())
