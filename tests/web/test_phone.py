"""S14: an agent's SIP password reaches his own page and nobody and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from ctid.daemon import read
from ctid.errors import SettingsError
from ctid.settings import Phone, Web
from ctid.web.pages import FILES
from ctid.web.phones import phone_problems, read_passwords
from tests.fakes_web import WebDaemon, running

CANARY = "canary-3f0a"
ADDRESS = "wss://pbx.example.com:8089/ws"
LEAST = """
policy = "policy.toml"
[asterisk.account]
username = "ctid"
secret_file = "secret"
[database]
dsn = "postgresql:///ctid"
[web.phone]
address = "{address}"
passwords_file = "phones.toml"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "phones.toml"
    file.touch(mode=0o600)
    file.write_text(f'201 = "{CANARY}"\n203 = "of another"\n')
    return file


@pytest.fixture
async def daemon(file: Path) -> AsyncIterator[WebDaemon]:
    phone = Phone(address=ADDRESS, passwords_file=file)
    async with running(WebDaemon(phone=phone)) as daemon:
        yield daemon


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer token-{token}"}


async def test_an_agent_gets_his_own(http: aiohttp.ClientSession) -> None:
    async with http.get("/api/v1/phone", headers=bearer("201")) as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert await answer.json() == {"address": ADDRESS, "user": "201", "password": CANARY}


@pytest.mark.parametrize("token", ["202", "leader"])
async def test_others_get_none(http: aiohttp.ClientSession, token: str) -> None:
    async with http.get("/api/v1/phone", headers=bearer(token)) as answer:
        assert (answer.status, await answer.text()) == (204, "")


async def test_nobody_gets_none(http: aiohttp.ClientSession) -> None:
    async with http.get("/api/v1/phone") as answer:
        assert answer.status == 401


async def test_without_the_setting_the_phone_is_elsewhere() -> None:
    async with (
        running(WebDaemon()) as daemon,
        aiohttp.ClientSession(daemon.url, headers=bearer("201")) as http,
        http.get("/api/v1/phone") as answer,
    ):
        assert answer.status == 204
        assert "microphone=()" in answer.headers["Permissions-Policy"]
        assert "connect-src" not in answer.headers["Content-Security-Policy"]


async def test_the_page_may_reach_that_address_and_the_microphone_and_no_more(
    http: aiohttp.ClientSession,
) -> None:
    async with http.get("/") as answer:
        policy = answer.headers["Content-Security-Policy"].split("; ")
        assert "default-src 'self'" in policy
        assert "connect-src 'self' wss://pbx.example.com:8089" in policy
        assert "microphone=(self)" in answer.headers["Permissions-Policy"]
        assert "camera=()" in answer.headers["Permissions-Policy"]


async def test_the_password_is_nowhere_else(daemon: WebDaemon, http: aiohttp.ClientSession) -> None:
    with capture_logs() as said:
        for path in [*FILES, "/api/openapi.json", "/api/messages.json", "/api/v1/session", "/healthz"]:
            async with http.get(path, headers=bearer("201")) as answer:
                assert CANARY not in await answer.text(), path
        metrics = f"http://127.0.0.1:{daemon.metrics.port}/metrics"
        async with aiohttp.ClientSession() as other, other.get(metrics) as answer:
            assert CANARY not in await answer.text()
        async with http.get("/api/v1/phone", headers=bearer("201")) as answer:
            assert CANARY in await answer.text()
    assert CANARY not in repr(said)


async def test_a_new_password_counts_at_once_and_a_bad_file_is_told(
    http: aiohttp.ClientSession, file: Path
) -> None:
    file.write_text('201 = "a new one"\n')
    async with http.get("/api/v1/phone", headers=bearer("201")) as answer:
        assert (await answer.json())["password"] == "a new one"
    file.write_text(f'201 = "{CANARY}')
    with capture_logs() as said:
        async with http.get("/api/v1/phone", headers=bearer("201")) as answer:
            assert (answer.status, (await answer.json())["code"]) == (503, "phone_unavailable")
    assert [line["event"] for line in said] == ["phone_passwords_unreadable"]
    assert CANARY not in repr(said)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('201 = ""\n202 = 7\n203 = "fine"', ["201: must be a text", "202: must be a text"]),
        (f'201 = "{CANARY}"\n201 = "{CANARY}"', ["is not TOML"]),
    ],
)
def test_what_is_wrong_in_the_file_is_said_all_at_once(file: Path, text: str, told: list[str]) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_passwords(file)
    assert len(caught.value.problems) == len(told)
    for problem, part in zip(caught.value.problems, told, strict=True):
        assert part in problem
        assert CANARY not in problem


def test_a_file_that_others_can_read_is_refused(file: Path) -> None:
    assert read_passwords(file)["201"].get_secret_value() == CANARY
    file.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        read_passwords(file)


def test_ctid_does_not_start_without_the_file(tmp_path: Path) -> None:
    config = tmp_path / "ctid.toml"
    config.write_text(LEAST.format(address=ADDRESS))
    _, _, problems = read(config)
    assert any("web.phone.passwords_file" in problem and "No such file" in problem for problem in problems)


@pytest.mark.parametrize(
    ("public_url", "is_told"),
    [
        ("http://ctid.example.com", True),
        ("https://ctid.example.com", False),
        ("http://localhost:8080", False),
    ],
)
def test_a_page_that_gets_no_microphone_is_told_of(file: Path, public_url: str, is_told: bool) -> None:
    web = Web(public_url=public_url, phone=Phone(address=ADDRESS, passwords_file=file))
    problems = phone_problems(web, Path("ctid.toml"))
    assert ["https pages only" in problem for problem in problems] == [True] * is_told


@pytest.mark.parametrize(
    "address",
    [
        "ws://pbx.example.com/ws",
        "https://pbx.example.com/ws",
        "wss://",
        "wss://a b/ws",
        "wss://pbx.example.com; script-src *",
        "wss://user:secret@pbx.example.com/ws",
        "wss://*/ws",
    ],
)
def test_an_address_that_is_none_is_refused(tmp_path: Path, address: str) -> None:
    """Also one that would open the page's policy."""
    config = tmp_path / "ctid.toml"
    config.write_text(LEAST.format(address=address))
    with pytest.raises(SettingsError, match=r"web\.phone\.address: must be wss://HOST:PORT/PATH"):
        read(config)
