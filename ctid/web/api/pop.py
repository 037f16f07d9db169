"""A pop for SIP phones and their users' browsers: a small page without script, or JSON.

The id in the address is 128 unguessable bits and works without signing in, for as long as
the pop is open or on the missed list; with ``?leg=`` one has to be signed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from aiohttp import hdrs, web

from ctid.sinks.pop import Background, OpenTicket, Pop
from ctid.sinks.pop_book import PopBook
from ctid.web.gate import may_act_for
from ctid.web.rights import Rights
from ctid.web.routes import Problem, Route, json, refused
from ctid.web.sessions import Session
from ctid.web.words import preferred, words

_GONE = "there is no such pop, or it is over"


class PopApi:
    """``/pop/{id}`` and ``/pop?leg=``."""

    def __init__(self, book: PopBook) -> None:
        self._book = book

    def routes(self) -> list[Route]:
        replies = {200: ("the pop; HTML for browsers", Pop), 404: (_GONE, Problem)}
        return [
            Route("GET", "/pop/{id}", Rights.ANYONE, "A pop by its opaque id", self._by_id, replies=replies),
            Route(
                "GET",
                "/pop",
                Rights.SIGNED_IN,
                "A pop by the Uniqueid of the agent's channel; one's own, or as a leader",
                self._by_leg,
                query=("leg",),
                replies=replies,
            ),
        ]

    async def _by_id(self, request: web.Request, _session: Session | None) -> web.StreamResponse:
        return _answer(request, self._book.find(request.match_info["id"]))

    async def _by_leg(self, request: web.Request, session: Session | None) -> web.StreamResponse:
        assert session is not None
        pop = self._book.of_leg(request.query.get("leg", ""))
        return _answer(request, pop if pop and may_act_for(session, pop.agent) else None)


def _answer(request: web.Request, pop: Pop | None) -> web.StreamResponse:
    if "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
        return json(pop) if pop else refused(404, "unknown_pop", _GONE)
    language = preferred(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))
    page = _page(pop, language) if pop else _frame(f"<p>{escape(words(language)['pop.gone'])}</p>", language)
    return web.Response(text=page, status=200 if pop else 404, content_type="text/html")


def _frame(content: str, language: str, *, title: str = "ctid", state: str = "") -> str:
    return (
        f"<!doctype html><html lang='{language}'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><link rel='stylesheet' href='/ui/page.css'></head>"
        f"<body class='lone'><main class='card pop' data-state='{state}'>{content}</main></body></html>"
    )


def _page(pop: Pop, language: str) -> str:
    """Write the page; everything that is not ours is escaped."""
    say = words(language)
    who = pop.caller_name or pop.caller_number or say["caller.unknown"]
    vip = f" <strong class='vip'>{escape(say['pop.vip'])}</strong>" if pop.vip else ""
    number = f"<p class='number'>{escape(pop.caller_number)}</p>" if pop.caller_name else ""
    why = (say.get(f"business.{pop.business}", pop.business), pop.line, pop.queue)
    background = pop.background or Background()
    calls = [
        f"{call.at:%Y-%m-%d %H:%M} UTC · {call.queue} · {say.get(f'outcome.{call.outcome}', call.outcome)}"
        for call in background.calls
    ]
    content = (
        f"<p class='state'>{escape(say[f'pop.state.{pop.state}'])}{vip}</p>"
        f"<h1>{escape(who)}</h1>{number}<p>{escape(' · '.join(part for part in why if part))}</p>"
        + _list(say["pop.tickets"].replace("{n}", str(len(background.tickets))), background.tickets)
        + _list(say["pop.calls"], calls)
    )
    return _frame(content, language, title=who, state=pop.state)


def _list(heading: str, items: Sequence[str | OpenTicket]) -> str:
    if not items:
        return ""
    texts = (item if isinstance(item, str) else item.title for item in items)
    return f"<h2>{escape(heading)}</h2><ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"
