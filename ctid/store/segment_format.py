"""How a record lies in a segment of a log: framed, numbered, checked. Bytes in, bytes out.

    mark (4) | length (4) | number (8) | CRC of the body (4) | CRC of this head (4) | body

Numbers are big-endian; the CRCs are CRC-32, started with the log's id. So a body that contains
the bytes of a record (somebody may send us such a thing) is never taken for one: nobody outside
knows the id. The head has a CRC of its own, so that a damaged body does not hide the next record;
after a damaged head the next one is found by its mark.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final
from uuid import UUID
from zlib import crc32

_MARK: Final = b"\xc7ct\x1d"
_HEAD: Final = struct.Struct(">4sIQI")
_CRC: Final = struct.Struct(">I")
HEAD_BYTES: Final = _HEAD.size + _CRC.size


def framed(body: bytes, number: int, log: UUID) -> bytes:
    """Return the record as it is written."""
    seed = crc32(log.bytes)
    head = _HEAD.pack(_MARK, len(body), number, crc32(body, seed))
    return head + _CRC.pack(crc32(head, seed)) + body


def _head(view: memoryview, at: int, seed: int) -> tuple[int, int, int] | None:
    """Return length, number and CRC of the body, if an intact head is here."""
    if at + HEAD_BYTES > len(view):
        return None
    mark, length, number, body_crc = _HEAD.unpack_from(view, at)
    (crc,) = _CRC.unpack_from(view, at + _HEAD.size)
    intact = mark == _MARK and crc == crc32(view[at : at + _HEAD.size], seed)
    return (length, number, body_crc) if intact else None


def records(block: bytes, log: UUID) -> Iterator[tuple[int, int, int]]:
    """Yield number, begin and end of the body of each intact record; what is damaged is left out.

    A record that is cut off by the end of ``block`` ends the search, since its head says how long it is.
    """
    view, seed, at = memoryview(block), crc32(log.bytes), 0
    while at >= 0:
        head = _head(view, at, seed)
        if head is None:
            at = block.find(_MARK, at + 1)
            continue
        length, number, crc = head
        begin, end = at + HEAD_BYTES, at + HEAD_BYTES + length
        if end > len(block):
            return
        if crc32(view[begin:end], seed) == crc:
            yield number, begin, end
        at = end


def taken(rest: bytes, log: UUID) -> int:
    """Return how many numbers the damaged rest of a segment, behind its last intact record, used up.

    None if it is a torn write: too short, or zeros (a block that the file system never got to
    write). Otherwise somebody may have been promised those records: their numbers are not used
    again. If nothing tells how many they were, it is as many as there is room for.
    """
    view, seed, at, count = memoryview(rest), crc32(log.bytes), 0, 0
    while (head := _head(view, at, seed)) and at + HEAD_BYTES + head[0] <= len(rest):
        at += HEAD_BYTES + head[0]
        count += 1
    left = rest[at:]
    if head or len(left) < HEAD_BYTES or not left.strip(b"\0"):
        return count
    _, length, _, crc = _HEAD.unpack_from(left)
    is_one = HEAD_BYTES + length == len(left) or crc32(left[HEAD_BYTES:], seed) == crc
    return count + (1 if is_one else len(left) // HEAD_BYTES)
