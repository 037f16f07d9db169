"""Files of ours that are replaced as a whole: whoever reads one sees the old text or the new, never half."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(file: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace ``file``, durably.

    Raises:
        OSError: It can not be written; the old one is there still.
    """
    fresh = file.with_name(f"{file.name}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)
