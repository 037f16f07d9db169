"""What needs the scripted Asterisk: a thousand deaths of ctid, bursts, a steady stream, a soak."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.postgres import PrivatePostgres
from lab.scripted_stage import ScriptedStage, ctid_kill
from lab.strain import burst, soak
from tests.faults.campaigns import Result

KILLS_AT_ONCE = 50
"""Between two audits."""
OUTAGE_EVENTS = 720_000
"""An hour at 200 events per second (Q5)."""
WARM_UP_EVENTS = 480_000
RATE = 5_000
"""Events per second of the steady stream (Q6)."""


@dataclass(frozen=True, slots=True)
class Exercise:
    """One way to strain ctid.

    Attributes:
        full: Kills, bursts or minutes of a full run.
        run: (seed, how much) -> results.
    """

    name: str
    full: int
    run: Callable[[int, int], AsyncIterator[Result]]


async def _killed(seed: int, count: int) -> AsyncIterator[Result]:
    total = 0
    with _postgres() as postgres:
        while total < count:
            began, wanted = time.monotonic(), min(KILLS_AT_ONCE, count - total)
            async with ScriptedStage(_folder(), postgres=postgres, seed=seed + total, rate=5) as stage:
                done = await ctid_kill(stage, count=wanted, seed=seed + total)
            total += done.kills
            yield Result(
                "scripted-kill",
                done.kills,
                total,
                done.calls,
                time.monotonic() - began,
                [f"L1 {text}" for text in done.differences],
            )


async def _burst(seed: int, count: int) -> AsyncIterator[Result]:
    for turn in range(count):
        yield await _strained("burst", seed + turn, turn + 1, events=20_000, seconds=2.0)


async def _stream(seed: int, minutes: int) -> AsyncIterator[Result]:
    events = round(RATE * minutes * 60)
    yield await _strained("stream", seed, minutes, events=events, seconds=minutes * 60.0)


async def _strained(name: str, seed: int, total: int, *, events: int, seconds: float) -> Result:
    """Strain a daemon that is cut off if it reads nothing for 100 ms."""
    began = time.monotonic()
    with _postgres() as postgres:
        async with ScriptedStage(_folder(), postgres=postgres, seed=seed, write_timeout_ms=100) as stage:
            done = await burst(stage, events, seconds)
            worst = await stage.daemon.metric("ctid_loop_stall_max_seconds")
            calls = (await stage.tell("stats"))["calls"]
    print(
        f"{name}: {done.events} events in {done.took:.1f} s, {done.cpu} of a core, worst stall {worst:.3f} s"
    )
    found = [f"L1 {text}" for text in done.differences]
    found += [f"L1 {done.lost} events lost"] * bool(done.lost)
    found += [f"L1 cut off {done.cut} times"] * bool(done.cut)
    found += [f"L1 logged in again {done.logins} times"] * bool(done.logins)
    found += [f"L1 only {done.events / done.took:.0f} events/s"] * (done.took > 1.2 * seconds)
    if done.stalls > done.box_stalls:
        found.append(f"L1 {done.stalls} stalls over 100 ms; an idle loop on this box had {done.box_stalls}")
    return Result(name, 1, total, calls, time.monotonic() - began, found)


async def _outage(seed: int, count: int) -> AsyncIterator[Result]:
    """An hour without PostgreSQL, with as many events as in an hour, in two and a half minutes (F12)."""
    for turn in range(count):
        began = time.monotonic()
        with _postgres() as postgres:
            async with ScriptedStage(_folder(), postgres=postgres, seed=seed + turn) as stage:
                postgres.stop("immediate")
                told = await stage.tell("burst", OUTAGE_EVENTS, OUTAGE_EVENTS / RATE)
                spooled = await stage.daemon.metric("ctid_spool_facts")
                size = await stage.daemon.metric("ctid_spool_bytes")
                back = time.monotonic()
                postgres.start()
                while await stage.daemon.metric("ctid_spool_facts") > RATE:
                    await asyncio.sleep(0.2)
                drained = time.monotonic() - back
                found = await stage.settled(120)
                calls = (await stage.tell("stats"))["calls"]
        print(f"outage: {told['burst']} events, {spooled:.0f} facts spooled in {size / 2**20:.0f} MiB")
        print(f"outage: applied {drained:.1f} s after PostgreSQL was back, {spooled / drained:.0f} facts/s")
        found += ["nothing was spooled"] * (spooled == 0)
        took = time.monotonic() - began
        yield Result("outage", 1, turn + 1, calls, took, [f"L1 {text}" for text in found])


async def _soak(seed: int, minutes: int) -> AsyncIterator[Result]:
    """A quiet day. First a busy minute and a half, after which caches of bounded size are full."""
    began = time.monotonic()
    with _postgres() as postgres:
        async with ScriptedStage(_folder(), postgres=postgres, seed=seed) as stage:
            await stage.tell("burst", WARM_UP_EVENTS, WARM_UP_EVENTS / RATE)
            looks = await soak(stage, minutes, rate=5.0)
            await stage.tell("quiesce")  # of a call that goes on, the truth has not been told yet
            found = [f"L1 {text}" for text in await stage.settled()]
            calls = (await stage.tell("stats"))["calls"]
    drifts = {
        "tasks": _drift([one.tasks for one in looks.samples]),
        "descriptors": _drift([one.fds for one in looks.samples]),
    }
    slope = looks.rss_mib_per_hour
    rss = " ".join(f"{one.rss_mib:.1f}" for one in looks.samples[:: max(1, len(looks.samples) // 15)])
    print(f"soak: resident MiB {rss}: {slope:+.2f} MiB/h; drifts {drifts}")
    found += [f"L1 resident memory grows by {slope:.2f} MiB/h"] * (slope >= 1)
    found += [f"L1 series that calls left behind: {name}" for name in looks.new_series]
    found += [f"L1 {name} drift by {drift:+g}" for name, drift in drifts.items() if abs(drift) > 5]
    yield Result("soak", minutes, minutes, calls, time.monotonic() - began, found)


def _drift(looks: Sequence[int]) -> float:
    """How much more there is in the last third than in the first; a pool that breathes is no drift."""
    third = max(1, len(looks) // 3)
    return statistics.median(looks[-third:]) - statistics.median(looks[:third])


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="ctid-strained-"))


def _postgres() -> PrivatePostgres:
    return PrivatePostgres(_folder() / "postgres", fast=True)


EXERCISES: Mapping[str, Exercise] = {
    one.name: one
    for one in (
        Exercise("scripted-kill", 1_000, _killed),
        Exercise("burst", 3, _burst),
        Exercise("stream", 10, _stream),
        Exercise("outage", 1, _outage),
        Exercise("soak", 30, _soak),
    )
}
"""By name. ``stream`` and ``soak`` are counted in minutes."""
