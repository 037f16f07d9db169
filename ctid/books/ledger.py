"""Two witnesses compared: what Asterisk's books say of some calls, and what our tables say.

Each difference names the row, and carries the facts that would mend it. What the books can not
know is not compared: whether a phone that was not answered rang at all, holds, notes. Only
times are compared with a tolerance; everything else must be equal.

Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

import msgspec

from ctid.acd import facts as f
from ctid.acd.facts import Fact
from ctid.store.ledger import CallRow, Ledger, OfferRow, RecordingRow, Rows, TalkRow, VisitRow

#: CEL and AMI stamp the same thing within milliseconds; reliability.md L1 allows a second.
_TOLERANCE: Final = timedelta(seconds=1)
#: A stay or talk found under way is dated by the whole second, or by our first sight of it.
SAME: Final = timedelta(seconds=2.5)

_Kind = TypeVar("_Kind", bound=Fact)
_Item = TypeVar("_Item")
_Row = TypeVar("_Row")
_KeyOf = Callable[[_Item], Hashable]
_AtOf = Callable[[_Item], datetime]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One row that the books contradict.

    Attributes:
        about: What within the call: a queue, a leg, a recording.
        what: In words: what the books say, and what we say.
        repair: Facts that make our tables say what the books say; empty: only a person can tell.
        is_counted: We have told of it already, only differently: our counters know it.
    """

    ledger: Ledger
    call: str
    what: str
    about: str = ""
    queue: str = ""
    repair: tuple[Fact, ...] = ()
    is_counted: bool = False


def differences(books: Sequence[Fact], rows: Rows) -> list[Difference]:
    """Compare.

    Args:
        books: ``shadow.facts_of`` some calls that are over.
        rows: Of the same calls.
    """
    return [
        *_calls(books, rows.calls),
        *_visits(books, rows.visits),
        *_offers(books, rows.offers),
        *_talks(books, rows.talks),
        *_recordings(books, rows.recordings),
    ]


def _only(books: Sequence[Fact], kind: type[_Kind]) -> list[_Kind]:
    return [fact for fact in books if isinstance(fact, kind)]


def _far(one: datetime | None, two: datetime | None, tolerance: timedelta = _TOLERANCE) -> bool:
    return one is None or two is None or abs(one - two) > tolerance


def _told(one: datetime | None) -> str:
    return f"{one:%F %T.%f}" if one is not None else "nothing"


# -- calls --------------------------------------------------------------------


def _calls(books: Sequence[Fact], rows: Sequence[CallRow]) -> Iterator[Difference]:
    known = {row.call: row for row in rows}
    ends = {fact.call: fact for fact in _only(books, f.CallEnded)}
    routed = {fact.call: fact for fact in _only(books, f.CallRouted)}
    merged = {fact.merged: fact for fact in _only(books, f.CallMerged)}
    for started in _only(books, f.CallStarted):
        call, end, row = started.call, ends.get(started.call), known.get(started.call)
        if row is None or row.began_at is None:
            repair = [fact for fact in (started, routed.get(call), merged.get(call), end) if fact is not None]
            yield _call(call, "the call is missing", *repair)
            continue
        if row.adopted and _far(row.began_at, started.at):
            yield _call(
                call, f"began {_told(started.at)}, not {_told(row.began_at)}", started, is_counted=True
            )
        elif row.adopted and started.caller_number and not row.caller_number:
            yield _call(call, "who called is missing", started, is_counted=True)
        if call in routed and row.line is None:
            yield _call(call, "how it was routed is missing", routed[call])
        if call in merged and row.merged_into != merged[call].call:
            what = f"became part of {merged[call].call}, not {row.merged_into or 'of any other'}"
            yield _call(call, what, merged[call])
        if end is not None:
            yield from _end(end, row)


def _call(call: str, what: str, *repair: Fact, is_counted: bool = False) -> Difference:
    return Difference(ledger="calls", call=call, what=what, repair=repair, is_counted=is_counted)


