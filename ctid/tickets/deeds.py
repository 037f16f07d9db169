"""Commands carried out: a ticket, a command, who and when, to the new ticket or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ctid.tickets import commands
from ctid.tickets.commands import Command, name_of
from ctid.tickets.ticket import TOP_LEVEL, CallBack, Change, Event, Notice, Refusal, Stamp, Ticket, Times
from ctid.tickets.workflow import WORKFLOWS, possible

_REMEMBERED: Final = 64
"""Ids of commands kept with the ticket; the store knows all of them."""


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """One command under way."""

    ticket: Ticket
    command: Any
    actor: str
    at: datetime
    times: Times

    def changed(self, kind: str, detail: dict[str, str], **fields: Any) -> Change:
        """Return the ticket with ``fields`` changed, and one event."""
        event = Event(kind=kind, at=self.at, actor=self.actor, command=self.command.id, detail=detail)
        return Change(ticket=replace(self.ticket, **fields), events=(event,))


def act(ticket: Ticket, command: Command, actor: str, at: datetime, *, times: Times) -> Change | Refusal:
    """Carry out one command.

    Never raises. A command carried out before (by its id) changes nothing and yields no events.
    """
    if command.id in ticket.done:
        return Change(ticket=ticket)
    if refusal := _why_not(ticket, command, actor, at):
        return refusal
    deed = Deed(ticket=ticket, command=command, actor=actor, at=at, times=times)
    done = _EFFECTS[type(command)](deed)
    if isinstance(done, Refusal):
        return done
    moved = _step_on(deed, done)
    after = replace(moved.ticket, version=ticket.version + 1, done=(*ticket.done, command.id)[-_REMEMBERED:])
    return Change(ticket=after, events=moved.events)


def _why_not(ticket: Ticket, command: Command, actor: str, at: datetime) -> Refusal | None:
    name = name_of(command)
    if ticket.step == "closed":
        return Refusal(code="closed", why=f"ticket {ticket.ticket} is closed; open a new one")
    if command.version != ticket.version:
        return Refusal(
            code="changed_meanwhile",
            why=f"somebody changed the ticket: it has version {ticket.version}, you saw {command.version}; "
            "look again and repeat",
        )
    if name not in possible(ticket.type, ticket.step):
        return Refusal(
            code="wrong_step",
            why=f"a {ticket.type} ticket that is {ticket.step} can not {name}; "
            f"it can: {', '.join(possible(ticket.type, ticket.step))}",
        )
    contacts = isinstance(command, commands.Reply | commands.Attempt | commands.Claim)
    if contacts and is_claimed_by_another(ticket, actor, at):
        return Refusal(
            code="claimed",
            why=f"{ticket.claimed_by} is contacting the customer until {ticket.claimed_until}",
        )
    return None


def is_claimed_by_another(ticket: Ticket, actor: str, at: datetime) -> bool:
    """Say whether somebody else contacts the customer now."""
    until = ticket.claimed_until
    return until is not None and at < until and ticket.claimed_by != actor


def _step_on(deed: Deed, done: Change) -> Change:
    """Move to the next step if the command leads on, with its stamp."""
    name, before = name_of(deed.command), deed.ticket.step
    step = WORKFLOWS[deed.ticket.type].get((before, name))
    if step is None:
        return done
    stamp = Stamp(step=step, at=deed.at, by=deed.actor)
    closed = {"closed_at": deed.at, "claimed_by": "", "claimed_until": None} if step == "closed" else {}
    ticket = replace(done.ticket, step=step, steps=(*done.ticket.steps, stamp), **closed)
    event = Event(
        kind="step_reached",
        at=deed.at,
        actor=deed.actor,
        command=deed.command.id,
        detail={"before": before, "step": step},
    )
    return Change(ticket=ticket, events=(*done.events, event))


def _said(deed: Deed) -> Change:
    """Keep what the command says, and nothing else."""
    said = {
        key: str(value)
        for key, value in msgspec.to_builtins(deed.command).items()
        if key not in ("id", "version", "type")
    }
    return deed.changed(f"{name_of(deed.command)}_noted", said)


def _answer(deed: Deed) -> Change:
    """A memo's answer has yet to reach the customer; that of a consultation was given to him."""
    return _complete(deed) if deed.ticket.type == "memo" else _kept(deed, _said(deed))


