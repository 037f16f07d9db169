"""SIGHUP: read policy.toml again, and go by it from the next call on.

All or nothing: with any problem in it the old policy stays, and every problem is logged
with file and line, or key. Calls are never touched: what is under way is judged by the rules
in force when each of its parts ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from ctid import settings
from ctid.errors import SettingsError
from ctid.routing import policy as policies
from ctid.routing.policy import Policy
from ctid.settings import Settings

_log = structlog.get_logger()

Adopt = Callable[[Policy], Sequence[str] | None]
"""Go by a policy from now on; return what of it waits for a restart."""


class Reload:
    """Reads anew whenever it is asked to.

    Args:
        config: ctid.toml; read only to say what in it waits for a restart.
        loaded: What is in force.
        policy: What is in force.
        keep: Writes down what must survive; may fail (``OSError``), then nothing changes. In a thread.
        adopt: Who goes by the policy, in this order.
        observe: Told whether it worked.
    """

    def __init__(
        self,
        config: Path | None,
        loaded: Settings,
        policy: Policy,
        *,
        keep: Callable[[Policy], None] = lambda policy: None,
        adopt: Sequence[Adopt],
        observe: Callable[[bool], None] = lambda is_good: None,
    ) -> None:
        self._config = config
        self._loaded = loaded
        self._policy = policy
        self._keep = keep
        self._adopt = adopt
        self._observe = observe
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Read soon; fits ``add_signal_handler``."""
        self._asked.set()

    async def run(self) -> None:
        """Read whenever asked, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.read()

    async def read(self) -> bool:
        """Read now; False: something is wrong with it, and all stays as it was. Never raises."""
        try:
            # Seconds, with many numbers in it: calls go on meanwhile.
            fresh = await asyncio.to_thread(policies.load, self._loaded.policy)
            late = await asyncio.to_thread(self._waiting)
            await asyncio.to_thread(self._keep, fresh)
        except SettingsError as error:
            return self._refused(error.problems)
        except OSError as error:
            return self._refused([str(error)])
        for adopt in self._adopt:
            late += adopt(fresh) or ()
        old, self._policy = self._policy, fresh
        self._observe(True)
        _log.info("policy reloaded", changed=changed(old, fresh))
        for what in [*late, *needs_restart(old, fresh)]:
            _log.warning("this needs a restart", what=what)
        return True

    def _refused(self, problems: Sequence[str]) -> bool:
        for problem in problems:
            _log.error("not reloaded; the old policy stays", problem=problem)
        self._observe(False)
        return False

    def _waiting(self) -> list[str]:
        """Return the tables of ctid.toml that differ from what is in force."""
        if self._config is None:
            return []
        fresh = settings.load(self._config)
        names = [
            name for name in Settings.model_fields if getattr(fresh, name) != getattr(self._loaded, name)
        ]
        return [f"{self._config}: {name}" for name in names]


def changed(old: Policy, new: Policy) -> list[str]:
    """Return the tables of policy.toml that differ."""
    return [name for name in Policy.model_fields if getattr(old, name) != getattr(new, name)]


def needs_restart(old: Policy, new: Policy) -> list[str]:
    """Return what of a new policy is not gone by yet."""
    found = []
    if (old.site.country, old.site.area_code) != (new.site.country, new.site.area_code):
        found.append("policy: site: numbers of callers go on being filed by the old country and area code")
    if old.site.pause_reasons != new.site.pause_reasons:
        found.append("policy: site.pause_reasons: new ones count as other on /metrics")
    if gained := sorted(new.queues.keys() - old.queues.keys()):
        found.append(f"policy: queues: {', '.join(gained)}: count as other on /metrics")
    if gained := sorted(new.agents.keys() - old.agents.keys()):
        found.append(f"policy: agents: {', '.join(gained)}: count as other on /metrics")
    return found
