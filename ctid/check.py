"""``ctid check``: everything that would keep ctid from working, all of it at once.

Looks at the settings, the policy, the files, the ports, PostgreSQL and Asterisk; starts
nothing and changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from ctid.ami.batches import Unobserved
from ctid.ami.client import AmiLink
from ctid.ami.events import Snapshot
from ctid.books import condition
from ctid.daemon import read
from ctid.errors import AsteriskError, SettingsError, StoreError
from ctid.routing.policy import Policy
from ctid.settings import Asterisk, Leader, Settings
from ctid.store import migrate
from ctid.store.lease import Standing, look
from ctid.store.pool import Pool

SNAPSHOT_SECONDS: Final = 8.0
EVENT_SECONDS: Final = 1.0


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        subject: ``settings``, ``policy``, ``port`` ...
        text: What was found; for problems file, key and remedy.
    """

    level: condition.Level
    subject: str
    text: str


class Probe(msgspec.Struct, frozen=True):
    """What one look at Asterisk showed."""

    system: str
    queues: frozenset[str]
    has_sequence_numbers: bool


class _Watch(Unobserved):
    """Remembers why the link failed, and whether events could be believed."""

    def __init__(self) -> None:
        self.failed = asyncio.Event()
        self.kind = ""
        self.seen = asyncio.Event()
        self.is_numberless = False

    def event(self, name: str, count: int) -> None:
        self.seen.set()

    def quarantined(self, reason: str) -> None:
        self.is_numberless |= reason == "unnumbered"
        self.seen.set()

    def disconnected(self, reason: str) -> None:
        self.kind = reason
        self.failed.set()


async def probe(settings: Asterisk) -> Probe:
    """Log in to Asterisk and look around; changes nothing there.

    Raises:
        AsteriskError: It can not be reached, refuses us, or does not answer.
        OSError: The secret can not be read.
    """
    settings.account.secret()
    watch = _Watch()
    link = AmiLink(settings, observer=watch)
    try:
        async with asyncio.TaskGroup() as group:
            life = group.create_task(link.run())
            try:
                snapshot = await _first_snapshot(link, watch, settings)
                # A second login makes Asterisk tell the first one of it: an event to look at.
                other = AmiLink(settings)
                visit = group.create_task(other.run())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EVENT_SECONDS):
                        await watch.seen.wait()
                visit.cancel()
            finally:
                life.cancel()
    except BaseExceptionGroup as failed:
        # One thing is looked at here, so one thing went wrong.
        raise failed.exceptions[0] from None
    queues = frozenset(queue.queue for queue in snapshot.queues)
    return Probe(snapshot.system, queues, not watch.is_numberless)


async def _first_snapshot(link: AmiLink, watch: _Watch, settings: Asterisk) -> Snapshot:
    failed = asyncio.create_task(watch.failed.wait())
    try:
        async with asyncio.timeout(SNAPSHOT_SECONDS):
            while not watch.failed.is_set():
                batch = asyncio.create_task(link.batches.get())
                done, _ = await asyncio.wait({batch, failed}, return_when=asyncio.FIRST_COMPLETED)
                if batch not in done:
                    batch.cancel()
                    break
                for delivery in batch.result():
                    if isinstance(delivery, Snapshot):
                        return delivery
    except TimeoutError:
        raise AsteriskError(
            f"{settings.host}:{settings.port} let us in, but did not list its channels and queues; "
            "the AMI user needs read = all"
        ) from None
    finally:
        failed.cancel()
    if watch.kind == "refused":
        raise AsteriskError(
            f"account: Asterisk refused user {settings.account.username}; "
            f"compare {settings.account.secret_file} "
            "with secret, permit and deny of that user in manager.conf, then: manager reload"
        )
    raise AsteriskError(
        f"port: no AMI at {settings.host}:{settings.port} ({watch.kind}); "
        "is Asterisk running, and manager.conf enabled on that port?"
    )


async def findings(config: Path) -> list[Finding]:
    """Look at everything. Never raises for what it finds."""
    try:
        loaded, policy, problems = read(config)
    except SettingsError as error:
        return [Finding("problem", "settings", text) for text in error.problems]
    found = [Finding("problem", "policy" if policy is None else "settings", text) for text in problems]
    found = found or [Finding("ok", "settings", f"{config} and {loaded.policy}")]
    found += [*_folders(loaded, config), *_books(loaded, config), *_ports(loaded, config)]
    database, asterisk = await asyncio.gather(_database(loaded, config), _asterisk(loaded, policy, config))
    return [*found, *database, *asterisk]


