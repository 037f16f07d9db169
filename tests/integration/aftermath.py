"""What must hold after anything that was done to Asterisk from outside, once everybody has hung up."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import re
import time
import unicodedata
from collections.abc import AsyncIterator, Iterator

from lab.stage import Stage

_OPEN = {
    "call": "ended_at is null",
    "queue_visit": "outcome is null or left_at is null",
    "offer": "outcome is null",
    "talk": "ended_at is null",
}


async def assert_settled(stage: Stage, *, within: float = 10.0) -> None:
    """Wait until all is as if nothing had been, and fail with what is not.

    Asterisk lives and has no channel; ctid is ready and in sync, its floor is empty; every row
    in PostgreSQL has its end, no fact carries a control character, and no call is one that
    Asterisk's own book (CEL) does not know.
    """
    give_up = time.monotonic() + within
    while wrong := await _unsettled(stage):
        assert time.monotonic() < give_up, wrong
        await asyncio.sleep(0.1)
    await stage.daemon.until_ready(10)
    assert await _control_characters(stage) == []
    ghosts = {row["call"] for row in await stage.pool.fetch("select call from call")} - linkedids(stage)
    assert ghosts == set(), "calls that Asterisk does not know"
    odd = await stage.pool.fetch(
        "select queue, caller_number from queue_visit where caller_number !~ '^[0-9+]{0,32}$'"
    )
    assert odd == []


@contextlib.asynccontextmanager
async def settling(stage: Stage, *, within: float = 10.0) -> AsyncIterator[None]:
    """Assert it after what is done here; if that goes wrong, hang up everybody for the next test's sake."""
    try:
        yield
        await assert_settled(stage, within=within)
    finally:
        await asyncio.to_thread(stage.exchange.cli, "channel request hangup all")


async def _unsettled(stage: Stage) -> list[str]:
    # First: what is not in the tables yet would be in none of the questions that follow.
    outbox = await stage.daemon.metric("ctid_outbox_facts", sink="journal")
    spool = await stage.daemon.metric("ctid_spool_facts")
    found = [f"{outbox + spool:.0f} facts are not in PostgreSQL yet"] if outbox + spool else []
    shown = await asyncio.to_thread(stage.exchange.cli, "core show channels count")
    channels = re.match(r"(\d+) active channel", shown)
    if not channels or channels[1] != "0":
        found.append(shown.strip() or "Asterisk says nothing")
    screen = next(iter(stage.screens.values()))
    _, floor = await screen.ask("GET", "/api/v1/floor")
    if floor["exchange"] != "in_sync":
        found.append(f"ctid and Asterisk: {floor['exchange']}")
    found += [f"{it['queue']} has callers" for it in floor["queues"] if it["waiting"] or it["talking"]]
    found += [
        f"{it['agent']} is {it['state']}" for it in floor["agents"] if it["state"] in {"ringing", "talking"}
    ]
    for table, is_open in _OPEN.items():
        rows = await stage.pool.fetch(f"select * from {table} where {is_open}")
        found += [f"open {table}: {dict(row)}" for row in rows]
    return found


async def _control_characters(stage: Stage) -> list[str]:
    rows = await stage.pool.fetch("select kind, body::text as body from fact where body::text ~ '[\\\\\x7f]'")
    return [
        f"{row['kind']}: {text!r}"
        for row in rows
        for text in _texts(json.loads(row["body"]))
        if any(unicodedata.category(letter) == "Cc" for letter in text)
    ]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from (name, *_texts(one))
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def linkedids(stage: Stage) -> set[str]:
    """Return every call that Asterisk wrote into its CEL file."""
    with stage.exchange.cel.open(encoding="utf-8", errors="replace", newline="") as file:
        return {row[9] for row in csv.reader(file) if len(row) > 9}
