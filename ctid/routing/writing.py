"""What others read of the policy: the last good routes, and Asterisk's queue rules."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ctid.routing.decide import CallRequest, decide_open
from ctid.routing.numbers import spellings
from ctid.routing.policy import Policy

VERSION: Final = 1


def last_good_routes(policy: Policy) -> str:
    """Return ``last-good-routes.json``, from which the pyst2 script routes without us.

    Times are whole seconds. A number is there in every spelling a carrier may use, since
    the script knows nothing of numbering plans; ``default`` is for a number in no line.
    """
    lines = {
        number: _route(policy, number)
        for line in policy.lines.values()
        for text in line.numbers
        for number in spellings(policy.number(text))
    }
    routes = {"version": VERSION, "lines": lines, "default": _route(policy, "")}
    return msgspec.json.format(msgspec.json.encode(routes), indent=2).decode() + "\n"


def _route(policy: Policy, dialled: str) -> dict[str, Any]:
    """Return where a number leads while it is open and nobody knows anything else."""
    decision = decide_open(policy, CallRequest(dialled=dialled, recording="wanted"))
    return {
        "queue": decision.queue,
        "timeout": int(decision.timeout.total_seconds()),
        "overflow_queue": decision.overflow_queue,
        "overflow_timeout": int(decision.overflow_timeout.total_seconds()),
        "name_prefix": decision.name_prefix,
        "business": decision.business,
        "line": decision.line,
        "language": decision.language,
        "greeting": decision.greeting,
        "record": bool(decision.recording),
    }


def queue_rules_conf(policy: Policy) -> str:
    """Return the text of queuerules.conf for the policy's skill rules.

    The dialplan must set QUEUE_MAX_PENALTY before Queue(): app_queue.c: update_qe_rule()
    changes a limit, but never introduces one.
    """
    blocks = []
    for name, rule in policy.skill_rules.items():
        steps = sorted((int(step.after.total_seconds()), step.penalty) for step in rule.steps)
        blocks.append(
            "\n".join([f"[{name}]", *(f"penaltychange => {after},{most}" for after, most in steps)])
        )
    return "\n\n".join(["; Written from policy.toml.", *blocks]) + "\n"
