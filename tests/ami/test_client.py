"""The link against a scripted Asterisk: it cuts, stalls, refuses, lies and floods."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from ctid.ami import client, session
from ctid.ami.actions import GetVar, Hangup, Originate, Ping, QueueAdd, QueuePause, QueueStatus
from ctid.ami.client import AmiLink, Unobserved
from ctid.ami.events import AmiEvent, LinkLost, Newchannel, Snapshot
from ctid.ami.framing import Framer
from ctid.errors import ActionFailed, ActionRefused, ActionTimedOut, AmiDown
from tests.fakes import FakeAsterisk, ami_settings, event, leg, lines, reply

Kind = TypeVar("Kind")

CHANNEL = ("CoreShowChannels", "CoreShowChannel", leg("1.1") | {"BridgeId": ""})
MEMBER = ("QueueStatus", "QueueMember", {"Queue": "sales", "Name": "A", "Location": "PJSIP/201", "Status": 1})
ENTRY = (
    "QueueStatus",
    "QueueEntry",
    {"Queue": "sales", "Channel": "PJSIP/t-1", "Uniqueid": "1.1", "Wait": 3},
)
QUEUE = ("QueueStatus", "QueueParams", {"Queue": "sales", "Strategy": "rrmemory", "Calls": 0})
PAUSE = QueuePause(interface="PJSIP/201", paused=True)


class Watcher(Unobserved):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self.lags: list[float] = []

    def event(self, name: str, count: int) -> None:
        self.told += [("event", name)] * count

    def quarantined(self, reason: str) -> None:
        self.told.append(("quarantined", reason))

    def gap(self, n: int) -> None:
        self.told.append(("gap", n))

    def undecodable(self, name: str) -> None:
        self.told.append(("undecodable", name))

    def lag(self, seconds: float) -> None:
        self.lags.append(seconds)

    def connected(self, is_connected: bool) -> None:
        self.told.append(("connected", is_connected))

    def disconnected(self, reason: str) -> None:
        self.told.append(("disconnected", reason))

    def action(self, name: str, result: str, seconds: float) -> None:
        self.told.append((name, result))

    def count(self, *what: object) -> int:
        return self.told.count(what)  # type: ignore[arg-type]


class Reader:
    """Reads batches as the daemon does.

    Attributes:
        got: Everything delivered, flat.
    """

    def __init__(self, link: AmiLink) -> None:
        self.link = link
        self.got: list[AmiEvent | Snapshot | LinkLost] = []

    async def until(self, met: Callable[[], bool], seconds: float = 8) -> None:
        async with asyncio.timeout(seconds):
            while not met():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        self.got += await self.link.batches.get()

    async def next_snapshot(self) -> Snapshot:
        before = len(self.of(Snapshot))
        await self.until(lambda: len(self.of(Snapshot)) > before)
        return self.of(Snapshot)[-1]

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [item for item in self.got if isinstance(item, kind)]

    async def until_in_sync(self) -> None:
        await self.until(lambda: self.link.in_sync and bool(self.of(Snapshot)))


@pytest.fixture
async def asterisk() -> AsyncIterator[FakeAsterisk]:
    """A scripted Asterisk, listening."""
    async with FakeAsterisk() as fake:
        yield fake


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots may follow each other sooner than they would disturb a real Asterisk."""
    monkeypatch.setattr(session, "SNAPSHOT_GAP", 0.3)


@contextlib.asynccontextmanager
async def linked(
    asterisk: FakeAsterisk, folder: Path, *, limit: int = 20_000, **settings: object
) -> AsyncIterator[tuple[AmiLink, Reader, Watcher]]:
    """A running link."""
    watcher = Watcher()
    link = AmiLink(ami_settings(folder, asterisk.port, **settings), observer=watcher, limit=limit)
    running = asyncio.create_task(link.run())
    try:
        yield link, Reader(link), watcher
    finally:
        await link.close()
        await running


# -- in step --------------------------------------------------------------------


