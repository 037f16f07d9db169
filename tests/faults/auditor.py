"""An auditor of ctid that shares no code with it: ledgers L1, L2 and L3, from everybody else's books.

It reads CEL, queue_log, recordings and SIPp's own logs (:mod:`tests.faults.books`) and sets them
beside the rows in PostgreSQL, which it reads with its own SQL. Each difference is one sentence
that begins with the ledger: ``L2: load: …``.

What Asterisk never wrote because it was killed is allowed for, and nothing else: such a call
must be closed as ``asterisk_lost``, such a visit as ``unknown_end``.
"""

from __future__ import annotations

import hashlib
import wave
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from tests.faults.books import Books, CelCall, QueueLine, calls_of, raw_files, recorded_files

Row = dict[str, Any]

CLOCKS = 1.0
"""Seconds by which times may differ."""

WAITS = 1.5
"""The same where queue_log is the referee, which knows whole seconds only."""

QUARTER = 900

ENDS = {
    "CONNECT": ("answered", 0),
    "ABANDON": ("abandoned", 2),
    "EXITWITHTIMEOUT": ("timeout", 2),
    "EXITWITHKEY": ("exit_key", 3),
    "EXITEMPTY": ("leave_empty", 2),
    "WITHDRAW": ("withdrawn", 2),
}
"""Verb -> the outcome it proves, and which of its words is the wait in seconds."""

AT_THE_DOOR = {"join_empty", "full"}
"""Outcomes of callers who were not let in: queue_log does not know them."""


@dataclass(slots=True)
class Rows:
    """What ctid says."""

    calls: list[Row]
    visits: list[Row]
    talks: list[Row]
    recordings: list[Row]


async def rows_of(dsn: str, *, since: datetime | None = None) -> Rows:
    """Read ctid's tables.

    Args:
        dsn: Of its database, directly, never through a fault proxy.
        since: Leave out what began before.
    """
    connection = await asyncpg.connect(dsn)
    try:
        return Rows(
            await _all(connection, "select * from call where began_at >= $1 or began_at is null", since),
            await _all(connection, "select * from queue_visit where joined_at >= $1", since),
            await _all(connection, "select * from talk where began_at >= $1", since),
            await _all(connection, "select * from recording where began_at >= $1 or began_at is null", since),
        )
    finally:
        await connection.close()


async def _all(connection: asyncpg.Connection, sql: str, since: datetime | None) -> list[Row]:
    first = since or datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    return [dict(row) for row in await connection.fetch(sql, first)]


async def audit(dsn: str, books: Books, *, since: datetime | None = None) -> list[str]:
    """Return every difference between ctid's rows and the books, in words; none: an empty list."""
    return compare(await rows_of(dsn, since=since), books)


def compare(rows: Rows, books: Books) -> list[str]:
    """The same, for rows already read."""
    calls = calls_of(books.cel)
    return [
        *(f"L1: {text}" for text in ledger_of_calls(rows, books, calls)),
        *(f"L1: {text}" for text in ledger_of_callers(rows, books, calls)),
        *(f"L2: {text}" for text in ledger_of_visits(rows, books, calls)),
        *(f"L3: {text}" for text in ledger_of_recordings(rows, books, calls)),
    ]


# -- L1: calls ----------------------------------------------------------------


def ledger_of_calls(rows: Rows, books: Books, calls: dict[str, CelCall]) -> Iterator[str]:
    """Each Linkedid of CEL has one row that says the same."""
    by_call: dict[str, list[Row]] = {}
    for row in rows.calls:
        by_call.setdefault(row["call"], []).append(row)
    for linkedid, call in calls.items():
        mine = by_call.pop(linkedid, [])
        if not mine and call.is_spied:
            continue
        if len(mine) != 1:
            yield f"call {linkedid} of {call.number} has {len(mine)} rows"
            continue
        yield from (f"call {linkedid}: {text}" for text in _call(mine[0], call, calls, books))
    for linkedid, spare in by_call.items():
        if not all(_may_be_lost(row, books) for row in spare):
            yield f"call {linkedid} has a row, but CEL does not know it"
    yield from _talks(rows, books, calls)


