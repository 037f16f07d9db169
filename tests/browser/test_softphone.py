"""Real phones, a real Asterisk and the softphone in a real Chromium, judged by what each side hears."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Dialog, async_playwright

from ctid.settings import Phone as PhoneSettings
from lab.browser import lend_libraries
from lab.dialog import CallState, PhoneCall
from lab.exchange import TRUNK_IP, Exchange
from lab.phone import Phone, Plan
from lab.ports import free_udp_port
from lab.proxy import FaultProxy
from tests.browser.conftest import Desk
from tests.browser.frozen import FreezableTab, freezable_tab
from tests.browser.softphone import (
    AGENT,
    CALLER,
    COLLEAGUE,
    LOUD,
    MICROPHONE,
    MUSIC,
    QUIET,
    TAP,
    Handset,
    hearing,
    until,
    write_tone,
)
from tests.browser.test_frozen import SIGN_IN
from tests.fakes_web import WebDaemon, running

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

COLLEAGUE_IP = "127.0.0.3"

#: Which track the agent's voice is taken from.
TRACK = """async () => {
  const { phone } = await import("/ui/phone.js");
  return phone.call.session.connection.getSenders()[0].track.id;
}"""

#: Counts the tones that the page starts.
COUNT_TONES = """(() => {
  window.tones = 0;
  const start = OscillatorNode.prototype.start;
  OscillatorNode.prototype.start = function (...at) { tones += 1; return start.apply(this, at); };
})()"""


@pytest.fixture(scope="module")
def colleague_port() -> int:
    return free_udp_port(COLLEAGUE_IP)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory, colleague_port: int) -> Iterator[Exchange]:
    """No daemon decides, so every caller waits in the queue ``overflow`` for the one agent in it."""
    with Exchange(
        folder=tmp_path_factory.mktemp("exchange"),
        agents={"1002": (COLLEAGUE_IP, colleague_port)},
        webrtc_agents=[AGENT],
        members={"overflow": [AGENT]},
    ) as exchange:
        yield exchange


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hearing_browser(
    exchange: Exchange, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Browser]:
    lend_libraries()
    microphone = write_tone(tmp_path_factory.mktemp("sound") / "microphone.wav", MICROPHONE)
    async with async_playwright() as playwright:
        browser = await hearing(playwright, microphone, exchange)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def road(exchange: Exchange) -> AsyncIterator[FaultProxy]:
    """The way from the browser to Asterisk's WebSocket, which can be cut."""
    async with FaultProxy(("127.0.0.1", exchange.https_port)) as road:
        yield road


@pytest_asyncio.fixture(loop_scope="module")
async def phone_desk(hearing_browser: Browser, exchange: Exchange, road: FaultProxy) -> AsyncIterator[Desk]:
    table = exchange.phone_table()
    _, port = cast("tuple[str, int]", road.address)
    settings = PhoneSettings(
        address=f"wss://127.0.0.1:{port}/ws", passwords_file=Path(table["passwords_file"])
    )
    async with running(WebDaemon(phone=settings)) as daemon:
        yield Desk(hearing_browser, daemon)
        for context in hearing_browser.contexts:
            await context.close()
    # A test that failed must not leave its caller to the next one.
    await asyncio.to_thread(exchange.cli, "channel request hangup all")


@pytest_asyncio.fixture(loop_scope="module")
async def handset(phone_desk: Desk) -> Handset:
    return await with_tone(phone_desk)


async def with_tone(desk: Desk) -> Handset:
    """Return the softphone of the agent, registered; nothing cleans its microphone of the tone."""
    tab = await desk.blank(permissions=["microphone"])
    await tab.page.context.add_init_script(TAP)
    await tab.page.evaluate("localStorage.setItem('ctid.phone.cleaned', 'no')")
    await tab.page.reload()
    await tab.shows("#sign-in:visible")
    await tab.page.fill("#token", f"token-{AGENT}")
    await tab.page.keyboard.press("Enter")
    handset = Handset(tab)
    await handset.registered()
    return handset


