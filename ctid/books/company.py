"""Calls that must be judged together: an agent who consults a colleague has two of them at once.

The books tie a consult call to the customer's only if it becomes a transfer; what the agent
talks there is in his hold all the same, and no talk of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from ctid.acd.call import interface_of
from ctid.acd.facts import Fact
from ctid.acd.rules import QueueRule
from ctid.books.groups import Group
from ctid.books.shadow import facts_of


class Company:
    """Finds, for a group, the groups in which one of its agents' phones was busy meanwhile.

    Args:
        groups: All that were read; looked through once.
        agents: Agent's number by phone.
    """

    def __init__(self, groups: Iterable[Group], agents: Mapping[str, str]) -> None:
        self._agents = agents
        self._by_phone: dict[str, list[Group]] = defaultdict(list)
        for group in groups:
            for phone in self._phones(group):
                self._by_phone[phone].append(group)

    def facts_of(self, group: Group, rules: Mapping[str, QueueRule]) -> list[Fact]:
        """Conclude from the books what happened in a group, in the light of its company."""
        records, lines = list(group.records), list(group.lines)
        for other in self.of(group):
            records += other.records
            lines += other.lines
        facts = facts_of(records, lines, rules=rules, agents=self._agents, is_lost=group.is_lost)
        return [fact for fact in facts if fact.call in group.calls]

    def of(self, group: Group) -> list[Group]:
        """Return the groups in the light of which this one has to be seen."""
        found = {
            id(other): other
            for phone in self._phones(group)
            for other in self._by_phone[phone]
            if other is not group and other.began_at <= group.last_at and other.last_at >= group.began_at
        }
        return list(found.values())

    def _phones(self, group: Group) -> set[str]:
        interfaces = map(interface_of, group.channels)
        return {interface for interface in interfaces if interface in self._agents}
