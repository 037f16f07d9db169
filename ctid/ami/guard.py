r"""What to believe of what arrived: an outside caller can write into our AMI stream.

How it is done. ``%0d%0a`` in the user part of a SIP From header becomes a line break,
and every event that prints a caller's number then ends in the middle (seen on 16.28 and
22.10.1, before any dialplan line runs)::

    Event: Newchannel        \  P, torn: begins as Asterisk begins it,
    ...                       | has a true number, but its end is missing
    CallerIDNum: 1           /
                             <- the caller's own empty line
    Event: AgentConnect      \  E, whole frames of the caller's making,
    Queue: sales             /  as many as fit
                             <- and another
    X                        \  S, the rest: begins with what he likes and
    CallerIDName: <unknown>   | ends with what Asterisk goes on to print
    Uniqueid: 1795379780.0   /

P, E and S are one write of Asterisk's, so nothing genuine stands between them.

Why a forgery is not believed. Each line of this defence holds by itself:

1. *Prologue.* A live event begins with ``Privilege``, ``Timestamp`` and
   ``SequenceNumber`` in this order (``framing.py``): at least 91 bytes with its empty
   line, of which the number comes last. Asterisk cuts a caller's number, and an
   extension, at 79 (measured on both versions), and always prints another header between two of them.
2. *Number.* ``SequenceNumber`` counts the events of one run of Asterisk. A frame is
   believed with the next number, or one that is still missing a little before it
   (Asterisk's threads overtake each other), or a little ahead; never twice. The number
   is learnt from the first event after each login, and begins anew only there. Replies,
   and items of lists, have none; they must answer a question of ours, by its ActionID,
   which is random.
3. *Whole.* A frame that is used has all its lines in form and every header once
   (``framing.py``), so a header injected without an empty line is noticed: it comes twice,
   or a channel's description is not complete any more.
4. *Neighbours.* Should somebody guess the number and get the room: after a torn frame (P)
   everything is held back until its rest (S) shows, and then all of it is thrown away, and
   the numbers it used are free again for those to whom they belong. Next to remains whose
   beginning went unnoticed, the frame before them is not believed.
5. *Contradiction.* Asterisk gives a number once. Of two frames with one number neither
   is believed; for a moment after anything suspicious every event waits, so that the
   second can still come. An event that leaves holes is believed then only if they close.

What is thrown away may have been true, so every finding asks for a snapshot, by which
the floor corrects itself. A caller who does this all day costs Asterisk one snapshot
in five seconds, and others a delay of ``HOLD``; nobody's events are lost but his own.

If the operator turns ``debug`` off, no event has a number: all are refused, loudly
(``numberless``), and the floor is kept by snapshots alone, unless the settings say
``require_sequence_numbers = false``.

Pure: the clock is an argument, in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

import msgspec

from ctid.ami.framing import Frame

#: How far ahead a number may be: what a thread can be overtaken by (13,000 events/s x 20 ms).
AHEAD: Final = 256
#: Seconds that a missing number may still come.
PATIENCE: Final = 1.0
#: Seconds that an event waits for its contradiction, after anything suspicious.
HOLD: Final = 0.05
#: As many frames in a row that fit each other but not us: Asterisk's count went another way.
STRANGERS: Final = 64
#: As many events in a row without a number: ``debug`` is off.
NUMBERLESS: Final = 16
#: Requests remembered after their deadline, so that a late answer is not taken for a forgery.
LATE: Final = 1000

_WRAP: Final = 1 << 32


class Findings(msgspec.Struct):
    """What was noticed since it was last asked.

    Attributes:
        quarantined: Frames not believed, by reason: ``torn``, ``damaged``, ``stray``,
            ``unnumbered``, ``unstamped``, ``unexpected``, ``duplicate``, ``contradicted``,
            ``neighbour``, ``incomplete``, ``foreign_reply``, ``late_reply``.
        missing: Numbers that never came: events lost.
        resync: Why the floor should be compared with Asterisk; empty: no need.
    """

    quarantined: Counter[str] = msgspec.field(default_factory=Counter)
    missing: int = 0
    resync: str = ""


class _Held(msgspec.Struct, gc=False):
    """An event that waits.

    Attributes:
        until: When it is believed if nothing speaks against it.
        jumped: It left holes in the numbers.
        suspect: It came after a torn frame whose rest was not seen yet.
    """

    until: float
    frame: Frame
    jumped: bool
    suspect: bool


class SequenceGuard:
    """Sifts the frames of one connection, from login to loss.

    Args:
        require: Believe only numbered events.

    Attributes:
        numberless: Events come without numbers: ``debug`` is off.
        astray: Asterisk counts elsewhere; only a new login helps.
        findings: For the caller to read and replace.
    """

    def __init__(self, *, require: bool = True) -> None:
        self.numberless = False
        self.astray = False
        self.findings = Findings()
        self._require = require
        self._expected: int | None = None
        self._stamped = False
        self._missing: dict[int, float] = {}
        self._asked: set[str] = set()
        self._late: deque[str] = deque(maxlen=LATE)
        self._booted = False
        self._fresh = True
        self._believed: list[Frame] = []
        self._held: list[_Held] = []
        self._wary_until = 0.0
        self._torn: tuple[float, int | None, dict[int, float]] | None = None
        self._previous: Frame | None = None
        self._strangers: list[int] = []
        self._unnumbered = 0

    # -- requests of ours ------------------------------------------------

    def expect(self, action_id: str) -> None:
        """Believe replies and list items with this ActionID from now on."""
        self._asked.add(action_id)

    def forget(self, action_id: str, *, answered: bool) -> None:
        """Do so no longer; if it was not answered, an answer is late but no forgery."""
        self._asked.discard(action_id)
        if not answered:
            self._late.append(action_id)

    # -- frames ----------------------------------------------------------

    def sift(self, frames: list[Frame | int], now: float, *, rest_is_torn: bool = False) -> list[Frame]:
        """Return the frames to be believed, in order.

        Args:
            frames: From ``Framer.feed``.
            now: Monotonic seconds.
            rest_is_torn: The bytes after the last frame can not begin another one.
        """
        self._believed = believed = []
        if self._held or self._missing or self._torn:
            self._settle(now)
        calm = now >= self._wary_until and not self._unnumbered
        for frame in frames:
            # The ordinary cases first, and without a call: this runs for every event.
            if isinstance(frame, int):
                if frame == self._expected and calm:
                    self._expected = frame + 1
                    self._previous = None
                    continue
                self._number(frame, None, now)
            elif (
                calm
                and frame.number is not None
                and frame.number == self._expected
                and not frame.damage
                and not frame.is_skipped
                and frame.stamped is self._stamped
            ):
                self._expected = frame.number + 1
                self._previous = frame
                believed.append(frame)
                continue
            elif frame.number is not None:
                self._number(frame.number, frame, now)
            else:
                self._unnumbered_frame(frame, now)
            calm = now >= self._wary_until
        if rest_is_torn and believed and believed[-1] is self._previous:
            self._hold(believed.pop(), now)
        return believed

    @property
    def deadline(self) -> float | None:
        """When ``settle`` is due, in monotonic seconds; ``None``: nothing waits."""
        waiting = [held.until for held in self._held[:1]] + list(self._missing.values())[:1]
        return min(waiting, default=None)

    def settle(self, now: float) -> list[Frame]:
        """Return what has waited long enough without being contradicted."""
        self._believed = []
        self._settle(now)
        return self._believed

    def _settle(self, now: float) -> None:
        if self._torn and self._torn[0] + HOLD <= now:
            self._torn = None
        while self._held and self._held[0].until <= now:
            held = self._held.pop(0)
            if held.jumped and self._has_holes_before(held.frame.number):
                self._reject("incomplete")
            else:
                self._believed.append(held.frame)
        gone = [number for number, until in self._missing.items() if until <= now]
        for number in gone:
            del self._missing[number]
        if gone:
            self.findings.missing += len(gone)
            self.findings.resync = "events were lost"

    # -- numbered: live events -------------------------------------------

    def _number(self, number: int, frame: Frame | None, now: float) -> None:
        """Judge a live event by its number; ``frame`` is ``None`` if it is skipped anyway."""
        self._unnumbered = 0
        self.numberless = False
        if self._expected is None:
            self._expected = number
            self._stamped = frame.stamped if frame else True
        ahead = _distance(self._expected, number)
        if (frame.stamped if frame else True) is not self._stamped:
            self._reject("unstamped", now)
        elif ahead > AHEAD or ahead < -AHEAD:
            self._stranger(number, now)
        elif ahead < 0 and number not in self._missing:
            self._contradict(number, now)
        else:
            self._strangers.clear()
            self._take(number, ahead, now)
            self._admit(frame, now, jumped=ahead > 0)

    def _take(self, number: int, ahead: int, now: float) -> None:
        if ahead < 0:
            del self._missing[number]
            return
        for step in range(ahead):
            self._missing[_wrapped(number - ahead + step)] = now + PATIENCE
        self._expected = _wrapped(number + 1)

    def _admit(self, frame: Frame | None, now: float, *, jumped: bool) -> None:
        self._previous = None
        if frame is None or (frame.is_skipped and not frame.damage):
            return
        if frame.damage:
            # A frame that is damaged but whole has nothing of anybody's after it.
            self._reject(frame.damage, now if frame.damage == "torn" else None)
            self._open(frame, now)
        elif now < self._wary_until:
            self._hold(frame, now, jumped=jumped)
        else:
            self._believed.append(frame)
            self._previous = frame

    def _hold(self, frame: Frame, now: float, *, jumped: bool = False) -> None:
        self._held.append(_Held(now + HOLD, frame, jumped, self._torn is not None))
        self._wary_until = max(self._wary_until, now + HOLD)
        self._previous = frame

    def _open(self, frame: Frame, now: float) -> None:
        """Remember where the numbers stood at a torn frame, until its rest shows."""
        if frame.damage == "torn" and self._torn is None:
            self._torn = (now, self._expected, dict(self._missing))

    def _stranger(self, number: int, now: float) -> None:
        self._reject("unexpected", now)
        follows = self._strangers and 0 < _distance(self._strangers[-1], number) <= AHEAD
        self._strangers = [*self._strangers, number] if follows else [number]
        if len(self._strangers) >= STRANGERS:
            self.astray = True

    def _contradict(self, number: int, now: float) -> None:
        """A number came twice: believe neither, as far as that can be undone."""
        self._reject("duplicate", now)
        for held in [held for held in self._held if held.frame.number == number]:
            self._held.remove(held)
            self._reject("contradicted")
        for frame in [frame for frame in self._believed if frame.number == number]:
            self._believed.remove(frame)
            self._reject("contradicted")

    # -- unnumbered: replies, list items, remains --------------------------

    def _unnumbered_frame(self, frame: Frame, now: float) -> None:
        if frame.kind == "banner":
            if self._fresh:
                self._fresh = False
            else:
                self._remains("stray", now)
            return
        self._fresh = False
        if frame.action_id in self._asked:
            self._answer(frame, now)
        elif frame.action_id and frame.action_id in self._late:
            self._reject("late_reply")
        elif frame.kind == "stray":
            self._remains("stray", now)
        elif frame.kind == "reply":
            self._remains("foreign_reply", now)
        elif frame.name == "FullyBooted" and not self._booted:
            self._booted = True
            self._answer(frame, now)
        else:
            self._event_without_number(frame, now)

    def _answer(self, frame: Frame, now: float) -> None:
        if frame.damage:
            self._reject(frame.damage, now)
            self._open(frame, now)
        else:
            self._believed.append(frame)

    def _event_without_number(self, frame: Frame, now: float) -> None:
        self._unnumbered += 1
        if self._unnumbered >= NUMBERLESS:
            self.numberless = True
        if self._require or self._expected is not None:
            self._remains("unnumbered", now)
        elif frame.damage:
            self._reject(frame.damage, now)
        else:
            self._believed.append(frame)

    def _remains(self, reason: str, now: float) -> None:
        """The rest of a frame that was torn: what stands before it is the forger's."""
        self._reject(reason, now)
        if self._torn:
            _, expected, missing = self._torn
            self._torn = None
            for held in [held for held in self._held if held.suspect]:
                self._held.remove(held)
                self._reject("neighbour")
            if expected is not None:
                self._expected, self._missing = expected, missing
        elif self._previous is not None:
            self._drop_previous(self._previous)
        self._previous = None

    def _drop_previous(self, previous: Frame) -> None:
        if self._believed and self._believed[-1] is previous:
            self._believed.pop()
            self._reject("neighbour")
        elif self._held and self._held[-1].frame is previous:
            self._held.pop()
            self._reject("neighbour")

    # -- small things ------------------------------------------------------

    def _reject(self, reason: str, now: float | None = None) -> None:
        self.findings.quarantined[reason] += 1
        if reason != "late_reply":
            self.findings.resync = f"a frame was not believed: {reason}"
        if now is not None:
            self._wary_until = now + HOLD

    def _has_holes_before(self, number: int | None) -> bool:
        return number is not None and any(_distance(hole, number) > 0 for hole in self._missing)


def _wrapped(number: int) -> int:
    """Bring a count back into Asterisk's signed 32 bits."""
    return (number + _WRAP // 2) % _WRAP - _WRAP // 2


def _distance(before: int, after: int) -> int:
    """Return how many numbers lie from ``before`` to ``after``, around the wrap."""
    return _wrapped(after - before)