async def test_snapshot_first_then_what_happened_meanwhile(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """Events between login and snapshot follow the snapshot, and nothing is lost."""
    asterisk.listed = [CHANNEL, QUEUE, MEMBER, ENTRY]
    early = event("Newchannel", 100, leg("2.2"))
    asterisk.number = 101
    asterisk.answers["QueueStatus"] = lambda asked: early + asterisk.list_of(asked)
    async with linked(asterisk, tmp_path) as (link, reader, watcher):
        await reader.until_in_sync()
        snapshot, new = reader.got[:2]
        assert isinstance(snapshot, Snapshot)
        assert isinstance(new, Newchannel)
        assert [shown.uniqueid for shown in snapshot.channels] == ["1.1"]
        assert [(shown.queue, shown.interface, shown.status) for shown in snapshot.members] == [
            ("sales", "PJSIP/201", 1)
        ]
        assert [shown.wait for shown in snapshot.entries] == [3]
        assert [shown.strategy for shown in snapshot.queues] == ["rrmemory"]
        assert snapshot.system == link.system == "fake"
        assert snapshot.boot == link.boot == datetime(2026, 11, 22, 20, 34, 39, tzinfo=UTC)
        assert abs(snapshot.at - datetime.now(UTC)) < timedelta(seconds=5)
        assert link.connected
        assert watcher.count("connected", True) == 1


@pytest.mark.parametrize("is_live", [False, True])
async def test_nothing_is_asked_before_asterisk_is_up(
    asterisk: FakeAsterisk, tmp_path: Path, is_live: bool
) -> None:
    """F02: no list before FullyBooted: it can deadlock a starting Asterisk (asterisk issue 1611).

    Who logs in while Asterisk boots is told by a live event, with a number, when it is done.
    """
    asterisk.boots = False
    async with linked(asterisk, tmp_path) as (link, reader, _):
        await asterisk.until_asked("Ping", 2)
        assert not link.connected
        assert {asked["Action"] for asked in asterisk.asked} == {"Login", "Ping"}
        with pytest.raises(AmiDown):
            await link.act(PAUSE)
        if is_live:
            asterisk.happen("FullyBooted", {"Status": "Fully Booted", "Uptime": 0})
        else:
            asterisk.send(lines([("Event", "FullyBooted"), ("Uptime", 1)]))
        await reader.until_in_sync()


async def test_a_second_snapshot_follows(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """What was only under way at the first has settled at the second."""
    async with linked(asterisk, tmp_path) as (_, reader, _watcher):
        await reader.next_snapshot()
        begun = time.monotonic()
        await reader.next_snapshot()
        assert time.monotonic() - begun > 0.2


async def test_one_list_per_read_in_order(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """F08: events keep their order, and what came together stays together."""
    async with linked(asterisk, tmp_path) as (link, reader, watcher):
        await reader.until_in_sync()
        data = b"".join(event("Hangup", 100 + n, leg(f"1.{n}"), at=time.time()) for n in range(50))
        asterisk.send(data)
        batch = await link.batches.get()
        assert [getattr(gone, "uniqueid", "") for gone in batch] == [f"1.{n}" for n in range(50)]
        assert 0 <= watcher.lags[-1] < 5
        assert watcher.count("gap", 1) == 0


async def test_live_snapshot_is_brought_up_to_date(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """A leg that is hung up while it is being listed is not listed; nothing waits for the list."""
    async with linked(asterisk, tmp_path) as (link, reader, _):
        await reader.next_snapshot()
        await reader.next_snapshot()
        asterisk.listed = [CHANNEL, MEMBER, ENTRY]
        paused = {"Queue": "sales", "MemberName": "A", "Interface": "PJSIP/201", "Status": 2, "Paused": 1}
        meanwhile = [
            event("Hangup", 100, leg("1.1")),
            event("Newchannel", 101, leg("2.2")),
            event("QueueMemberStatus", 102, paused),
            event("QueueCallerLeave", 103, leg("1.1") | {"Queue": "sales"}),
        ]
        asterisk.answers["CoreShowChannels"] = lambda asked: asterisk.list_of(asked) + b"".join(meanwhile)
        asterisk.answers["QueueStatus"] = lambda asked: asterisk.list_of(asked) + b"".join(meanwhile)
        asterisk.answers["CoreShowChannels"] = asterisk.list_of
        link.request_snapshot("test")
        snapshot = await reader.next_snapshot()
        assert [type(item).__name__ for item in reader.got[-5:]] == [
            "Hangup",
            "Newchannel",
            "QueueMemberStatus",
            "QueueCallerLeave",
            "Snapshot",
        ]
        assert [shown.uniqueid for shown in snapshot.channels] == ["2.2"]
        assert [(shown.status, shown.paused) for shown in snapshot.members] == [(2, True)]
        assert snapshot.entries == ()


async def test_snapshots_do_not_pile_up(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """One in flight, and a pause between: lists take Asterisk's locks."""
    async with linked(asterisk, tmp_path) as (link, reader, _):
        await reader.next_snapshot()
        begun, before = time.monotonic(), len(asterisk.asked_for("QueueStatus"))
        while time.monotonic() - begun < 1:
            link.request_snapshot("again")
            await asyncio.sleep(0.01)
        assert 2 <= len(asterisk.asked_for("QueueStatus")) - before <= 4


# -- lost and found ---------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
async def test_connection_cut(asterisk: FakeAsterisk, tmp_path: Path, *, reset: bool) -> None:
    """F03: FIN or RST: told at once, back and in step within two seconds, nothing sent again."""
    asterisk.answers["Originate"] = lambda asked: b""
    async with linked(asterisk, tmp_path) as (link, reader, watcher):
        await reader.until_in_sync()
        dialling = asyncio.create_task(link.act(Originate(channel="PJSIP/201", context="c", exten="123")))
        await asterisk.until_asked("Originate")
        asterisk.cut(reset=reset)
        with pytest.raises(AmiDown):
            await dialling
        await reader.until(lambda: bool(reader.of(LinkLost)))
        begun = time.monotonic()
        await reader.next_snapshot()
        assert time.monotonic() - begun < 2
        assert link.in_sync
        assert len(asterisk.asked_for("Originate")) == 1
        assert watcher.count("disconnected", "lost") == 1
        assert watcher.count("Originate", "down") == 1


async def test_half_open_connection(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """F04: no FIN, no bytes: declared dead by the deadline, then as any loss."""
    async with linked(asterisk, tmp_path, dead_after=timedelta(seconds=0.6)) as (link, reader, watcher):
        await reader.until_in_sync()
        asterisk.is_deaf = True
        begun = time.monotonic()
        await reader.until(lambda: bool(reader.of(LinkLost)))
        assert 0.4 < time.monotonic() - begun < 1.2
        assert "no sign of life" in reader.of(LinkLost)[0].why
        assert not link.connected
        assert watcher.count("disconnected", "dead") == 1
        asterisk.is_deaf = False
        await reader.next_snapshot()


async def test_events_are_a_sign_of_life(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """F04: a busy Asterisk that answers no ping is alive."""
    asterisk.answers["Ping"] = lambda asked: b""
    async with linked(asterisk, tmp_path, dead_after=timedelta(seconds=0.5)) as (link, _, watcher):
        await asterisk.until_asked("Ping")
        for _ in range(20):
            asterisk.happen("Newexten", leg())
            await asyncio.sleep(0.05)
        assert link.connected
        assert watcher.count("disconnected", "dead") == 0


async def test_stopped_asterisk_accepts_and_says_nothing(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """F05: the kernel accepts for a stopped process; tries are few."""
    asterisk.is_deaf = True
    async with linked(asterisk, tmp_path, action_timeout=timedelta(seconds=0.2)) as (link, _, watcher):
        await asyncio.sleep(1.5)
        assert not link.connected
        assert len(asterisk.asked_for("Login")) <= 3
        assert watcher.count("disconnected", "dead") >= 1


async def test_deadlocked_asterisk_still_pings(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """F05, B25: pings are answered, lists never end: not in step, yet no storm of reconnects."""
    asterisk.answers["CoreShowChannels"] = lambda asked: asterisk.list_of(asked, complete=False)
    timeout = timedelta(seconds=0.2)
    async with linked(asterisk, tmp_path, action_timeout=timeout) as (link, reader, watcher):
        await asterisk.until_asked("CoreShowChannels", 3)
        assert link.connected
        assert not link.in_sync
        assert len(asterisk.logins) == 1
        del asterisk.answers["CoreShowChannels"]
        await reader.until_in_sync()
        assert watcher.count("connected", False) == 0


async def test_wrong_secret(
    asterisk: FakeAsterisk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """F06: told what to do, and tried again only after a while."""
    async with linked(asterisk, tmp_path, secret="wrong") as (link, _, watcher):
        await asterisk.until_asked("Login")
        await asyncio.sleep(1)
        assert len(asterisk.logins) == 1
        assert not link.connected
        assert watcher.told == [("disconnected", "refused")]
    assert "secret_file" in capsys.readouterr().out


def test_tries_per_minute() -> None:
    """F06: at most six tries a minute after a refusal; other losses back off to half a minute."""
    for kind, shortest in {"refused": 1.0, "cut": 0.5, "unreachable": 0.5}.items():
        waits, wait = [], 0.0
        for _ in range(20):
            wait = client._next_wait(wait, session.Lost(kind, ""))
            waits.append(wait * shortest)
        begun = [sum(waits[:n]) for n in range(20)]
        assert waits[-1] / shortest == (60 if kind == "refused" else 30)
        assert sum(60 <= moment < 120 for moment in begun) <= 6
        assert kind == "unreachable" or sum(moment < 60 for moment in begun) <= 6 + (kind == "cut")
    back = session.Lost("lost", "")
    back.was_in_step = True
    assert client._next_wait(30.0, back) == 0.5


async def test_missing_secret_file(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """F06: a secret that can not be read is not sent; nothing crashes."""
    settings = ami_settings(tmp_path, asterisk.port)
    settings.account.secret_file.unlink()
    link = AmiLink(settings)
    running = asyncio.create_task(link.run())
    await asyncio.sleep(0.1)
    assert not asterisk.asked
    await link.close()
    await running


async def test_secret_can_not_inject(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """B77: panoramisk writes the login itself, so a line break in the secret stops it."""
    async with linked(asterisk, tmp_path, secret="x\r\nAction: Originate") as (_, _reader, watcher):
        await asyncio.sleep(0.1)
        assert watcher.told == [("disconnected", "refused")]
        assert not asterisk.asked


async def test_unreachable_then_there(tmp_path: Path) -> None:
    """F03: Asterisk comes up later than ctid."""
    async with FakeAsterisk() as gone:
        port = gone.port
    asterisk = FakeAsterisk()
    asterisk.port = port
    async with linked(asterisk, tmp_path) as (_, reader, watcher):
        await asyncio.sleep(0.1)
        assert watcher.count("disconnected", "unreachable") == 1
        async with asterisk:
            await reader.until_in_sync()
            await reader.link.close()


async def test_cancelled_from_outside(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """The task may be cancelled at any time; the connection ends with it."""
    link = AmiLink(ami_settings(tmp_path, asterisk.port))
    running = asyncio.create_task(link.run())
    await Reader(link).until_in_sync()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not link.connected
    with pytest.raises(AmiDown):
        await link.act(PAUSE)


async def test_shutdown(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """B27: Shutdown is delivered as what it is, and the loss that follows as what that is."""
    async with linked(asterisk, tmp_path) as (_, reader, _watcher):
        await reader.until_in_sync()
        asterisk.happen("Shutdown", {"Shutdown": "Cleanly", "Restart": "False"})
        await reader.until(lambda: reader.got[-1].__class__.__name__ == "Shutdown")
        asterisk.send(lines([("Response", "Goodbye"), ("Message", "Thanks for all the fish.")]))
        asterisk.cut()
        await reader.until(lambda: isinstance(reader.got[-1], LinkLost))


async def test_a_counter_that_went_elsewhere(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """B22: only a new login tells where the numbers are."""
    async with linked(asterisk, tmp_path) as (_, reader, watcher):
        await reader.until_in_sync()
        asterisk.happen("Newexten", leg())
        asterisk.number += 1_000_000
        for _ in range(80):
            asterisk.happen("Newexten", leg())
        await reader.until(lambda: len(asterisk.logins) == 2)
        assert watcher.count("disconnected", "astray") == 1


# -- too much ---------------------------------------------------------------------


async def test_reader_that_does_not_read(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """F07: 20,000 events at once and nobody takes them: bounded, counted, and in step afterwards."""
    async with linked(asterisk, tmp_path, limit=1000) as (link, reader, watcher):
        await reader.until_in_sync()
        flood = b"".join(event("Hangup", 100 + n, leg(f"1.{n}")) for n in range(20_000))
        begun = time.monotonic()
        for at in range(0, len(flood), 1_000_000):
            asterisk.send(flood[at : at + 1_000_000])
            await asyncio.sleep(0.01)
            assert link.batches.deliveries <= 1000
        while not any(kind == "gap" for kind, _ in watcher.told):
            await asyncio.sleep(0.01)
        assert time.monotonic() - begun < 10
        reader.got.clear()
        await reader.until_in_sync()
        assert isinstance(reader.got[0], LinkLost)
        assert len(asterisk.logins) == 1
        assert watcher.count("connected", False) == 0


async def test_too_long_a_message(
    asterisk: FakeAsterisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B09: bytes without end cost the connection, not the memory."""
    monkeypatch.setattr(session, "Framer", lambda: Framer(limit=100_000))
    async with linked(asterisk, tmp_path) as (_, reader, watcher):
        await reader.until_in_sync()
        asterisk.send(b"x" * 200_000)
        await reader.until(lambda: len(asterisk.logins) == 2)
        assert watcher.count("disconnected", "framing") == 1


# -- actions ----------------------------------------------------------------------


async def test_actions(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """Asked once, under an ActionID nobody can guess; each answer is told apart."""
    asterisk.answers["Hangup"] = lambda asked: reply(asked, "Error", Message="No such channel")
    asterisk.answers["GetVar"] = lambda asked: b""
    async with linked(asterisk, tmp_path) as (link, reader, watcher):
        await reader.until_in_sync()
        assert (await link.act(PAUSE)).message == "Done"
        assert (await link.act(QueueAdd(queue="q", interface="PJSIP/201"))).message == "Done"
        with pytest.raises(ActionFailed, match="No such channel"):
            await link.act(Hangup(channel="PJSIP/t-1"))
        with pytest.raises(ActionTimedOut):
            await link.act(GetVar(variable="X"), timeout=timedelta(seconds=0.1))
        with pytest.raises(ActionRefused):
            await link.act(QueuePause(interface="a\r\nb", paused=True))
        results = {name: result for name, result in watcher.told if name != "Ping"}
        assert results["QueuePause"] == "refused"
        assert (results["Hangup"], results["GetVar"]) == ("failed", "timed_out")
        ids = [asked["ActionID"] for asked in asterisk.asked if asked["Action"] != "Login"]
        assert len(set(ids)) == len(ids)
        assert all(len(action_id) == 32 for action_id in ids)
        assert len(asterisk.asked_for("GetVar")) == 1


async def test_many_actions_at_once(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """Each gets its own answer, whatever the order of asking."""
    asterisk.answers["GetVar"] = lambda asked: reply(asked, Value=asked["Variable"])
    async with linked(asterisk, tmp_path) as (link, reader, _):
        await reader.until_in_sync()
        replies = await asyncio.gather(*(link.act(GetVar(variable=f"V{n}")) for n in range(100)))
        assert [got.headers["Value"] for got in replies] == [f"V{n}" for n in range(100)]


async def test_replies_nobody_waits_for(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """B23, B24: never asked, twice, too late, without ActionID: nothing happens but a count."""
    asterisk.answers["GetVar"] = lambda asked: b""
    asterisk.answers["QueuePause"] = lambda asked: reply(asked) * 2
    async with linked(asterisk, tmp_path) as (link, reader, watcher):
        await reader.until_in_sync()
        await link.act(PAUSE)
        with pytest.raises(ActionTimedOut):
            await link.act(GetVar(variable="X"), timeout=timedelta(seconds=0.05))
        asterisk.send(reply(asterisk.asked_for("GetVar")[0]) + reply({"ActionID": "guess"}))
        asterisk.send(lines([("Response", "Success")]))
        await reader.until(lambda: watcher.count("quarantined", "foreign_reply") == 2)
        assert watcher.count("quarantined", "late_reply") == 1
        assert link.connected


async def test_list_that_is_cancelled_or_miscounted(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """B26, B29: broken off, a list is none; too short, it is asked for again, and then taken."""
    asterisk.listed = [QUEUE, MEMBER]
    asterisk.answers["QueueStatus"] = lambda asked: asterisk.list_of(asked, count=99)
    async with linked(asterisk, tmp_path) as (link, reader, _):
        snapshot = await reader.next_snapshot()
        assert len(snapshot.members) == 1
        assert len(asterisk.asked_for("QueueStatus")) == 2
        assert len((await link.act(QueueStatus())).items) == 2
        asterisk.answers["QueueStatus"] = lambda asked: asterisk.list_of(asked, count=1)
        assert len((await link.act(QueueStatus())).items) == 2
        end = {"EventList": "cancelled"}
        asterisk.answers["QueueStatus"] = lambda asked: (
            reply(asked, EventList="start")
            + lines([("Event", "QueueStatusComplete"), ("ActionID", asked["ActionID"]), *end.items()])
        )
        with pytest.raises(ActionFailed):
            await link.act(QueueStatus())


async def test_nothing_is_sent_while_down(tmp_path: Path) -> None:
    """An action without a connection fails at once; it is not kept for later."""
    watcher = Watcher()
    link = AmiLink(ami_settings(tmp_path, 1), observer=watcher)
    with pytest.raises(AmiDown):
        await link.act(Ping())
    assert watcher.told == [("Ping", "down")]
    assert link.boot is None
    assert not link.in_sync
    link.request_snapshot("nobody listens")
    await link.close()
    await link.run()


# -- what is believed -------------------------------------------------------------


async def test_forged_event_on_the_link(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """B13, S04: a forged event is counted and followed by a snapshot; the next genuine one is read."""
    async with linked(asterisk, tmp_path) as (_, reader, watcher):
        await reader.next_snapshot()
        await reader.next_snapshot()
        asterisk.happen("Newexten", leg())
        forged = event("AgentConnect", asterisk.number + 1, leg("9.9") | {"Queue": "x", "Interface": "y"})
        torn = event("Newchannel", asterisk.number, leg()).replace(b"15551234", b"1\r\n\r\n" + forged + b"X")
        asterisk.number += 1
        asterisk.send(torn)
        asterisk.happen("Hangup", leg("genuine"))
        before = len(reader.got)
        await reader.next_snapshot()
        kinds = [type(item).__name__ for item in reader.got[before:]]
        assert kinds == ["Gap", "Hangup", "Snapshot"]
        assert watcher.count("quarantined", "torn") == watcher.count("quarantined", "stray") == 1


async def test_events_that_can_not_be_read(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """B19, B20: unknown ones are counted as others; incomplete ones are counted, skipped, compared."""
    async with linked(asterisk, tmp_path) as (link, reader, watcher):
        await reader.until_in_sync()
        asterisk.happen("Brandnew", {"Anything": "at all"})
        asterisk.happen("Hangup", {"Channel": "PJSIP/t-1", "Cause": 16})
        asterisk.happen("Hangup", leg() | {"Cause": "sixteen"})
        asterisk.happen("Hangup", leg())
        await reader.until(lambda: type(reader.got[-1]).__name__ == "Hangup")
        assert watcher.count("undecodable", "Hangup") == 2
        assert link.connected
        await reader.next_snapshot()
    assert watcher.count("event", "other") == 1
    assert watcher.count("event", "Hangup") == 3


async def test_debug_off(asterisk: FakeAsterisk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An Asterisk that numbers nothing is not believed, loudly; the floor lives on snapshots."""
    async with linked(asterisk, tmp_path) as (link, reader, _):
        await reader.next_snapshot()
        for _ in range(20):
            asterisk.send(event("Hangup", None, leg()))
        await reader.until(lambda: not link.in_sync)
        await reader.next_snapshot()
        assert not [item for item in reader.got if isinstance(item, AmiEvent)]
        assert not link.in_sync
    assert "debug = on" in capsys.readouterr().out


async def test_old_site_without_numbers(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """``require_sequence_numbers = false``: everything is believed, the wanted part is read."""
    async with linked(asterisk, tmp_path, require_sequence_numbers=False) as (link, reader, _):
        await reader.until_in_sync()
        asterisk.send(event("VarSet", None, leg() | {"Variable": "X", "Value": "y"}))
        asterisk.send(event("VarSet", None, leg() | {"Variable": "QUEUESTATUS", "Value": "TIMEOUT"}))
        asterisk.send(event("Newexten", None, leg()) + event("Hangup", None, leg()))
        await reader.until(lambda: type(reader.got[-1]).__name__ == "Hangup")
        assert [type(item).__name__ for item in reader.got if isinstance(item, AmiEvent)] == [
            "QueueStatusVariable",
            "Hangup",
        ]
        assert link.in_sync


async def test_lost_events_bring_a_snapshot(asterisk: FakeAsterisk, tmp_path: Path) -> None:
    """F08: a hole in the numbers is a lost event: counted, and compared."""
    async with linked(asterisk, tmp_path) as (_, reader, watcher):
        await reader.next_snapshot()
        await reader.next_snapshot()
        asterisk.happen("Newexten", leg())
        asterisk.number += 3
        asterisk.happen("Newexten", leg())
        await reader.next_snapshot()
        assert watcher.count("gap", 3) == 1
