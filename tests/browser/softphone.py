"""The softphone under test: a real Asterisk, and a Chromium that hears a file as its microphone."""

from __future__ import annotations

import asyncio
import math
import struct
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Playwright
from playwright.async_api import TimeoutError as PlaywrightTimeout

from lab.browser import chromium
from lab.exchange import Exchange
from tests.browser.conftest import Tab

AGENT = "201"
MICROPHONE = 700.0
CALLER = 440.0
COLLEAGUE = 1300.0
MUSIC = 300.0
"""Hertz: what each party sounds like, and the music on hold."""
LOUD = 1000.0
"""Amplitude of 16-bit samples; the tones are sent with 8000."""
QUIET = 100.0

#: Amplitude of a frequency in what the agent hears now, on the scale of 16-bit samples.
HEARD = """async ({ hertz, milliseconds }) => {
  const context = window.listening ??= new AudioContext();
  await context.resume();
  const analyser = context.createAnalyser();
  analyser.fftSize = 16384;
  const voices = document.querySelectorAll("audio.voice");
  const source = context.createMediaStreamSource(voices[voices.length - 1].srcObject);
  source.connect(analyser);
  await new Promise((done) => setTimeout(done, milliseconds));
  const samples = new Float32Array(analyser.fftSize);
  analyser.getFloatTimeDomainData(samples);
  source.disconnect();
  let real = 0, imaginary = 0;
  samples.forEach((sample, at) => {
    const angle = 2 * Math.PI * hertz * at / context.sampleRate;
    real += sample * Math.cos(angle);
    imaginary += sample * Math.sin(angle);
  });
  return 32768 * 2 * Math.hypot(real, imaginary) / samples.length;
}"""

#: Taps whatever the page plays itself, so that the bell can be heard and not only be believed.
TAP = """(() => {
  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (to, ...more) {
    if (to instanceof AudioDestinationNode) {
      if (window.tap?.context !== this.context) window.tap = new AnalyserNode(this.context);
      connect.call(this, window.tap);
    }
    return connect.call(this, to, ...more);
  };
  window.loudness = () => {
    if (!window.tap) return 0;
    const samples = new Float32Array(tap.fftSize);
    tap.getFloatTimeDomainData(samples);
    return Math.max(...samples.map(Math.abs));
  };
})()"""


def write_tone(file: Path, hertz: float) -> Path:
    """Write a second of a tone that can be played in a circle (WAV, 48 kHz)."""
    samples = [round(8000 * math.sin(2 * math.pi * hertz * i / 48_000)) for i in range(48_000)]
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(48_000)
        sound.writeframes(struct.pack("<48000h", *samples))
    return file


async def hearing(playwright: Playwright, microphone: Path, exchange: Exchange) -> Browser:
    """Start a Chromium with a file as microphone that believes this Asterisk's certificate."""
    assert exchange.certificate is not None
    return await playwright.chromium.launch(
        executable_path=chromium(),
        args=[
            "--no-sandbox",
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-audio-capture={microphone}",
            f"--ignore-certificate-errors-spki-list={exchange.certificate.fingerprint}",
            "--allow-loopback-in-peer-connection",
            "--disable-features=WebRtcHideLocalIpsWithMdns",
        ],
    )


async def until(what: Callable[[], bool], *, within: float = 10.0) -> None:
    """Wait until something is true.

    Raises:
        TimeoutError: It was not, ``within`` seconds.
    """
    async with asyncio.timeout(within):
        while not what():
            await asyncio.sleep(0.02)


class Handset:
    """The softphone of one tab, as an agent sees, hears and uses it."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.page = tab.page

    async def is_(self, state: str, *, within: float = 15.0) -> None:
        """Wait for a state of the call: idle, ringing, calling, talking, held."""
        try:
            await self.tab.shows(f"#phone[data-state={state}]", within=within)
        except PlaywrightTimeout:
            seen = await self.tab.texts("#phone")
            raise AssertionError(f"not {state}: {await self.stats()} {seen} {self.tab.wrong}") from None

    async def registered(self, *, within: float = 20.0) -> None:
        await self.tab.shows("#phone[data-line=registered]", within=within)

    async def key(self, key: str) -> None:
        await self.page.keyboard.press(key)

    async def dial(self, number: str, act: str) -> None:
        """Write a number by keyboard alone and do something with it."""
        await self.key("Alt+n")
        await self.page.keyboard.type(number)
        await self.key(act)

    async def heard(self, hertz: float) -> float:
        """Return how strong a frequency is in what the agent hears."""
        return float(await self.page.evaluate(HEARD, {"hertz": hertz, "milliseconds": 500}))

    async def hears(self, hertz: float, *, within: float = 8.0) -> None:
        async with asyncio.timeout(within):
            while await self.heard(hertz) < LOUD:
                pass

    async def bell(self, seconds: float) -> float:
        """Return the loudest that the page itself played during some time, 0 to 1."""
        loudest = 0.0
        for _ in range(round(seconds / 0.03)):
            loudest = max(loudest, float(await self.page.evaluate("loudness()")))
            await asyncio.sleep(0.02)
        return loudest

    async def stats(self) -> dict[str, Any]:
        return dict(await self.page.evaluate("document.getElementById('phone').dataset"))
