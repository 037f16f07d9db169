"""One inbound call in, exactly one decision out. Pure; tens of microseconds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

from ctid.acd.facts import ZERO
from ctid.routing.policy import Policy
from ctid.routing.sections import TITLES, CallerClass, Line
from ctid.routing.variables import FROM_ROUTE

NOBODY: Final[Mapping[str, frozenset[str]]] = {}
NONE_WAITING: Final[Mapping[str, int]] = {}


class FloorView(msgspec.Struct, frozen=True, kw_only=True):
    """As much of the floor as a decision needs.

    Attributes:
        waiting: Callers waiting, by queue; a queue not named has none.
        idle: Numbers of the agents who could take a call at once, by queue.
    """

    waiting: Mapping[str, int] = NONE_WAITING
    idle: Mapping[str, frozenset[str]] = NOBODY

    def is_idle(self, agent: str) -> bool:
        """Tell whether an agent could take a call at once, from whichever queue."""
        return any(agent in agents for agents in self.idle.values())


UNKNOWN_FLOOR: Final = FloorView()


class CallRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call that asks where to go.

    Attributes:
        dialled: As the network gave it.
        caller: As the network gave it; empty if withheld.
        recording: UUID for the recording, should there be one.
        last_agent: Number of the agent who spoke with the caller before, if the line wants
            to know and somebody could tell in time.
    """

    dialled: str
    caller: str = ""
    recording: str = ""
    last_agent: str | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Where one call goes.

    Attributes:
        queue: Empty unless ``action`` is ``queue``.
        timeout: How long to wait there; whole seconds, as all of them here.
        line: Name in the policy; empty if no line has the dialled number.
        rule: Name in queuerules.conf.
        recording: Empty: do not record.
    """

    action: Literal["queue", "closed", "reject"] = "queue"
    queue: str = ""
    priority: int = 0
    timeout: timedelta = ZERO
    overflow_queue: str = ""
    overflow_timeout: timedelta = ZERO
    agent_queue: str = ""
    agent_timeout: timedelta = ZERO
    rule: str = ""
    language: str = ""
    greeting: str = ""
    name_prefix: str = ""
    recording: str = ""
    line: str = ""
    business: str = ""
    vip: bool = False

    def variables(self) -> dict[str, str]:
        """Return the channel variables, in the order of ``FROM_ROUTE``, ``CTID_OK`` last."""
        values = {
            "CTID_QUEUE": self.queue,
            "CTID_ACTION": self.action,
            "CTID_PRIORITY": str(self.priority),
            "CTID_TIMEOUT": _seconds(self.timeout),
            "CTID_OVERFLOW_QUEUE": self.overflow_queue,
            "CTID_OVERFLOW_TIMEOUT": _seconds(self.overflow_timeout),
            "CTID_AGENT_QUEUE": self.agent_queue,
            "CTID_AGENT_TIMEOUT": _seconds(self.agent_timeout),
            "CTID_RULE": self.rule,
            "CTID_LANGUAGE": self.language,
            "CTID_GREETING": self.greeting,
            "CTID_NAME_PREFIX": self.name_prefix,
            "CTID_RECORD": "1" if self.recording else "0",
            "CTID_RECORDING": self.recording,
            "CTID_LINE": self.line,
            "CTID_BUSINESS": self.business,
            "CTID_VIP": "1" if self.vip else "0",
            "CTID_OK": "1",
        }
        return {name: values[name] for name in FROM_ROUTE}


def _seconds(value: timedelta) -> str:
    return str(value // timedelta(seconds=1))


def decide(policy: Policy, request: CallRequest, floor: FloorView, now: datetime) -> Decision:
    """Choose where one inbound call goes.

    Args:
        policy: Checked, so that every name in it leads somewhere.
        request: The call.
        floor: Now, or as last known; ``UNKNOWN_FLOOR`` if nobody knows.
        now: Aware; any zone.

    Returns:
        Exactly one decision; never ``None``. Never raises.
    """
    found = policy.line_of(request.dialled)
    if not found or policy.is_open(found[1], now):
        return decide_open(policy, request, floor)
    known = policy.caller_class(request.caller)
    if known and known.reject:
        return Decision(action="reject", line=found[0])
    return _closed(policy, found[1], _base(policy, found[0], found[1], known), request)


def decide_open(policy: Policy, request: CallRequest, floor: FloorView = UNKNOWN_FLOOR) -> Decision:
    """Choose where one inbound call goes while its line is open. Never raises."""
    known = policy.caller_class(request.caller)
    found = policy.line_of(request.dialled)
    if known and known.reject:
        return Decision(action="reject", line=found[0] if found else "")
    if not found:
        return _unknown_line(policy, request, known)
    line = found[1]
    decision = msgspec.structs.replace(
        _base(policy, found[0], line, known),
        queue=(known.queue if known else None) or line.queue,
        timeout=line.timeout or policy.site.timeout,
        rule=line.rule or "",
        greeting=line.greeting,
        recording=_recording(policy, line, request),
    )
    return _last_agent_first(policy, line, _overflowing(line, decision, floor), request, floor)


def _base(policy: Policy, name: str, line: Line, known: CallerClass | None) -> Decision:
    """Return what holds whether open or closed."""
    language = line.language or policy.site.language
    title = (line.title or TITLES[line.business]).within(language)
    tag = known.tag if known else None
    return Decision(
        line=name,
        business=line.business,
        priority=line.priority + (known.priority if known else 0),
        language=language,
        name_prefix=f"[{title}]" + (f"[{tag.within(language)}]" if tag else ""),
        vip=known is not None and known.vip,
    )


def _unknown_line(policy: Policy, request: CallRequest, known: CallerClass | None) -> Decision:
    """Nobody's number: a caller is a caller, so the default queue takes him."""
    site = policy.site
    return Decision(
        queue=(known.queue if known else None) or site.default_queue,
        priority=known.priority if known else 0,
        timeout=site.timeout,
        language=site.language,
        business="consultation",
        name_prefix=f"[{known.tag.within(site.language)}]" if known and known.tag else "",
        recording=request.recording if site.record else "",
        vip=known is not None and known.vip,
    )