@pytest_asyncio.fixture(loop_scope="module")
async def caller(exchange: Exchange) -> AsyncIterator[Phone]:
    async with Phone("13812345678", exchange=exchange.sip_address, ip=TRUNK_IP, tone=CALLER) as phone:
        yield phone


@pytest_asyncio.fixture(loop_scope="module")
async def colleague(exchange: Exchange, colleague_port: int) -> AsyncIterator[Phone]:
    """Agent 1002 at a desk phone, who answers."""
    async with Phone(
        "1002",
        exchange=exchange.sip_address,
        ip=COLLEAGUE_IP,
        port=colleague_port,
        tone=COLLEAGUE,
        plan=Plan(answer_after=0.3),
    ) as phone:
        yield phone


async def talking(handset: Handset, caller: Phone) -> PhoneCall:
    """Let a caller come through the queue and answer him by keyboard."""
    call = await caller.dial("4001")
    await handset.is_("ringing")
    await handset.key("Alt+a")
    await handset.is_("talking")
    await until(lambda: call.rtp.heard(MICROPHONE) > LOUD)
    return call


async def test_a_queued_caller_rings_is_answered_by_keyboard_and_both_hear_each_other(
    handset: Handset, caller: Phone
) -> None:
    call = await caller.dial("4001")
    await handset.is_("ringing")
    assert await handset.tab.texts("#phone .name") == ["13812345678"]
    assert await handset.bell(2) > 0.1, "nothing was to be heard"
    await handset.key("Alt+a")
    await handset.is_("talking")
    await until(lambda: call.rtp.heard(MICROPHONE) > LOUD)
    await handset.hears(CALLER)
    assert await handset.bell(4) == 0, "it rang on"
    assert await handset.heard(COLLEAGUE) < QUIET
    levels = await handset.page.eval_on_selector_all("#phone meter", "all => all.map((one) => one.value)")
    assert min(levels) > 0.3, "a level meter did not move"
    await handset.key("Alt+h")
    await call.ended(10)
    await handset.is_("idle")
    assert call.why == "the other side hung up"
    assert await handset.tab.texts("audio.voice") == []
    assert handset.tab.wrong == []


async def test_the_caller_hangs_up(handset: Handset, caller: Phone) -> None:
    call = await talking(handset, caller)
    await call.hang_up()
    await handset.is_("idle")
    assert handset.tab.wrong == []


async def test_the_caller_gives_up_while_it_rings(handset: Handset, caller: Phone) -> None:
    call = await caller.dial("4001")
    await handset.is_("ringing")
    assert await handset.bell(2) > 0.1
    await call.hang_up()
    await handset.is_("idle", within=3)
    await asyncio.sleep(0.1)
    assert await handset.bell(4) == 0


async def test_declined_by_keyboard(handset: Handset, caller: Phone) -> None:
    call = await caller.dial("4001")
    await handset.is_("ringing")
    await handset.key("Alt+h")
    await handset.is_("idle", within=2)
    await handset.is_("ringing")  # there is nobody else in the queue
    await call.hang_up()
    await handset.is_("idle")


async def test_hold_is_music_and_mute_is_silence(handset: Handset, caller: Phone) -> None:
    call = await talking(handset, caller)
    await handset.key("Alt+o")
    await handset.is_("held")
    await until(lambda: call.rtp.heard(MUSIC) > LOUD and call.rtp.heard(MICROPHONE) < QUIET)
    assert await handset.heard(CALLER) < QUIET
    await handset.key("Alt+o")
    await handset.is_("talking")
    await until(lambda: call.rtp.heard(MICROPHONE) > LOUD and call.rtp.heard(MUSIC) < QUIET)
    await handset.hears(CALLER)
    await handset.key("Alt+m")
    await handset.tab.shows("#phone [aria-pressed=true]")
    await until(lambda: call.rtp.heard(MICROPHONE) < QUIET)
    await handset.hears(CALLER)
    await handset.key("Alt+m")
    await until(lambda: call.rtp.heard(MICROPHONE) > LOUD)
    assert handset.tab.wrong == []
    await call.hang_up()
    await handset.is_("idle")


