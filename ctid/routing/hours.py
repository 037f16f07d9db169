"""When somebody is there: weekly hours, dated holidays, make-up working days (调休).

All of it is wall-clock time in the site's zone: an hour that summer time skips never
comes, one that it repeats is open twice, and nobody has to think of it.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Final, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from ctid.settings import Section

DAY: Final = 24 * 60
"""Minutes."""
WEEK: Final = 7 * DAY
DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DayName = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

_SPAN = re.compile(r"\s*(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)\s*")


class Span(NamedTuple):
    """From ``start`` up to but not including ``end``.

    Attributes:
        start: Minutes after midnight, 0-1439.
        end: Minutes after the same midnight; beyond 1440: on the next day.
    """

    start: int
    end: int

    def __str__(self) -> str:
        end = self.end if self.end <= DAY else self.end - DAY
        return f"{self.start // 60:02}:{self.start % 60:02}-{end // 60:02}:{end % 60:02}"


def parse_span(text: object) -> Span:
    """Read ``"08:30-18:00"``; ``"22:00-06:00"`` ends on the next morning.

    Raises:
        ValueError: Not two times of day with a hyphen between, or of no length.
    """
    if isinstance(text, Span):
        return text
    found = _SPAN.fullmatch(text) if isinstance(text, str) else None
    if found:
        from_hour, from_minute, to_hour, to_minute = map(int, found.groups())
        start, end = from_hour * 60 + from_minute, to_hour * 60 + to_minute
        if from_minute < 60 and to_minute < 60 and start < DAY and end <= DAY and start != end:
            return Span(start, end if end > start else end + DAY)
    raise ValueError('hours are written "08:30-18:00"; the day ends at "24:00"')


Spans = tuple[Annotated[Span, BeforeValidator(parse_span)], ...]


def overlaps(week: tuple[Spans, ...], names: tuple[str, ...] = DAYS) -> list[str]:
    """Say which spans of seven days lie upon each other, the turn of the week included."""
    spans = sorted(
        (number * DAY + span.start, number * DAY + span.end, f"{names[number]} {span}")
        for number, day in enumerate(week)
        for span in day
    )
    if spans:
        first = spans[0]
        spans.append((first[0] + WEEK, first[1] + WEEK, first[2]))
    return [
        f"{one[2]} overlaps {two[2]}; shorten one of them" for one, two in pairwise(spans) if two[0] < one[1]
    ]


class Holiday(Section):
    """One or more days that are unlike their weekday."""

    name: str = Field(min_length=1)
    first: date
    last: date | None = None
    """``None``: one day only."""
    hours: Spans = ()
    """Open nevertheless at these times; none: closed."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.last and self.last < self.first:
            raise ValueError(f"{self.name}: ends before it begins; check first and last")
        return self

    def days(self) -> list[date]:
        """Every date of it."""
        length = ((self.last or self.first) - self.first).days
        return [self.first + timedelta(days=number) for number in range(length + 1)]


class MakeUpDay(Section):
    """A weekend day that is worked, in exchange for a day off (调休)."""

    date: date
    like: DayName = "monday"
    """Whose hours it has."""


class Calendar(Section):
    """Dated exceptions from the week; to be renewed when the year's list is published."""

    holidays: tuple[Holiday, ...] = ()
    make_up_days: tuple[MakeUpDay, ...] = ()

    @model_validator(mode="after")
    def _each_day_once(self) -> Self:
        days = [day for holiday in self.holidays for day in holiday.days()]
        days += [made_up.date for made_up in self.make_up_days]
        twice = sorted({day.isoformat() for day in days if days.count(day) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} listed twice; a day is one thing only")
        return self

    @cached_property
    def closed(self) -> dict[date, Spans]:
        """Hours of every holiday, by date."""
        return {day: holiday.hours for holiday in self.holidays for day in holiday.days()}

    @cached_property
    def made_up(self) -> dict[date, int]:
        """Weekday (Monday 0) that a make-up day follows, by date."""
        return {made_up.date: DAYS.index(made_up.like) for made_up in self.make_up_days}


NO_CALENDAR: Final = Calendar()


class Hours(Section):
    """The hours of one week."""

    always: bool = False
    """Day and night, holidays included (7×24)."""
    workdays: Spans = ()
    """Monday to Friday, where the day itself is not given."""
    monday: Spans | None = None
    tuesday: Spans | None = None
    wednesday: Spans | None = None
    thursday: Spans | None = None
    friday: Spans | None = None
    saturday: Spans | None = None
    sunday: Spans | None = None
    calendar: str = ""
    """Name in ``[calendars]``; empty: no holidays."""

    @cached_property
    def week(self) -> tuple[Spans, ...]:
        """Monday's to Sunday's spans."""
        usual = (self.workdays,) * 5 + ((),) * 2
        given = (getattr(self, day) for day in DAYS)
        return tuple(spans if own is None else own for own, spans in zip(given, usual, strict=True))

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        names = tuple("workdays" if day in DAYS[:5] and getattr(self, day) is None else day for day in DAYS)
        if found := overlaps(self.week, names):
            raise ValueError("; ".join(dict.fromkeys(found)))
        if self.always == any(self.week):
            raise ValueError("give either always = true, or the hours of at least one day")
        return self

    def is_open(self, at: datetime, calendar: Calendar = NO_CALENDAR) -> bool:
        """Tell whether ``at``, local wall-clock time, is within the hours. Never raises."""
        if self.always:
            return True
        day, minute = at.date(), at.hour * 60 + at.minute
        today = self._spans(day, calendar)
        last_night = self._spans(day - timedelta(days=1), calendar)
        return any(span.start <= minute < span.end for span in today) or any(
            minute + DAY < span.end for span in last_night
        )

    def _spans(self, day: date, calendar: Calendar) -> Spans:
        if day in calendar.closed:
            return calendar.closed[day]
        return self.week[calendar.made_up.get(day, day.weekday())]
