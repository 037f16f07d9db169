"""What one part of the policy says about another: is it there, is it said only once?

Works on the table as read, before and beside the check of types, so that a misspelt
queue and a misspelt key are told in the same run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ctid.acd.rules import RING_CYCLES
from ctid.routing.numbers import normalise

#: Where a name is used -> the table that must have it. ``*`` is any key, ``[]`` any item.
_REFERENCES: Final = (
    ("site.default_queue", "queues"),
    ("lines.*.queue", "queues"),
    ("lines.*.overflow.queue", "queues"),
    ("lines.*.closed.queue", "queues"),
    ("lines.*.hours", "hours"),
    ("lines.*.rule", "skill_rules"),
    ("callers.*.queue", "queues"),
    ("agents.*.queues.[]", "queues"),
    ("agents.*.team", "teams"),
    ("teams.*.leader", "agents"),
    ("hours.*.calendar", "calendars"),
)

Found = Iterator[tuple[str, str]]
"""Key as people know it (``lines.repair.queue``), and the text there."""


def broken_references(table: Mapping[str, Any]) -> list[str]:
    """Return a line per problem: key, what is wrong, what to do. Never raises."""
    problems = [
        f"{key}: there is no [{section}.{name}]; add it, or correct the name"
        for path, section in _REFERENCES
        for key, name in _texts(table, path.split("."))
        if name and name not in _names(table, section)
    ]
    return problems + _unused_skills(table) + _ambiguous(table) + _closed_without_queue(table)


def with_files(table: dict[str, Any], file: Path) -> tuple[dict[str, Any], list[str]]:
    """Put the numbers of ``callers.*.file`` among ``callers.*.numbers``; return problems beside."""
    problems: list[str] = []
    callers = table.get("callers")
    for name, known in callers.items() if isinstance(callers, dict) else ():
        listed = known.get("file") if isinstance(known, dict) else None
        if not isinstance(listed, str) or not isinstance(known.get("numbers", []), list):
            continue
        path = file.parent / listed
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            problems.append(
                f"{file}: callers.{name}.file: {path} can not be read: {error}; check path and text"
            )
            continue
        numbers = [line.partition("#")[0].strip() for line in lines]
        known["numbers"] = [*known.get("numbers", []), *filter(None, numbers)]
    return table, problems


def _names(table: Mapping[str, Any], section: str) -> frozenset[str]:
    found = table.get(section)
    return frozenset(found) if isinstance(found, dict) else frozenset()


def _texts(value: object, path: list[str], key: str = "") -> Found:
    """Yield every text at ``path``, whatever else the table holds."""
    if not path:
        if isinstance(value, str):
            yield key, value
        return
    step, *rest = path
    if step == "[]":
        for item in value if isinstance(value, list) else ():
            yield from _texts(item, rest, key)
    elif isinstance(value, dict):
        for name in value if step == "*" else (step,):
            if name in value:
                yield from _texts(value[name], rest, f"{key}.{name}" if key else name)


def _unused_skills(table: Mapping[str, Any]) -> list[str]:
    asked = {skill for _, skill in _texts(table, ["queues", "*", "skill"])}
    return [
        f"agents.{number}.skills.{skill}: no queue asks for this skill; give it to one, or correct the name"
        for number in _names(table, "agents")
        if isinstance(agent := table["agents"][number], dict)
        for skill in _names(agent, "skills") - asked
    ]


def _ambiguous(table: Mapping[str, Any]) -> list[str]:
    """Tell numbers and phones that belong to two, and numbers that are none."""
    country, area_code = _country(table)
    problems = []
    for path in ("lines.*.numbers.[]", "callers.*.numbers.[]", "agents.*.interfaces.[]"):
        owners: dict[str, str] = {}
        for key, text in _texts(table, path.split(".")):
            phone = path.startswith("agents")
            one = text if phone else normalise(text, country, area_code)
            if not one:
                problems.append(
                    f"{key}: {text!r} is no telephone number; write digits, such as +861088885002"
                )
            elif one in owners:
                problems.append(f"{key}: {text} is also in {owners[one]}; remove it from one of them")
            owners.setdefault(one, key)
    for key, text in _texts(table, ["callers", "*", "prefixes", "[]"]):
        if not normalise(text, country):
            problems.append(f"{key}: {text!r} begins no telephone number; write digits, such as 139")
    return problems


def _country(table: Mapping[str, Any]) -> tuple[str, str]:
    site = table.get("site")
    site = site if isinstance(site, dict) else {}
    country, area_code = site.get("country"), site.get("area_code")
    return (
        country if isinstance(country, str) and country in RING_CYCLES else "cn",
        area_code if isinstance(area_code, str) and area_code.isdigit() else "",
    )


def _closed_without_queue(table: Mapping[str, Any]) -> list[str]:
    return [
        f'{key}: "queue" needs to know which; add closed.queue'
        for key, action in _texts(table, ["lines", "*", "closed", "action"])
        if action == "queue" and not table["lines"][key.split(".")[1]]["closed"].get("queue")
    ]
