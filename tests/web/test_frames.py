"""Frames as RFC 6455, section 5.2 wants them, read back by a reader of its own."""

from __future__ import annotations

import pytest

from ctid.web import frames


def read(frame: bytes) -> tuple[int, bytes]:
    """Return opcode and payload of one unmasked, final frame; the shortest length form is a must."""
    assert frame[0] & 0xF0 == 0x80
    assert frame[1] & 0x80 == 0, "a server's frame is never masked"
    size, at = frame[1], 2
    if size == 126:
        size, at = int.from_bytes(frame[2:4]), 4
        assert size > 125
    elif size == 127:
        size, at = int.from_bytes(frame[2:10]), 10
        assert size > 65_535
    assert len(frame) == at + size
    return frame[0] & 0x0F, frame[at:]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 300_000])
def test_text_of_every_length_form(size: int) -> None:
    assert read(frames.text(b"x" * size)) == (1, b"x" * size)


def test_close_says_code_and_reason() -> None:
    assert read(frames.close(1013, "too slow")) == (8, (1013).to_bytes(2) + b"too slow")
