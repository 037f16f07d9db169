"""policy.toml: which lines there are, who answers them, and when.

People write it, so everything about it is checked before anything starts, and every
problem is told at once with its file, its key and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, StringConstraints, ValidationError

from ctid.acd.rules import RING_CYCLES, QueueRule
from ctid.errors import SettingsError
from ctid.routing.hours import NO_CALENDAR, Calendar, Hours
from ctid.routing.numbers import normalise, prefixes_of
from ctid.routing.references import broken_references, with_files
from ctid.settings import Duration, PositiveDuration, Section, problems_of, read_toml

Business = Literal["consultation", "repair", "complaint", "survey", "inspection"]
BUSINESSES: Final = get_args(Business)

PERSONAL: Final = "agent-"
"""An agent's own queue is this and the agent's number."""

TOP_LEVEL: Final = 5
"""Skill levels are stars: 1 can help a little, 5 knows it all."""
EVERYBODY: Final = 99
"""A penalty above any that we give."""


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, ZoneInfoNotFoundError) as error:
        raise ValueError(f"{name!r} is no time zone; write it as Asia/Shanghai") from error
    return name


def _cadence(country: str) -> str:
    if country not in RING_CYCLES:
        raise ValueError(f"no bell cadence known for {country!r}; one of {', '.join(sorted(RING_CYCLES))}")
    return country


def _whole(value: timedelta) -> timedelta:
    if value.microseconds or value > timedelta(days=1):
        raise ValueError("Asterisk counts whole seconds, and at most a day")
    return value


def _visible(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has a line break or another control character; remove it")
    return text


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""Goes into the dialplan and into file names: letters, digits, hyphen, underscore."""
Text = Annotated[str, StringConstraints(min_length=1, max_length=80), AfterValidator(_visible)]
Sound = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?$")]
"""A sound file's name below Asterisk's sounds folder, without its type; empty: none."""
Prompts = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(_[A-Za-z_]{2,20})?$")]
"""CHANNEL(language): which folder of sounds."""
Interface = Annotated[str, StringConstraints(pattern=r"^(PJSIP|SIP|IAX2|Local)/[A-Za-z0-9@._/-]+$")]
Seconds = Annotated[PositiveDuration, AfterValidator(_whole)]
Zone = Annotated[str, AfterValidator(_zone)]
Country = Annotated[str, AfterValidator(_cadence)]
Level = Annotated[int, Field(ge=1, le=TOP_LEVEL)]
Priority = Annotated[int, Field(ge=0, le=1000)]


class Title(Section):
    """One name, two languages."""

    zh: Text
    en: Text

    def within(self, language: str) -> str:
        """Return the one for a channel language."""
        return self.zh if language.startswith("zh") else self.en


TITLES: Final = MappingProxyType(
    {
        "consultation": Title(zh="咨询", en="Enquiry"),
        "repair": Title(zh="报修", en="Repair"),
        "complaint": Title(zh="投诉", en="Complaint"),
        "survey": Title(zh="勘察", en="Survey"),
        "inspection": Title(zh="稽查", en="Inspection"),
    }
)
VIP: Final = Title(zh="VIP", en="VIP")


class Site(Section):
    """What holds where nothing more special is said."""

    time_zone: Zone = "Asia/Shanghai"
    country: Country = "cn"
    area_code: Annotated[str, StringConstraints(pattern=r"^\d*$")] = ""
    default_queue: Name
    """For a number that no line has."""
    timeout: Seconds = timedelta(seconds=60)
    language: Prompts = "zh"
    record: bool = True


class Closed(Section):
    """What happens to a caller outside the hours."""

    action: Literal["closed", "reject", "queue"] = "closed"
    """closed: announcement, then good-bye; reject: busy at once; queue: another queue."""
    queue: Name | None = None
    greeting: Sound = ""


class Overflow(Section):
    """A second queue for callers who waited too long."""

    queue: Name
    timeout: Seconds = timedelta(seconds=60)
    at_once_from: int | None = Field(default=None, ge=1)
    """So many wait already and nobody is free: do not even begin in the first queue."""


class LastAgent(Section):
    """The agent who spoke with this caller before is tried first."""

    within: PositiveDuration = timedelta(days=7)
    wait: Seconds = timedelta(seconds=15)


class Line(Section):
    """One or more dialled numbers."""

    numbers: tuple[str, ...] = Field(min_length=1)
    business: Business
    title: Title | None = None
    queue: Name
    hours: str = ""
    """Name in ``[hours]``; empty: always open."""
    closed: Closed = Closed()
    priority: Priority = 0
    greeting: Sound = ""
    language: Prompts | None = None
    timeout: Seconds | None = None
    overflow: Overflow | None = None
    last_agent: LastAgent | None = None
    rule: Name | None = None
    record: bool | None = None


class ServiceLevel(Section):
    """So many callers within so long."""

    within: PositiveDuration = timedelta(seconds=20)
    goal: float = Field(default=0.8, gt=0, le=1)


class Queue(Section):
    """A queue of Asterisk's queues.conf, and what it promises."""

    title: Title | None = None
    country: Country | None = None
    rings: int = Field(default=3, ge=1, le=20)
    service_level: ServiceLevel = ServiceLevel()
    short_abandon: Duration = timedelta(seconds=5)
    wrap_up: Duration = timedelta(0)
    skill: Name | None = None
    """Agents with this skill belong to the queue."""

    def rule(self, country: str) -> QueueRule:
        """Return how the queue is judged; ``country`` where it names none."""
        return QueueRule(
            ring_cycle=timedelta(seconds=RING_CYCLES[self.country or country]),
            rings=self.rings,
            service_level_within=self.service_level.within,
            service_level_goal=self.service_level.goal,
            short_abandon=self.short_abandon,
            wrap_up=self.wrap_up,
        )


class Team(Section):
    """Agents with one leader."""

    title: Title
    leader: str | None = None
    """Agent number."""


class Agent(Section):
    """A person who answers."""

    name: Text
    interfaces: tuple[Interface, ...] = Field(min_length=1)
    team: str | None = None
    skills: Mapping[Name, Level] = {}
    queues: tuple[Name, ...] = ()
    """Beside those that come with the skills."""
    personal_queue: bool = True


class CallerClass(Section):
    """Callers who are treated unlike others: VIPs, field inspectors, nuisances."""

    numbers: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    file: Path | None = None
    """One number per line, ``#`` begins a comment."""
    vip: bool = False
    title: Title | None = None
    priority: Priority = 0
    """Added to the line's."""
    queue: Name | None = None
    """Instead of the line's."""
    reject: bool = False

    @property
    def tag(self) -> Title | None:
        """What the agent's phone shows."""
        return self.title or (VIP if self.vip else None)


class Step(Section):
    """From ``after`` on, agents of this level and above are rung."""

    after: Annotated[Duration, AfterValidator(_whole)]
    level: Level

    @property
    def penalty(self) -> int:
        """The highest penalty still rung."""
        return EVERYBODY if self.level == 1 else TOP_LEVEL - self.level


class SkillRule(Section):
    """Whom to ring as the wait grows."""

    steps: tuple[Step, ...] = Field(min_length=1)


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