def _complete(deed: Deed) -> Change:
    """The customer is to be told what came of it."""
    if deed.ticket.type == "inspection" or not deed.ticket.caller_number:
        return _said(deed)
    return replace(_said(deed), ticket=_with_call_backs(deed, (deed.ticket.caller_number,)))


def _restore(deed: Deed) -> Change:
    customers = tuple(dict.fromkeys(deed.command.customers))
    return deed.changed(
        "restored",
        {"customers": str(len(customers))},
        call_backs=_with_call_backs(deed, customers).call_backs,
    )


def _with_call_backs(deed: Deed, numbers: tuple[str, ...]) -> Ticket:
    due_at = deed.at + deed.times.call_back
    fresh = tuple(CallBack(number=number, due_at=due_at) for number in numbers)
    return replace(deed.ticket, call_backs=(*deed.ticket.call_backs, *fresh))


def _judge(deed: Deed) -> Change:
    return replace(_said(deed), ticket=replace(deed.ticket, verdict=deed.command.verdict, level_due_at=None))


def _escalate(deed: Deed) -> Change | Refusal:
    if deed.ticket.step == "judged" or deed.ticket.level >= TOP_LEVEL:
        return Refusal(code="no_level_left", why="it is judged, or at the top level already; nobody is above")
    level = deed.ticket.level + 1
    return deed.changed(
        "level_raised",
        {"level": str(level), "reason": deed.command.reason},
        level=level,
        level_due_at=deed.at + deed.times.level if level < TOP_LEVEL else None,
    )


def _verify(deed: Deed) -> Change:
    return replace(_said(deed), ticket=replace(deed.ticket, verification=deed.command.call))


def _reply(deed: Deed) -> Change:
    return _kept(deed, _said(deed))


def _kept(deed: Deed, done: Change) -> Change:
    """The customer was told: an open promise is kept, or broken if it is late."""
    ticket = deed.ticket
    if ticket.promise != "open" or ticket.promised_at is None:
        return _told(done) if ticket.promise == "broken" else done
    result: Any = "kept" if deed.at <= ticket.promised_at else "broken"
    event = Event(kind=f"promise_{result}", at=deed.at, actor=deed.actor, command=deed.command.id)
    after = _told(replace(done, ticket=replace(done.ticket, promise=result)))
    return replace(after, events=(*after.events, event))


def _told(done: Change) -> Change:
    return replace(done, ticket=replace(done.ticket, promised_at=None))


def _promise(deed: Deed) -> Change | Refusal:
    until = deed.command.until
    if until <= deed.at:
        return Refusal(code="promise_past", why="a promise lies in the future")
    if deed.ticket.promised_at is not None:
        return Refusal(
            code="promise_open",
            why=f"an answer is promised until {deed.ticket.promised_at} already; reply first",
        )
    return deed.changed("promised", {"until": until.isoformat()}, promised_at=until, promise="open")


def _assign(deed: Deed) -> Change:
    return deed.changed("assigned", {"to": deed.command.to}, assigned_to=deed.command.to)


def _forward(deed: Deed) -> Change:
    return deed.changed("forwarded", {"desk": deed.command.desk}, desk=deed.command.desk, assigned_to="")


def _claim(deed: Deed) -> Change:
    until = deed.at + deed.times.claim
    return deed.changed("claimed", {"until": until.isoformat()}, claimed_by=deed.actor, claimed_until=until)


def _release(deed: Deed) -> Change | Refusal:
    if deed.ticket.claimed_by != deed.actor:
        return Refusal(code="not_claimed", why="you do not contact this customer; claim the ticket first")
    return deed.changed("released", {}, claimed_by="", claimed_until=None)


