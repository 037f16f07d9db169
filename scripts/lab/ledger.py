"""What ctid says, found in its own tables, beside what the phones' clocks say."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ctid.store.pool import Pool
from lab import sip
from lab.floor import CALLER_TONE, tone_of
from lab.scenes import Figure, Measure
from lab.tones import channels_of, loudest

if TYPE_CHECKING:
    from lab.stage import Stage

ALLOWED = 0.2
"""Seconds by which ctid and the phones may differ."""

_VISIT = "select * from queue_visit where caller_number = $1 and queue = $2 order by joined_at desc limit 1"
_OFFER = """
select * from offer where call in (select call from call where caller_number = $1)
and queue = $2 and agent = $3
order by offered_at desc limit 1"""
# A consult call goes on as part of another: what the colleague then talks may be filed under either.
_TALK = """
with mine as (select call from call where caller_number = $1)
select * from talk where agent = $2 and ended_at is not null and not assisted
and (call in (select call from mine)
     or call in (select call from call where merged_into in (select call from mine)))
order by began_at desc limit 1"""
_HANDLED = """
select * from handled_call where call in (select call from call where caller_number = $1) and agent = $2
order by handled_at desc limit 1"""
_PAUSE = "select * from agent_state where agent = $1 and previous = 'paused' order by at desc limit 1"

#: Where ctid's word stands: query, which attributes of the figure it takes, column.
_FOUND: dict[Measure, tuple[str, tuple[str, ...], str]] = {
    "outcome": (_VISIT, ("caller", "queue"), "outcome"),
    "wait": (_VISIT, ("caller", "queue"), "waited"),
    "offer": (_OFFER, ("caller", "queue", "agent"), "outcome"),
    "ring": (_OFFER, ("caller", "queue", "agent"), "rings"),
    "rang": (_OFFER, ("caller", "queue", "agent"), "rang"),
    "talk": (_TALK, ("caller", "agent"), "talked"),
    "hold": (_TALK, ("caller", "agent"), "held"),
    "wrap": (_HANDLED, ("caller", "agent"), "wrapped"),
    "handle": (_HANDLED, ("caller", "agent"), "handled"),
    "pause": (_PAUSE, ("agent",), "lasted"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table.

    Attributes:
        seen: By the phones: seconds or a word.
        said: By ctid; ``None``: nothing.
    """

    scene: str
    measure: str
    who: str
    seen: float | str
    said: float | str | None

    @property
    def difference(self) -> float | None:
        """Seconds; ``None`` where there is nothing to subtract."""
        if isinstance(self.seen, float) and isinstance(self.said, float):
            return self.said - self.seen
        return None

    @property
    def is_right(self) -> bool:
        if isinstance(self.seen, str):
            return self.said == self.seen
        return self.difference is not None and abs(self.difference) <= ALLOWED


async def said(pool: Pool, figure: Figure) -> float | str | None:
    """Return ctid's word on a figure; ``None`` as long as it has none."""
    sql, attributes, column = _FOUND[figure.measure]
    row = await pool.fetchrow(sql, *(getattr(figure, name) for name in attributes))
    value = row[column] if row else None
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, float) and figure.measure == "ring":
        return str(int(value) + 1)
    return value if value is None or isinstance(value, str) else float(value)


async def compare(pool: Pool, figures: Sequence[Figure], *, within: float = 10.0) -> list[Entry]:
    """Set ctid's word beside each figure, waiting up to ``within`` seconds for the last of them."""
    give_up = time.monotonic() + within
    while True:
        entries = [Entry(it.scene, it.measure, _who(it), it.seen, await said(pool, it)) for it in figures]
        if all(entry.said is not None for entry in entries) or time.monotonic() > give_up:
            return entries
        await asyncio.sleep(0.2)


def _who(figure: Figure) -> str:
    """Name an agent by his number, a stay in a queue by the queue and the caller."""
    return figure.agent or f"{figure.queue} …{figure.caller[-2:]}"