def _call(row: Row, call: CelCall, calls: dict[str, CelCall], books: Books) -> Iterator[str]:
    restart = books.start_after(call.last)
    if row["merged_into"] or call.moved_to:
        if row["merged_into"] != call.moved_to:
            yield f"merged into {row['merged_into']}, CEL says {call.moved_to or 'nothing'}"
        if row["merged_into"] and row["merged_into"] not in calls:
            yield f"merged into {row['merged_into']}, which CEL does not know"
    elif call.ended is None and restart is None:
        if row["ended_at"] is not None:
            yield "has ended, but CEL does not say so"
        return
    if row["ended_at"] is None or row["end_reason"] is None:
        yield "has not ended"
        return
    if row["began_at"] is None:
        yield "has no beginning"
    elif apart(row["began_at"], call.began) > CLOCKS:
        yield f"began {apart(row['began_at'], call.began):.3f} s from CHAN_START"
    if call.ended is not None:
        yield from _ended(row, call)
    elif restart is not None:
        yield from _lost(row, call, restart)
    if set(row["participants"] or ()) != call.participants and call.ended is not None:
        yield f"participants {sorted(row['participants'] or ())}, CEL says {sorted(call.participants)}"
    if bool(row["answered"]) != call.talked and call.ended is not None:
        yield f"answered is {row['answered']}, CEL says {call.talked}"


def _ended(row: Row, call: CelCall) -> Iterator[str]:
    assert call.ended is not None
    if row["end_reason"] != "hangup":
        yield f"ended as {row['end_reason']}, but CEL saw its end"
    if apart(row["ended_at"], call.ended) > CLOCKS and not call.moved_to:
        yield f"ended {apart(row['ended_at'], call.ended):.3f} s from LINKEDID_END"


def _lost(row: Row, call: CelCall, restart: float) -> Iterator[str]:
    ended = row["ended_at"].timestamp()
    if row["end_reason"] not in ("asterisk_lost", "hangup"):
        yield f"died with Asterisk, but ended as {row['end_reason']}"
    if not call.last - CLOCKS <= ended <= restart + CLOCKS:
        yield f"died with Asterisk, but ended {ended - call.last:.1f} s after the last evidence"


def _may_be_lost(row: Row, books: Books) -> bool:
    """Whether Asterisk may have been killed before it wrote anything of the call."""
    at = row["began_at"] or row["ended_at"]
    return row["end_reason"] == "asterisk_lost" and at and books.start_after(at.timestamp()) is not None


def _talks(rows: Rows, books: Books, calls: dict[str, CelCall]) -> Iterator[str]:
    """Each leg that a queue connected has one talk, the agent's, from its answer until it has gone."""
    by_leg: dict[str, list[Row]] = {}
    for row in rows.talks:
        by_leg.setdefault(row["leg"], []).append(row)
    answered = {leg: at for call in calls.values() for leg, at in call.answered.items()}
    gone = {leg for call in calls.values() for leg in call.gone}
    for line in books.queue_lines:
        if line.verb != "CONNECT":
            continue
        leg = line.words[1]
        mine = by_leg.pop(leg, [])
        if len(mine) != 1:
            yield f"talk on {leg} of call {line.leg}: {len(mine)} rows"
            continue
        if mine[0]["agent"] != line.agent:
            yield f"talk on {leg} of {mine[0]['agent'] or 'nobody'}, queue_log says {line.agent}"
        if mine[0]["ended_at"] is None and leg in gone:
            yield f"talk on {leg} has not ended"
        if leg not in answered:
            if books.start_after(line.at) is None:
                yield f"talk on {leg}: CEL has no ANSWER"
        elif apart(mine[0]["began_at"], answered[leg]) > CLOCKS:
            yield f"talk on {leg} began {apart(mine[0]['began_at'], answered[leg]):.3f} s from ANSWER"
    for leg, spare in by_leg.items():
        call = calls.get(spare[0]["call"])
        if not (call and call.ended is None and books.start_after(call.last)):
            yield f"talk on {leg} without CONNECT"


