"""Files of ours that are replaced as a whole: whoever reads one sees the old text or the new, never half."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(file: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace ``file``, durably: what is done afterwards is on disk only if this is.

    Raises:
        OSError: It can not be written; the old one is there still.
    """
    fresh = file.with_name(f"{file.name}.new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(file)
        sync_folder(file.parent)
    except OSError:
        fresh.unlink(missing_ok=True)  # half of it would take room on a full disk
        raise


def sync_folder(folder: Path) -> None:
    """Make durable which files are in a folder."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