async def test_another_microphone_during_the_call(handset: Handset, caller: Phone) -> None:
    call = await talking(handset, caller)
    await handset.page.click("#phone summary")
    microphones = handset.page.locator("#phone select").first
    assert await microphones.locator("option").count() > 1
    old = await handset.page.evaluate(TRACK)
    await microphones.select_option(index=1)
    async with asyncio.timeout(5):
        while await handset.page.evaluate(TRACK) == old:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.7)  # past what the old one still said
    assert call.rtp.heard(MICROPHONE) > LOUD
    await call.hang_up()
    await handset.is_("idle")
    await handset.page.reload()
    await handset.registered()
    call = await talking(handset, caller)  # before that a browser names no device
    assert await handset.page.locator("#phone select").first.input_value() != "", "the choice was forgotten"
    await call.hang_up()
    await handset.is_("idle")


async def test_leaving_the_page_in_a_talk_is_asked_first_and_hangs_up(
    handset: Handset, caller: Phone
) -> None:
    call = await talking(handset, caller)
    asked: list[str] = []

    async def agree(dialog: Dialog) -> None:
        asked.append(dialog.type)
        await dialog.accept()

    handset.page.on("dialog", agree)
    await handset.page.reload()
    await call.ended(5)
    assert asked == ["beforeunload"]
    await handset.registered()


async def test_keys_arrive(handset: Handset, caller: Phone) -> None:
    call = await talking(handset, caller)
    for digit in "1205":
        await handset.key(digit)
        await asyncio.sleep(0.5)
    await handset.page.click("#phone [data-digit='#']")
    await until(lambda: call.rtp.digits == "1205#")
    await handset.dial("99", "Escape")  # written, not sent
    await asyncio.sleep(0.5)
    assert call.rtp.digits == "1205#"
    await call.hang_up()
    await handset.is_("idle")


async def test_blind_transfer(handset: Handset, caller: Phone, colleague: Phone) -> None:
    call = await talking(handset, caller)
    await handset.dial("1002", "Alt+t")
    await handset.is_("idle")
    asked = await colleague.incoming(10)
    await until(lambda: call.rtp.heard(COLLEAGUE) > LOUD and asked.rtp.heard(CALLER) > LOUD)
    await until(lambda: call.rtp.heard(MICROPHONE) < QUIET)
    assert call.state is CallState.UP
    await call.hang_up()
    await asked.ended(10)


async def test_a_transfer_to_nobody_keeps_the_caller(handset: Handset, caller: Phone) -> None:
    call = await talking(handset, caller)
    await handset.dial("77", "Alt+t")
    await handset.tab.shows("#phone .line.wrong")
    await handset.is_("talking")
    await handset.hears(CALLER)
    await call.hang_up()
    await handset.is_("idle")


async def test_attended_transfer(handset: Handset, caller: Phone, colleague: Phone) -> None:
    call = await talking(handset, caller)
    await handset.dial("1002", "Alt+c")
    asked = await colleague.incoming(10)
    await handset.is_("talking")
    assert await handset.tab.texts("#phone .line.waits") == ["13812345678 is on hold"]
    await until(lambda: asked.rtp.heard(MICROPHONE) > LOUD and call.rtp.heard(MUSIC) > LOUD)
    await handset.hears(COLLEAGUE)
    assert call.rtp.heard(MICROPHONE) < QUIET
    await handset.key("Alt+c")
    await handset.is_("idle")
    await until(lambda: call.rtp.heard(COLLEAGUE) > LOUD and asked.rtp.heard(CALLER) > LOUD)
    await call.hang_up()
    await asked.ended(10)
    assert handset.tab.wrong == []


async def test_back_from_the_colleague_to_the_caller(
    handset: Handset, caller: Phone, colleague: Phone
) -> None:
    call = await talking(handset, caller)
    await handset.dial("1002", "Alt+c")
    asked = await colleague.incoming(10)
    await until(lambda: asked.rtp.heard(MICROPHONE) > LOUD)
    await handset.key("Alt+b")
    await asked.ended(10)
    await until(lambda: call.rtp.heard(MICROPHONE) > LOUD and call.rtp.heard(MUSIC) < QUIET)
    await handset.hears(CALLER)
    await call.hang_up()
    await handset.is_("idle")


