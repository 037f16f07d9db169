"""What really happened, told by whoever made it happen: one JSON line per call, visit and talk.

A line is written when its subject is over, so each line is final; what is still going on when
Asterisk dies is over at that instant, with ``end`` ``asterisk_lost``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import IO, Any

Record = dict[str, Any]


class Truth:
    """The journal.

    Args:
        file: Where lines are appended; ``None``: only kept.

    Attributes:
        told: Every line so far; only without a file.
        counts: Lines so far, by kind.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.told: list[Record] = []
        self.counts = {"call": 0, "visit": 0, "talk": 0}
        self._file: IO[str] | None = file.open("a", encoding="utf-8") if file else None
        self._open: dict[tuple[str, str], Record] = {}

    @property
    def is_over(self) -> bool:
        """Nothing is going on."""
        return not self._open

    def began(self, kind: str, key: str, at: datetime, **more: object) -> None:
        """A call (key: Linkedid), visit (key: the caller's leg) or talk (key: the agent's leg) began."""
        self._open[kind, key] = {"kind": kind, "began": at.isoformat(), **more}

    def ended(self, kind: str, key: str, at: datetime, **more: object) -> None:
        """It is over; does nothing if it never began."""
        record = self._open.pop((kind, key), None)
        if record is not None:
            self._tell({**record, "ended": at.isoformat(), **more})

    def lose_all(self, at: datetime) -> None:
        """Asterisk is gone, and everything with it."""
        lost, self._open = self._open, {}
        for (kind, _), record in lost.items():
            outcome = {"outcome": "unknown_end", "agent": ""} if kind == "visit" else {}
            self._tell({**record, "ended": at.isoformat(), "end": "asterisk_lost", **outcome})
        self.flush()

    def _tell(self, record: Record) -> None:
        self.counts[record["kind"]] += 1
        if self._file is None:
            self.told.append(record)
        else:
            self._file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def flush(self) -> None:
        """Hand everything to the kernel."""
        if self._file is not None:
            self._file.flush()


def read(file: Path) -> list[Record]:
    """Read a journal back."""
    return list(map(json.loads, file.read_text(encoding="utf-8").splitlines()))


def of_kind(records: Iterable[Record], kind: str) -> list[Record]:
    """Return the records of one kind."""
    return [record for record in records if record["kind"] == kind]
