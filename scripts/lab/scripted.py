"""A pretend Asterisk as a process: AMI, its books and a truth journal, with seeded life or load in it.

    python -m lab.scripted --folder F --port P --secret-file S --rate 8 --seed 1

It obeys one command per line on its standard input and answers each with one line of JSON:

    rate R           so many new calls per second from now on
    quiesce          no new calls; answers when the last one is over
    burst N T        N events within T seconds, evenly, in many short calls
    restart D        Asterisk dies: connections and calls are gone; back after D seconds
    drop             cut every AMI connection (RST)
    stats            nothing but the answer
    quit             end in good order

``lab.scripted_exchange.ScriptedExchange`` is what tests use.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from lab.ami_server import AmiServer
from lab.books import BookFiles
from lab.crowd import Crowd
from lab.life import Life
from lab.switchboard import Switchboard
from lab.truth import Truth

#: Queue -> agents: those who live; the crowd has a queue of its own.
MEMBERS: Final = {
    "sales": [f"PJSIP/{number}" for number in range(1001, 1031)],
    "support": [f"PJSIP/{number}" for number in range(1021, 1051)],
}
CROWD: Final = {"crowd": [f"PJSIP/{number}" for number in range(2001, 2041)]}
#: Seconds: nobody does anything sooner than this after he did something else.
GRAIN: Final = 0.005


def now() -> datetime:
    """Return the wall clock."""
    return datetime.now(UTC)


class Scripted:
    """Everything, in one event loop.

    Args:
        folder: For ``queue_log``, ``cel-custom/ctid.csv`` and ``truth.jsonl``.
    """

    def __init__(self, folder: Path, *, port: int, secret: str, seed: int, cut_after: float) -> None:
        self.books = BookFiles(folder / "log" / "cel-custom" / "ctid.csv", folder / "log" / "queue_log")
        self.books.is_lazy = True
        self.truth = Truth(folder / "truth.jsonl")
        boot = now().replace(microsecond=0)
        self.board = Switchboard(at=now(), boot=boot, books=self.books, system="scripted")
        for members in (MEMBERS, CROWD):
            for queue, phones in members.items():
                for phone in phones:
                    self.board.login(phone, queue)
        self.server = AmiServer(self.board, port=port, secret=secret, cut_after=cut_after, tell=self.tell)
        self.life = Life(self.board, self.truth, members=MEMBERS, seed=seed, rate=0)
        self.crowd = Crowd(self.board, self.truth, queue="crowd", phones=CROWD["crowd"])
        self._changed = asyncio.Event()
        self._over = asyncio.Event()

    def tell(self) -> None:
        """Send what was said, and write what was written."""
        if said := self.board.take():
            self.server.announce(said)
        self.books.flush()
        self.truth.flush()

    async def run(self) -> None:
        """Live until told to quit."""
        self.tell()
        await self.server.start()
        living = asyncio.create_task(self._live())
        await self._over.wait()
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)
        await self.server.stop()
        self.tell()

    async def _live(self) -> None:
        while True:
            self._step()
            due = self.life.next_at
            pause = (due - now()).total_seconds() if due else 1.0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(GRAIN, pause)):
                    await self._changed.wait()
            self._changed.clear()

    def _step(self) -> None:
        if self.server.is_up:
            at = now()
            self.board.at = max(self.board.at, at)
            self.life.step(at)
            self.tell()

    # -- commands -----------------------------------------------------------

    async def obey(self, line: str) -> dict[str, Any]:
        """Do one command; return what is answered."""
        name, *words = line.split()
        numbers = [float(word) for word in words]
        more = await getattr(self, f"_do_{name}")(*numbers)
        return {"did": name, **self.stats(), **(more or {})}

    def stats(self) -> dict[str, Any]:
        """What happened so far."""
        return {
            "calls": self.life.calls + self.crowd.calls,
            "events": self.server.announced,
            "logins": self.server.logins,
            "cut": self.server.cut,
            "told": self.truth.counts,
            "at": time.time(),
        }

    async def _do_rate(self, rate: float) -> None:
        self.life.resume()
        self.life.rate = rate
        self._changed.set()

    async def _do_quiesce(self) -> None:
        self.life.hurry()
        self._changed.set()
        while not self.truth.is_over:
            await asyncio.sleep(0.02)

    async def _do_burst(self, events: float, seconds: float) -> dict[str, Any]:
        return await self.crowd.play(int(events), seconds, tell=self.tell, sent=lambda: self.server.announced)

    async def _do_restart(self, down: float) -> None:
        self.life.lost()
        await self.server.stop()
        self.board.restart(0)
        await asyncio.sleep(down)
        self.board.at = max(self.board.at, now())
        self.board.boot = self.board.at.replace(microsecond=0)
        self.tell()
        await self.server.start()

    async def _do_drop(self) -> None:
        self.server.drop()

    async def _do_stats(self) -> None:
        pass

    async def _do_quit(self) -> None:
        self._over.set()


def _hear(obey: Callable[[str], None]) -> None:
    for line in sys.stdin:
        obey(line)
    obey("quit")


async def _main(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    scripted = Scripted(
        options.folder,
        port=options.port,
        secret=options.secret_file.read_text().strip(),
        seed=options.seed,
        cut_after=options.write_timeout_ms / 1000,
    )
    scripted.life.rate = options.rate

    async def answer(line: str) -> None:
        print(json.dumps(await scripted.obey(line)), flush=True)

    doing: set[asyncio.Task[None]] = set()

    def obey(line: str) -> None:
        task = loop.create_task(answer(line))
        doing.add(task)
        task.add_done_callback(doing.discard)

    if options.seconds:
        loop.call_later(options.seconds, obey, "quiesce")
        loop.call_later(options.seconds + 3, obey, "quit")
    else:
        threading.Thread(
            target=_hear, args=(lambda line: loop.call_soon_threadsafe(obey, line),), daemon=True
        ).start()
    await scripted.run()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m lab.scripted", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--secret-file", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="calls per second")
    parser.add_argument("--seconds", type=float, default=0.0, help="0: until told")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write-timeout-ms", type=float, default=0.0, help="0: never cut a slow reader")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
