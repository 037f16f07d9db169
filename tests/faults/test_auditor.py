"""The auditor: content with rows that are true, and it finds every kind of lie that is planted."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import wave
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from ctid.settings import Database
from lab.places import ROOT
from tests.faults import books
from tests.faults.auditor import audit

T = 1_795_572_100.0
"""Begin of everything, epoch seconds."""

UUID = "0b038142-5dac-495d-8aa6-12005f7d1b34"
PLACE = f"2026/11/25/{UUID}.wav"

#: event, seconds after T, number, channel, app, uniqueid, linkedid, user event, extra
CEL = [
    ("CHAN_START", 0.0, "139001", "PJSIP/trunk-1", "", "s-1.1", "s-1.1", "", ""),
    ("ANSWER", 0.01, "139001", "PJSIP/trunk-1", "Answer", "s-1.1", "s-1.1", "", ""),
    (
        "CtidCall",
        0.02,
        "139001",
        "PJSIP/trunk-1",
        "",
        "s-1.1",
        "s-1.1",
        "CtidCall",
        f'{{"extra":"{UUID} x 0 y"}}',
    ),
    ("APP_START", 0.05, "139001", "PJSIP/trunk-1", "Queue", "s-1.1", "s-1.1", "", ""),
    ("CHAN_START", 0.1, "3001", "PJSIP/3001-2", "", "s-1.2", "s-1.1", "", ""),
    ("ANSWER", 2.0, "3001", "PJSIP/3001-2", "AppQueue", "s-1.2", "s-1.1", "", ""),
    ("BRIDGE_ENTER", 2.01, "3001", "PJSIP/3001-2", "", "s-1.2", "s-1.1", "", '{"bridge_id":"b"}'),
    ("BRIDGE_ENTER", 2.02, "139001", "PJSIP/trunk-1", "", "s-1.1", "s-1.1", "", '{"bridge_id":"b"}'),
    ("BRIDGE_EXIT", 5.0, "139001", "PJSIP/trunk-1", "", "s-1.1", "s-1.1", "", '{"bridge_id":"b"}'),
    ("BRIDGE_EXIT", 5.0, "3001", "PJSIP/3001-2", "", "s-1.2", "s-1.1", "", '{"bridge_id":"b"}'),
    ("CHAN_END", 5.0, "3001", "PJSIP/3001-2", "", "s-1.2", "s-1.1", "", ""),
    ("CHAN_END", 5.1, "139001", "PJSIP/trunk-1", "", "s-1.1", "s-1.1", "", ""),
    ("LINKEDID_END", 5.1, "139001", "PJSIP/trunk-1", "", "s-1.1", "s-1.1", "", ""),
    ("CHAN_START", 10.0, "139002", "PJSIP/trunk-3", "", "s-1.3", "s-1.3", "", ""),
    ("ANSWER", 10.01, "139002", "PJSIP/trunk-3", "Answer", "s-1.3", "s-1.3", "", ""),
    ("APP_START", 10.05, "139002", "PJSIP/trunk-3", "Queue", "s-1.3", "s-1.3", "", ""),
    ("CHAN_END", 14.0, "139002", "PJSIP/trunk-3", "", "s-1.3", "s-1.3", "", ""),
    ("LINKEDID_END", 14.0, "139002", "PJSIP/trunk-3", "", "s-1.3", "s-1.3", "", ""),
    # Asterisk is killed, and starts again at 40.
    ("CHAN_START", 20.0, "139003", "PJSIP/trunk-4", "", "s-1.4", "s-1.4", "", ""),
    ("APP_START", 20.05, "139003", "PJSIP/trunk-4", "Queue", "s-1.4", "s-1.4", "", ""),
]

QUEUE_LOG = f"""{T - 5:.0f}|NONE|NONE|NONE|QUEUESTART|
{T:.0f}|s-1.1|load|NONE|ENTERQUEUE||139001|1
{T + 2:.0f}|s-1.1|load|3001|CONNECT|2|s-1.2|1
{T + 5:.0f}|s-1.1|load|3001|COMPLETECALLER|2|3|1
{T + 10:.0f}|s-1.3|load|NONE|ENTERQUEUE||139002|1
{T + 14:.0f}|s-1.3|load|NONE|ABANDON|1|1|4
{T + 20:.0f}|s-1.4|load|NONE|ENTERQUEUE||139003|1
{T + 40:.0f}|NONE|NONE|NONE|QUEUESTART|
"""

CALLERS = """1-9@127.0.0.2 139001 INVITE {0} 0.0
1-9@127.0.0.2 139001 UP {0} 10000.0
1-9@127.0.0.2 139001 BYE {1} 100000.0
"""


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(T, UTC) + timedelta(seconds=seconds)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Books in which nothing is wrong."""
    lines = []
    for event, after, number, channel, app, uniqueid, linkedid, user, extra in CEL:
        words = (
            event,
            f"{T + after:.6f}",
            number,
            "4901",
            "x",
            channel,
            app,
            "",
            uniqueid,
            linkedid,
            "",
            user,
        )
        words = (*words, extra, "name")
        lines.append(",".join('"' + word.replace('"', '""') + '"' for word in words))
    (tmp_path / "cel.csv").write_text("\n".join([*lines, ""]))
    (tmp_path / "queue_log").write_text(QUEUE_LOG)
    (tmp_path / "callers").mkdir()
    (tmp_path / "callers" / "1.calls").write_text(CALLERS.format(f"{T:.6f}", f"{T + 5:.6f}"))
    file = tmp_path / "recordings" / PLACE
    file.parent.mkdir(parents=True)
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000 * 4 * 3))
    return tmp_path