def _end(end: f.CallEnded, row: CallRow) -> Iterator[Difference]:
    if row.ended_at is None:
        yield _call(end.call, f"ended {_told(end.at)}, not at all here", end)
    elif row.end_reason == "unseen" and end.end_reason == "hangup":
        yield _call(end.call, f"ended {_told(end.at)}, seen by Asterisk alone", end, is_counted=True)
    elif "asterisk_lost" in (end.end_reason, row.end_reason):
        # Nobody saw the end: two last signs of life may well differ.
        if end.end_reason != row.end_reason:
            yield _call(end.call, f"its end is {end.end_reason}, not {row.end_reason}", end, is_counted=True)
    elif _far(row.ended_at, end.at):
        what = f"ended {_told(end.at)}, not {_told(row.ended_at)}"
        yield _call(end.call, what, end, is_counted=True)
    elif set(end.participants) != set(row.participants):
        ours, theirs = sorted(row.participants), sorted(end.participants)
        what = f"took part: {', '.join(theirs)}, not {', '.join(ours)}"
        yield _call(end.call, what, end, is_counted=True)


_LEDGERS: Final[Mapping[type[Fact], Ledger]] = {
    f.CallerLeft: "visits",
    f.OfferEnded: "offers",
    f.TalkEnded: "talks",
}


def _about(
    end: f.CallerLeft | f.OfferEnded | f.TalkEnded, what: str, *repair: Fact, is_counted: bool = False
) -> Difference:
    return Difference(
        ledger=_LEDGERS[type(end)],
        call=end.call,
        about=end.about,
        queue=end.queue,
        what=what,
        repair=repair,
        is_counted=is_counted,
    )


# -- stays in queues ----------------------------------------------------------


def _visits(books: Sequence[Fact], rows: Sequence[VisitRow]) -> Iterator[Difference]:
    joins = {(fact.call, fact.about, fact.at): fact for fact in _only(books, f.CallerJoined)}
    ends = _only(books, f.CallerLeft)
    pairs, extra = _paired(
        ends,
        rows,
        lambda left: (left.call, left.queue),
        lambda row: (row.call, row.queue),
        lambda left: left.joined_at,
        lambda row: row.joined_at,
    )
    for left, row in pairs:
        joined = joins.get((left.call, left.queue, left.joined_at))
        if row is None:
            repair = [fact for fact in (joined, left) if fact is not None]
            yield _about(left, f"the stay in the queue is missing ({left.outcome})", *repair)
        elif what := _visit_differs(left, row):
            waited = left.waited + (left.joined_at - row.joined_at)
            mended = msgspec.structs.replace(left, joined_at=row.joined_at, waited=max(waited, f.ZERO))
            is_counted = row.outcome not in (None, "unknown_end")
            yield _about(left, what, mended, is_counted=is_counted)
    for row in extra:
        if row.outcome not in ("join_empty", "full"):
            what = f"a stay from {_told(row.joined_at)} ({row.outcome}) that the books do not have"
            yield Difference(ledger="visits", call=row.call, about=row.queue, queue=row.queue, what=what)


def _visit_differs(left: f.CallerLeft, row: VisitRow) -> str:
    if row.outcome is None:
        return f"ended as {left.outcome}, not at all here"
    if left.outcome != row.outcome:
        return f"ended as {left.outcome}, not {row.outcome}"
    if left.agent != (row.agent or ""):
        return f"answered by {left.agent or 'nobody'}, not {row.agent or 'nobody'}"
    if left.outcome != "unknown_end" and _far(row.left_at, left.at):
        return f"left {_told(left.at)}, not {_told(row.left_at)}"
    return ""


# -- offers -------------------------------------------------------------------


def _offers(books: Sequence[Fact], rows: Sequence[OfferRow]) -> Iterator[Difference]:
    known = {(row.call, row.leg): row for row in rows}
    made = {(fact.call, fact.about): fact for fact in _only(books, f.OfferMade)}
    ends = {(fact.call, fact.about): fact for fact in _only(books, f.OfferEnded)}
    for key, end in ends.items():
        row = known.pop(key, None)
        if row is None or row.offered_at is None:
            yield _about(end, f"the ringing is missing ({end.outcome})", made[key], end)
        elif row.outcome in (None, "unknown_end") and end.outcome != row.outcome:
            yield _about(end, f"ended as {end.outcome}, not {row.outcome or 'at all'}", end)
    for (call, leg), row in known.items():
        what = f"a ringing ({row.outcome}) that the books do not have"
        yield Difference(ledger="offers", call=call, about=leg, what=what)


