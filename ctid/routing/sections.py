"""The tables of policy.toml, one class each. What they say about each other is in ``policy``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, StringConstraints

from ctid.acd.rules import RING_CYCLES, QueueRule
from ctid.settings import Duration, PositiveDuration, Section

Business = Literal["consultation", "repair", "complaint", "survey", "inspection"]
BUSINESSES: Final = get_args(Business)

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
    pause_reasons: tuple[Text, ...] = (
        "break",
        "meal",
        "meeting",
        "training",
        "coaching",
        "admin",
        "back-office",
        "Auto-Pause",
        "ctid:wrap-up",
    )
    """Have a label of their own in the metrics; any other counts as ``other``."""


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
