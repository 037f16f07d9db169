"""Requests a second and their p99: ctid's FastAGI server against panoramisk's.

Asterisk is played by a process of its own on the other core: it sends the environment,
answers every ``SET VARIABLE``, and ends with the server's end of file.
Both servers set the same variables, the 18 of a routed call. panoramisk can only wait for
each reply; it runs as it ships (asyncio) and on uvloop, and the ratios are against the
better one, which is on uvloop like ctid.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import select
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from typing import Final

import uvloop
from panoramisk import fast_agi
from rich.console import Console
from rich.table import Table

from ctid.agi.framing import AgiRequest
from ctid.agi.server import FastAgiServer
from ctid.routing.decide import Decision
from ctid.settings import FastAgi
from lab.bench import interleaved, ratio

ROUNDS: Final = 5
SECONDS: Final = 2.0
"""Measured per server and round, after ``WARM_UP`` seconds that are not."""
WARM_UP: Final = 0.3
CONCURRENCY: Final = 50

VARIABLES: Final = Decision(
    queue="repair",
    recording="6f9619ff-8b86-4011-b42d-00cf4fc964ff",
    line="repair",
    business="repair",
    language="zh",
    name_prefix="[报修][VIP]",
    rule="ctid-skills",
).variables()

ENVIRONMENT: Final = (
    b"".join(
        f"agi_{name}: {value}\n".encode()
        for name, value in {
            "network": "yes",
            "network_script": "route?did=5002&caller=%2B8613800138000",
            "request": "agi://127.0.0.1:4573/route?did=5002&caller=%2B8613800138000",
            "channel": "PJSIP/trunk-0000002a",
            "language": "en",
            "type": "PJSIP",
            "uniqueid": "1795380308.42",
            "version": "22.10.1",
            "callerid": "+8613800138000",
            "calleridname": "王小明",
            "callingpres": "0",
            "callingani2": "0",
            "callington": "0",
            "callingtns": "0",
            "dnid": "5002",
            "rdnis": "unknown",
            "context": "ctid-route",
            "extension": "5002",
            "priority": "5",
            "enhanced": "0.0",
            "accountcode": "",
            "threadid": "139937110894272",
        }.items()
    )
    + b"\n"
)


# -- the servers, each in its own process -------------------------------------


async def serve_ctid(tell: Callable[[int], None]) -> None:
    """Answer as the daemon does, with a decision that is already made."""

    async def route(request: AgiRequest) -> Mapping[str, str]:
        return VARIABLES

    server = FastAgiServer(
        FastAgi(port=0), route, lambda request: VARIABLES, observe=lambda script, result, seconds: None
    )
    await server.start()
    tell(server.port)
    await asyncio.Event().wait()


async def serve_panoramisk(tell: Callable[[int], None]) -> None:
    """Answer as panoramisk's documentation shows."""

    async def route(request: fast_agi.Request) -> None:
        for name, value in VARIABLES.items():
            await request.send_command(f'SET VARIABLE {name} "{value}"')

    application = fast_agi.Application(loop=asyncio.get_running_loop())
    # Its routes are compared with the query in them.
    application.add_route("route?did=5002&caller=%2B8613800138000", route)
    server = await asyncio.start_server(application.handler, "127.0.0.1", 0, backlog=500)
    tell(server.sockets[0].getsockname()[1])
    await asyncio.Event().wait()


#: Name -> what serves, and the loop it runs on.
SERVERS: Final = {
    "ctid, uvloop": (serve_ctid, uvloop.new_event_loop),
    "panoramisk, uvloop": (serve_panoramisk, uvloop.new_event_loop),
    "panoramisk, asyncio": (serve_panoramisk, asyncio.new_event_loop),
}
OURS, PEER = "ctid, uvloop", "panoramisk, uvloop"


def _serve(name: str, core: int, pipe: Connection) -> None:
    os.sched_setaffinity(0, {core})
    serve, loop = SERVERS[name]
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(serve(pipe.send))


@contextmanager
def server(name: str, core: int) -> Iterator[tuple[int, int]]:
    """Run a server; yield its port and its process id."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(name, core, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(20):
            raise TimeoutError(f"{name} did not begin to listen within 20 s")
        yield ours.recv(), process.pid or 0
    finally:
        process.kill()
        process.join()


# -- Asterisk -----------------------------------------------------------------


@dataclass
class Seen:
    """What one round showed; latencies in seconds, from connecting to the end of AGI()."""

    latencies: list[float] = field(default_factory=list)
    errors: int = 0
    elapsed: float = 0.0
    cpu: float = 0.0
    """Seconds of CPU that the server used."""
    own_cpu: float = 0.0

    @property
    def throughput(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.elapsed

    @property
    def p99(self) -> float:
        """Milliseconds."""
        return statistics.quantiles(self.latencies, n=100)[98] * 1000

    @property
    def p50(self) -> float:
        """Milliseconds."""
        return statistics.median(self.latencies) * 1000

    @property
    def load_us(self) -> float:
        """Microseconds of this process's CPU per request: what playing Asterisk costs."""
        return self.own_cpu / len(self.latencies) * 1e6

    @property
    def cpu_us(self) -> float:
        """Microseconds of the server's CPU per request."""
        return self.cpu / len(self.latencies) * 1e6