def _attempt(deed: Deed) -> Change | Refusal:
    ticket, tried = deed.ticket, deed.command
    if tried.call_back >= len(ticket.call_backs):
        return Refusal(
            code="unknown_call_back", why=f"there are {len(ticket.call_backs)} call-backs, counted from 0"
        )
    before = ticket.call_backs[tried.call_back]
    if before.result != "open":
        return Refusal(code="call_back_over", why=f"this call-back is {before.result} already")
    if ticket.claimed_by != deed.actor:
        return Refusal(code="not_claimed", why="claim the ticket first, so that nobody else calls him too")
    after = _tried(before, tried.result, deed)
    call_backs = tuple(after if i == tried.call_back else other for i, other in enumerate(ticket.call_backs))
    detail = {"call_back": str(tried.call_back), "result": tried.result, "call": tried.call}
    done = deed.changed("call_back_tried", detail, call_backs=call_backs)
    return _kept(deed, done) if tried.result == "confirmed" else done


def _tried(before: CallBack, result: str, deed: Deed) -> CallBack:
    attempts = before.attempts + 1
    if result == "confirmed":
        return replace(before, attempts=attempts, result="confirmed")
    exhausted = attempts >= deed.times.attempts
    return replace(before, attempts=attempts, result="exhausted" if exhausted else "open")


def _deliver(deed: Deed) -> Change | Refusal:
    told, notices = deed.command, deed.ticket.notices
    if told.notice >= len(notices):
        return Refusal(code="unknown_notice", why=f"there are {len(notices)} notices, counted from 0")
    changed = Notice(number=notices[told.notice].number, status=told.status)
    after = tuple(changed if i == told.notice else other for i, other in enumerate(notices))
    return deed.changed(
        "notice_delivered", {"notice": str(told.notice), "status": told.status}, notices=after
    )


def _close(deed: Deed) -> Change | Refusal:
    return _settled(deed, deed.changed("closed", {}))


def _reject(deed: Deed) -> Change | Refusal:
    return _settled(deed, _said(deed))


def _settled(deed: Deed, done: Change) -> Change | Refusal:
    """Let nobody wait: what every way to the end has to pass."""
    ticket = deed.ticket
    left = sum(one.result == "open" for one in ticket.call_backs)
    if left:
        return Refusal(
            code="call_backs_open", why=f"{left} customers are not called back yet; call them, then close"
        )
    if ticket.promised_at is None:
        return done
    if any(one.result == "exhausted" for one in ticket.call_backs):
        return _given_up(deed, done)
    return Refusal(code="promise_open", why="the customer still waits for what he was promised; reply")


def _given_up(deed: Deed, done: Change) -> Change:
    """He could not be reached, often enough: nobody waits any more, but the promise was not kept."""
    event = Event(kind="promise_broken", at=deed.at, actor=deed.actor, command=deed.command.id)
    events = (*done.events, event) if deed.ticket.promise == "open" else done.events
    return Change(ticket=replace(done.ticket, promise="broken", promised_at=None), events=events)


_EFFECTS: Final[dict[type, Callable[[Deed], Change | Refusal]]] = {
    commands.Answer: _answer,
    commands.Appoint: _said,
    commands.Order: _said,
    commands.Dispatch: _said,
    commands.Complete: _complete,
    commands.Accept: _said,
    commands.Reject: _reject,
    commands.Judge: _judge,
    commands.Escalate: _escalate,
    commands.Verify: _verify,
    commands.Reply: _reply,
    commands.Restore: _restore,
    commands.Forward: _forward,
    commands.Close: _close,
    commands.Note: _said,
    commands.Assign: _assign,
    commands.Claim: _claim,
    commands.Release: _release,
    commands.MakePromise: _promise,
    commands.Attempt: _attempt,
    commands.Deliver: _deliver,
}
