"""policy.toml: which lines there are, who answers them, and when.

People write it, so everything about it is checked before anything starts, and every
problem is told at once with its file, its key and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError

from ctid.acd.rules import QueueRule
from ctid.errors import SettingsError
from ctid.routing.hours import NO_CALENDAR, Calendar, Hours
from ctid.routing.numbers import normalise, prefixes_of
from ctid.routing.references import broken_references, with_files
from ctid.routing.sections import TOP_LEVEL, Agent, CallerClass, Line, Name, Queue, Site, SkillRule, Team
from ctid.settings import Section, problems_of, read_toml

PERSONAL: Final = "agent-"
"""An agent's own queue is this and the agent's number."""


class Policy(Section):
    """policy.toml, whole. Every table but ``site`` is keyed by the name people give."""

    site: Site
    lines: Mapping[Name, Line] = Field(min_length=1)
    queues: Mapping[Name, Queue] = Field(min_length=1)
    agents: Mapping[Name, Agent] = {}
    teams: Mapping[Name, Team] = {}
    callers: Mapping[Name, CallerClass] = {}
    hours: Mapping[Name, Hours] = {}
    calendars: Mapping[Name, Calendar] = {}
    skill_rules: Mapping[Name, SkillRule] = {}

    def agent(self, number: str) -> Agent | None:
        """Return the agent with this number."""
        return self.agents.get(number)

    def interfaces(self) -> dict[str, str]:
        """Return every phone's agent number, keyed by the interface as queues know it."""
        return {phone: number for number, agent in self.agents.items() for phone in agent.interfaces}

    def personal_queue(self, number: str) -> str | None:
        """Return the queue of one agent alone, if he has one."""
        agent = self.agents.get(number)
        return PERSONAL + number if agent and agent.personal_queue else None

    def queue_names(self) -> frozenset[str]:
        """Return every queue that Asterisk must have, the personal ones included."""
        return frozenset(self.queues) | self.personal_queues()

    def personal_queues(self) -> frozenset[str]:
        """Return the queues of one agent each."""
        return frozenset(PERSONAL + number for number, agent in self.agents.items() if agent.personal_queue)

    def rules(self) -> dict[str, QueueRule]:
        """Return how each queue is judged, by name; personal ones like a queue that says nothing."""
        country = self.site.country
        named = {name: queue.rule(country) for name, queue in self.queues.items()}
        return dict.fromkeys(self.personal_queues(), Queue().rule(country)) | named

    def memberships(self, number: str) -> dict[str, int]:
        """Return the queues an agent belongs to, with his penalty in each (0: rung first)."""
        agent = self.agents.get(number)
        if not agent:
            return {}
        found = dict.fromkeys(agent.queues, 0)
        for name, queue in self.queues.items():
            if queue.skill and queue.skill in agent.skills:
                found[name] = TOP_LEVEL - agent.skills[queue.skill]
        own = self.personal_queue(number)
        return found | ({own: 0} if own else {})

    def number(self, text: str) -> str:
        """Return the one spelling of a telephone number, as seen from the site."""
        return normalise(text, self.site.country, self.site.area_code)

    def line_of(self, dialled: str) -> tuple[str, Line] | None:
        """Return the name and the line of a dialled number."""
        name = self._lines.get(self.number(dialled))
        return (name, self.lines[name]) if name else None

    def caller_class(self, caller: str) -> CallerClass | None:
        """Return the class of a caller: by his number, else by the longest matching prefix."""
        number = self.number(caller)
        name = self._callers.get(number)
        if name is None and number:
            name = next((name for prefix, name in self._prefixes if number.startswith(prefix)), None)
        return self.callers[name] if name else None

    def is_queue_open(self, queue: str, now: datetime) -> bool:
        """Tell whether any line leads callers there at ``now``; a queue of no line is always open."""
        lines = [line for line in self.lines.values() if line.queue == queue]
        return not lines or any(self.is_open(line, now) for line in lines)

    def is_open(self, line: Line, now: datetime) -> bool:
        """Tell whether a line is answered at ``now`` (aware)."""
        if not line.hours:
            return True
        hours = self.hours[line.hours]
        return hours.is_open(now.astimezone(self.zone), self.calendars.get(hours.calendar, NO_CALENDAR))

    @cached_property
    def zone(self) -> ZoneInfo:
        """The site's time zone."""
        return ZoneInfo(self.site.time_zone)

    @cached_property
    def _lines(self) -> dict[str, str]:
        return {self.number(text): name for name, line in self.lines.items() for text in line.numbers}

    @cached_property
    def _callers(self) -> dict[str, str]:
        return {self.number(text): name for name, known in self.callers.items() for text in known.numbers}

    @cached_property
    def _prefixes(self) -> list[tuple[str, str]]:
        """Prefix and class, longest prefix first."""
        found = [
            (prefix, name)
            for name, known in self.callers.items()
            for text in known.prefixes
            for prefix in prefixes_of(text, self.site.country)
        ]
        return sorted(found, key=lambda pair: -len(pair[0]))


def load(file: Path) -> Policy:
    """Read and check the policy. Relative paths in it count from its own folder.

    Raises:
        SettingsError: All problems at once.
    """
    table, problems = with_files(read_toml(file), file)
    return _checked(table, file, problems)


def from_table(table: Mapping[str, Any]) -> Policy:
    """Check a policy that was not read from a file.

    Raises:
        SettingsError: All problems at once.
    """
    return _checked(table, Path("policy"), [])


def _checked(table: Mapping[str, Any], file: Path, problems: list[str]) -> Policy:
    try:
        policy = Policy.model_validate(table)
    except ValidationError as error:
        problems = problems + problems_of(error, file)
    problems = problems + [f"{file}: {problem}" for problem in broken_references(table)]
    if problems:
        raise SettingsError(problems)
    return policy
