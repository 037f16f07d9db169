"""The small call centre that the demo and the integration tests play with: who works where.

Every scene has a queue and agents of its own, so that all scenes can be played at once
without one caller slipping into another's scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """A dialled number and the queue behind it.

    Attributes:
        did: Dialled number.
        agents: Members of the queue, in order.
        timeout: Seconds one agent's phone rings before the next is tried.
        title: Shown on the agent's phone; empty: that of the business type.
        is_ours: Not in config/asterisk/queues.conf, so the lab adds the queue.
    """

    did: str
    queue: str
    business: str
    agents: tuple[str, ...]
    timeout: int = 15
    strategy: str = "rrmemory"
    wrap_up: int = 20
    is_ours: bool = True
    title: str = ""


LINES: dict[str, Line] = {
    line.queue: line
    for line in (
        Line("4001", "consultation", "consultation", ("1001",), is_ours=False),
        Line("4002", "repair", "repair", ("1002",), is_ours=False),
        Line("4003", "tariffs", "complaint", ("1003",), timeout=30),
        Line("4004", "survey", "survey", (), is_ours=False),
        Line("4005", "inspection", "inspection", ("1004",), is_ours=False),
        Line("4006", "faults", "repair", ("1005", "1006"), timeout=6, strategy="linear"),
        Line("4007", "billing", "consultation", ("1007", "1008")),
        Line("4008", "moving", "consultation", ("1009",)),
        Line("4009", "contracts", "consultation", ("1010",)),
        Line("4010", "meters", "inspection", ("1012",)),
        Line("4011", "leaks", "repair", ("1014",)),
        Line("4012", "overflow", "consultation", ("1011",), is_ours=False),
    )
}

AGENTS: tuple[str, ...] = tuple(f"10{i:02d}" for i in range(1, 21))
"""1013 and 1015 to 1020 are in no queue: they are asked for advice, or free for tests."""

TITLES: dict[str, str] = {
    "consultation": "咨询",
    "repair": "报修",
    "tariffs": "资费投诉",
    "survey": "勘察",
    "inspection": "稽查",
    "faults": "故障报修",
    "billing": "账单咨询",
    "moving": "移机咨询",
    "contracts": "合同咨询",
    "meters": "表具稽查",
    "leaks": "漏水抢修",
    "overflow": "溢出队列",
}
"""What the queues are called in Chinese."""

NAMES: tuple[str, ...] = (
    *("王伟", "李娜", "张敏", "刘洋", "陈静", "杨帆", "赵磊", "黄丽", "周强", "吴芳"),
    *("徐杰", "孙悦", "马超", "朱琳", "胡军", "郭敏", "林涛", "何欣", "高远", "罗晶"),
)
"""The agents, in the order of their numbers."""

TRANSFER_TO_OVERFLOW = "8006"
"""What an agent dials to give a caller to the queue ``overflow`` (dialplan/ctid-agents.conf)."""

VIP_CALLER = "13900000001"

CALLER_TONE = 440.0
AGENT_TONE = 880.0


def policy_table(lines: Mapping[str, Line] = LINES, agents: Sequence[str] = AGENTS) -> dict[str, Any]:
    """Return policy.toml for a floor, as a table."""
    return {
        "site": {"country": "cn", "default_queue": "overflow", "timeout": "60s", "record": True},
        "lines": {
            line.queue: {"numbers": [line.did], "business": line.business, "queue": line.queue}
            | ({"title": {"zh": line.title, "en": line.title}} if line.title else {})
            for line in lines.values()
        },
        "queues": {
            line.queue: {
                "title": {"zh": TITLES.get(line.queue, line.queue), "en": line.queue.capitalize()},
                "wrap_up": f"{line.wrap_up}s",
                "short_abandon": "2s",
            }
            for line in lines.values()
        },
        "agents": {
            number: {
                "name": NAMES[(int(number) - 1001) % len(NAMES)],
                "interfaces": [f"PJSIP/{number}"],
                "queues": [line.queue for line in lines.values() if number in line.agents],
            }
            for number in agents
        },
        "callers": {"vip": {"numbers": [VIP_CALLER], "vip": True, "priority": 10}},
    }


def tone_of(agent: str) -> float:
    """Return the hertz that an agent's phone hums: 880 for 1001, then 10 more for each next."""
    return AGENT_TONE + 10 * (int(agent) - 1001)
