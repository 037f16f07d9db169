"""How the softphone looks, and what it says when it can not work: no Asterisk is needed for that."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from ctid.settings import Phone
from tests.browser.conftest import Desk, Tab
from tests.browser.test_page import assert_sound
from tests.fakes_web import WebDaemon, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROBLEMS = ("", "insecure", "none", "denied", "ask", "busy", "other")
LOOKS = list(itertools.product(("zh-CN", "en"), ((1366, 768), (1920, 1080), (390, 844)), ("light", "dark")))

#: The page's own module, put into one of its states.
PUT = """async ([what, value]) => {
  const { phone, changed } = await import("/ui/phone.js");
  phone[what] = value;
  changed();
  await new Promise(requestAnimationFrame);
}"""
CALL = {
    "state": "talking",
    "number": "13812345678",
    "name": "成都锦江区某某物业管理有限公司",
    "since": "2026-01-01T00:00:00Z",
    "isHeld": False,
    "isMuted": False,
    "isBusy": False,
}
BOXES = """[...document.querySelectorAll("#phone, #pops-empty, #phone :is(.main-keys, .digits) button")]
  .map((node) => JSON.stringify(node.getBoundingClientRect()))"""

IS_WHOLE = """(() => {
  const line = document.querySelector("#phone .line");
  return line.textContent !== "" && line.scrollWidth <= line.clientWidth;
})()"""


@pytest_asyncio.fixture(loop_scope="module")
async def phone_desk(browser: Browser, tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk with a softphone whose Asterisk is away, in a browser without a microphone."""
    file = tmp_path / "phones.toml"
    file.touch(mode=0o600)
    file.write_text('201 = "a password"\n')
    async with running(WebDaemon(phone=Phone(address="wss://127.0.0.1:9/ws", passwords_file=file))) as daemon:
        yield Desk(browser, daemon)
        for context in browser.contexts:
            await context.close()


async def opened(desk: Desk, language: str = "en", **options: object) -> Tab:
    tab = await desk.blank(locale=language, permissions=["microphone"], **options)
    await tab.page.evaluate("language => localStorage.setItem('ctid.language', language)", language)
    await tab.shows("#sign-in:visible")
    await tab.page.fill("#token", "token-201")
    await tab.page.keyboard.press("Enter")
    await tab.shows("#phone:visible")
    return tab


async def test_without_a_microphone_the_page_says_what_to_do(phone_desk: Desk) -> None:
    tab = await opened(phone_desk)
    await tab.shows("#phone .help:not(.covered)")
    assert await tab.texts("#phone .help p") == ["No microphone found. Plug your headset in."]
    await tab.page.click("#phone .help button")
    assert await tab.texts("#phone .help p") == ["No microphone found. Plug your headset in."]


async def test_without_the_setting_or_a_password_there_is_no_softphone(phone_desk: Desk) -> None:
    other = await phone_desk.signed_in("token-202")
    await other.page.wait_for_timeout(500)
    assert not await other.page.is_visible("#phone")
    assert other.wrong == []


@pytest.mark.parametrize(("language", "size", "scheme"), LOOKS)
async def test_looks(phone_desk: Desk, language: str, size: tuple[int, int], scheme: str) -> None:
    """Nothing sticks out, all can be read, and whatever happens nothing moves."""
    viewport = {"width": size[0], "height": size[1]}
    tab = await opened(phone_desk, language, viewport=viewport, color_scheme=scheme)
    await tab.shows("#phone .help:not(.covered)")
    await tab.page.evaluate(PUT, ["isMute", False])
    before = await tab.page.evaluate(BOXES)
    for problem in PROBLEMS:
        await tab.page.evaluate(PUT, ["problem", problem])
        assert await tab.page.evaluate(BOXES) == before, problem
        await assert_sound(tab.page)
    await tab.page.evaluate(PUT, ["problem", ""])
    for change in ({"state": "ringing"}, {}, {"isMuted": True}, {"isHeld": True}):
        await tab.page.evaluate(PUT, ["call", CALL | change])
        assert await tab.page.evaluate(BOXES) == before, change
        await assert_sound(tab.page)
    await tab.page.evaluate(PUT, ["consult", CALL | {"number": "1002", "name": ""}])
    assert await tab.page.evaluate(BOXES) == before
    for notice in ("transfer_failed", "call_failed", ""):
        await tab.page.evaluate(PUT, ["notice", notice])
        assert await tab.page.evaluate(BOXES) == before, notice
        assert not notice or await tab.page.evaluate(IS_WHOLE), notice
        await assert_sound(tab.page)
    await tab.page.evaluate(PUT, ["consult", None])
    for line in ("registered", "refused", "failed", "connecting"):
        await tab.page.evaluate(PUT, ["line", line])
        assert await tab.page.evaluate(BOXES) == before, line
        assert await tab.page.evaluate(IS_WHOLE), line
        await assert_sound(tab.page)


async def test_every_act_has_a_key_that_is_written_on_it(phone_desk: Desk) -> None:
    tab = await opened(phone_desk)
    shown = await tab.page.eval_on_selector_all(
        "#phone [aria-keyshortcuts]",
        """all => all.map((one) =>
          [one.getAttribute('aria-keyshortcuts'), one.querySelector('kbd').textContent])""",
    )
    assert sorted(key for key, _ in shown) == [f"Alt+{key}" for key in "ABCHMOT"]
    assert all(key == text for key, text in shown)
    await tab.page.keyboard.press("Alt+n")
    assert await tab.page.evaluate("document.activeElement.matches('#phone input[type=tel]')")