def ledger_of_callers(rows: Rows, books: Books, calls: dict[str, CelCall]) -> Iterator[str]:
    """Each caller whom the exchange answered is one call, with his own times."""
    in_cel: dict[str, list[CelCall]] = {}
    for call in calls.values():
        if call.number:
            in_cel.setdefault(call.number, []).append(call)
    by_number: dict[str, list[Row]] = {}
    for row in rows.calls:
        by_number.setdefault(row["caller_number"] or "", []).append(row)
    for caller in books.callers:
        if "UP" not in caller.times:
            continue
        mine = by_number.get(caller.number, [])
        if len(mine) != 1:
            yield f"caller {caller.number} was answered, but has {len(mine)} call rows"
        if len(found := in_cel.get(caller.number, [])) != 1:
            yield f"caller {caller.number} was answered, but CEL has {len(found)} calls of his"
        elif len(mine) == 1 and found[0].ended is not None:
            end = caller.times.get("BYE") or caller.times.get("BYED")
            if mine[0]["began_at"] and apart(mine[0]["began_at"], caller.times["INVITE"]) > CLOCKS:
                yield f"caller {caller.number} called at another time than his row says"
            if end and mine[0]["ended_at"] and apart(mine[0]["ended_at"], end) > CLOCKS:
                yield f"caller {caller.number} hung up {apart(mine[0]['ended_at'], end):.3f} s from ended_at"


# -- L2: visits ---------------------------------------------------------------