async def test_the_caller_gives_up_during_the_consultation(
    handset: Handset, caller: Phone, colleague: Phone
) -> None:
    call = await talking(handset, caller)
    await handset.dial("1002", "Alt+c")
    asked = await colleague.incoming(10)
    await until(lambda: asked.rtp.heard(MICROPHONE) > LOUD)
    await call.hang_up()
    await until(lambda: call.state is CallState.ENDED)
    await handset.page.wait_for_function("() => !document.querySelector('#phone .line.waits')")
    await handset.hears(COLLEAGUE)
    await handset.key("Alt+h")
    await asked.ended(10)
    await handset.is_("idle")


async def test_dialling_a_number(handset: Handset, colleague: Phone) -> None:
    await handset.dial("1002", "Enter")
    asked = await colleague.incoming(10)
    await handset.is_("talking")
    await until(lambda: asked.rtp.heard(MICROPHONE) > LOUD)
    await handset.hears(COLLEAGUE)
    await asked.hang_up()
    await handset.is_("idle")


async def test_reload_while_it_rings(handset: Handset, caller: Phone) -> None:
    """The old page rings no more, the new one registers and is offered the caller again."""
    call = await caller.dial("4001")
    await handset.is_("ringing")
    await handset.page.reload()
    await handset.registered()
    await handset.is_("ringing", within=25)
    await handset.key("Alt+a")
    await handset.is_("talking")
    await handset.hears(CALLER)
    await call.hang_up()
    await handset.is_("idle")


async def test_the_websocket_is_cut_and_comes_back(handset: Handset, caller: Phone, road: FaultProxy) -> None:
    call = await caller.dial("4001")
    await handset.is_("ringing")
    assert road.reset() == 1
    await handset.is_("idle", within=3)
    await asyncio.sleep(0.1)
    silent_from_here = asyncio.create_task(handset.bell(0.8))
    assert await silent_from_here == 0, "it rang for a call that can not be answered"
    await handset.registered()
    await call.hang_up()
    await handset.is_("idle")
    call = await talking(handset, caller)
    await handset.hears(CALLER)
    assert road.reset() == 1
    await handset.tab.shows("#phone[data-line=connecting]")
    await handset.hears(CALLER)  # the talk goes on
    await handset.registered()
    await handset.key("Alt+h")
    await call.ended(10)


async def test_asterisk_restarts(handset: Handset, caller: Phone, exchange: Exchange) -> None:
    await asyncio.to_thread(exchange.kill)
    await handset.tab.shows("#phone[data-line=connecting]")
    await asyncio.to_thread(exchange.start)
    await handset.registered(within=30)
    call = await talking(handset, caller)
    await call.hang_up()
    await handset.is_("idle")


async def test_one_tab_is_the_phone_and_the_next_takes_over(
    phone_desk: Desk, handset: Handset, caller: Phone
) -> None:
    twin = Handset(await phone_desk.twin(handset.tab))
    await twin.tab.shows("#phone[data-line=other_tab]")
    call = await caller.dial("4001")
    await handset.is_("ringing")
    assert (await twin.stats())["state"] == "idle"
    await call.hang_up()
    await handset.is_("idle")
    await handset.page.close()
    await twin.registered()
    call = await talking(twin, caller)
    await call.hang_up()
    await twin.is_("idle")


async def test_a_second_call_finds_the_agent_busy(
    handset: Handset, caller: Phone, exchange: Exchange
) -> None:
    call = await talking(handset, caller)
    await asyncio.to_thread(exchange.cli, f"channel originate PJSIP/{AGENT} application Milliwatt")
    await asyncio.sleep(1)
    assert "Milliwatt" not in await asyncio.to_thread(exchange.cli, "core show channels")
    await handset.hears(CALLER)
    assert (await handset.stats())["state"] == "talking"
    await call.hang_up()
    await handset.is_("idle")


