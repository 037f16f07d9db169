"""Whether a book can be read and is written as ours are: what ``ctid check`` wants to know."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from ctid.books import cel
from ctid.books.queue_log import QueueLines
from ctid.books.volumes import Volume

TAIL: Final = 64 * 1024
"""Bytes at the end of the file that are looked at."""

_CEL_FILES: Final = "config/asterisk/cel.conf and cel_custom.conf"

Level = Literal["ok", "warning", "problem"]
Condition = tuple[Level, str]
"""How bad it is; what it is and what to do, or the file if all is well."""


def of_queue_log(path: Path | None) -> Condition:
    """Look at queue_log; ``None``: the settings name none."""
    if path is None:
        return "warning", "none named: calls that AMI missed are neither found again nor proved"
    return _look(
        path, _judge_queue_log, "problem", "queue_log_to_file = yes in logger.conf, then: logger reload"
    )


def of_cel(path: Path | None) -> Condition:
    """Look at the CEL file; ``None``: the settings name none."""
    if path is None:
        return "warning", "none named: calls that AMI missed are neither found again nor proved"
    missing: Level = "warning" if path.parent.is_dir() else "problem"
    remedy = f"written at the first call, if Asterisk has {_CEL_FILES} and the module cel_custom is loaded"
    return _look(path, _judge_cel, missing, remedy)


def _look(path: Path, judge: Callable[[Path, bytes], Condition], missing: Level, remedy: str) -> Condition:
    try:
        volume = Volume(path)
    except FileNotFoundError:
        return missing, f"{path} does not exist; {remedy}"
    except OSError as error:
        return "problem", f"{path}: {error.strerror}; let ctid's user read it (group asterisk, mode 0640)"
    size = volume.size_bytes
    tail = volume.read_at(max(0, size - TAIL), TAIL)
    volume.close()
    if not os.access(path.parent, os.R_OK):
        folder = path.parent
        return (
            "problem",
            f"{folder}: no right to list it, so rotated files are not found; mode 0750, group asterisk",
        )
    return judge(path, tail) if tail.strip(b"\0\r\n") else ("ok", f"{path} (empty)")


def _judge_queue_log(path: Path, tail: bytes) -> Condition:
    if b"\n" in tail and not QueueLines().feed(tail):
        return "problem", f"{path}: no line in it is one of a queue_log; name the right file"
    return "ok", str(path)


def _judge_cel(path: Path, tail: bytes) -> Condition:
    count = cel.count_fields(tail)
    if count == cel.FIELDS:
        return "ok", str(path)
    if count == cel.FIELDS - 1:
        return "warning", f"{path}: records have 13 fields, callers' names are missing; take {_CEL_FILES}"
    what = f"records have {count} fields, not {cel.FIELDS}" if count else "no record in it is written as ours"
    return (
        "problem",
        f"{path}: {what}; take {_CEL_FILES}, without a dateformat, then: module reload cel_custom",
    )
