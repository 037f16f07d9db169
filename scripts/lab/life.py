"""Seeded random life in a call centre: people call, wait, talk, hold, transfer, pause and go.

Each call is a generator that does something on the switchboard and yields the seconds until it
goes on, so the same life can be played in real time (``lab.scripted``) or in no time (tests).
What it does it tells the truth journal, as it decided it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from lab.channels import member_of
from lab.switchboard import Switchboard
from lab.truth import Truth

Steps = Iterator[float]
Plan = Literal["talk", "hold", "blind", "attended", "abandon", "abandon_ringing", "timeout", "key"]

PLANS: Final[Mapping[Plan, int]] = {
    "talk": 45,
    "hold": 10,
    "blind": 8,
    "attended": 7,
    "abandon": 8,
    "abandon_ringing": 8,
    "timeout": 7,
    "key": 7,
}
#: Seconds between two looks for a free agent.
LOOK: Final = 0.1
#: In a hurry nobody does anything longer than this.
HURRY: Final = 0.2


@dataclass(frozen=True, slots=True)
class Pace:
    """How long people take, in seconds.

    Attributes:
        ring, talk, hold, pause: (least, most).
        patience: So long a caller waits at most, whatever he planned.
    """

    ring: tuple[float, float] = (0.1, 1.0)
    talk: tuple[float, float] = (0.2, 2.5)
    hold: tuple[float, float] = (0.1, 0.6)
    pause: tuple[float, float] = (1.0, 5.0)
    patience: float = 6.0


class Life:
    """Everybody in the call centre.

    Args:
        members: Queue -> phones (``PJSIP/1001``) in it; all are logged in already.
        rate: New calls per second; may be changed.

    Attributes:
        calls: How many began.
        is_hurried: No new calls; whoever is there comes to an end soon.
    """

    def __init__(
        self,
        board: Switchboard,
        truth: Truth,
        *,
        members: Mapping[str, Sequence[str]],
        seed: int,
        rate: float = 5.0,
        pace: Pace | None = None,
    ) -> None:
        self.board = board
        self.truth = truth
        self.rate = rate
        self.calls = 0
        self.is_hurried = False
        self._members = members
        self._pace = pace or Pace()
        self._dice = random.Random(seed)
        self._busy: set[str] = set()
        self._due: list[tuple[datetime, int, Steps]] = []
        self._count = 0
        self._begin(self._callers())
        self._begin(self._pauses())

    # -- time ---------------------------------------------------------------

    @property
    def next_at(self) -> datetime | None:
        """When somebody does something next."""
        return self._due[0][0] if self._due else None

    def step(self, now: datetime) -> None:
        """Let everybody do what is due."""
        while self._due and self._due[0][0] <= now:
            due, _, steps = heapq.heappop(self._due)
            self.board.at = max(self.board.at, due)
            self._go_on(steps)

    def hurry(self) -> None:
        """No new calls; the others end soon."""
        self.is_hurried = True
        soon = self.board.at + timedelta(seconds=HURRY)
        self._due = [(min(due, soon), number, steps) for due, number, steps in self._due]
        heapq.heapify(self._due)

    def resume(self) -> None:
        """Live on."""
        self.is_hurried = False

    def lost(self) -> None:
        """Asterisk is dead: nobody is in a call any more."""
        self.truth.lose_all(self.board.at)
        self._busy.clear()
        self._due.clear()
        self._begin(self._callers())
        self._begin(self._pauses())

    def _begin(self, steps: Steps) -> None:
        self._count += 1
        heapq.heappush(self._due, (self.board.at, self._count, steps))

    def _go_on(self, steps: Steps) -> None:
        seconds = next(steps, None)
        if seconds is None:
            return
        if self.is_hurried:
            seconds = min(seconds, HURRY)
        self._count += 1
        heapq.heappush(self._due, (self.board.at + timedelta(seconds=seconds), self._count, steps))

    def _some(self, span: tuple[float, float]) -> float:
        return self._dice.uniform(*span)

    # -- callers ------------------------------------------------------------

    def _callers(self) -> Steps:
        while True:
            if self.rate <= 0 or self.is_hurried:
                yield LOOK
            else:
                yield self._dice.expovariate(self.rate)
                if not self.is_hurried:
                    self._begin(self._call())

    def _call(self) -> Steps:
        self.calls += 1
        queue = self._dice.choice(sorted(self._members))
        plan = self._dice.choices(list(PLANS), list(PLANS.values()))[0]
        caller = self.board.call(f"138{self.calls:08d}", exten="4001")
        self.truth.began("call", caller, self.board.at, call=caller)
        yield 0.01
        self.board.route(caller, queue, business="consultation")
        yield 0.005
        yield from self._in_queue(caller, queue, plan)
        if caller in self.board.channels:
            yield 0.3
            self.board.channels[caller].hangup_source = "dialplan/builtin"
            self.board.gone(caller)
        self.truth.ended("call", caller, self.board.at)

    def _in_queue(self, caller: str, queue: str, plan: Plan) -> Steps:
        board = self.board
        self.truth.began("visit", caller, board.at, call=caller, queue=queue)
        board.join(caller, queue)
        limit = board.at + timedelta(seconds=self._patience(plan))
        while True:
            phone = "" if plan in ("abandon", "key") else self._free(queue)
            if phone:
                yield from self._offer(caller, phone, plan, limit)
                if not board.channels.get(caller) or board.channels[caller].queue != queue:
                    return
            elif self.is_hurried or board.at >= limit:
                self._leave(caller, plan)
                return
            yield LOOK

    def _patience(self, plan: Plan) -> float:
        most = self._pace.patience
        return self._dice.uniform(0.2, most / 2) if plan in ("abandon", "key", "timeout") else most

    def _leave(self, caller: str, plan: Plan) -> None:
        outcome, status = {"key": ("exit_key", "KEY"), "timeout": ("timeout", "TIMEOUT")}.get(
            plan, ("abandoned", "")
        )
        self.truth.ended("visit", caller, self.board.at, outcome=outcome, agent="")
        if status:
            self.board.leave(caller, status)
        else:
            self.board.hang_up(caller)

    # -- agents -------------------------------------------------------------

    def _free(self, queue: str) -> str:
        seats = self.board.seats
        free = [
            phone
            for phone in self._members[queue]
            if phone not in self._busy and not seats[queue, phone].paused
        ]
        return self._dice.choice(free) if free else ""

    def _offer(self, caller: str, phone: str, plan: Plan, limit: datetime) -> Steps:
        self._busy.add(phone)
        leg = self.board.ring(caller, phone)
        yield self._some(self._pace.ring)
        fate = self._dice.random()
        if plan == "abandon_ringing" or (plan == "timeout" and self.board.at >= limit):
            self._leave(caller, plan)
        elif fate < 0.12 or plan == "timeout":
            self.board.no_answer(leg)
        elif fate < 0.2:
            self.board.refuse(leg)
        else:
            yield from self._talk(caller, leg, phone, plan)
            return
        self._busy.discard(phone)

    def _talk(self, caller: str, leg: str, phone: str, plan: Plan) -> Steps:
        board, truth, agent = self.board, self.truth, member_of(phone)
        truth.ended("visit", caller, board.at, outcome="answered", agent=agent)
        queue = board.channels[caller].queue
        truth.began("talk", leg, board.at, call=caller, leg=leg, agent=agent, queue=queue, assisted=False)
        board.picked_up(leg)
        yield 0.004
        board.connect(leg)
        yield self._some(self._pace.talk)
        if plan == "blind":
            yield from self._blind(caller, leg, phone, queue)
        elif plan == "attended" and (colleague := self._free(queue)):
            yield from self._attended(caller, leg, phone, colleague)
        else:
            if plan == "hold":
                yield from self._hold(leg)
            self._hang_up(caller, leg)
            self._busy.discard(phone)

    def _hold(self, leg: str) -> Steps:
        self.board.hold(leg)
        yield self._some(self._pace.hold)
        self.board.unhold(leg)
        yield self._some(self._pace.hold)

    def _hang_up(self, caller: str, *legs: str) -> None:
        for leg in legs:
            self.truth.ended("talk", leg, self.board.at)
        self.board.hang_up(self._dice.choice([caller, *legs]))

    def _blind(self, caller: str, leg: str, phone: str, queue: str) -> Steps:
        other = self._dice.choice(sorted(self._members))
        self.truth.ended("talk", leg, self.board.at)
        self.truth.began("visit", caller, self.board.at, call=caller, queue=other)
        self.board.blind_transfer(leg, other)
        self._busy.discard(phone)
        yield from self._once_more(caller, other)

    def _once_more(self, caller: str, queue: str) -> Steps:
        """The second queue: taken soon, or left."""
        for _ in range(10):
            yield LOOK
            if phone := self._free(queue):
                yield from self._offer(caller, phone, "talk", self.board.at)
                if not self.board.channels.get(caller) or not self.board.channels[caller].queue:
                    return
        self._leave(caller, "abandon")

    def _attended(self, caller: str, leg: str, phone: str, colleague: str) -> Steps:
        board, truth = self.board, self.truth
        self._busy.add(colleague)
        board.hold(leg)
        yield 0.05
        began = board.at
        own, other = board.consult(leg, colleague)
        truth.began("call", own, began, call=own)
        about = {"leg": other, "agent": member_of(colleague), "queue": ""}
        yield self._some(self._pace.ring)
        board.consulted(own, other)
        truth.began("talk", other, board.at, call=own, assisted=True, **about)
        yield self._some(self._pace.hold)
        board.unhold(leg)
        for key in (leg, other):
            truth.ended("talk", key, board.at)
        truth.ended("call", own, board.at, merged=caller)
        truth.began("talk", other, board.at, call=caller, assisted=False, **about)
        board.attended_transfer(leg, own, other)
        self._busy.discard(phone)
        yield self._some(self._pace.talk)
        self._hang_up(caller, other)
        self._busy.discard(colleague)

    def _pauses(self) -> Steps:
        phones = sorted({phone for phones in self._members.values() for phone in phones})
        while True:
            yield self._some(self._pace.pause)
            idle = [phone for phone in phones if phone not in self._busy and not self._is_paused(phone)]
            if not idle or self.is_hurried:
                continue
            phone = self._dice.choice(idle)
            self.board.pause(phone, "meal")
            yield self._some(self._pace.pause)
            if self._is_paused(phone):
                self.board.pause(phone, None)

    def _is_paused(self, phone: str) -> bool:
        return any(seat.paused for seat in self.board.seats.values() if seat.interface == phone)
