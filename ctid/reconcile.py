"""``ctid reconcile``: settings in, a comparison with Asterisk's books out."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from ctid import settings
from ctid.books.comparison import Outcome, compare
from ctid.errors import SettingsError
from ctid.routing import policy as policies
from ctid.store.pool import Pool


async def run(
    config: Path, *, since: datetime, until: datetime, queue: str = "", system: str | None = None
) -> Outcome:
    """Compare a period; see ``books.comparison.compare``.

    Raises:
        SettingsError: Settings, policy or the books can not be read.
        StoreUnavailable: PostgreSQL is away.
    """
    loaded = settings.load(config)
    policy = policies.load(loaded.policy)
    cel, queue_log = loaded.asterisk.cel, loaded.asterisk.queue_log
    if cel is None or queue_log is None:
        raise SettingsError(
            [f"{config}: asterisk.cel and asterisk.queue_log: name both files to compare with"]
        )
    if since >= until:
        raise SettingsError([f"--since {since:%F %T} is not before --until {until:%F %T} (UTC)"])
    async with Pool(loaded.database) as pool:
        try:
            return await compare(
                pool,
                cel,
                queue_log,
                since=since,
                until=until,
                rules=policy.rules(),
                agents=policy.interfaces(),
                queue=queue,
                system=system,
            )
        except OSError as error:
            raise SettingsError(
                [f"{config}: {error.filename or cel}: {error.strerror}; let ctid read it"]
            ) from error
