"""policy.toml: what it says, and what it must not say."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ctid.errors import SettingsError
from ctid.routing.policy import Policy, from_table, load
from ctid.routing.sections import BUSINESSES
from tests.routing.fakes import GONE, SMALL, bent

EXAMPLE = Path(__file__).parents[2] / "config" / "policy.toml"


def problems(table: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        from_table(table)
    return refused.value.problems


def found(text: str, tmp_path: Path) -> list[str]:
    file = tmp_path / "policy.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        load(file)
    return [problem.replace(str(tmp_path), "") for problem in refused.value.problems]


@pytest.fixture
def small() -> Policy:
    return from_table(SMALL)


def test_the_example_is_complete_and_loads() -> None:
    example = load(EXAMPLE)
    assert {line.business for line in example.lines.values()} == set(BUSINESSES)
    assert example.queue_names() >= {*BUSINESSES, "overflow", "agent-1001", "agent-1006"}
    assert example.interfaces()["PJSIP/2101"] == "1001"
    for year, month, day in ((2026, 10, 10), (2026, 2, 14)):
        assert any(
            (made.date.year, made.date.month, made.date.day) == (year, month, day)
            for made in example.calendars["china"].make_up_days
        )


def test_agents_are_found_by_number_and_by_phone(small: Policy) -> None:
    agent = small.agent("1001")
    assert agent
    assert agent.name == "王小明"
    assert small.agent("9") is None
    assert small.interfaces() == {"PJSIP/1001": "1001", "PJSIP/2101": "1001", "PJSIP/1002": "1002"}


def test_a007_skills_become_memberships_with_penalties(small: Policy) -> None:
    assert small.memberships("1001") == {"repair": 0, "consultation": 3, "agent-1001": 0}
    assert small.memberships("1002") == {"overflow": 0}
    assert small.memberships("9") == {}


def test_queues_include_those_of_one_agent(small: Policy) -> None:
    assert small.queue_names() == {"consultation", "repair", "overflow", "agent-1001"}
    assert small.personal_queue("1001") == "agent-1001"
    assert small.personal_queue("1002") is None
    assert small.personal_queue("9") is None


def test_a001_rings_are_counted_in_the_queues_own_cadence(small: Policy) -> None:
    rules = small.rules()
    assert rules["repair"].ring_limit == timedelta(seconds=24)
    assert rules["repair"].wrap_up == timedelta(seconds=30)
    assert rules["agent-1001"].ring_limit == timedelta(seconds=15)
    assert rules.keys() == small.queue_names()


@pytest.mark.parametrize("dialled", ["5002", "+861088885002", "01088885002", "88885002"])
def test_a_line_is_found_by_any_spelling(small: Policy, dialled: str) -> None:
    name_and_line = small.line_of(dialled)
    assert name_and_line
    assert name_and_line[0] == "repair"


@pytest.mark.parametrize(
    ("caller", "name"),
    [
        ("+8613800138000", "vip"),
        ("13901", "inspector"),
        ("13911112222", "inspector"),
        ("13912345678", "nuisance"),
        ("110110", "nuisance"),
        ("13612345678", None),
        ("", None),
        ("anonymous", None),
    ],
)
def test_a004_a006_a_caller_is_known_by_number_then_by_the_longest_prefix(
    small: Policy, caller: str, name: str | None
) -> None:
    assert small.caller_class(caller) == (small.callers[name] if name else None)


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"lines__repair__queue": "repiar"}, "lines.repair.queue", "there is no [queues.repiar]"),
        ({"lines__repair__overflow": {"queue": "x"}}, "lines.repair.overflow.queue", "[queues.x]"),
        ({"lines__repair__hours": "x"}, "lines.repair.hours", "[hours.x]"),
        ({"lines__repair__rule": "x"}, "lines.repair.rule", "[skill_rules.x]"),
        ({"lines__repair__closed": {"action": "queue"}}, "lines.repair.closed.action", "add closed.queue"),
        (
            {"lines__repair__closed": {"action": "queue", "queue": "x"}},
            "lines.repair.closed.queue",
            "[queues.x]",
        ),
        ({"site__default_queue": "x"}, "site.default_queue", "[queues.x]"),
        ({"callers__vip__queue": "x"}, "callers.vip.queue", "[queues.x]"),
        ({"agents__1002__queues": ["overflow", "x"]}, "agents.1002.queues", "[queues.x]"),
        ({"agents__1001__team": "x"}, "agents.1001.team", "[teams.x]"),
        ({"agents__1001__skills": {"sing": 1}}, "agents.1001.skills.sing", "no queue asks for this skill"),
        ({"teams__first__leader": "9"}, "teams.first.leader", "[agents.9]"),
        ({"hours__office__calendar": "x"}, "hours.office.calendar", "[calendars.x]"),
        (
            {"lines__plain__numbers": ["+86 10 8888 5002"]},
            "lines.plain.numbers",
            "is also in lines.repair.numbers",
        ),
        ({"lines__plain__numbers": ["alice"]}, "lines.plain.numbers", "is no telephone number"),
        (
            {"callers__known__numbers": ["0086 138 0013 8000"]},
            "callers.known.numbers",
            "is also in callers.vip",
        ),
        ({"callers__known__prefixes": ["abc"]}, "callers.known.prefixes", "begins no telephone number"),
        ({"agents__1002__interfaces": ["PJSIP/1001"]}, "agents.1002.interfaces", "is also in agents.1001"),
        ({"lines__repair__timeout": "1.5s"}, "lines.repair.timeout", "whole seconds"),
        ({"lines__repair__timeout": "2d"}, "lines.repair.timeout", "at most a day"),
        ({"lines__repair__greeting": "../etc/passwd"}, "lines.repair.greeting", "pattern"),
        ({"lines__repair__business": "sales"}, "lines.repair.business", "consultation"),
        ({"lines__repair__queu": "x"}, "lines.repair.queu", "unknown key"),
        ({"lines__repair__queue": GONE}, "lines.repair.queue", "is missing"),
        ({"lines": {}}, "lines", "at least 1"),
        ({"queues__re,pair": {}}, "queues.re,pair", "pattern"),
        ({"queues__repair__country": "atlantis"}, "queues.repair.country", "no bell cadence"),
        ({"site__time_zone": "Asia/Atlantis"}, "site.time_zone", "is no time zone"),
        ({"site__time_zone": "../etc/passwd"}, "site.time_zone", "is no time zone"),
        ({"agents__1001__name": "a\nb"}, "agents.1001.name", "line break"),
        ({"agents__1001__skills": {"fix": 6}}, "agents.1001.skills.fix", "less than or equal to 5"),
        ({"hours__office__workdays": ["08:00-12:00", "11:00-13:00"]}, "hours.office", "overlaps"),
    ],
)
def test_what_can_not_be_run_with_names_key_and_remedy(changes: dict[str, Any], key: str, text: str) -> None:
    told = problems(bent(**changes))
    assert any(key in problem and text in problem for problem in told), told


@pytest.mark.parametrize(
    "table",
    [
        {},
        {
            "site": 1,
            "lines": [],
            "queues": 2,
            "agents": {"1": 3},
            "callers": {"x": {"numbers": 5}},
            "hours": "x",
        },
        {"lines": {"x": {"numbers": "5001", "queue": 7, "closed": {"action": "queue"}}}, "agents": [1]},
        {
            "site": {"country": 5, "area_code": "x"},
            "agents": {"1": {"queues": 1, "skills": 2, "interfaces": [4]}},
        },
    ],
)
def test_a_table_of_any_shape_is_refused_in_words(table: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        from_table(table)


def test_every_kind_of_problem_is_told_in_one_run(tmp_path: Path) -> None:
    told = found(
        """
        [site]
        default_queue = "nowhere"
        colour = "red"
        [queues.repair]
        [lines.repair]
        numbers = ["5002"]
        business = "repair"
        queue = "repair"
        timeout = 5
        [callers.vip]
        file = "vips.txt"
        [hours.x]
        monday = ["09:00-10:00", "09:30-11:00"]
        """,
        tmp_path,
    )
    assert all(problem.startswith("/policy.toml: ") for problem in told)
    for key in ("site.colour", "site.default_queue", "lines.repair.timeout", "callers.vip.file", "hours.x"):
        assert sum(f": {key}: " in problem for problem in told) == 1, key
    assert len(told) == 5


def test_a_list_of_numbers_may_be_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "vips.txt").write_text("# 大客户\n138 0013 8000\n\n+861088886666 # 总机\n", encoding="utf-8")
    text = EXAMPLE.read_text(encoding="utf-8").replace(
        'numbers = ["+86 138 0013 8000"]', 'numbers = ["12345"]\nfile = "vips.txt"'
    )
    (tmp_path / "policy.toml").write_text(text, encoding="utf-8")
    vip = load(tmp_path / "policy.toml")
    for number in ("12345", "13800138000", "01088886666"):
        known = vip.caller_class(number)
        assert known
        assert known.vip


def test_a_file_of_numbers_that_are_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vips.txt").write_text("alice\n", encoding="utf-8")
    text = EXAMPLE.read_text(encoding="utf-8").replace("[callers.vip]", '[callers.vip]\nfile = "vips.txt"')
    (told,) = found(text, tmp_path)
    assert told.startswith("/policy.toml: callers.vip.numbers: 'alice' is no telephone number; write digits")


def test_a_queue_is_open_while_any_of_its_lines_is() -> None:
    """A010: closed hours of a queue are never uncovered ones."""
    policy = load(EXAMPLE)
    closed = {name: line for name, line in policy.lines.items() if line.hours}
    line = next(iter(closed.values()))
    night = datetime(2026, 11, 22, 19, 0, tzinfo=UTC)  # three in the morning in Shanghai
    lines_there = [one for one in policy.lines.values() if one.queue == line.queue]
    assert policy.is_queue_open(line.queue, night) == any(policy.is_open(one, night) for one in lines_there)
    assert not policy.is_open(line, night)
    assert policy.is_queue_open("a queue of no line", night)
