"""A small policy that tests bend."""

from __future__ import annotations

import copy
from typing import Any

SMALL: dict[str, Any] = {
    "site": {"default_queue": "consultation", "area_code": "010"},
    "queues": {
        "consultation": {"skill": "talk"},
        "repair": {"skill": "fix", "rings": 4, "country": "us", "wrap_up": "30s"},
        "overflow": {},
    },
    "lines": {
        "repair": {
            "numbers": ["5002", "010-8888 5002"],
            "business": "repair",
            "queue": "repair",
            "hours": "office",
            "priority": 5,
            "greeting": "ctid/repair",
            "timeout": "45s",
            "rule": "relax",
            "overflow": {"queue": "overflow", "timeout": "90s", "at_once_from": 3},
            "last_agent": {"within": "7d", "wait": "15s"},
        },
        "plain": {"numbers": ["5001"], "business": "consultation", "queue": "consultation"},
    },
    "agents": {
        "1001": {
            "name": "王小明",
            "interfaces": ["PJSIP/1001", "PJSIP/2101"],
            "team": "first",
            "skills": {"fix": 5, "talk": 2},
        },
        "1002": {
            "name": "李娜",
            "interfaces": ["PJSIP/1002"],
            "queues": ["overflow"],
            "personal_queue": False,
        },
    },
    "teams": {"first": {"title": {"zh": "一组", "en": "Team 1"}, "leader": "1001"}},
    "callers": {
        "vip": {"vip": True, "numbers": ["13800138000"], "priority": 20},
        "inspector": {
            "title": {"zh": "监督员", "en": "Inspector"},
            "prefixes": ["139", "1391"],
            "queue": "overflow",
        },
        "nuisance": {"numbers": ["110110"], "prefixes": ["13912"], "reject": True},
        "known": {"prefixes": ["137"]},
    },
    "skill_rules": {"relax": {"steps": [{"after": "20s", "level": 1}, {"after": "0s", "level": 4}]}},
    "hours": {"office": {"workdays": ["08:30-18:00"], "calendar": "china"}},
    "calendars": {"china": {}},
}

GONE = object()
"""As a value: the key is taken out."""


def bent(**changes: Any) -> dict[str, Any]:
    """Return ``SMALL`` with keys changed: ``lines__repair__queue="x"``."""
    table = copy.deepcopy(SMALL)
    for path, value in changes.items():
        *parents, last = path.split("__")
        inner = table
        for parent in parents:
            inner = inner.setdefault(parent, {})
        if value is GONE:
            del inner[last]
        else:
            inner[last] = value
    return table
