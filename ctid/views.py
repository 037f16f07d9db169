"""The floor as others need it: cards for the screens, and what a routing decision looks at."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

from ctid.acd.centre import Centre
from ctid.acd.floor import AgentView, Floor
from ctid.routing.decide import FloorView
from ctid.routing.policy import Policy
from ctid.web.messages import AgentCard, FloorState, QueueCard

STALE_SECONDS: Final = 0.05
"""A picture costs microseconds per agent; a burst of calls may share one so old."""


class FloorViews:
    """Reads the core for the web and for routing.

    Args:
        centre: The core.
        policy: Names of agents, and the queues and agents that are shown even while
            Asterisk has not told of them.
        is_connected: Asterisk is being watched.
    """

    def __init__(self, centre: Centre, policy: Policy, *, is_connected: Callable[[], bool]) -> None:
        self._centre = centre
        self._is_connected = is_connected
        self.adopt(policy)
        self._routing = FloorView()
        self._drawn_at = float("-inf")

    def adopt(self, policy: Policy) -> None:
        """Name queues and agents by ``policy`` from now on."""
        self._policy = policy
        self._personal = policy.personal_queues()
        self._answer_within = {
            queue: rule.service_level_within.total_seconds() for queue, rule in policy.rules().items()
        }

    def state(self) -> FloorState:
        """Return what the screens show; queues and agents sorted."""
        floor = self._centre.floor()
        agents = {agent.agent: self._agent_card(agent) for agent in floor.agents}
        for number in self._policy.agents.keys() - agents.keys():
            agents[number] = AgentCard(agent=number, state="logged_out", name=self._name(number))
        return FloorState(
            queues=self._queue_cards(floor),
            agents=tuple(agents[number] for number in sorted(agents)),
            exchange="in_sync" if self._is_connected() else "lost",
        )

    def for_routing(self) -> FloorView:
        """Return who waits and who is free; at most ``STALE_SECONDS`` old."""
        if monotonic() - self._drawn_at < STALE_SECONDS:
            return self._routing
        self._routing = FloorView(
            waiting=self._centre.waiting_counts(),
            idle={queue: frozenset(agents) for queue, agents in self._centre.idle_agents().items()},
        )
        self._drawn_at = monotonic()
        return self._routing

    def _name(self, number: str) -> str:
        known = self._policy.agent(number)
        return known.name if known else ""

    def _queue_cards(self, floor: Floor) -> tuple[QueueCard, ...]:
        counts: Mapping[str, Counter[str]] = defaultdict(Counter)
        for agent in floor.agents:
            for queue in agent.queues:
                counts[queue][agent.state] += 1
        waiting = {queue.queue: queue.waiting for queue in floor.queues}
        shown = (self._policy.queue_names() | waiting.keys()) - self._personal
        shown |= {queue for queue, callers in waiting.items() if callers}
        return tuple(
            QueueCard(
                queue=queue,
                titles=self._titles(queue),
                waiting=len(waiting.get(queue, ())),
                longest_since=min((caller.joined_at for caller in waiting.get(queue, ())), default=None),
                agents=counts[queue].total() - counts[queue]["logged_out"],
                idle=counts[queue]["idle"],
                talking=counts[queue]["talking"],
                answer_within_seconds=self._answer_within.get(queue, 0.0),
            )
            for queue in sorted(shown)
        )

    def _titles(self, queue: str) -> dict[str, str]:
        known = self._policy.queues.get(queue)
        return {"zh-CN": known.title.zh, "en": known.title.en} if known and known.title else {}

    def _agent_card(self, agent: AgentView) -> AgentCard:
        return AgentCard(
            agent=agent.agent,
            state=agent.state,
            name=self._name(agent.agent),
            since=agent.since,
            reason=agent.reason,
            until=agent.until,
            queues=tuple(queue for queue in agent.queues if queue not in self._personal),
        )
