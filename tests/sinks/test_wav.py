"""Joining and repairing: every way in which a file of Asterisk's may end too soon."""

from __future__ import annotations

import os
import struct
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctid.sinks import wav

RATE = 8000


def samples(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}h", *values)


def wav_file(path: Path, sound: bytes, *, channels: int = 1, rate: int = RATE, width: int = 2) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(sound)
    return path


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    file = os.open(path, flags, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def joined(left: Path | None, right: Path | None, into: Path) -> tuple[wav.Sound, bytes]:
    """Join two files; return what was said of it, and the samples as the wave module reads them."""
    sides: list[tuple[int, wav.Leg] | None] = []
    files = [os.open(path, os.O_RDONLY) if path else None for path in (left, right)]
    for file in files:
        sides.append(None if file is None else (file, wav.read_leg(file)))
    with opened(into, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as out:
        sound = wav.join(sides[0], sides[1], out)
    for file in files:
        if file is not None:
            os.close(file)
    with wave.open(str(into)) as file_again:
        assert (file_again.getnchannels(), file_again.getsampwidth()) == (2, 2)
        assert file_again.getframerate() == sound.rate
        assert file_again.getnframes() == sound.frames
        return sound, file_again.readframes(sound.frames)


def test_the_caller_is_on_the_left_and_the_agent_on_the_right(tmp_path: Path) -> None:
    caller = wav_file(tmp_path / "caller.wav", samples(1, 2, 3))
    agent = wav_file(tmp_path / "agent.wav", samples(-1, -2, -3))
    sound, heard = joined(caller, agent, tmp_path / "both.wav")
    assert heard == samples(1, -1, 2, -2, 3, -3)
    assert sound.duration.total_seconds() == 3 / RATE


@settings(max_examples=60, deadline=None)
@given(
    left=st.lists(st.integers(-32768, 32767), max_size=50),
    right=st.lists(st.integers(-32768, 32767), max_size=50),
)
def test_every_sample_keeps_its_place_and_the_shorter_side_is_silent(
    tmp_path_factory: pytest.TempPathFactory, left: list[int], right: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("legs")
    _, heard = joined(
        wav_file(folder / "l.wav", samples(*left)),
        wav_file(folder / "r.wav", samples(*right)),
        folder / "b.wav",
    )
    length = max(len(left), len(right))
    values = struct.unpack(f"<{2 * length}h", heard)
    assert list(values[0::2]) == left + [0] * (length - len(left))
    assert list(values[1::2]) == right + [0] * (length - len(right))


def test_a_long_file_is_joined_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wav, "_CHUNK_FRAMES", 7)
    left, right = list(range(1, 31)), list(range(-1, -24, -1))
    _, heard = joined(
        wav_file(tmp_path / "l.wav", samples(*left)),
        wav_file(tmp_path / "r.wav", samples(*right)),
        tmp_path / "b.wav",
    )
    values = struct.unpack(f"<{2 * 30}h", heard)
    assert list(values[0::2]) == left
    assert list(values[1::2]) == right + [0] * 7


def test_a_missing_side_is_silence(tmp_path: Path) -> None:
    caller = wav_file(tmp_path / "caller.wav", samples(5, 6))
    assert joined(caller, None, tmp_path / "b.wav")[1] == samples(5, 0, 6, 0)
    assert joined(None, caller, tmp_path / "b.wav")[1] == samples(0, 5, 0, 6)


@pytest.mark.parametrize("header", ["as written", "zero", "too large"])
def test_every_place_where_a_file_may_be_cut(tmp_path: Path, header: str) -> None:
    whole = wav_file(tmp_path / "whole.wav", samples(*range(1, 9))).read_bytes()
    lengths = {"as written": None, "zero": (0, 0), "too large": (4000, 3964)}[header]
    if lengths:
        whole = (
            whole[:4]
            + struct.pack("<I", lengths[0])
            + whole[8:40]
            + struct.pack("<I", lengths[1])
            + whole[44:]
        )
    for size in range(len(whole) + 1):
        (tmp_path / "cut.wav").write_bytes(whole[:size])
        with opened(tmp_path / "cut.wav") as file:
            leg = wav.read_leg(file)
        assert leg.frames == max(0, size - 44) // 2
        assert leg.is_finished == (header == "as written" and size == len(whole))
        sound, heard = joined(tmp_path / "cut.wav", None, tmp_path / "b.wav")
        values = struct.unpack(f"<{2 * sound.frames}h", heard)
        assert list(values[0::2]) == list(range(1, 9))[: leg.frames]


def test_other_chunks_are_not_sound(tmp_path: Path) -> None:
    plain = wav_file(tmp_path / "l.wav", samples(1, 2)).read_bytes()
    extra = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    for odd in (plain[:36] + extra + plain[36:], plain + extra):
        fixed = odd[:4] + struct.pack("<I", len(odd) - 8) + odd[8:]
        (tmp_path / "odd.wav").write_bytes(fixed)
        with opened(tmp_path / "odd.wav") as file:
            assert wav.read_leg(file) == wav.Leg(
                offset=44 if odd.startswith(plain) else 56, frames=2, rate=RATE, is_finished=True
            )


@pytest.mark.parametrize("content", [b"ID3\x04", b"RIFF\0\0\0\0AVI LIST", b"x" * 100, b"\x7fELF"])
def test_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.wav").write_bytes(content)
    with opened(tmp_path / "x.wav") as file, pytest.raises(wav.NotWav):
        wav.read_leg(file)


@pytest.mark.parametrize("form", [{"channels": 2}, {"width": 1}, {"width": 3}, {"rate": 1}])
def test_another_format_is_refused(tmp_path: Path, form: dict[str, int]) -> None:
    wav_file(tmp_path / "x.wav", bytes(12), **form)
    with opened(tmp_path / "x.wav") as file, pytest.raises(wav.NotWav, match="16-bit PCM, one channel"):
        wav.read_leg(file)


@settings(max_examples=200, deadline=None)
@given(
    content=st.binary(max_size=120),
    prefix=st.sampled_from([b"", b"RIFF\x24\0\0\0WAVE", b"RIFF\0\0\0\0WAVEfmt "]),
)
def test_no_bytes_break_it(tmp_path_factory: pytest.TempPathFactory, content: bytes, prefix: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "x.wav"
    path.write_bytes(prefix + content)
    with opened(path) as file:
        try:
            leg = wav.read_leg(file)
        except wav.NotWav:
            return
        assert 0 <= leg.frames * 2 <= len(prefix + content)


def test_two_rates_can_not_be_joined(tmp_path: Path) -> None:
    slow = wav_file(tmp_path / "l.wav", samples(1))
    fast = wav_file(tmp_path / "r.wav", samples(1), rate=16000)
    with pytest.raises(wav.NotWav, match="8000, 16000"):
        joined(slow, fast, tmp_path / "b.wav")


def test_a_joined_file_that_is_cut_is_not_whole(tmp_path: Path) -> None:
    joined(wav_file(tmp_path / "l.wav", samples(1, 2, 3)), None, tmp_path / "b.wav")
    whole = (tmp_path / "b.wav").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "c.wav").write_bytes(whole[:size])
        with opened(tmp_path / "c.wav") as file, pytest.raises(wav.NotWav):
            wav.read_joined(file)
