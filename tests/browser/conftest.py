"""A real Chromium, one for all tests of a module, on the page of a running web daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from lab.browser import chromium, lend_libraries
from tests.fakes_web import WebDaemon, running

#: What a reload would show again, so what two tabs must have in common: everything but
#: the passing of time.
STATE = """() => {
  const main = document.querySelector("main").cloneNode(true);
  for (const node of main.querySelectorAll("[data-since],[data-until]")) node.textContent = "";
  for (const node of main.querySelectorAll("[data-late]")) node.removeAttribute("data-late");
  const { phase, connection, takesCalls } = document.body.dataset;
  const banner = document.getElementById("banner").textContent;
  return JSON.stringify({ phase, connection, takesCalls, banner }) + main.outerHTML;
}"""

WATCH = """addEventListener("securitypolicyviolation",
  (event) => console.error("CSP " + event.violatedDirective + " " + event.blockedURI));"""


@dataclass
class Tab:
    """One tab, and everything that went wrong in it.

    Attributes:
        wrong: Page errors, console errors, dialogs, requests to elsewhere.
    """

    page: Page
    url: str
    wrong: list[str] = field(default_factory=list)

    async def state(self) -> str:
        return str(await self.page.evaluate(STATE))

    async def texts(self, selector: str) -> list[str]:
        return [text.strip() for text in await self.page.locator(selector).all_inner_texts()]

    async def shows(self, selector: str, *, within: float = 15.0) -> None:
        await self.page.wait_for_selector(selector, timeout=within * 1000)

    async def hides(self, selector: str, *, within: float = 15.0) -> None:
        await self.page.wait_for_selector(selector, state="detached", timeout=within * 1000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    lend_libraries()
    async with async_playwright() as playwright:
        # No sandbox: tests may run as root, and only our own page is opened.
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def daemon() -> AsyncIterator[WebDaemon]:
    async with running(WebDaemon()) as daemon:
        yield daemon


class Desk:
    """Opens tabs on the daemon's page."""

    def __init__(self, browser: Browser, daemon: WebDaemon) -> None:
        self._browser = browser
        self.daemon = daemon

    async def blank(self, **options: Any) -> Tab:
        """Open a browser of its own (no cookie shared) on the page."""
        options = {"locale": "en", "viewport": {"width": 1366, "height": 768}, **options}
        context = await self._browser.new_context(**options)
        await context.add_init_script(WATCH)
        tab = self._watched(await context.new_page())
        await tab.page.goto(self.daemon.url)
        return tab

    async def signed_in(self, token: str = "token-201", **options: Any) -> Tab:
        """Open a browser of its own and sign in."""
        tab = await self.blank(**options)
        await tab.shows("#sign-in:visible")
        await tab.page.fill("#token", token)
        await tab.page.keyboard.press("Enter")
        await tab.shows("body[data-phase=signed_in][data-connection=live] .queue")
        return tab

    async def twin(self, tab: Tab) -> Tab:
        """Open a second tab in the same browser, signed in by its cookie."""
        twin = self._watched(await tab.page.context.new_page())
        await twin.page.goto(self.daemon.url)
        await twin.shows("body[data-phase=signed_in][data-connection=live] .queue")
        return twin

    def _watched(self, page: Page) -> Tab:
        tab = Tab(page, self.daemon.url)
        page.on("pageerror", lambda error: tab.wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: tab.wrong.append(f"dialog: {dialog.message}"))
        page.on("console", lambda said: said.type == "error" and tab.wrong.append(f"console: {said.text}"))
        page.on(
            "request",
            lambda request: request.url.startswith(self.daemon.url) or tab.wrong.append(f"to: {request.url}"),
        )
        return tab


@pytest_asyncio.fixture(loop_scope="module")
async def desk(browser: Browser, daemon: WebDaemon) -> AsyncIterator[Desk]:
    yield Desk(browser, daemon)
    for context in browser.contexts:
        await context.close()