@pytest.fixture
async def told(database: Database, folder: Path) -> AsyncIterator[asyncpg.Connection]:
    """A database in which the truth is told, about all three callers."""
    connection = await asyncpg.connect(database.address().get_secret_value())
    call = """insert into call
        (system, call, caller_number, began_at, ended_at, answered, participants, end_reason)"""
    for row in (
        ("s-1.1", "139001", at(0), at(5.1), True, ["PJSIP/3001", "PJSIP/trunk"], "hangup"),
        ("s-1.3", "139002", at(10), at(14), False, ["PJSIP/trunk"], "hangup"),
        ("s-1.4", "139003", at(20), at(20.1), False, ["PJSIP/trunk"], "asterisk_lost"),
    ):
        await connection.execute(f"{call} values ('s', $1, $2, $3, $4, $5, $6, $7)", *row)
    visit = "insert into queue_visit (system, call, leg, queue, joined_at, outcome, waited, agent, agent_leg)"
    for row in (
        ("s-1.1", at(0.06), "answered", timedelta(seconds=2), "3001", "s-1.2"),
        ("s-1.3", at(10.06), "abandoned", timedelta(seconds=3.9), "", ""),
        ("s-1.4", at(20.06), "unknown_end", timedelta(seconds=1), "", ""),
    ):
        await connection.execute(f"{visit} values ('s', $1, $1, 'load', $2, $3, $4, $5, $6)", *row)
    await connection.execute(
        """insert into talk (system, call, leg, began_at, ended_at, agent)
        values ('s', 's-1.1', 's-1.2', $1, $2, '3001')""",
        *(at(2), at(5)),
    )
    content = (folder / "recordings" / PLACE).read_bytes()
    await connection.execute(
        """insert into recording
        (recording, system, call, began_at, result, path, duration, size_bytes, sha256)
        values ($1, 's', 's-1.1', $2, 'complete', $3, $4, $5, $6)""",
        *(UUID, at(0), PLACE, timedelta(seconds=3), len(content), hashlib.sha256(content).hexdigest()),
    )
    yield connection
    await connection.close()


def read(folder: Path) -> books.Books:
    return books.read(
        cel=folder / "cel.csv",
        queue_log=folder / "queue_log",
        recordings=folder / "recordings",
        callers=[folder / "callers"],
    )


