"""Which phone is heard on which channel of a recording: every simulated phone hums its own tone."""

from __future__ import annotations

import array
import math
import sys
import wave
from pathlib import Path


def strength(samples: array.array[int], frequency: float, rate: int) -> float:
    """Return the amplitude of one frequency in 16-bit ``samples``: about 8000 for a phone's tone."""
    step = 2 * math.pi * frequency / rate
    real = sum(value * math.cos(step * i) for i, value in enumerate(samples))
    imaginary = sum(value * math.sin(step * i) for i, value in enumerate(samples))
    return 2 * math.hypot(real, imaginary) / max(1, len(samples))


def channels_of(file: Path) -> tuple[list[array.array[int]], int]:
    """Read a 16-bit WAV file.

    Returns:
        One array of samples per channel, left first, and the samples per second.

    Raises:
        ValueError: Not 16 bits per sample.
    """
    with wave.open(str(file)) as sound:
        if sound.getsampwidth() != 2:
            raise ValueError(f"{file}: {8 * sound.getsampwidth()} bits per sample, not 16")
        samples = array.array("h", sound.readframes(sound.getnframes()))
        if sys.byteorder == "big":
            samples.byteswap()
        count = sound.getnchannels()
        return [samples[i::count] for i in range(count)], sound.getframerate()


def loudest(file: Path, frequencies: tuple[float, ...], *, at: float, seconds: float = 0.5) -> list[float]:
    """Return, per channel, which of the ``frequencies`` is strongest; 0.0 where none is there.

    Args:
        at: Seconds from the beginning; negative: from the end.
    """
    channels, rate = channels_of(file)
    found = []
    for samples in channels:
        begin = round(at * rate) if at >= 0 else max(0, len(samples) + round(at * rate))
        part = samples[begin : begin + round(seconds * rate)]
        best = max(frequencies, key=lambda frequency: strength(part, frequency, rate))
        found.append(best if strength(part, best, rate) > 1000 else 0.0)
    return found