def _closed(policy: Policy, line: Line, base: Decision, request: CallRequest) -> Decision:
    closed = line.closed
    if closed.action != "queue" or not closed.queue:
        return msgspec.structs.replace(base, action=closed.action, greeting=closed.greeting)
    return msgspec.structs.replace(
        base,
        queue=closed.queue,
        timeout=line.timeout or policy.site.timeout,
        greeting=closed.greeting,
        recording=_recording(policy, line, request),
    )


def _recording(policy: Policy, line: Line, request: CallRequest) -> str:
    wanted = policy.site.record if line.record is None else line.record
    return request.recording if wanted else ""


def _overflowing(line: Line, decision: Decision, floor: FloorView) -> Decision:
    """Add the overflow queue, or begin there if the first one is hopeless."""
    overflow = line.overflow
    if not overflow or overflow.queue == decision.queue:
        return decision
    crowded = (
        overflow.at_once_from is not None and floor.waiting.get(decision.queue, 0) >= overflow.at_once_from
    )
    if crowded and not floor.idle.get(decision.queue):
        return msgspec.structs.replace(decision, queue=overflow.queue, timeout=overflow.timeout, rule="")
    return msgspec.structs.replace(decision, overflow_queue=overflow.queue, overflow_timeout=overflow.timeout)


def _last_agent_first(
    policy: Policy, line: Line, decision: Decision, request: CallRequest, floor: FloorView
) -> Decision:
    """Try the agent who knows the caller, if he is free this moment."""
    agent = request.last_agent
    queue = policy.personal_queue(agent) if agent and line.last_agent else None
    if not agent or not queue or not line.last_agent or not floor.is_idle(agent):
        return decision
    return msgspec.structs.replace(decision, agent_queue=queue, agent_timeout=line.last_agent.wait)