async def differences(database: Database, folder: Path) -> list[str]:
    return await audit(database.address().get_secret_value(), read(folder))


async def test_finds_nothing_where_nothing_is_wrong(
    database: Database, told: asyncpg.Connection, folder: Path
) -> None:
    assert await differences(database, folder) == []


PLANTED = {
    "delete from call where call = 's-1.3'": "L1: call s-1.3 of 139002 has 0 rows",
    "delete from call where call = 's-1.1'": "L1: caller 139001 was answered, but has 0 call rows",
    "update call set system = 'x', call = 's-9.9' where call = 's-1.3'": (
        "L1: call s-9.9 has a row, but CEL does not know it"
    ),
    "insert into call (system, call, end_reason) values ('other', 's-1.3', 'hangup')": (
        "L1: call s-1.3 of 139002 has 2 rows"
    ),
    "update call set ended_at = null where call = 's-1.1'": "L1: call s-1.1: has not ended",
    "update call set ended_at = ended_at + interval '3 s' where call = 's-1.3'": (
        "L1: call s-1.3: ended 3.000 s from LINKEDID_END"
    ),
    "update call set began_at = began_at - interval '2 s' where call = 's-1.3'": (
        "L1: call s-1.3: began 2.000 s from CHAN_START"
    ),
    "update call set began_at = null where call = 's-1.3'": "L1: call s-1.3: has no beginning",
    "update call set end_reason = 'unseen' where call = 's-1.3'": (
        "L1: call s-1.3: ended as unseen, but CEL saw its end"
    ),
    "update call set end_reason = 'unseen' where call = 's-1.4'": (
        "L1: call s-1.4: died with Asterisk, but ended as unseen"
    ),
    "update call set ended_at = ended_at + interval '1 min' where call = 's-1.4'": (
        "L1: call s-1.4: died with Asterisk, but ended 60.0 s after the last evidence"
    ),
    "update call set participants = '{PJSIP/trunk}' where call = 's-1.1'": (
        "L1: call s-1.1: participants ['PJSIP/trunk'], CEL says ['PJSIP/3001', 'PJSIP/trunk']"
    ),
    "update call set answered = true where call = 's-1.3'": (
        "L1: call s-1.3: answered is True, CEL says False"
    ),
    "update call set merged_into = 's-1.1' where call = 's-1.3'": (
        "L1: call s-1.3: merged into s-1.1, CEL says nothing"
    ),
    "insert into call (system, call, began_at, end_reason)"
    " values ('s', 's-9.8', '2026-11-25T03:00:00Z', 'asterisk_lost')": (
        "L1: call s-9.8 has a row, but CEL does not know it"
    ),
    "update talk set agent = '3002'": "L1: talk on s-1.2 of 3002, queue_log says 3001",
    "update talk set ended_at = null": "L1: talk on s-1.2 has not ended",
    "insert into talk (system, call, leg, began_at, agent)"
    " values ('s', 's-1.1', 's-1.9', '2026-11-25T02:00:00Z', '3001')": "L1: talk on s-1.9 without CONNECT",
    "delete from talk": "L1: talk on s-1.2 of call s-1.1: 0 rows",
    "update talk set began_at = began_at + interval '2 s'": "L1: talk on s-1.2 began 2.000 s from ANSWER",
    "delete from queue_visit where call = 's-1.3'": f"L2: load: s-1.3 entered at {T + 10:.0f} and has no row",
    "update queue_visit set outcome = 'timeout' where call = 's-1.3'": (
        "L2: load: s-1.3: outcome timeout, queue_log says abandoned"
    ),
    "update queue_visit set outcome = null where call = 's-1.1'": (
        "L2: load: s-1.1: outcome waiting, queue_log says answered"
    ),
    "update queue_visit set outcome = 'abandoned' where call = 's-1.4'": (
        "L2: load: s-1.4: outcome abandoned, queue_log says unknown_end"
    ),
    "update queue_visit set agent = '3002' where call = 's-1.1'": (
        "L2: load: s-1.1: answered by 3002, queue_log says 3001"
    ),
    "update queue_visit set waited = interval '9 s' where call = 's-1.3'": (
        "L2: load: s-1.3: waited 0:00:09, queue_log says 4 s"
    ),
    "update queue_visit set joined_at = joined_at + interval '3 s' where call = 's-1.3'": (
        "L2: load: s-1.3: joined 3.060 s from ENTERQUEUE"
    ),
    "insert into queue_visit (system, call, leg, queue, joined_at, outcome) values"
    " ('s', 's-1.3', 's-1.3', 'load', '2026-11-25T02:00:00Z', 'answered')": (
        "L2: load: a row of s-1.3 at 02:00:00 without ENTERQUEUE"
    ),
    "delete from queue_visit where call = 's-1.1'": "L2: load: 0 answered in the quarter of",
    "delete from recording": f"L3: file {PLACE} has no row",
    "update recording set result = null": f"L3: recording {UUID} is not filed",
    "update recording set sha256 = 'x'": f"L3: recording {UUID}: sha256 differs",
    "update recording set size_bytes = 44": f"L3: recording {UUID}: 44 bytes, the file has 96044",
    "update recording set duration = interval '4 s'": (
        f"L3: recording {UUID}: duration 0:00:04, the file lasts 3.00 s"
    ),
    "update recording set path = '2026/11/25/x.wav'": f"L3: recording {UUID}: no file 2026/11/25/x.wav",
    "update recording set path = ''": f"L3: recording {UUID} is complete without a file",
    "update recording set call = 's-1.3'": f"L3: recording {UUID} belongs to call s-1.1, not s-1.3",
    f"update recording set recording = '{UUID[:-1]}5'": f"L3: call s-1.1 was recorded as {UUID}, no row",
}