def _folders(loaded: Settings, config: Path) -> Iterator[Finding]:
    for key, folder in (("state_dir", loaded.state_dir), ("asterisk.recordings", loaded.asterisk.recordings)):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if folder.exists() and not folder.is_dir():
            yield Finding("problem", "folder", f"{config}: {key}: {folder} is not a folder; name another")
        elif not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
            yield Finding(
                "problem",
                "folder",
                f"{config}: {key}: no right to write to {existing}; give it to ctid's user",
            )
        elif key == "asterisk.recordings" and not folder.exists():
            yield Finding(
                "problem",
                "folder",
                f"{config}: {key}: {folder} does not exist; create it, writable for Asterisk and ctid",
            )
        else:
            yield Finding("ok", "folder", str(folder))


def _books(loaded: Settings, config: Path) -> Iterator[Finding]:
    for key, judge in (("queue_log", condition.of_queue_log), ("cel", condition.of_cel)):
        level, text = judge(getattr(loaded.asterisk, key))
        yield Finding(level, "book", text if level == "ok" else f"{config}: asterisk.{key}: {text}")


def _ports(loaded: Settings, config: Path) -> Iterator[Finding]:
    for key in ("fastagi", "web", "metrics"):
        listener = getattr(loaded, key)
        try:
            family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
            with socket.socket(family) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind((listener.host, listener.port))
        except OSError as error:
            remedy = {
                errno.EADDRINUSE: "another program (or ctid itself) has it: stop it, or choose another port",
                errno.EACCES: "ports below 1024 need a right ctid should not have: choose a higher one",
            }.get(error.errno or 0, "check host and port")
            text = f"{config}: {key}: {listener.host}:{listener.port}: {error.strerror}; {remedy}"
            yield Finding("problem", "port", text)
        else:
            yield Finding("ok", "port", f"{key} {listener.host}:{listener.port}")


async def _database(loaded: Settings, config: Path) -> list[Finding]:
    try:
        async with Pool(loaded.database) as pool:
            await migrate.check(pool)
            standing = await look(pool, loaded.leader.name)
    except OSError as error:
        text = f"{config}: database.dsn_file: {error.strerror}; write the address into it (mode 0600)"
        return [Finding("problem", "database", text)]
    except StoreError as error:
        return [Finding("problem", "database", f"{config}: database.dsn: {error}")]
    return [Finding("ok", "database", "reachable, schema up to date"), _leader(standing, loaded, config)]


def _leader(standing: Standing, loaded: Settings, config: Path) -> Finding:
    name = loaded.leader.name
    if not standing.holder or standing.silent_for_seconds > loaded.leader.lease.total_seconds():
        return Finding("ok", "leader", f"nobody leads as {name!r}; a daemon started now would")
    text = f"{standing}, as {name!r}; a daemon started now would stand by"
    if name == Leader().name and standing.host != socket.gethostname():
        text = (
            f"{config}: leader.name: {text}; if that host serves another Asterisk, "
            "give each of the two a name of its own"
        )
        return Finding("warning", "leader", text)
    return Finding("ok", "leader", text)


async def _asterisk(loaded: Settings, policy: Policy | None, config: Path) -> list[Finding]:
    try:
        seen = await probe(loaded.asterisk)
    except OSError:
        return []  # the secret can not be read: told already
    except AsteriskError as error:
        return [Finding("problem", "asterisk", f"{config}: asterisk: {error}")]
    found = [
        Finding(
            "ok", "asterisk", f"AMI answers as {seen.system or '(no systemname)'}, {len(seen.queues)} queues"
        )
    ]
    return [*found, *_sequence_numbers(seen), *_queues(seen, loaded, policy)]


def _sequence_numbers(seen: Probe) -> Iterator[Finding]:
    if not seen.has_sequence_numbers:
        yield Finding(
            "problem",
            "asterisk",
            "manager.conf: debug: events carry no SequenceNumber, so forged ones can not be told apart; "
            "set `debug = on` in [general] and reload the manager",
        )


def _queues(seen: Probe, loaded: Settings, policy: Policy | None) -> Iterator[Finding]:
    if policy is None:
        return
    for queue in sorted(policy.queue_names() - set(seen.queues)):
        yield Finding(
            "problem",
            "policy",
            f"{loaded.policy}: queues.{queue}: Asterisk has no such queue; "
            "add it to queues.conf, or correct the name",
        )
    for queue in sorted(set(seen.queues) - policy.queue_names()):
        yield Finding(
            "warning",
            "policy",
            f"{loaded.policy}: queues.{queue}: only Asterisk has it; it is judged by the default rules",
        )
