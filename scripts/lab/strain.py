"""Much at once, and for long: bursts, a steady load and a soak of the daemon on a scripted Asterisk."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from lab.scripted_stage import ScriptedStage

#: Seconds for what was said to be in PostgreSQL.
SETTLED_WITHIN: Final = 60.0
#: Seconds that an event loop may stand still (Q7): Asterisk cuts off after so long.
STALL: Final = 0.1
_TICK: Final = 0.01
_PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") // 1024
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Strain:
    """How the daemon stood a load.

    Attributes:
        events: Sent within ``took`` seconds.
        cpu: Of the daemon, per second of it; 1.0 is one core.
        lost: Event numbers that never came, by its own count.
        cut: Times it was cut off because it did not read.
        logins: Times it came back.
        stalls: Times its event loop stood still for more than 100 ms, by its own histogram.
        box_stalls: The same of our own loop meanwhile, which had nothing to do: the box was busy.
        differences: Between truth and PostgreSQL.
    """

    events: int
    took: float
    cpu: float
    lost: int
    cut: int
    logins: int
    stalls: int
    box_stalls: int
    differences: list[str]


async def burst(stage: ScriptedStage, events: int, seconds: float) -> Strain:
    """Send ``events`` events within ``seconds``, evenly, and audit what became of them."""
    before, used = await stage.tell("stats"), cpu_seconds(stage.daemon.pid)
    stalls = await _stalls(stage)
    async with Witness() as witness:
        told = await stage.tell("burst", events, seconds)
        cpu = (cpu_seconds(stage.daemon.pid) - used) / told["took"]
        stalls = await _stalls(stage) - stalls
    return Strain(
        events=told["burst"],
        took=told["took"],
        cpu=round(cpu, 2),
        lost=int(await stage.daemon.metric("ctid_ami_gaps_total")),
        cut=told["cut"] - before["cut"],
        logins=told["logins"] - before["logins"],
        stalls=stalls,
        box_stalls=witness.stalls,
        differences=await stage.settled(SETTLED_WITHIN),
    )


async def _stalls(stage: ScriptedStage) -> int:
    """Count all looks at the loop less those that were not late; of one scrape, for looks go on."""
    found = {"ctid_loop_stall_seconds_count": 0.0, f'ctid_loop_stall_seconds_bucket{{le="{STALL}"}}': 0.0}
    for line in (await stage.daemon.metrics()).splitlines():
        name, _, value = line.rpartition(" ")
        if name in found:
            found[name] = float(value)
    every, short = found.values()
    return int(every - short)


class Witness:
    """Looks at its own loop while it is entered.

    Attributes:
        stalls: Times it stood still for more than ``STALL``.
    """

    def __init__(self) -> None:
        self.stalls = 0

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(_TICK)
            self.stalls += time.perf_counter() - began > _TICK + STALL


# -- soak -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the daemon.

    Attributes:
        at: Monotonic seconds.
        rss_mib: Resident memory.
        fds: Open file descriptors.
        series: All on ``/metrics``, by name and labels.
        tasks: Of asyncio.
    """

    at: float
    rss_mib: float
    fds: int
    series: frozenset[str]
    tasks: int


@dataclass(frozen=True, slots=True)
class Soak:
    """All looks, the first quarter left out: caches fill up then."""

    samples: tuple[Sample, ...]

    def slope(self, of: Callable[[Sample], float]) -> float:
        """Return the rise per hour by the regression line, not by the end points."""
        kept = self.samples[len(self.samples) // 4 :]
        return regression([(one.at / 3600, of(one)) for one in kept])

    def spread(self, of: Callable[[Sample], float]) -> float:
        """Return how far the largest is above the smallest."""
        kept = [of(one) for one in self.samples[len(self.samples) // 4 :]]
        return max(kept) - min(kept)

    @property
    def new_series(self) -> list[str]:
        """Series that the last look shows and the first one that counts did not."""
        kept = self.samples[len(self.samples) // 4 :]
        return sorted(kept[-1].series - kept[0].series)

    @property
    def rss_mib_per_hour(self) -> float:
        return self.slope(lambda one: one.rss_mib)


async def soak(stage: ScriptedStage, minutes: float, *, rate: float = 5.0, every: float = 10.0) -> Soak:
    """Let life go on for so long and look every ``every`` seconds."""
    await stage.tell("rate", rate)
    samples = []
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end:
        await asyncio.sleep(every)
        samples.append(await _look(stage))
        if len(samples) > 1 and samples[-1].series == samples[-2].series:
            samples[-1] = replace(samples[-1], series=samples[-2].series)  # one set, not 200 of 18,000 names
    return Soak(tuple(samples))


async def _look(stage: ScriptedStage) -> Sample:
    folder = Path(f"/proc/{stage.daemon.pid}")
    lines = [line for line in (await stage.daemon.metrics()).splitlines() if not line.startswith("#")]
    tasks = next(line for line in lines if line.startswith("ctid_tasks "))
    return Sample(
        at=time.monotonic(),
        rss_mib=int((folder / "statm").read_text().split()[1]) * _PAGE_KIB / 1024,
        fds=len(list((folder / "fd").iterdir())),
        series=frozenset(line.rpartition(" ")[0] for line in lines),
        tasks=int(float(tasks.rpartition(" ")[2])),
    )


def regression(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the least-squares line through (x, y); 0 for fewer than two points."""
    if len(points) < 2:
        return 0.0
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    square = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / square if square else 0.0


def cpu_seconds(pid: int) -> float:
    """Return the processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