@pytest.mark.parametrize("sql", PLANTED, ids=lambda sql: sql[:60])
async def test_finds_what_is_planted(
    database: Database, told: asyncpg.Connection, folder: Path, sql: str
) -> None:
    await told.execute(sql)
    found = await differences(database, folder)
    assert any(text.startswith(PLANTED[sql]) for text in found), found


async def test_a_call_that_goes_on_may_not_have_ended(
    database: Database, told: asyncpg.Connection, folder: Path
) -> None:
    log = folder / "queue_log"
    log.write_text("\n".join([*log.read_text().splitlines()[:-1], ""]))
    found = await differences(database, folder)
    assert "L1: call s-1.4: has ended, but CEL does not say so" in found
    assert "L2: load: s-1.4: outcome unknown_end, queue_log says waiting" in found


async def test_a_caller_whom_only_sipp_knows(
    database: Database, told: asyncpg.Connection, folder: Path
) -> None:
    with (folder / "callers" / "1.calls").open("a") as log:
        log.write("2-9@127.0.0.2 139009 UP 1.0 0.0\n")
    found = await differences(database, folder)
    assert "L1: caller 139009 was answered, but has 0 call rows" in found
    assert "L1: caller 139009 was answered, but CEL has 0 calls of his" in found


async def test_a_file_without_a_row(database: Database, told: asyncpg.Connection, folder: Path) -> None:
    (folder / "recordings" / f"{UUID[:-1]}7-caller.wav").write_bytes(b"RIFF")
    assert await differences(database, folder) == [f"L3: Asterisk's files of {UUID[:-1]}7 have no row"]


def test_a_torn_line_is_left_out_and_counted(folder: Path) -> None:
    with (folder / "cel.csv").open("a") as file:
        file.write('"CHAN_START","179557\n')
    with (folder / "queue_log").open("a") as file:
        file.write("17955|s-1\n")
    whole = read(folder)
    assert (whole.torn, len(whole.cel), len(whole.queue_lines)) == (2, len(CEL), 8)


def test_shares_no_code_with_ctid() -> None:
    program = (
        "import sys, tests.faults.auditor\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('ctid', 'lab')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
