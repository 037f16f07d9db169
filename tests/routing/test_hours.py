"""Weekly hours, holidays, make-up working days (duties.md A010)."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from ctid.routing.hours import DAY, DAYS, NO_CALENDAR, WEEK, Calendar, Hours, Span, overlaps, parse_span

MONDAY = datetime(2026, 11, 16)
OFFICE = Hours.model_validate({"workdays": ["08:30-12:00", "13:30-18:00"], "saturday": ["09:00-12:00"]})
CHINA = Calendar.model_validate(
    {
        "holidays": [
            {"name": "国庆节", "first": date(2026, 10, 1), "last": date(2026, 10, 7)},
            {"name": "中秋节", "first": date(2026, 9, 25), "hours": ["10:00-11:00"]},
        ],
        "make_up_days": [{"date": date(2026, 10, 10), "like": "friday"}, {"date": date(2026, 9, 20)}],
    }
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("when", "is_open"),
    [
        ("2026-11-16 08:29:59", False),
        ("2026-11-16 08:30:00", True),
        ("2026-11-16 11:59:59", True),
        ("2026-11-16 12:00:00", False),
        ("2026-11-16 17:59:59.999", True),
        ("2026-11-16 18:00:00", False),
        ("2026-11-21 09:00:00", True),
        ("2026-11-21 13:30:00", False),
        ("2026-11-22 09:00:00", False),
    ],
)
def test_the_start_counts_and_the_end_does_not(when: str, is_open: bool) -> None:
    assert OFFICE.is_open(at(when)) is is_open


@pytest.mark.parametrize(
    ("when", "is_open"),
    [
        ("2026-10-01 10:00", False),
        ("2026-10-07 10:00", False),
        ("2026-10-08 10:00", True),
        ("2026-09-25 10:30", True),
        ("2026-09-25 11:30", False),
        ("2026-10-10 17:00", True),
        ("2026-09-20 08:30", True),
        ("2026-09-27 08:30", False),
    ],
)
def test_a010_holidays_and_make_up_days_go_before_the_week(when: str, is_open: bool) -> None:
    assert OFFICE.is_open(at(when), CHINA) is is_open


def test_a010_day_and_night_knows_no_holiday() -> None:
    always = Hours(always=True)
    assert all(always.is_open(MONDAY + timedelta(hours=hour), CHINA) for hour in range(24))


def test_a_night_shift_belongs_to_the_day_it_began() -> None:
    night = Hours.model_validate({"sunday": ["22:00-06:00"]})
    assert [
        night.is_open(at(f"2026-11-{text}")) for text in ("22 21:59", "22 22:00", "23 05:59", "23 06:00")
    ] == [
        False,
        True,
        True,
        False,
    ]


def test_the_last_night_before_a_holiday_is_worked_to_its_end() -> None:
    night = Hours.model_validate({"workdays": ["22:00-06:00"]})
    assert night.is_open(at("2026-10-01 05:00"), CHINA)
    assert not night.is_open(at("2026-10-02 05:00"), CHINA)


@pytest.mark.parametrize(
    ("instant", "is_open"),
    [
        (datetime(2026, 3, 29, 0, 30, tzinfo=UTC), False),  # 01:30, before the skipped hour
        (datetime(2026, 3, 29, 1, 30, tzinfo=UTC), True),  # 03:30
        (datetime(2026, 10, 25, 0, 15, tzinfo=UTC), True),  # 02:15 summer time
        (datetime(2026, 10, 25, 1, 15, tzinfo=UTC), True),  # 02:15 once more
        (datetime(2026, 10, 25, 3, 15, tzinfo=UTC), False),  # 04:15
    ],
)
def test_summer_time_needs_no_thought(instant: datetime, is_open: bool) -> None:
    early = Hours.model_validate({"sunday": ["02:00-04:00"]})
    assert early.is_open(instant.astimezone(ZoneInfo("Europe/Berlin"))) is is_open


spans = st.builds(
    lambda start, length: Span(start, start + length), st.integers(0, DAY - 1), st.integers(1, DAY)
)
weeks = st.lists(st.lists(spans, max_size=3), min_size=7, max_size=7)


def minutes_of(week: list[list[Span]]) -> list[int]:
    """Every open minute of the week, again for every span it is in."""
    return [
        (number * DAY + minute) % WEEK
        for number, day in enumerate(week)
        for span in day
        for minute in range(span.start, span.end)
    ]


@given(weeks)
def test_overlaps_are_what_counting_minutes_finds(week: list[list[Span]]) -> None:
    minutes = minutes_of(week)
    assert bool(overlaps(tuple(map(tuple, week)))) == (len(minutes) != len(set(minutes)))


@given(weeks, st.integers(0, WEEK - 1))
def test_open_is_what_counting_minutes_finds(week: list[list[Span]], minute: int) -> None:
    minutes = minutes_of(week)
    assume(minutes and len(minutes) == len(set(minutes)))
    hours = Hours.model_validate(dict(zip(DAYS, week, strict=True)))
    assert hours.is_open(MONDAY + timedelta(minutes=minute), NO_CALENDAR) == (minute in set(minutes))


@pytest.mark.parametrize("text", ["00:00-24:00", "08:30-18:00", "22:00-06:00", "23:59-00:00"])
def test_a_span_reads_as_it_is_written(text: str) -> None:
    assert str(parse_span(text)).replace("24:00", "00:00") == text.replace("24:00", "00:00")


@pytest.mark.parametrize(
    "text", ["8:30-18:00", "08:30", "08:60-09:00", "08:00-24:01", "24:00-25:00", "09:00-09:00", 7]
)
def test_what_is_no_span_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="08:30-18:00"):
        parse_span(text)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"monday": ["08:00-12:00", "11:00-13:00"]}, "monday 08:00-12:00 overlaps monday 11:00-13:00"),
        ({"monday": ["08:00-12:00", "08:00-12:00"]}, "overlaps"),
        (
            {"sunday": ["20:00-02:00"], "monday": ["01:00-03:00"]},
            "sunday 20:00-02:00 overlaps monday 01:00-03:00",
        ),
        (
            {"workdays": ["08:00-12:00", "11:00-13:00"]},
            "error, workdays 08:00-12:00 overlaps workdays 11:00-13:00; shorten one of them ",
        ),
        ({}, "at least one day"),
        ({"always": True, "monday": ["08:00-12:00"]}, "either always"),
        ({"monday": ["08:00"]}, "hours are written"),
        ({"mondays": []}, "Extra inputs"),
    ],
)
def test_hours_that_make_no_sense_are_refused(table: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Hours.model_validate(table)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"holidays": [{"name": "x", "first": date(2026, 1, 3), "last": date(2026, 1, 1)}]}, "ends before"),
        (
            {
                "holidays": [{"name": "x", "first": date(2026, 1, 1), "last": date(2026, 1, 3)}],
                "make_up_days": [{"date": date(2026, 1, 2)}],
            },
            "2026-01-02 listed twice",
        ),
    ],
)
def test_a_calendar_that_contradicts_itself_is_refused(table: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Calendar.model_validate(table)
