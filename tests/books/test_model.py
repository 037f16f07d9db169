"""Any floor that can be played, told twice: what AMI lost on the way, the books give back.

The machine of ``tests.acd.test_model`` writes both books as Asterisk does (``lab.books``), so whatever
happens: reducer(events with a gap) + snapshot + books == the truth, on every field of the ledgers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from hypothesis import HealthCheck, settings

from ctid.acd import facts as f
from ctid.acd.facts import Fact
from ctid.acd.rules import QueueRule
from ctid.books.cel import CelReader
from ctid.books.company import Company
from ctid.books.groups import Group, Groups
from ctid.books.ledger import Difference, differences
from ctid.books.queue_log import QueueLines
from ctid.store.ledger import CallRow, OfferRow, Rows, TalkRow, VisitRow
from lab.channels import member_of
from lab.switchboard import Switchboard
from tests.acd.test_model import PHONES, Floor
from tests.fakes_floor import WITH_NOTE

#: The books do not tell whose phone it is: policy.toml does.
AGENTS = {phone: member_of(phone) for phone in PHONES}
RULES = {"sales": WITH_NOTE, "support": QueueRule()}
ENDS = {"CONNECT", "ABANDON", "EXITWITHKEY", "EXITWITHTIMEOUT", "EXITEMPTY", "WITHDRAW"}

Columns = dict[tuple[object, ...], dict[str, Any]]


class Tables:
    """The derived tables in memory: each fact sets its own columns, and what was recovered stays."""

    def __init__(self) -> None:
        self.calls: Columns = {}
        self.visits: Columns = {}
        self.offers: Columns = {}
        self.talks: Columns = {}
        self._recovered: set[tuple[int, tuple[object, ...], str]] = set()

    def apply(self, facts: Iterable[Fact]) -> None:
        """Write facts, in order."""
        for fact in facts:
            match fact:
                case f.CallStarted():
                    self._set(self.calls, (fact.call,), fact, began_at=fact.at, adopted=fact.adopted)
                case f.CallRouted():
                    self._set(self.calls, (fact.call,), fact, line=fact.line)
                case f.CallMerged():
                    self._set(self.calls, (fact.merged,), fact, merged_into=fact.call)
                case f.CallEnded():
                    self._set(
                        self.calls,
                        (fact.call,),
                        fact,
                        ended_at=fact.at,
                        participants=fact.participants,
                        end_reason=fact.end_reason,
                    )
                case f.CallerJoined():
                    self._set(self.visits, (fact.call, fact.queue, fact.joined_at), fact)
                case f.CallerLeft():
                    key = (fact.call, fact.queue, fact.joined_at)
                    values = {"outcome": fact.outcome, "waited": fact.waited, "agent": fact.agent}
                    self._set(self.visits, key, fact, left_at=fact.at, **values)
                case f.OfferMade():
                    self._set(self.offers, (fact.call, fact.leg), fact, offered_at=fact.at)
                case f.OfferEnded():
                    ended = {"offered_at": fact.offered_at, "ended_at": fact.at, "outcome": fact.outcome}
                    self._set(self.offers, (fact.call, fact.leg), fact, **ended)
                case f.TalkStarted():
                    self._set(self.talks, (fact.call, fact.leg, fact.at), fact)
                case f.TalkEnded():
                    key = (fact.call, fact.leg, fact.began_at)
                    self._set(self.talks, key, fact, ended_at=fact.at, ended_by=fact.ended_by)
                case f.CallHandled():
                    for key in self.talks:
                        if key[:2] == (fact.call, fact.leg):
                            self._set(self.talks, key, fact, handled=True)

    def _set(self, table: Columns, key: tuple[object, ...], fact: Fact, **values: object) -> None:
        row = table.setdefault(key, {})
        for name, value in values.items():
            mark = (id(table), key, name)
            if fact.recovered:
                self._recovered.add(mark)
            if fact.recovered or mark not in self._recovered:
                row[name] = value

    def rows(self, calls: set[str]) -> Rows:
        """Return what ``store.ledger.rows_of`` would."""
        return Rows(
            calls=tuple(_call(key, row) for key, row in self.calls.items() if key[0] in calls),
            visits=tuple(_visit(key, row) for key, row in self.visits.items() if key[0] in calls),
            offers=tuple(_offer(key, row) for key, row in self.offers.items() if key[0] in calls),
            talks=tuple(_talk(key, row) for key, row in self.talks.items() if key[0] in calls),
        )


def _got(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: row.get(name) for name in names}


def _call(key: tuple[Any, ...], row: dict[str, Any]) -> CallRow:
    told = _got(row, "adopted", "began_at", "ended_at", "end_reason", "merged_into", "line", "caller_number")
    return CallRow(call=key[0], participants=row.get("participants", ()), **told)


def _visit(key: tuple[Any, ...], row: dict[str, Any]) -> VisitRow:
    told = _got(row, "left_at", "outcome", "waited", "agent")
    return VisitRow(call=key[0], queue=key[1], joined_at=key[2], **told)


def _offer(key: tuple[Any, ...], row: dict[str, Any]) -> OfferRow:
    return OfferRow(call=key[0], leg=key[1], **_got(row, "offered_at", "ended_at", "outcome"))


def _talk(key: tuple[Any, ...], row: dict[str, Any]) -> TalkRow:
    handled = row.get("handled", False)
    return TalkRow(
        call=key[0], leg=key[1], began_at=key[2], handled=handled, **_got(row, "ended_at", "ended_by")
    )


def read(board: Switchboard) -> Groups:
    """Read the books that a pretend Asterisk wrote, from their bytes."""
    books: Any = board.books
    records, lines = CelReader(), QueueLines()
    groups = Groups()
    told = records.feed("".join(f"{line}\n" for line in books.cel).encode())
    groups.add(told, lines.feed("".join(f"{line}\n" for line in books.queue_log).encode()))
    assert (records.damaged, lines.damaged) == (0, 0)
    return groups


def contradictions(tables: Tables, company: Company, group: Group) -> list[Difference]:
    """What the books say otherwise than the tables, about calls that are over."""
    return differences(company.facts_of(group, RULES), tables.rows(group.calls))


class FloorWithBooks(Floor):
    """The same people; when they have gone home, the books are opened."""

    def teardown(self) -> None:
        """Without a gap the books say the same; after one they mend everything."""
        super().teardown()
        tables = Tables()
        tables.apply(self.watched.facts)
        groups = list(read(self.board))
        assert all(group.is_closed for group in groups)
        company = Company(groups, AGENTS)
        for group in groups:
            found = contradictions(tables, company, group)
            if not self.was_cut:
                assert not found, (found, group.lines)
            tables.apply(fact for one in found for fact in one.repair)
            assert not contradictions(tables, company, group), found
        self._every_stay_ends_once(tables)

    def _every_stay_ends_once(self, tables: Tables) -> None:
        """As many ends as callers who entered, in the book and in the tables."""
        books: Any = self.board.books
        verbs = Counter(line.split("|")[4] for line in books.queue_log)
        ended = sum(verbs[verb] for verb in ENDS)
        outcomes = Counter(row["outcome"] for row in tables.visits.values())
        if verbs["QUEUESTART"] == 1:
            assert verbs["ENTERQUEUE"] == ended
        assert sum(outcomes.values()) == verbs["ENTERQUEUE"]
        assert None not in outcomes


TestFloorWithBooks = FloorWithBooks.TestCase
TestFloorWithBooks.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