class Call:
    """One channel in AGI()."""

    __slots__ = ("answered", "began", "rest", "socket")

    def __init__(self, port: int) -> None:
        self.began = time.perf_counter()
        self.answered = 0
        self.rest = b""
        self.socket = socket.socket()
        self.socket.connect(("127.0.0.1", port))
        self.socket.send(ENVIRONMENT)

    def go_on(self) -> bool:
        """Answer what has arrived; tell whether the server has said all."""
        data = self.socket.recv(16384)
        if not data:
            self.socket.close()
            return True
        *commands, self.rest = (self.rest + data).split(b"\n")
        good = sum(command.startswith(b"SET VARIABLE CTID_") for command in commands)
        self.answered += good
        # Asterisk writes one by one; they reach a busy server in one piece all the same, and
        # this process must not be the slower one.
        self.socket.send(b"200 result=1\n" * good + b"510 Unknown\n" * (len(commands) - good))
        return False


def load(port: int, seconds: float) -> Seen:
    """Keep ``CONCURRENCY`` calls in AGI() for so long."""
    seen = Seen()
    poll = select.epoll()
    calls: dict[int, Call] = {}

    def begin() -> None:
        call = Call(port)
        calls[call.socket.fileno()] = call
        poll.register(call.socket.fileno(), select.EPOLLIN)

    began, used = time.perf_counter(), time.process_time()
    for _ in range(CONCURRENCY):
        begin()
    while calls:
        for descriptor, _ in poll.poll(5):
            call = calls[descriptor]
            try:
                ended = call.go_on()
            except OSError:
                call.socket.close()
                ended = True
            if ended:
                del calls[descriptor]
                now = time.perf_counter()
                seen.latencies.append(now - call.began)
                seen.errors += call.answered != len(VARIABLES)
                if now - began < seconds:
                    begin()
    seen.elapsed, seen.own_cpu = time.perf_counter() - began, time.process_time() - used
    poll.close()
    return seen


def measure(name: str) -> Seen:
    """Run one server for one round, it and Asterisk pinned apart."""
    cores = sorted(os.sched_getaffinity(0))
    with server(name, cores[0]) as (port, pid):
        os.sched_setaffinity(0, {cores[-1]})
        try:
            load(port, WARM_UP)
            used = _cpu(pid)
            seen = load(port, SECONDS)
            seen.cpu = _cpu(pid) - used
        finally:
            os.sched_setaffinity(0, cores)
    return seen


def _cpu(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- figures ------------------------------------------------------------------


def main() -> None:
    """Measure, print a table and, last, one line of JSON."""
    seen: dict[str, list[Seen]] = {name: [] for name in SERVERS}

    def round_of(name: str) -> float:
        seen[name].append(measure(name))
        return seen[name][-1].throughput

    throughput = interleaved({name: partial(round_of, name) for name in SERVERS}, ROUNDS)
    kept = {name: rounds[-ROUNDS:] for name, rounds in seen.items()}
    p99 = {name: [it.p99 for it in rounds] for name, rounds in kept.items()}
    figures = {name: _medians(rounds) for name, rounds in kept.items()}
    _show(figures)
    ratios = {"throughput": ratio(throughput, OURS, PEER), "p99": ratio(p99, OURS, PEER)}
    more = {"concurrency": CONCURRENCY, "variables": len(VARIABLES), "rounds": ROUNDS}
    print(json.dumps({"bench": "agi", "ratios": ratios, "figures": figures | more}))


def _medians(found: list[Seen]) -> dict[str, float]:
    return {
        "requests_per_second": round(statistics.median(it.throughput for it in found)),
        "p50_ms": round(statistics.median(it.p50 for it in found), 2),
        "p99_ms": round(statistics.median(it.p99 for it in found), 2),
        "cpu_us": round(statistics.median(it.cpu_us for it in found)),
        "load_cpu_us": round(statistics.median(it.load_us for it in found)),
        "errors": sum(it.errors for it in found),
    }


def _show(figures: Mapping[str, Mapping[str, float]]) -> None:
    table = Table(title=f"FastAGI, {CONCURRENCY} at once, {len(VARIABLES)} variables each, medians of rounds")
    for heading in ("server", "requests/s", "p50 ms", "p99 ms", "CPU us", "load CPU us", "errors"):
        table.add_column(heading, justify="left" if heading == "server" else "right")
    for name, row in figures.items():
        table.add_row(name, *(f"{value:g}" for value in row.values()))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
