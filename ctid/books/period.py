"""What a book holds of a period, rotated and compressed files included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from ctid.books.volumes import R, Reader, Volume, best_copy, close, in_order, volumes

CHUNK: Final = 256 * 1024
"""Bytes."""

SLACK: Final = timedelta(minutes=1)
"""How much later than its neighbours a record may stand in the book."""


def read_period(
    path: Path,
    reader: Callable[[], Reader[R]],
    since: datetime,
    until: datetime,
    *,
    on_damage: Callable[[Path, int], None] = lambda path, places: None,
) -> Iterator[R]:
    """Yield the records of [since, until), from all files of the book, oldest file first.

    ``since`` counts as a whole second, for that is how queue_log tells the time.

    Args:
        on_damage: Told of each file in which something could not be read, and in how many places.

    Raises:
        OSError: The book can not be read; rotated files without a right to read are left out.
    """
    opened = volumes(path)
    try:
        since = since.replace(microsecond=0)
        for volume in _holding(_distinct(opened, path, reader), reader, since, until):
            cutter = reader()
            for record in _all_of(volume, cutter):
                if since <= record.at < until:
                    yield record
            if volume.path != path:
                cutter.finish()  # nobody writes to it any more
            if places := cutter.damaged + volume.is_broken:
                on_damage(volume.path, places)
    finally:
        close(opened)


def _distinct(opened: list[Volume], path: Path, reader: Callable[[], Reader[R]]) -> list[Volume]:
    """Return one of each, oldest first; copies, and what is just being compressed, only once."""
    ordered = in_order(opened, path, reader)
    return [volume for volume in ordered if best_copy(ordered, volume, path) is volume]


def _holding(
    ordered: list[Volume], reader: Callable[[], Reader[R]], since: datetime, until: datetime
) -> Iterator[Volume]:
    began = [volume.order(reader)[0] for volume in ordered]
    for place, volume in enumerate(ordered):
        is_before = place + 1 < len(ordered) and began[place + 1] < since - SLACK
        if not is_before and began[place] < until + SLACK:
            yield volume


def _all_of(volume: Volume, reader: Reader[R]) -> Iterator[R]:
    offset = 0
    while data := volume.read_at(offset, CHUNK):
        offset += len(data)
        yield from reader.feed(data)
