"""The one event that must not be missed: link and core together, against a scripted Asterisk."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from ctid.acd.centre import Centre
from ctid.acd.facts import CallEnded, Fact, RequestSnapshot
from ctid.ami.client import AmiLink
from ctid.ami.events import Snapshot
from tests.fakes import FakeAsterisk, ami_settings, leg

WITHIN = 30.0
"""Seconds until a leg whose Hangup was lost is closed (F09)."""


class Watch:
    """Feeds a centre from a link, and gives the link the centre's wishes."""

    def __init__(self, link: AmiLink) -> None:
        self.link = link
        self.centre = Centre({}, {})
        self.facts: list[Fact] = []
        self.snapshots = 0

    async def run(self) -> None:
        while True:
            for event in await self.link.batches.get():
                step = self.centre.receive(event)
                self.facts += step.facts
                self.snapshots += isinstance(event, Snapshot)
                for command in step.commands:
                    if isinstance(command, RequestSnapshot):
                        self.link.request_snapshot(command.why)

    def legs(self) -> set[str]:
        return set(self.centre._tables.legs)

    def ended(self) -> list[CallEnded]:
        return [fact for fact in self.facts if isinstance(fact, CallEnded)]


@pytest.mark.parametrize("goes_on", [True, False])
async def test_a_lost_hangup_is_closed(tmp_path: Path, goes_on: bool) -> None:
    """F09: by the hole in the numbers if anything follows, else by the lists of every half minute."""
    async with FakeAsterisk() as asterisk:
        link = AmiLink(ami_settings(tmp_path, asterisk.port))
        watch = Watch(link)
        running = [asyncio.create_task(link.run()), asyncio.create_task(watch.run())]
        while watch.snapshots < (1 if goes_on else 2):
            await asyncio.sleep(0.01)
        shown = leg(f"{time.time() - 60:.0f}.1")
        asterisk.happen("Newchannel", shown)
        other = leg("9.9", channel="PJSIP/t-2")
        asterisk.happen("Newchannel", other)
        asterisk.listed = [("CoreShowChannels", "CoreShowChannel", other | {"BridgeId": ""})]
        while len(watch.legs()) < 2:
            await asyncio.sleep(0.01)
        asterisk.number += 1  # that was the Hangup
        began = time.monotonic()
        if goes_on:
            asterisk.happen("Newexten", other)
        else:
            link.request_snapshot("periodic")  # the half minute is over
        async with asyncio.timeout(WITHIN):
            while not watch.ended():
                await asyncio.sleep(0.05)
        assert time.monotonic() - began < WITHIN
        (lost,) = watch.ended()
        assert (lost.call, lost.end_reason) == (shown["Uniqueid"], "unseen")
        assert watch.legs() == {"9.9"}
        await link.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
