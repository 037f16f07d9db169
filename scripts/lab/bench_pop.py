"""From the AMI timestamp to the frame in the agent's WebSocket client, with a real Asterisk under load.

SIPp plays callers and agents; every agent has a signed-in screen. All of it shares this
machine's cores, ctid included, so the figures are on the safe side.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

from lab.floor import LINES, Line
from lab.places import HOME
from lab.ports import free_udp_port
from lab.sipp import LOAD_IP, Load, play
from lab.stage import Stage

RATES = (10.0, 40.0, 80.0)
SECONDS = 12.0
CREW = tuple(str(3000 + i) for i in range(1, 241))
"""Enough agents for 80 calls a second of 2 s each."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one rate led to; latencies in milliseconds."""

    rate: float
    pops: int
    failed: int
    p50: float
    p95: float
    p99: float


class Watch:
    """Every agent's screen, reduced to the latency of its pops."""

    def __init__(self) -> None:
        self.latencies: list[float] = []

    async def follow(self, url: str, token: str, ready: asyncio.Event) -> None:
        """Read one screen for ever."""
        async with aiohttp.ClientSession(url) as session, session.ws_connect("/ws") as socket:
            await socket.send_str(json.dumps({"type": "auth", "token": token, "id": 1}))
            await socket.send_str(json.dumps({"type": "unsubscribe", "topic": "floor", "id": 2}))
            async for frame in socket:
                now = time.time()
                if '"pop.offered"' in frame.data:
                    offered = json.loads(frame.data)["pop"]["offered_at"]
                    self.latencies.append((now - datetime.fromisoformat(offered).timestamp()) * 1000)
                elif '"hello"' in frame.data:
                    ready.set()


@asynccontextmanager
async def watched(stage: Stage) -> AsyncIterator[Watch]:
    """Open every agent's screen."""
    watch = Watch()
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = []
        for number in CREW:
            ready = asyncio.Event()
            tasks.append(group.create_task(watch.follow(stage.daemon.url, stage.tokens[number], ready)))
            await asyncio.wait_for(ready.wait(), 10)
        try:
            yield watch
        finally:
            for task in tasks:
                task.cancel()


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that is not exceeded by ``share`` of them."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def measure(stage: Stage, rate: float, port: int) -> Round:
    """Play one rate."""
    async with watched(stage) as watch:
        load = Load(rate=rate, seconds=SECONDS)
        failed = await play(
            load,
            exchange=stage.exchange.sip_address,
            did="4901",
            agents_port=port,
            folder=stage.folder / f"sipp-{rate:g}",
        )
        await asyncio.sleep(1)
        values = watch.latencies
    return Round(
        rate, len(values), failed, quantile(values, 0.5), quantile(values, 0.95), quantile(values, 0.99)
    )


async def rounds() -> list[Round]:
    """Play every rate on a fresh stage."""
    port = free_udp_port(LOAD_IP)
    lines = {
        "load": Line("4901", "load", "consultation", CREW, wrap_up=0),
        "overflow": replace(LINES["overflow"], agents=()),
    }
    elsewhere = dict.fromkeys(CREW, (LOAD_IP, port))
    with tempfile.TemporaryDirectory(prefix="bench-", dir=HOME) as folder:
        async with Stage(Path(folder), lines=lines, agents=(), elsewhere=elsewhere) as stage:
            return [await measure(stage, rate, port) for rate in RATES]


def run() -> dict[str, object]:
    """Measure, print a table, and return what ``scripts/bench`` prints as JSON."""
    found = asyncio.run(rounds())
    table = Table(title="AMI timestamp to WebSocket frame, real Asterisk on the same cores")
    for name in ("calls/s", "pops", "failed calls", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(name, justify="right")
    figures: dict[str, float] = {}
    for it in found:
        table.add_row(
            f"{it.rate:g}", str(it.pops), str(it.failed), f"{it.p50:.1f}", f"{it.p95:.1f}", f"{it.p99:.1f}"
        )
        for name in ("pops", "failed", "p50", "p95", "p99"):
            figures[f"{name}_at_{it.rate:g}"] = round(float(getattr(it, name)), 2)
    Console().print(table)
    return {"bench": "pop", "ratios": {}, "figures": figures}


def main() -> None:
    """Print the table and, last, one line of JSON."""
    print(json.dumps(run()))


if __name__ == "__main__":
    main()