async def compare_metrics(stage: Stage, figures: Sequence[Figure]) -> list[Entry]:
    """Hold ``/metrics`` against the phones: outcomes per queue, and the three-ring rule per agent."""
    text = await stage.daemon.metrics()
    ends = Counter((it.queue, str(it.seen)) for it in figures if it.measure == "outcome")
    entries = [
        Entry(
            "metrics",
            f"finished, {outcome}",
            queue,
            str(count),
            _sample(text, "ctid_calls_finished_total", queue=queue, result=outcome),
        )
        for (queue, outcome), count in sorted(ends.items())
    ]
    for figure in figures:
        if figure.measure == "ring":
            outcome = next(it.seen for it in figures if it.measure == "offer" and _same_offer(it, figure))
            verdict = _verdict(str(outcome), int(str(figure.seen)))
            found = _sample(
                text, "ctid_ring_rule_offers_total", queue=figure.queue, agent=figure.agent, result=verdict
            )
            entries.append(Entry("metrics", f"ring rule, {verdict}", figure.agent, "1", found))
    return entries


def _same_offer(one: Figure, other: Figure) -> bool:
    return (one.caller, one.queue, one.agent) == (other.caller, other.queue, other.agent)


def _verdict(outcome: str, ring: int) -> str:
    """The three-ring rule as people say it (``ctid/acd/rings.py`` says why)."""
    if outcome == "answered":
        return "within" if ring <= 3 else "late"
    return "no_answer" if outcome == "no_answer" or ring > 3 else "excluded"


def _sample(text: str, name: str, **labels: str) -> str | None:
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    for line in text.splitlines():
        found = re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line)
        if found and wanted <= set(found[1].split(",")):
            return f"{float(found[2]):.0f}"
    return None


async def compare_pops(stage: Stage, figures: Sequence[Figure]) -> list[Entry]:
    """Each offer opened one pop, on the screen and on the telephone of that agent and nobody else."""
    entries = []
    for caller in dict.fromkeys(it.caller for it in figures):
        mine = [it for it in figures if it.caller == caller]
        rung = sorted({it.agent for it in mine if it.measure == "offer"})
        screens = sorted(
            number
            for number, screen in stage.screens.items()
            if any(it.type == "pop.offered" for it in screen.pops_of(caller))
        )
        texts = sorted(
            number
            for number, phone in stage.phones.items()
            if any(sip.user_of(call.invite.first("from")) == caller for call in phone.calls)
            and phone.messages
        )
        scene = mine[0].scene
        entries.append(Entry(scene, "pop, screens", caller, " ".join(rung), " ".join(screens)))
        if rung:
            entries.append(Entry(scene, "pop, phones", caller, " ".join(rung), " ".join(texts)))
    return entries


async def compare_recordings(stage: Stage, figures: Sequence[Figure], *, within: float = 15.0) -> list[Entry]:
    """Every answered call has one playable file: caller on one channel, agent on the other."""
    answered: dict[str, tuple[str, str]] = {}
    for it in figures:
        if it.measure == "offer" and it.seen == "answered":
            answered.setdefault(it.caller, (it.scene, it.agent))
    entries = []
    give_up = time.monotonic() + within
    for caller, (scene, agent) in answered.items():
        found = await _recording(stage, caller)
        while found is None and time.monotonic() < give_up:
            await asyncio.sleep(0.2)
            found = await _recording(stage, caller)
        heard = "no file"
        if found is not None:
            file = stage.exchange.recordings / found
            tones = (CALLER_TONE, tone_of(agent))
            heard = " | ".join(
                f"{tone:.0f} Hz" for tone in await asyncio.to_thread(_first_tones, file, tones)
            )
        wanted = f"{CALLER_TONE:.0f} Hz | {tone_of(agent):.0f} Hz"
        entries.append(Entry(scene, "recording", agent, wanted, heard))
    return entries


def _first_tones(path: Path, tones: tuple[float, ...]) -> list[float]:
    channels, rate = channels_of(path)
    # In the middle of the first second of talk; a shorter file is judged where it is.
    return loudest(path, tones, at=min(0.4, len(channels[0]) / rate / 3))


async def _recording(stage: Stage, caller: str) -> str | None:
    value = await stage.pool.fetchval(
        "select path from recording r join call c using (recording) "
        "where c.caller_number = $1 and r.result in ('complete', 'repaired') and r.path <> ''",
        caller,
    )
    return str(value) if value else None
