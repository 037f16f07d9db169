"""Our questions that Asterisk has not answered yet, and the replies as they come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ctid.ami.actions import LISTS, Action, Reply
from ctid.ami.framing import Frame
from ctid.errors import ActionFailed, AsteriskError

Done = Callable[[Reply | AsteriskError], None]


class Request:
    """One question.

    Args:
        action: What was asked.
        done: Told the outcome, once, in the order of the stream.
    """

    __slots__ = ("action", "done", "items", "name", "reply")

    def __init__(self, action: Action, done: Done) -> None:
        self.action = action
        self.name: Final = type(action).__name__
        self.done = done
        self.reply: dict[str, str] = {}
        self.items: list[tuple[str, dict[str, str]]] = []


class Requests:
    """All of one connection, keyed by ActionID; a handful at a time.

    Args:
        odd: Told what is odd about a list: its name and one of ``miscounted``, ``cancelled``.
    """

    def __init__(self, odd: Callable[[str, str], None] = lambda name, what: None) -> None:
        self._waiting: dict[str, Request] = {}
        self._odd = odd
        self._short: set[str] = set()

    def add(self, action_id: str, request: Request) -> None:
        """Wait for the answer to ``request``."""
        self._waiting[action_id] = request

    def drop(self, action_id: str) -> bool:
        """Wait no longer. False: it was answered already."""
        return self._waiting.pop(action_id, None) is not None

    def answer(self, frame: Frame) -> bool:
        """Take in a reply or an item. True: its request is answered now."""
        request = self._waiting.get(frame.action_id)
        if request is None:
            return False
        outcome = self._item(request, frame) if frame.kind == "event" else _reply(request, frame)
        if outcome is None:
            return False
        del self._waiting[frame.action_id]
        request.done(outcome)
        return True

    def fail_all(self, error: AsteriskError) -> None:
        """The connection is gone: nobody will answer, and nothing is asked again."""
        waiting, self._waiting = self._waiting, {}
        for request in waiting.values():
            request.done(error)

    def _item(self, request: Request, frame: Frame) -> Reply | AsteriskError | None:
        end = frame.headers.get("EventList", "").lower()
        if end == "cancelled":
            self._odd(request.name, "cancelled")
            return ActionFailed(f"{request.name}: Asterisk broke off its list")
        if end != "complete":
            request.items.append((frame.name, frame.headers))
            return None
        told, came = frame.headers.get("ListItems", ""), len(request.items)
        if told.isdigit() and int(told) != came:
            self._odd(request.name, "miscounted")
        if not told.isdigit() or int(told) <= came:
            self._short.discard(request.name)
        elif request.name not in self._short:
            # Some were lost on the way: taken for the whole, it would end calls that live.
            # Twice in a row, it is how this Asterisk counts, or one caller's forged name.
            self._short.add(request.name)
            return ActionFailed(f"{request.name}: {came} of {told} items came")
        return Reply(headers=request.reply, items=tuple(request.items))


def _reply(request: Request, frame: Frame) -> Reply | AsteriskError | None:
    if frame.name not in ("Success", "Follows", "Goodbye"):
        return ActionFailed(frame.headers.get("Message", frame.name))
    request.reply = frame.headers
    is_list = isinstance(request.action, LISTS) or frame.headers.get("EventList", "").lower() == "start"
    return None if is_list else Reply(headers=frame.headers)
