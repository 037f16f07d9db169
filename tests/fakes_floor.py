"""A centre that watches a pretend Asterisk, and may order it about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TypeVar

from ctid.acd.centre import Centre
from ctid.acd.facts import Command, Fact, SetPause, Step
from ctid.acd.rules import QueueRule
from lab.switchboard import Switchboard

F = TypeVar("F", bound=Fact)

SALES = "PJSIP/1001"
SUPPORT = "PJSIP/1002"
WITH_NOTE = QueueRule(wrap_up=timedelta(seconds=30))


class Watched:
    """Asterisk and centre side by side.

    Attributes:
        facts, commands: Everything so far.
        is_obedient: The exchange does what it is told, at once.
    """

    def __init__(
        self, rules: Mapping[str, QueueRule] | None = None, agents: Mapping[str, str] | None = None
    ) -> None:
        self.board = Switchboard()
        self.centre = Centre({"sales": QueueRule()} if rules is None else rules, agents or {})
        self.facts: list[Fact] = []
        self.commands: list[Command] = []
        self.is_obedient = True

    def take(self, step: Step) -> Step:
        """Keep what a step led to, and let the exchange obey."""
        self.facts.extend(step.facts)
        self.commands.extend(step.commands)
        if self.is_obedient:
            for command in step.commands:
                if isinstance(command, SetPause):
                    self.board.obey(command)
        return step

    def see(self) -> list[Fact]:
        """Let the centre hear everything said; return the facts that came of it."""
        before = len(self.facts)
        while said := self.board.take():
            for event in said:
                self.take(self.centre.receive(event))
        return self.facts[before:]

    def snapshot(self) -> list[Fact]:
        """Let the centre hear everything, then look at the lists; return all facts of it."""
        before = len(self.facts)
        self.see()
        self.take(self.centre.receive(self.board.snapshot()))
        self.see()
        return self.facts[before:]

    def tick(self) -> list[Fact]:
        """Let the centre look at the clock."""
        before = len(self.facts)
        self.take(self.centre.tick(self.board.at))
        self.see()
        return self.facts[before:]

    def told(self, kind: type[F]) -> list[F]:
        """All facts of one kind so far."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def state(self, agent: str) -> str:
        """What the floor says that an agent does."""
        self.see()
        return next((view.state for view in self.centre.floor().agents if view.agent == agent), "unknown")

    def talk(self, interface: str = SALES, queue: str = "sales", ring: float = 2.0) -> tuple[str, str]:
        """Bring a caller and an agent together; return their legs."""
        caller = self.board.call()
        self.board.join(caller, queue)
        phone = self.board.ring(caller, interface)
        self.board.wait(ring)
        self.board.answer(phone)
        self.see()
        return caller, phone