async def test_the_browser_asks_before_it_lends_the_microphone(phone_desk: Desk, caller: Phone) -> None:
    tab = await phone_desk.signed_in()
    handset = Handset(tab)
    await tab.shows("#phone[data-line=voiceless] .help:not(.covered)")
    assert "still has to allow" in (await tab.texts("#phone .help p"))[0]
    await tab.page.click("#phone .help button")
    await handset.registered()
    assert await tab.page.locator("#phone .usual.covered").count() == 0
    assert tab.wrong == []


@asynccontextmanager
async def background_tab(desk: Desk, exchange: Exchange, folder: Path) -> AsyncIterator[FreezableTab]:
    """The phone in a tab that can be frozen; ``tones`` counts what it has rung."""
    assert exchange.certificate is not None
    words = (
        f"--ignore-certificate-errors-spki-list={exchange.certificate.fingerprint}",
        "--autoplay-policy=no-user-gesture-required",
    )
    async with freezable_tab(desk.daemon.url, folder, *words) as tab:
        await tab.until("document.body?.dataset.phase === 'signed_out'")
        assert await tab.evaluate(SIGN_IN) == 200
        await tab.evaluate("location.reload()")
        await tab.until("document.getElementById('phone')?.dataset.line === 'voiceless'")
        await tab.evaluate(COUNT_TONES)
        yield tab


async def test_a_frozen_tab_does_not_ring_for_a_dead_call(
    phone_desk: Desk, exchange: Exchange, caller: Phone, road: FaultProxy, tmp_path: Path
) -> None:
    """F21: the caller gives up, and the network with him, so that no CANCEL ever comes."""
    async with background_tab(phone_desk, exchange, tmp_path) as tab:
        call = await caller.dial("4001")
        await tab.until("tones > 0")
        await tab.freeze()
        before = await tab.evaluate("tones")
        road.black_hole()
        await call.hang_up()
        await asyncio.sleep(4)
        await tab.thaw()
        await tab.until("document.getElementById('phone').dataset.state === 'idle'")
        await asyncio.sleep(1)
        assert await tab.evaluate("tones") == before, "it rang for a call that was over"
        road.fair()
        await tab.until("document.getElementById('phone').dataset.line === 'voiceless'")


async def test_what_still_rings_after_a_freeze_rings_again(
    phone_desk: Desk, exchange: Exchange, caller: Phone, tmp_path: Path
) -> None:
    async with background_tab(phone_desk, exchange, tmp_path) as tab:
        call = await caller.dial("4001")
        await tab.until("tones > 0")
        await tab.freeze()
        await asyncio.sleep(0.5)
        before = await tab.evaluate("tones")
        await tab.thaw()
        await tab.until(f"tones > {before}")
        await call.hang_up()
        await tab.until("document.getElementById('phone').dataset.state === 'idle'")


async def test_asterisk_16(tmp_path: Path) -> None:
    """The oldest that is supported speaks with browsers as it is."""
    microphone = write_tone(tmp_path / "microphone.wav", MICROPHONE)
    with Exchange(
        16, folder=tmp_path / "exchange", webrtc_agents=[AGENT], members={"overflow": [AGENT]}
    ) as exchange:
        settings = PhoneSettings(**exchange.phone_table())
        async with (
            async_playwright() as playwright,
            running(WebDaemon(phone=settings)) as daemon,
            Phone("13812345678", exchange=exchange.sip_address, ip=TRUNK_IP, tone=CALLER) as caller,
        ):
            browser = await hearing(playwright, microphone, exchange)
            handset = await with_tone(Desk(browser, daemon))
            call = await talking(handset, caller)
            await handset.hears(CALLER)
            await handset.key("Alt+h")
            await call.ended(10)
            await browser.close()


async def test_a_signed_out_page_is_no_phone(handset: Handset, exchange: Exchange) -> None:
    await handset.page.click("#sign-out")
    await handset.tab.shows("#sign-in:visible")

    def contacts() -> str:
        return exchange.cli(f"pjsip show aor {AGENT}")

    async with asyncio.timeout(10):
        while "Contact:  201/sip" in await asyncio.to_thread(contacts):
            await asyncio.sleep(0.1)
