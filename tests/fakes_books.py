"""Asterisk's books, taken from recorded traces: with CEL on AMI a trace holds the file's records, too."""

from __future__ import annotations

import gzip
import json
import re
from datetime import UTC, datetime
from pathlib import Path

from ctid.books.cel import CelEvent
from ctid.books.queue_log import QueueLine, parse

TRACES = Path(__file__).parent / "traces"
#: Traces whose queue_log lines were not kept: with CEL alone there is no queue.
WITHOUT_QUEUE_LOG = {"22/webrtc_agent", "16/webrtc_agent"}


def recorded(name: str) -> tuple[list[CelEvent], list[QueueLine]]:
    """Return what both books said in a trace, e.g. ``22/answered``."""
    text = gzip.decompress((TRACES / f"{name}.txt.gz").read_bytes()).decode(errors="replace")
    records = [_record(block) for block in text.split("\n\n") if "Event: CEL\n" in block]
    lines = (parse(line[5:].encode()) for line in text.splitlines() if re.match(r"#### \d+\|", line))
    return records, [line for line in lines if line is not None]


def _record(block: str) -> CelEvent:
    headers = {}
    for line in block.splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            headers[name] = value.strip()
    return CelEvent(
        at=datetime.fromtimestamp(float(headers["Timestamp"]), UTC),
        kind=headers["EventName"],
        number=headers["CallerIDnum"],
        name=headers["CallerIDname"],
        exten=headers["Exten"],
        context=headers["Context"],
        channel=headers["Channel"],
        application=headers["Application"],
        arguments=headers["AppData"],
        uniqueid=headers["UniqueID"],
        linkedid=headers["LinkedID"],
        peer=headers["Peer"],
        user_kind="",
        extra=json.loads(headers["Extra"]) if headers["Extra"] else {},
    )


def as_csv(record: CelEvent) -> str:
    """Write a record as config/asterisk/cel_custom.conf has Asterisk write it."""
    extra = json.dumps(record.extra, ensure_ascii=False) if record.extra else ""
    fields = (
        record.user_kind if record.kind == "USER_DEFINED" else record.kind,
        f"{record.at.timestamp():.6f}",
        record.number,
        record.exten,
        record.context,
        record.channel,
        record.application,
        record.arguments,
        record.uniqueid,
        record.linkedid,
        record.peer,
        record.user_kind,
        extra,
        record.name,
    )
    return ",".join('"' + field.replace('"', '""') + '"' for field in fields) + "\n"


def as_line(line: QueueLine) -> str:
    """Write a line of queue_log."""
    head = f"{int(line.at.timestamp())}|{line.call}|{line.queue}|{line.agent}|{line.verb}"
    return "|".join([head, *line.data]) + "\n"


def write_books(folder: Path, *names: str) -> tuple[Path, Path]:
    """Write what both books said in some traces into two files, in the order of time.

    Returns:
        CEL, queue_log.
    """
    records: list[CelEvent] = []
    lines: list[QueueLine] = []
    for name in names:
        some, more = recorded(name)
        records += some
        lines += more
    cel, queue_log = folder / "ctid.csv", folder / "queue_log"
    with cel.open("a") as book:
        book.writelines(as_csv(record) for record in sorted(records, key=lambda record: record.at))
    with queue_log.open("a") as book:
        book.writelines(as_line(line) for line in sorted(lines, key=lambda line: line.at))
    return cel, queue_log
