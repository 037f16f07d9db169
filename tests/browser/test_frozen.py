"""F21, NethServer#7753: a tab that stood still must not show, or ring for, a call that is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.browser.frozen import FreezableTab, freezable_tab
from tests.fakes_web import WebDaemon, ended, moment, offer, running

RINGING = "document.querySelectorAll('.pop[data-state=ringing]').length"

#: Notes how many pops ring whenever anything on the page changes, and when it freezes.
WATCH = f"""(() => {{
  window.seen = [];
  const look = (what) => seen.push(what + " " + {RINGING});
  new MutationObserver(() => look("changed")).observe(document.body, {{ subtree: true, childList: true }});
  for (const what of ["freeze", "resume"]) document.addEventListener(what, () => look(what));
}})()"""

SIGN_IN = """fetch("/api/v1/session", {
  method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({token: "token-201"}),
}).then((answer) => answer.status)"""


@pytest.fixture
async def daemon() -> AsyncIterator[WebDaemon]:
    async with running(WebDaemon()) as daemon:
        yield daemon


@pytest.fixture
async def tab(daemon: WebDaemon, tmp_path: Path) -> AsyncIterator[FreezableTab]:
    """A background tab, signed in, with one pop ringing."""
    async with freezable_tab(daemon.url, tmp_path) as tab:
        await tab.until("document.body?.dataset.phase === 'signed_out'")
        assert await tab.evaluate(SIGN_IN) == 200
        await tab.evaluate("location.reload()")
        await tab.until("document.body?.dataset.connection === 'live'")
        yield tab


async def test_another_agent_answers_while_the_tab_is_frozen(daemon: WebDaemon, tab: FreezableTab) -> None:
    made = offer("c", "201")
    await daemon.pops.write([made])
    await tab.until(f"{RINGING} === 1")
    await tab.evaluate(WATCH)
    await tab.freeze()
    await daemon.pops.write([ended(made, "answered_elsewhere")])
    await asyncio.sleep(0.5)
    await tab.thaw()
    await tab.until("document.querySelectorAll('#missed li').length === 1")
    seen = await tab.evaluate("seen")
    assert any(what.startswith("resume") for what in seen), "the tab was not really frozen"
    after = seen[next(at for at, what in enumerate(seen) if what.startswith("freeze")) :]
    assert [what for what in after if not what.endswith(" 0")] == [], "a dead pop was on the screen"


async def test_what_still_rings_is_back_after_the_thaw(daemon: WebDaemon, tab: FreezableTab) -> None:
    await daemon.pops.write([offer("c", "201")])
    await tab.until(f"{RINGING} === 1")
    await tab.freeze()
    await asyncio.sleep(0.2)
    await tab.thaw()
    await tab.until(f"{RINGING} === 1")


async def test_the_connection_dies_while_the_tab_is_frozen(daemon: WebDaemon, tab: FreezableTab) -> None:
    made = offer("c", "201", name="first")
    await daemon.pops.write([made])
    await tab.until(f"{RINGING} === 1")
    await tab.freeze()
    for client in tuple(daemon.hub._clients):
        client.transport.abort()
    await daemon.pops.write([ended(made, "no_answer"), offer("d", "201", name="second")])
    await tab.thaw()
    await tab.until(f"{RINGING} === 1 && document.querySelector('.pop .who').textContent === 'second'")
    [missed] = daemon.book.desk("201", moment()).missed
    assert await tab.evaluate("document.querySelector('#missed li').dataset.id") == missed.id
