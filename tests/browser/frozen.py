"""A Chromium of its own whose tabs can really freeze.

Playwright keeps every tab it drives "focused", and Chromium freezes hidden tabs only; so this
one is driven by the few messages of the DevTools protocol that are needed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from lab.browser import chromium


class NotLoaded(Exception):
    """The page is being loaded: nothing can be asked of it yet."""


class FreezableTab:
    """One background tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = count(1)
        self._session = ""

    async def open(self, url: str) -> None:
        target = await self._call("Target.createTarget", url=url)
        attached = await self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; a promise is awaited."""
        answer = await self._call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        async with asyncio.timeout(20):
            while not await self._is(expression):
                await asyncio.sleep(0.02)

    async def _is(self, expression: str) -> bool:
        try:
            return bool(await self.evaluate(expression))
        except NotLoaded:
            return False

    async def freeze(self) -> None:
        await self._call("Page.setWebLifecycleState", state="frozen")

    async def thaw(self) -> None:
        await self._call("Page.setWebLifecycleState", state="active")

    async def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        await self._socket.send_json(message)
        while (answer := await self._socket.receive_json()).get("id") != number:
            pass
        if "context" in answer.get("error", {}).get("message", ""):
            raise NotLoaded(method)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return dict(answer["result"])


@asynccontextmanager
async def freezable_tab(url: str, folder: Path, *words: str) -> AsyncIterator[FreezableTab]:
    """Start a Chromium with these further words, open ``url`` in it, and end it after the block."""
    browser = await asyncio.create_subprocess_exec(
        chromium(),
        "--headless",
        "--no-sandbox",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        *words,
        "about:blank",
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        address = await _address(browser)
        async with aiohttp.ClientSession() as http, http.ws_connect(address, max_msg_size=0) as socket:
            tab = FreezableTab(socket)
            await tab.open(url)
            yield tab
    finally:
        browser.terminate()
        await browser.communicate()


async def _address(browser: asyncio.subprocess.Process) -> str:
    assert browser.stderr is not None
    async with asyncio.timeout(20):
        while line := (await browser.stderr.readline()).decode(errors="replace"):
            if found := re.search(r"DevTools listening on (ws://\S+)", line):
                return found[1]
    raise AssertionError("Chromium did not start")
