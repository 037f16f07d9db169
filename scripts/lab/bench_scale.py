"""CPU per event and memory of the core as agents, queues and waiting callers grow: flat, or not."""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from ctid.acd.centre import Centre
from ctid.acd.rules import QueueRule
from ctid.ami.events import AmiEvent
from lab.bench import ROUNDS, interleaved, report
from lab.books import UnkeptBooks
from lab.switchboard import Switchboard

#: name: agents, queues, callers who wait already
FLOORS: Final = {
    "20 agents": (20, 2, 10),
    "200 agents": (200, 2, 10),
    "2000 agents": (2000, 2, 10),
    "200 queues": (2000, 200, 10),
    "1000 waiting": (2000, 2, 1000),
    "all at once": (2000, 200, 1000),
}
#: What is held against what: flat means near 1.
PAIRS: Final = {
    "agents_2000_vs_20": ("2000 agents", "20 agents"),
    "agents_200_vs_20": ("200 agents", "20 agents"),
    "queues_200_vs_2": ("200 queues", "2000 agents"),
    "waiting_1000_vs_10": ("1000 waiting", "2000 agents"),
    "largest_vs_smallest": ("all at once", "20 agents"),
}
CALLS: Final = 50


class Stand:
    """A floor of one size, watched by a centre that has seen it fill up."""

    def __init__(self, agents: int, queues: int, waiting: int) -> None:
        self.board = Switchboard(books=UnkeptBooks())
        self.queues = [f"queue-{number}" for number in range(queues)]
        rules = {queue: QueueRule(wrap_up=timedelta(seconds=30)) for queue in self.queues}
        self.centre = Centre(rules, {})
        self.agents = [f"PJSIP/{1000 + number}" for number in range(agents)]
        self.dice = random.Random(agents + queues + waiting)
        for number, agent in enumerate(self.agents):
            first = number % queues
            self.board.login(agent, self.queues[first], self.queues[(first + 1) % queues])
        for number in range(waiting):
            self.board.join(self.board.call(str(number)), self.queues[number % queues])
        for event in self.board.take():
            self.centre.receive(event)

    def calls(self) -> list[AmiEvent]:
        """What Asterisk says of some calls: most answered, some rung in vain, some abandoned."""
        board, dice = self.board, self.dice
        free = dice.sample(self.agents, min(len(self.agents), 20))
        for number in range(CALLS):
            place = self.agents.index(free[number % len(free)])
            caller = board.call(str(number))
            board.join(caller, self.queues[place % len(self.queues)])
            phone = board.ring(caller, self.agents[place])
            board.wait(2)
            if number % 10 == 0:
                board.hang_up(caller)
                continue
            if number % 10 == 1:
                board.no_answer(phone)
                phone = board.ring(caller, self.agents[place])
            board.answer(phone)
            board.wait(5)
            board.hold(phone)
            board.wait(5)
            board.unhold(phone)
            board.hang_up(caller)
        return board.take()

    def measure(self) -> float:
        """Return the CPU microseconds per event; the best of a dozen batches: boxes are shared."""
        return min(self._batch() for _ in range(12))

    def _batch(self) -> float:
        said = self.calls()
        receive = self.centre.receive
        began = time.process_time()
        for event in said:
            receive(event)
        spent = time.process_time() - began
        self.centre.tick(self.board.at + timedelta(minutes=1))
        return spent / len(said) * 1e6


def memory(agents: int, queues: int, waiting: int) -> float:
    """Return the KiB that a centre takes per agent and waiting caller."""
    stand = Stand(1, 1, 0)  # whatever is loaded once
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    stand = Stand(agents, queues, waiting)
    stand.board = Switchboard()  # not ours
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return taken / 1024 / (agents + waiting)


def main(arguments: list[str]) -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="scripts/bench scale", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args(arguments).rounds
    peers: dict[str, Callable[[], float]] = {name: Stand(*size).measure for name, size in FLOORS.items()}
    figures = interleaved(peers, rounds)
    ratios = {
        name: round(
            statistics.median(
                large / small for large, small in zip(figures[this], figures[that], strict=True)
            ),
            2,
        )
        for name, (this, that) in PAIRS.items()
    }
    kib = {name: memory(*size) for name, size in FLOORS.items()}
    ratios["memory_per_agent_2000_vs_200"] = round(kib["2000 agents"] / kib["200 agents"], 2)
    report(
        "scale",
        "CPU per event of the core, by size of the floor",
        figures,
        unit="us per event",
        stock="20 agents",
        ratios=ratios,
        more={f"{name} KiB each".replace(" ", "_"): round(value, 2) for name, value in kib.items()},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
