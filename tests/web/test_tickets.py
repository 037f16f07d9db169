"""Tickets over HTTP, on a real PostgreSQL: who sees, who acts, what is filled in from the call."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from ctid.errors import AmiDown
from ctid.store.calls import OneCall
from ctid.store.pool import Pool
from ctid.store.tickets import Tickets
from ctid.store.users import User
from ctid.tickets.desk import TicketDesk
from ctid.web.ticket_rights import why_not_open
from tests.fakes_web import WebDaemon, offer, routed, running

FORM = {"subject": "no light", "content": "the box is dark", "contact": "13812345678"}
PATH = "/api/v1/tickets"
Asked = tuple[int, Any]


@pytest.fixture
async def daemon(pool: Pool) -> AsyncIterator[WebDaemon]:
    desk = TicketDesk(Tickets(pool), normalise=lambda number: number.lstrip("0"))
    daemon = WebDaemon(tickets=desk)
    for role in ("complaints", "info", "auditor"):
        user = User(name=role, role=role, language="en")  # type: ignore[arg-type]
        daemon.users.add(f"token-{role}", user)
    async with running(daemon) as daemon:
        yield daemon


class Person:
    """Somebody who asks."""

    def __init__(self, http: aiohttp.ClientSession, who: str) -> None:
        self._http = http
        self._headers = {"Authorization": f"Bearer token-{who}"}

    async def get(self, path: str = "", **query: Any) -> Asked:
        async with self._http.get(PATH + path, headers=self._headers, params=query) as answer:
            return answer.status, await answer.json(content_type=None)

    async def post(self, body: Any, path: str = "") -> Asked:
        async with self._http.post(PATH + path, headers=self._headers, json=body) as answer:
            return answer.status, await answer.json(content_type=None)

    async def open(self, kind: str = "consultation", name: str = "o1", **more: Any) -> Any:
        opening = {"id": name, "type": kind, "fields": FORM}
        status, view = await self.post({"opening": opening, **more})
        assert status == 201, view
        return view

    async def do(self, ticket: int, kind: str, version: int = 1, **what: Any) -> Asked:
        command = {"type": kind, "id": f"{kind}{version}", "version": version, **what}
        return await self.post({"command": command}, f"/{ticket}/commands")


@pytest.fixture
def li(http: aiohttp.ClientSession) -> Person:
    return Person(http, "201")


async def test_a_ticket_of_a_call_has_its_number_line_and_call_and_ends_the_wrap_up(
    daemon: WebDaemon, li: Person
) -> None:
    made = offer("1.1", "201", number="013812345678")
    await daemon.pops.write([made, routed("1.1")])
    [pop] = daemon.book.desk("201", made.at).open
    daemon.wrapping_up.add("201")
    fields = {"subject": "no light", "content": "dark", "address": "Road 1"}
    body = {"opening": {"id": "o", "type": "repair", "fields": fields}, "pop": pop.id, "end_wrap_up": True}
    status, view = await li.post(body)
    ticket = view["ticket"]
    assert (status, view["wrap_up"], view["can"][0]) == (201, "ended", "appoint")
    assert (ticket["call"], ticket["line"], ticket["system"]) == ("1.1", "hotline", "ast")
    assert (ticket["caller_number"], ticket["caller_key"]) == ("013812345678", "13812345678")
    status, again = await li.post(body)
    assert (status, again["ticket"]["ticket"], again["wrap_up"]) == (200, ticket["ticket"], "not_wrapping_up")


async def test_the_note_is_saved_when_asterisk_is_away(
    daemon: WebDaemon, li: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_agent: str) -> bool:
        raise AmiDown("no connection")

    api = next(route for route in daemon.web.routes if route.path == PATH and route.method == "POST")
    monkeypatch.setattr(api.answer.__self__, "_end_wrap_up", away)  # type: ignore[attr-defined]
    view = await li.open(end_wrap_up=True)
    assert view["wrap_up"] == "unavailable"
    assert (await li.get(f"/{view['ticket']['ticket']}"))[0] == 200


async def test_a_wrong_form_names_every_field(li: Person) -> None:
    status, problem = await li.post({"opening": {"id": "o", "type": "repair", "fields": {"contact": "me"}}})
    assert (status, problem["code"]) == (422, "bad_form")
    assert [error["field"] for error in problem["errors"]] == ["subject", "content", "contact", "address"]
    assert all(error["fix"] for error in problem["errors"])
    assert (await li.get())[1]["count"] == 0


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {"opening": {}},
        {"opening": {"id": "o", "type": "party", "fields": {}}},
        {"opening": {"id": "", "type": "memo", "fields": FORM}},
        {"opening": {"id": "o", "type": "memo", "fields": FORM, "promised_at": "2030-01-01T00:00:00"}},
        {"opening": {"id": "o", "type": "memo", "fields": FORM}, "pop": "x" * 65},
        {"opening": {"id": "o", "type": "memo", "fields": FORM}, "more": 1},
    ],
)
async def test_bad_bodies_are_refused(li: Person, body: Any) -> None:
    status, problem = await li.post(body)
    assert (status, problem["code"]) == (400, "bad_body")


async def test_only_calls_of_ones_own(daemon: WebDaemon, li: Person, http: aiohttp.ClientSession) -> None:
    daemon.calls["9.9"] = OneCall(
        system="ast", call="9.9", line="hotline", caller_number="13900000000", agents=("202",)
    )
    body = {"opening": {"id": "o", "type": "consultation", "fields": FORM}, "call": "9.9"}
    assert (await li.post(body))[0] == 404
    assert (await li.post({**body, "call": "", "pop": "nope"}))[0] == 404
    status, view = await Person(http, "202").post(body)
    assert (status, view["ticket"]["call"]) == (201, "9.9")


async def test_who_sees_what(daemon: WebDaemon, li: Person, http: aiohttp.ClientSession) -> None:
    complaint = (await li.open("complaint", "o1"))["ticket"]["ticket"]
    memo = (await li.open("memo", "o2"))["ticket"]["ticket"]
    seen = {}
    for who in ("201", "202", "complaints", "info", "leader", "auditor"):
        status, page = await Person(http, who).get(sort="ticket")
        assert status == 200
        seen[who] = [view["ticket"]["ticket"] for view in page["tickets"]]
        for number in (complaint, memo):
            assert (await Person(http, who).get(f"/{number}"))[0] == (200 if number in seen[who] else 404)
    both = [complaint, memo]
    assert seen == {
        "201": both,
        "202": [],
        "complaints": [complaint],
        "info": [memo],
        "leader": both,
        "auditor": both,
    }
    await daemon.pops.write([offer("7.7", "202", number="13812345678")])
    assert (await Person(http, "202").get())[1]["count"] == 2


async def test_who_may_do_what(li: Person, http: aiohttp.ClientSession) -> None:
    number = (await li.open("complaint"))["ticket"]["ticket"]
    status, problem = await li.do(number, "accept")
    assert (status, problem["code"]) == (403, "forbidden")
    assert (await Person(http, "202").do(number, "claim"))[0] == 404
    assert (await Person(http, "auditor").do(number, "note", text="hm hm"))[0] == 403
    auditor = Person(http, "auditor")
    assert (await auditor.post({"opening": {"id": "o", "type": "memo", "fields": FORM}}))[0] == 403
    status, view = await Person(http, "complaints").do(number, "accept")
    assert (status, view["ticket"]["step"]) == (200, "accepted")
    assert [event["kind"] for event in view["events"]] == ["accept_noted", "step_reached"]
    assert why_not_open(User(name="li", role="agent", agent="201")) is None


async def test_refusals_say_why(li: Person) -> None:
    number = (await li.open())["ticket"]["ticket"]
    assert (await li.do(number, "close"))[1]["code"] == "wrong_step"
    status, problem = await li.do(number, "answer", version=7, result="yes")
    assert (status, problem["code"]) == (409, "changed_meanwhile")
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert (await li.do(number, "promise", until=past))[0] == 422
    assert (await li.do(number, "dance"))[0] == 400
    assert (await li.do(number, "answer", result="\x00\x00"))[0] == 400
    assert (await li.do(99, "claim"))[0] == 404
    for name in ("0", "x", "1" * 30, "-1"):
        assert (await li.get(f"/{name}"))[0] == 404
    status, view = await li.get(f"/{number}")
    assert (status, view["ticket"]["version"], len(view["events"])) == (200, 1, 1)
    assert view["dwells"][0]["step"] == "open"


@pytest.mark.parametrize(
    "query",
    [
        {"state": "lost"},
        {"type": "party"},
        {"sort": "subject; drop table ticket"},
        {"limit": "0"},
        {"limit": "x"},
        {"due_before": "soon"},
        {"due_before": "2026-11-25T09:00:00"},
        {"text": "\x00"},
    ],
)
async def test_bad_filters_are_refused(li: Person, query: dict[str, str]) -> None:
    assert (await li.get(**query))[0] == 400


async def test_lists_are_filtered(li: Person) -> None:
    number = (await li.open())["ticket"]["ticket"]
    for query in (
        {"caller_key": "013812345678"},
        {"text": "BOX"},
        {"state": "open", "type": "consultation", "assigned_to": "201", "sort": "due", "limit": "1"},
    ):
        status, page = await li.get(**query)
        assert status == 200, page
        assert [view["ticket"]["ticket"] for view in page["tickets"]] == [number]
    assert (await li.get(caller_key="1"))[1] == {"tickets": [], "count": 0}


async def test_forms_and_description(http: aiohttp.ClientSession) -> None:
    bearer = {"Authorization": "Bearer token-201"}
    async with http.get("/api/v1/ticket-forms", headers=bearer) as answer:
        forms = (await answer.json())["forms"]
    assert [field["name"] for field in forms["memo"]] == ["subject", "content", "customer", "contact"]
    async with http.get(PATH) as answer:
        assert answer.status == 401
    async with http.get("/api/openapi.json") as answer:
        document = await answer.json()
    listing = document["paths"][PATH]["get"]["parameters"]
    assert {one["name"]: one["required"] for one in listing}["sort"] is False
    wrong = document["paths"][PATH]["post"]["responses"]["422"]["content"]
    assert list(wrong) == ["application/problem+json"]
    assert "FormProblem" in json.dumps(wrong)
    assert "TicketCommand" in document["components"]["schemas"]
