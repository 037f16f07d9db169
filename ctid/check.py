"""``ctid check``: everything that would keep ctid from working, all of it at once.

Looks at the settings, the policy, the files, the ports, PostgreSQL and Asterisk; starts
nothing and changes nothing.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from ctid.ami.client import Probe, probe
from ctid.daemon import read
from ctid.errors import AsteriskError, SettingsError, StoreError
from ctid.routing.policy import Policy
from ctid.settings import Settings
from ctid.store import migrate
from ctid.store.pool import Pool

Level = Literal["ok", "warning", "problem"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        subject: ``settings``, ``policy``, ``port`` ...
        text: What was found; for problems file, key and remedy.
    """

    level: Level
    subject: str
    text: str


async def findings(config: Path) -> list[Finding]:
    """Look at everything. Never raises for what it finds."""
    try:
        loaded, policy, problems = read(config)
    except SettingsError as error:
        return [Finding("problem", "settings", text) for text in error.problems]
    found = [Finding("problem", "policy" if policy is None else "settings", text) for text in problems]
    found = found or [Finding("ok", "settings", f"{config} and {loaded.policy}")]
    found += [*_folders(loaded, config), *_ports(loaded, config)]
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
    except OSError as error:
        text = f"{config}: database.dsn_file: {error.strerror}; write the address into it (mode 0600)"
        return [Finding("problem", "database", text)]
    except StoreError as error:
        return [Finding("problem", "database", f"{config}: database.dsn: {error}")]
    return [Finding("ok", "database", "reachable, schema up to date")]


async def _asterisk(loaded: Settings, policy: Policy | None, config: Path) -> list[Finding]:
    try:
        seen = await probe(loaded.asterisk)
    except OSError:
        return []  # the secret can not be read: told already
    except AsteriskError as error:
        return [Finding("problem", "asterisk", f"{config}: asterisk: {error}")]
    found = [Finding("ok", "asterisk", f"{seen.version}, {len(seen.queues)} queues")]
    return [*found, *_sequence_numbers(seen), *_queues(seen, loaded, policy)]


def _sequence_numbers(seen: Probe) -> Iterator[Finding]:
    if not seen.has_sequence_numbers:
        yield Finding(
            "problem",
            "asterisk",
            "manager.conf: debug: events carry no SequenceNumber, so forged ones can not be told apart; "
            "set `debug = on` in [general] and reload the manager",
        )
    if not seen.has_timestamps:
        yield Finding(
            "problem",
            "asterisk",
            "manager.conf: timestampevents: events carry no Timestamp; set it to yes in [general]",
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