def ledger_of_visits(rows: Rows, books: Books, calls: dict[str, CelCall]) -> Iterator[str]:
    """Each ENTERQUEUE has one row with the right outcome, and the sums agree."""
    free: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows.visits, key=lambda row: row["joined_at"]):
        if row["outcome"] not in AT_THE_DOOR:
            free.setdefault((row["leg"], row["queue"]), []).append(row)
    sums: Counter[tuple[str, int, str]] = Counter()
    for line, end in visits_of(books.queue_lines):
        mine = free.get((line.leg, line.queue), [])
        row = min(mine, key=lambda row: apart(row["joined_at"], line.at), default=None)
        outcomes = _outcomes(line, end, row, books, calls)
        quarter = int((row["joined_at"].timestamp() if row else line.at) // QUARTER)
        sums[line.queue, quarter, outcomes[0]] += 1
        if row is None:
            yield f"{line.queue}: {line.leg} entered at {line.at:.0f} and has no row"
            continue
        mine.remove(row)
        yield from (f"{line.queue}: {line.leg}: {text}" for text in _visit(row, line, end, outcomes))
    yield from _spare_visits(free, calls, books, sums)
    yield from _sums(rows, sums)


def visits_of(lines: Iterable[QueueLine]) -> Iterator[tuple[QueueLine, QueueLine | None]]:
    """Pair each ENTERQUEUE with the line that ended the stay; ``None``: no line did."""
    open_visits: dict[tuple[str, str], QueueLine] = {}
    ends: dict[int, QueueLine] = {}
    entered = []
    for line in lines:
        key = (line.leg, line.queue)
        if line.verb == "ENTERQUEUE":
            entered.append(line)
            open_visits[key] = line
        elif line.verb in ENDS and key in open_visits:
            ends[open_visits.pop(key).place] = line
    for line in entered:
        yield line, ends.get(line.place)


def _outcomes(
    line: QueueLine, end: QueueLine | None, row: Row | None, books: Books, calls: dict[str, CelCall]
) -> list[str]:
    """Which outcomes are true: as a rule one; more where Asterisk was killed before it wrote which."""
    if end is not None:
        return [ENDS[end.verb][0]]
    call = next((call for call in calls.values() if line.leg in call.queued or line.leg in call.gone), None)
    if call is not None and call.ended is None and books.start_after(call.last) is not None:
        # Killed between the fact and the line: CEL, written by another thread, may know more.
        answered = bool(row and row["agent_leg"] and row["agent_leg"] in call.answered)
        more = ["abandoned"] if line.leg in call.gone else ["answered"] if answered else []
        return [*([row["outcome"]] if row and row["outcome"] in more else []), "unknown_end"]
    return ["redirected"] if call is not None and call.ended is not None else ["waiting"]


def _visit(row: Row, line: QueueLine, end: QueueLine | None, outcomes: list[str]) -> Iterator[str]:
    if apart(row["joined_at"], line.at) > WAITS:
        yield f"joined {apart(row['joined_at'], line.at):.3f} s from ENTERQUEUE"
    said = row["outcome"] or "waiting"
    if said not in outcomes:
        yield f"outcome {said}, queue_log says {outcomes[0]}"
    if end is None:
        return
    if end.verb == "CONNECT" and row["agent"] != end.agent:
        yield f"answered by {row['agent'] or 'nobody'}, queue_log says {end.agent}"
    waited, seconds = row["waited"], end.words[ENDS[end.verb][1]]
    if waited is None or abs(waited.total_seconds() - float(seconds)) > WAITS:
        yield f"waited {waited}, queue_log says {seconds} s"


def _spare_visits(
    free: dict[tuple[str, str], list[Row]],
    calls: dict[str, CelCall],
    books: Books,
    sums: Counter[tuple[str, int, str]],
) -> Iterator[str]:
    for (leg, queue), spare in free.items():
        for row in spare:
            call = calls.get(row["call"])
            if call and call.ended is None and leg in call.queued and books.start_after(call.last):
                # Asterisk was killed before its logger wrote ENTERQUEUE; CEL has the Queue() of it.
                quarter = int(row["joined_at"].timestamp() // QUARTER)
                sums[queue, quarter, row["outcome"] or "waiting"] += 1
            else:
                yield f"{queue}: a row of {leg} at {row['joined_at']:%H:%M:%S} without ENTERQUEUE"


def _sums(rows: Rows, sums: Counter[tuple[str, int, str]]) -> Iterator[str]:
    said: Counter[tuple[str, int, str]] = Counter(
        (row["queue"], int(row["joined_at"].timestamp() // QUARTER), row["outcome"] or "waiting")
        for row in rows.visits
        if row["outcome"] not in AT_THE_DOOR
    )
    for key in sorted(said.keys() | sums.keys()):
        if said[key] != sums[key]:
            queue, quarter, outcome = key
            start = f"{datetime.fromtimestamp(quarter * QUARTER, UTC):%H:%M}"
            yield f"{queue}: {said[key]} {outcome} in the quarter of {start}, queue_log says {sums[key]}"


# -- L3: recordings -----------------------------------------------------------


def ledger_of_recordings(rows: Rows, books: Books, calls: dict[str, CelCall]) -> Iterator[str]:
    """Each file has one row and each row its file or a reason; each recorded call has a row."""
    files = {str(file.relative_to(books.recordings)): file for file in recorded_files(books.recordings)}
    raw = Counter(file.name.rpartition("-")[0] for file in raw_files(books.recordings))
    named = {name: call for call in calls.values() for name in call.recordings}
    for row in rows.recordings:
        name = row["recording"]
        if row["result"] is None:
            yield f"recording {name} is not filed"
        elif row["result"] in ("complete", "repaired") and raw[name]:
            yield f"recording {name} is {row['result']}, but Asterisk's files are still there"
        file = files.pop(row["path"], None) if row["path"] else None
        if row["path"] and file is None:
            yield f"recording {name}: no file {row['path']}"
        elif file is None and row["result"] in ("complete", "repaired", "truncated"):
            yield f"recording {name} is {row['result']} without a file"
        elif file is not None:
            yield from (f"recording {name}: {text}" for text in _file(row, file))
        call = named.pop(name, None)
        # Whoever hangs up between MixMonitor and the dialplan's next line has a file, and no word in CEL.
        is_named = call is not None or file is not None
        if not is_named and row["call"] in calls and calls[row["call"]].ended is not None:
            yield f"recording {name} of call {row['call']}, but the dialplan did not name it there"
        elif call is not None and row["call"] != call.linkedid:
            yield f"recording {name} belongs to call {call.linkedid}, not {row['call']}"
    yield from (f"file {path} has no row" for path in files)
    yield from (f"call {call.linkedid} was recorded as {name}, no row" for name, call in named.items())
    known = {row["recording"] for row in rows.recordings}
    yield from (f"Asterisk's files of {name} have no row" for name in raw if name not in known)


def _file(row: Row, file: Path) -> Iterator[str]:
    content = file.read_bytes()
    if len(content) != row["size_bytes"]:
        yield f"{row['size_bytes']} bytes, the file has {len(content)}"
    if hashlib.sha256(content).hexdigest() != row["sha256"]:
        yield "sha256 differs"
    with wave.open(str(file)) as sound:
        seconds = sound.getnframes() / sound.getframerate()
    if row["duration"] is None or abs(row["duration"].total_seconds() - seconds) > 0.02:
        yield f"duration {row['duration']}, the file lasts {seconds:.2f} s"


def apart(when: datetime, at: float) -> float:
    """Seconds between a time in PostgreSQL and one in the books."""
    return abs(when.timestamp() - at)
