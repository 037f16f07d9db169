"""The page in a real Chromium: pops, disturbances, languages, hostile names, keys, looks."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from msgspec.structs import replace
from playwright.async_api import Page

from ctid.sinks.pop import Background, OpenTicket, PastCall
from ctid.web.messages import AgentCard, FloorState, QueueCard
from tests.browser.conftest import Desk, Tab
from tests.fakes_web import ended, handled, joined, moment, offer, routed

pytestmark = pytest.mark.asyncio(loop_scope="module")

RINGING = ".pop[data-state=ringing]"

#: B15, B32, B76, and what else a caller can put into his own name.
HOSTILE = [
    'O\'Brien "王" \\',
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    '"><svg onload=alert(3)>',
    "javascript:alert(4)",
    "{{7*7}} ${alert(5)}",
    "=cmd|' /C calc'!A0",
    "</title><b>x",
    "👩‍💻 émoji ​zero",
]


async def until_ringing(tab: Tab, count: int) -> None:
    await tab.page.wait_for_function(
        "count => document.querySelectorAll('.pop[data-state=ringing]').length === count",
        arg=count,
        timeout=15_000,
    )


async def test_a_pop_shows_at_once_and_is_withdrawn(desk: Desk) -> None:
    pops = desk.daemon.pops
    mine, other = await desk.signed_in(), await desk.signed_in("token-202")
    made = offer("c", "201")
    await pops.write([routed("c", vip=True), made])
    await tab_shows_call(mine)
    assert await mine.page.title() == "☎ 王小明 · ctid"
    assert "VIP, Call from 王小明, 13812345678" in await mine.page.inner_text("#said")
    await pops.write([ended(made, "cancelled_by_caller")])
    await mine.hides(RINGING)
    assert await mine.texts(".pop") == []
    [missed] = await mine.texts("#missed li")
    assert "王小明" in missed
    assert "Caller hung up" in missed
    assert "Caller hung up" in await mine.page.inner_text("#said")
    assert await mine.page.title() == "ctid"
    assert await other.texts(".pop, #missed li") == []
    async with asyncio.timeout(15):
        while ("browser", "acknowledged") not in [seen[:2] for seen in desk.daemon.observed]:
            await asyncio.sleep(0.01)
    assert mine.wrong == other.wrong == []


async def tab_shows_call(tab: Tab) -> None:
    await tab.shows(RINGING)
    [text] = await tab.texts(RINGING)
    for part in ("王小明", "13812345678", "VIP", "Repair", "hotline", "repair", "0:12", "Ringing"):
        assert part in text


async def test_answered_stays_until_handled_with_what_was_before(desk: Desk) -> None:
    background = Background(
        calls=(PastCall(at=moment(-86_400), queue="repair", agent="202", outcome="abandoned"),),
        tickets=(OpenTicket(id="7", title="No light", form="complaint", state="open", due_at=moment(60)),),
    )
    desk.daemon.history.of_number["13812345678"] = background
    tab = await desk.signed_in()
    made = offer("c", "201")
    await desk.daemon.pops.write([joined("c"), made])
    await tab.shows(f"{RINGING} .before")
    [text] = await tab.texts(RINGING)
    for part in ("Open tickets (1)", "No light", "promised by", "Gave up waiting", "agent 202"):
        assert part in text
    await desk.daemon.pops.write([ended(made, "answered")])
    await tab.shows(".pop[data-state=answered]")
    await desk.daemon.pops.write([handled(made)])
    await tab.hides(".pop")
    assert tab.wrong == []


async def test_f20_after_a_cut_the_page_is_what_a_reload_shows(desk: Desk) -> None:
    """Metamorphic: whatever happened while the connection was away."""
    daemon = desk.daemon
    tab = await desk.signed_in()
    first, second, third = (offer(f"c{n}", "201", name=f"caller {n}") for n in range(3))
    await daemon.pops.write([first])
    await tab.shows(RINGING)
    for round_, facts in enumerate(([ended(first, "no_answer"), second], [ended(second, "answered"), third])):
        daemon.floor = replace(daemon.floor, queues=(QueueCard(queue="repair", waiting=round_ + 5),))
        for client in tuple(daemon.hub._clients):
            client.transport.abort()
        daemon.hub.floor_changed()
        await daemon.pops.write(facts)
        await tab.shows(f"body[data-connection=live] .pop:has-text('caller {round_ + 1}')")
        await tab.page.wait_for_function(
            "n => document.querySelector('.queue .big span').textContent === n",
            arg=str(round_ + 5),
            timeout=15_000,
        )
        fresh = await desk.twin(tab)
        assert await tab.state() == await fresh.state()
        await fresh.page.reload()
        await fresh.shows("body[data-connection=live] .queue")
        assert await tab.state() == await fresh.state()
        await fresh.page.close()
    assert len(await tab.texts("#missed li")) == 1


async def test_a_daemon_that_restarts_is_found_again(desk: Desk) -> None:
    daemon = desk.daemon
    tab = await desk.signed_in()
    await daemon.hub.close()
    await tab.shows("body[data-connection=offline]")
    assert await tab.page.is_visible("#banner")
    made = offer("c", "201")
    daemon.hub._is_closed = False
    await daemon.pops.write([made])
    await tab.shows(f"body[data-connection=live] {RINGING}")
    assert not await tab.page.is_visible("#banner")


async def test_language_is_switched_and_remembered(desk: Desk) -> None:
    tab = await desk.signed_in()
    await desk.daemon.pops.write([offer("c", "201")])
    await tab.shows(f"{RINGING}:has-text('Ringing')")
    await tab.page.click("#languages button[lang=zh-CN]")
    await tab.shows(f"{RINGING}:has-text('振铃中')")
    assert await tab.page.get_attribute("html", "lang") == "zh-CN"
    assert "队列" in await tab.texts("h2")
    await tab.page.reload()
    await tab.shows(f"{RINGING}:has-text('振铃中')")
    assert tab.wrong == []


async def test_a_chinese_browser_is_spoken_to_in_chinese(desk: Desk) -> None:
    tab = await desk.blank(locale="zh-CN")
    await tab.shows("#sign-in:has-text('登录')")


async def test_s16_hostile_texts_are_texts(desk: Desk) -> None:
    """B15, B32, B76: no dialog, no CSP report, nothing but text, wherever it comes from."""
    daemon = desk.daemon
    daemon.floor = FloorState(
        queues=tuple(QueueCard(queue=f"q {text}", waiting=1, longest_since=moment(-3)) for text in HOSTILE),
        agents=tuple(
            AgentCard(agent=f"{n}{text}", name=text, state="paused", reason=text, queues=(text,))
            for n, text in enumerate(HOSTILE)
        ),
    )
    for text in HOSTILE:
        daemon.history.of_number[text] = Background(
            calls=(PastCall(at=moment(), queue=text, agent=text, outcome=text),),
            tickets=(OpenTicket(id="1", title=text, form=text, state=text),),
        )
    tab = await desk.signed_in()
    for n, text in enumerate(HOSTILE):
        made = offer(f"c{n}", "201", number=text, name=text, queue=text)
        await daemon.pops.write(
            [joined(f"c{n}", number=text), routed(f"c{n}", line=text, business=text), made]
        )
    await until_ringing(tab, len(HOSTILE))
    await tab.page.wait_for_function(
        "count => document.querySelectorAll('.before').length === count", arg=len(HOSTILE)
    )
    shown = await tab.texts(".pop .who")
    for text in HOSTILE[:-1]:
        assert text in shown
    assert await tab.page.locator("main script, main img, main svg[onload], main [onerror]").count() == 0
    for n, _ in enumerate(HOSTILE):
        await daemon.pops.write([ended(offer(f"c{n}", "201"), "no_answer")])
    await until_ringing(tab, 0)
    assert tab.wrong == []


async def test_keys(desk: Desk) -> None:
    daemon = desk.daemon
    tab = await desk.signed_in()
    made = offer("c", "201")
    await daemon.pops.write([joined("c"), made])
    await tab.shows(f"{RINGING} .before")
    await tab.page.keyboard.press("Alt+p")
    assert await tab.page.evaluate("document.activeElement.className") == "card pop"
    await tab.page.keyboard.press("Enter")
    await tab.hides(f"{RINGING} .before")
    assert await tab.page.evaluate("document.activeElement.className") == "card pop", "focus stays"
    await tab.page.keyboard.press("Enter")
    await tab.shows(f"{RINGING} .before")
    await tab.page.keyboard.press("Escape")
    assert len(await tab.texts(RINGING)) == 1, "what rings can not be put away"
    await daemon.pops.write([ended(made, "answered")])
    await tab.shows(".pop[data-state=answered]")
    await tab.page.keyboard.press("Alt+p")
    await tab.page.keyboard.press("Escape")
    await tab.hides(".pop")
    assert len(daemon.book) == 0


async def test_wrap_up_ends_by_key_and_by_button(desk: Desk) -> None:
    daemon = desk.daemon
    tab = await desk.signed_in()
    for act in ("key", "button"):
        daemon.wrapping_up.add("201")
        daemon.floor = replace(
            daemon.floor,
            agents=(AgentCard(agent="201", state="wrapping_up", since=moment(), until=moment(60)),),
        )
        daemon.hub.floor_changed()
        await tab.shows(".mine button.primary")
        await (tab.page.keyboard.press("Alt+w") if act == "key" else tab.page.click(".mine button.primary"))
        async with asyncio.timeout(15):
            while daemon.wrapping_up:
                await asyncio.sleep(0.01)
        daemon.floor = replace(daemon.floor, agents=(AgentCard(agent="201", state="idle", since=moment()),))
        daemon.hub.floor_changed()
        await tab.hides(".mine button.primary")
    assert tab.wrong == []


async def test_sign_in_says_what_is_wrong_and_sign_out_leaves_nothing(desk: Desk) -> None:
    tab = await desk.blank()
    await tab.shows("#sign-in:visible")
    await tab.page.fill("#token", "wrong")
    await tab.page.keyboard.press("Enter")
    await tab.shows("#sign-in-error:has-text('not valid')")
    desk.daemon.users.is_away = True
    await tab.page.keyboard.press("Enter")
    await tab.shows("#sign-in-error:has-text('database')")
    desk.daemon.users.is_away = False
    await tab.page.fill("#token", "token-201")
    await tab.page.keyboard.press("Enter")
    await desk.daemon.pops.write([offer("c", "201")])
    await tab.shows(RINGING)
    await tab.page.click("#sign-out")
    await tab.shows("#sign-in:visible")
    assert not await tab.page.is_visible("main")
    async with asyncio.timeout(15):
        while len(desk.daemon.hub):
            await asyncio.sleep(0.01)


async def test_a_leader_sees_the_floor_and_no_pops(desk: Desk) -> None:
    tab = await desk.signed_in("token-leader")
    await desk.daemon.pops.write([offer("c", "201")])
    assert not await tab.page.is_visible(".desk")
    assert len(await tab.texts(".queue")) == 2
    assert len(await tab.texts(".agent")) == 4
    assert "Paused" in (await tab.texts(".agent"))[2]
    assert tab.wrong == []


async def test_exchange_lost_is_said(desk: Desk) -> None:
    tab = await desk.signed_in()
    desk.daemon.floor = replace(desk.daemon.floor, exchange="lost")
    desk.daemon.hub.floor_changed()
    await tab.shows("#banner:has-text('telephone exchange')")


async def fill(desk: Desk) -> None:
    """Put one of everything on the screen of agent 201."""
    daemon = desk.daemon
    daemon.floor = replace(
        daemon.floor,
        queues=tuple(replace(card, answer_within_seconds=20) for card in daemon.floor.queues),
        agents=(
            AgentCard(agent="201", name="李娜", state="wrapping_up", since=moment(-9), until=moment(50)),
            *(
                AgentCard(
                    agent=f"30{n}", name="Muhammad al-Farsi", state=state, since=moment(-70), reason="lunch"
                )
                for n, state in enumerate(
                    ("idle", "ringing", "talking", "paused", "logged_out", "unreachable")
                )
            ),
        ),
    )
    made = [offer(f"c{n}", "201", name="成都锦江区某某物业管理有限公司" * n) for n in range(3)]
    daemon.history.of_number["13812345678"] = Background(
        calls=(PastCall(at=moment(-90_000), queue="consultation", agent="202", outcome="answered"),),
        tickets=(OpenTicket(id="7", title="光猫红灯，三次上门未解决", form="repair", state="open"),),
    )
    await daemon.pops.write([joined("c0"), routed("c0", vip=True), *made])
    await daemon.pops.write([ended(made[1], "answered"), ended(made[2], "no_answer")])


LOOKS = list(itertools.product(("zh-CN", "en"), ((1366, 768), (390, 844)), ("light", "dark")))


@pytest.mark.parametrize(("language", "size", "scheme"), LOOKS)
async def test_looks(desk: Desk, language: str, size: tuple[int, int], scheme: str) -> None:
    """Nothing sticks out sideways, text can be read, everything that acts has a name and a size."""
    await fill(desk)
    viewport = {"width": size[0], "height": size[1]}
    tab = await desk.blank(locale=language, viewport=viewport, color_scheme=scheme)
    await tab.shows("#sign-in:visible")
    await assert_sound(tab.page)
    await tab.page.evaluate("language => localStorage.setItem('ctid.language', language)", language)
    await tab.page.fill("#token", "token-201")
    await tab.page.keyboard.press("Enter")
    await tab.shows(RINGING)
    await tab.shows(".queue[data-late] .late")
    await assert_sound(tab.page)
    assert tab.wrong == []


SOUND = """() => {
  const wrong = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) wrong.push(`sideways by ${root.scrollWidth - root.clientWidth}`);
  const channels = (text) => {
    const canvas = document.createElement("canvas").getContext("2d");
    canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const luminance = (rgb) => [...rgb].slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const rgba = channels(getComputedStyle(at).backgroundColor);
      if (rgba[3] === 255) return rgba;
    }
    return channels("white");
  };
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].map((child) => (child.nodeType === 3 ? child.data.trim() : "")).join("");
    if (!node.checkVisibility({ visibilityProperty: true }) || node.closest(".unseen, .skip, svg")) continue;
    const name = `${node.tagName}.${node.className} ${own}`;
    if (own) {
      const both = [luminance(channels(getComputedStyle(node).color)), luminance(ground(node))];
      const ratio = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
      if (ratio < 4.5) wrong.push(`contrast ${ratio.toFixed(2)}: ${name}`);
    }
    if (node.matches("button, a, input")) {
      const box = node.getBoundingClientRect();
      if (box.height < 28 || box.width < 28) wrong.push(`small: ${name}`);
      if (!(node.getAttribute("aria-label") || own || node.labels?.length)) wrong.push(`nameless: ${name}`);
    }
  }
  return wrong;
}"""


async def assert_sound(page: Page) -> None:
    assert await page.evaluate(SOUND) == []


async def test_timers_tick_without_moving_anything(desk: Desk) -> None:
    tab = await desk.signed_in()
    await desk.daemon.pops.write([offer("c", "201")])
    await tab.shows(RINGING)
    boxes = """[...document.querySelectorAll('.pop, .queue, .agent, .timer')]
      .map((node) => JSON.stringify(node.getBoundingClientRect()))"""
    before, times = await tab.page.evaluate(boxes), await tab.texts(".timer")
    await tab.page.wait_for_timeout(1300)
    assert await tab.texts(".timer") != times
    assert await tab.page.evaluate(boxes) == before
