"""A crowd of SIPp callers and agents of several tempers, each caller with a log of his own clock.

    agents = Crew(folder, {"quick": ("3001", "3002")})     # ports are chosen; agents.addresses for Exchange
    with agents.at_work(exchange.sip_address):
        await play(crowd(seed=7, batch=0, rate=4, seconds=10), exchange=..., did="4901", folder=callers)

The log has one line per thing that happened to a caller, see ``lab.load_scenarios``, with the
microsecond of the machine's clock: an auditor needs nobody else to know what callers saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lab import debian
from lab.load_scenarios import AGENTS, CALLER
from lab.ports import free_udp_port
from lab.sipp import LOAD_IP

CALLER_IP: Final = "127.0.0.2"

_HUM: Final = bytes([0x00, 0x20, 0x40, 0x20, 0x80, 0xA0, 0xC0, 0xA0]) * 1_000
"""A second of a 1 kHz hum in mu-law."""


@dataclass(frozen=True, slots=True)
class Temper:
    """How one kind of caller behaves.

    Attributes:
        patience: Seconds from the exchange's answer until he hangs up, if nobody did before.
        share: His part of all callers; the sum need not be 1.
    """

    name: str
    patience: float
    share: float


TEMPERS: Final = (
    Temper("talks", 3.0, 5),
    Temper("long", 5.0, 1),
    Temper("listens", 9.0, 2),
    Temper("gone", 0.15, 2),
    Temper("short", 0.03, 1),
)


@dataclass(frozen=True, slots=True)
class Group:
    """Callers of one temper: their number prefix (6 digits, unique), how many and how fast."""

    temper: Temper
    prefix: str
    calls: int
    rate: float


def crowd(
    *, seed: int, batch: int, rate: float, seconds: float, tempers: Sequence[Temper] = TEMPERS
) -> list[Group]:
    """Divide ``rate * seconds`` calls among tempers; the same seed gives the same crowd.

    Args:
        batch: 0 to 9999; crowds of different batches have different numbers.
    """
    chance = random.Random(seed)
    picked = chance.choices(tempers, [temper.share for temper in tempers], k=max(1, round(rate * seconds)))
    groups = []
    for number, temper in enumerate(tempers):
        calls = picked.count(temper)
        if calls:
            prefix = f"1{batch:04d}{number}"
            groups.append(Group(temper, prefix, calls, calls / seconds))
    return groups


class Callers:
    """Callers under way."""

    @property
    def are_calling(self) -> bool:
        """Whether any of them is still at it."""
        return any(one.poll() is None for one in self._running)

    def __init__(self, running: list[subprocess.Popen[bytes]], limit: float) -> None:
        self._running = running
        self._limit = limit

    async def finish(self) -> None:
        """Wait until the last of them has hung up; whoever hangs on too long is cut off."""
        for one in self._running:
            try:
                await asyncio.to_thread(one.wait, self._limit)
            except subprocess.TimeoutExpired:
                self.stop()

    def stop(self) -> None:
        """Switch all of their phones off at once."""
        for one in self._running:
            if one.poll() is None:
                one.kill()
                one.wait()


def call(groups: Sequence[Group], *, exchange: tuple[str, int], did: str, folder: Path) -> Callers:
    """Let a crowd call; return at once. Logs: ``folder/*.calls``, one file per temper."""
    folder.mkdir(parents=True, exist_ok=True)
    running = []
    limit = 0.0
    for group in groups:
        patience = group.temper.patience
        text = CALLER.replace("PATIENCE", f"{patience * 1000:.0f}").replace("PREFIX", group.prefix)
        name = f"{did}-{group.temper.name}"
        (folder / f"{name}.xml").write_text(text)
        seconds = group.calls / group.rate + patience + 12
        limit = max(limit, seconds + 5)
        words = ["-r", f"{group.rate * 10:.0f}", "-rp", "10000", "-m", str(group.calls), "-s", did]
        words += ["-l", "1000", "-timeout", f"{seconds:.0f}s", "-recv_timeout", "8000"]
        running.append(_sipp(folder, name, exchange, CALLER_IP, free_udp_port(CALLER_IP), words))
    return Callers(running, limit)


async def play(groups: Sequence[Group], *, exchange: tuple[str, int], did: str, folder: Path) -> None:
    """Let a crowd call and wait until the last of them has hung up."""
    callers = call(groups, exchange=exchange, did=did, folder=folder)
    try:
        await callers.finish()
    finally:
        callers.stop()


@dataclass
class Crew:
    """Agents of several tempers: keys of ``load_scenarios.AGENTS`` -> numbers.

    Attributes:
        addresses: Agent number -> where his phone listens.
    """

    folder: Path
    tempers: Mapping[str, Sequence[str]]
    addresses: dict[str, tuple[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ports = {temper: free_udp_port(LOAD_IP) for temper in self.tempers}
        for temper, numbers in self.tempers.items():
            self.addresses |= dict.fromkeys(numbers, (LOAD_IP, self._ports[temper]))

    @contextlib.contextmanager
    def at_work(self, exchange: tuple[str, int]) -> Iterator[None]:
        """Switch all phones on for as long as the ``with`` block lasts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        running = []
        try:
            for temper, port in self._ports.items():
                (self.folder / f"{temper}.xml").write_text(AGENTS[temper])
                running.append(_sipp(self.folder, temper, exchange, LOAD_IP, port, []))
            yield
        finally:
            for one in running:
                one.kill()
                one.wait()


def _sipp(
    folder: Path, name: str, exchange: tuple[str, int], ip: str, port: int, words: Sequence[str]
) -> subprocess.Popen[bytes]:
    """Start one SIPp; its log is ``name.calls``."""
    if not (hum := folder / "hum.ulaw").exists():  # another SIPp may be about to read it
        hum.write_bytes(_HUM)
    with (folder / f"{name}.out").open("wb") as said:
        return subprocess.Popen(
            [
                *(str(debian.program("tools", "sipp")), f"{exchange[0]}:{exchange[1]}"),
                *("-sf", f"{name}.xml", "-i", ip, "-p", str(port), "-mi", ip, "-nostdin", "-aa"),
                *("-trace_logs", "-log_file", f"{name}.calls", "-log_overwrite", "false"),
                *("-trace_err", "-error_file", f"{name}.errors"),
                *words,
            ],
            cwd=folder,
            stdout=said,
            stderr=said,
            stdin=subprocess.DEVNULL,
        )