# -- talks --------------------------------------------------------------------


def _talks(books: Sequence[Fact], rows: Sequence[TalkRow]) -> Iterator[Difference]:
    begun = {(fact.call, fact.about, fact.at): fact for fact in _only(books, f.TalkStarted)}
    handled = {(fact.call, fact.about): fact for fact in _only(books, f.CallHandled)}
    ends = _only(books, f.TalkEnded)
    pairs, extra = _paired(
        ends,
        rows,
        lambda end: (end.call, end.leg),
        lambda row: (row.call, row.leg),
        lambda end: end.began_at,
        lambda row: row.began_at,
    )
    for end, row in pairs:
        start, done = begun.get((end.call, end.leg, end.began_at)), handled.get((end.call, end.leg))
        if row is None:
            repair = [fact for fact in (start, end, done) if fact is not None]
            yield _about(end, f"the talk of {end.agent} is missing", *repair)
        elif what := _talk_differs(end, row):
            late = (end.began_at - row.began_at) + end.talked
            mended: list[Fact] = [
                msgspec.structs.replace(end, began_at=row.began_at, talked=max(late, f.ZERO))
            ]
            if done is not None and not row.handled:
                mended.append(done)
            yield _about(end, what, *mended, is_counted=row.ended_by not in (None, "unknown_end"))
    for row in extra:
        what = f"a talk from {_told(row.began_at)} that the books do not have"
        yield Difference(ledger="talks", call=row.call, about=row.leg, what=what)


def _talk_differs(end: f.TalkEnded, row: TalkRow) -> str:
    if row.ended_at is None:
        return f"the talk of {end.agent} ended {_told(end.at)}, not at all here"
    if row.ended_by == "unknown_end" and end.ended_by != "unknown_end":
        return f"the talk of {end.agent} ended by {end.ended_by}, not unseen"
    if end.ended_by != "unknown_end" and _far(row.ended_at, end.at):
        return f"the talk of {end.agent} ended {_told(end.at)}, not {_told(row.ended_at)}"
    return ""


# -- recordings ---------------------------------------------------------------


def _recordings(books: Sequence[Fact], rows: Sequence[RecordingRow]) -> Iterator[Difference]:
    known = {row.recording: row for row in rows}
    stops = {fact.about: fact for fact in _only(books, f.RecordingStopped)}
    for started in _only(books, f.RecordingStarted):
        row, stop = known.get(started.about), stops.get(started.about)
        if row is None or row.began_at is None:
            repair = [fact for fact in (started, stop) if fact is not None]
            yield _recording(started, "the recording is missing", *repair)
        elif row.stopped_at is None and stop is not None:
            yield _recording(started, f"the recording stopped {_told(stop.at)}, not at all here", stop)


def _recording(started: Fact, what: str, *repair: Fact) -> Difference:
    return Difference(ledger="recordings", call=started.call, about=started.about, what=what, repair=repair)


# -- pairs --------------------------------------------------------------------


def _paired(
    items: Sequence[_Item],
    rows: Sequence[_Row],
    key_of: _KeyOf[_Item],
    key_of_row: _KeyOf[_Row],
    at_of: _AtOf[_Item],
    at_of_row: _AtOf[_Row],
) -> tuple[list[tuple[_Item, _Row | None]], list[_Row]]:
    """Find for each item of the books the row about the same thing: same key, nearest in time."""
    left: dict[Hashable, list[_Row]] = defaultdict(list)
    for row in rows:
        left[key_of_row(row)].append(row)
    pairs: list[tuple[_Item, _Row | None]] = []
    for item in sorted(items, key=at_of):
        candidates = left[key_of(item)]
        at = at_of(item)
        nearest = min(candidates, key=lambda row: abs(at_of_row(row) - at), default=None)
        if nearest is not None and abs(at_of_row(nearest) - at) > SAME:
            nearest = None
        if nearest is not None:
            candidates.remove(nearest)
        pairs.append((item, nearest))
    return pairs, [row for candidates in left.values() for row in candidates]
