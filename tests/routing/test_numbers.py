"""One telephone, one spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctid.routing.numbers import calling_code, normalise, prefixes_of, region_of, spellings


@pytest.mark.parametrize(
    "text",
    [
        "+8613800138000",
        "008613800138000",
        "8613800138000",
        "013800138000",
        "13800138000",
        " 138-0013 8000",
        "(138) 0013.8000",
        "＋８６１３８００１３８０００",
        "١٣٨٠٠١٣٨٠٠٠",
    ],
)
def test_a_mobile_is_one_whatever_way_it_is_written(text: str) -> None:
    assert normalise(text, "cn") == "+8613800138000"


@pytest.mark.parametrize("text", ["+86 10 8888 5002", "01088885002", "010/88885002", "88885002"])
def test_a_landline_may_lack_its_area_code(text: str) -> None:
    assert normalise(text, "cn", "010") == "+861088885002"


@pytest.mark.parametrize("text", ["110", "12345", "10086", "95598", "5001", "1001", "*11", "88885002", "00"])
def test_what_is_no_subscriber_number_stays_as_it_is(text: str) -> None:
    assert normalise(text, "cn") == text


@pytest.mark.parametrize(
    "text", ["", "anonymous", "unknown", "Restricted", "alice", "1-800-FLOWERS", "+", "1\r\n2x", "<1>"]
)
def test_withheld_and_not_a_number_are_empty(text: str) -> None:
    assert normalise(text, "cn") == ""


def test_other_countries_have_their_own_way() -> None:
    assert normalise("020 7946 0018", "uk") == "+442079460018"
    assert normalise("00 1 212 555 0123", "cn") == "+12125550123"
    assert (region_of("uk"), region_of("cn")) == ("GB", "CN")
    assert (calling_code("uk"), calling_code("cn"), calling_code("xx")) == ("+44", "+86", "")


@given(st.text(max_size=40))
def test_whatever_a_caller_sends_is_safe_and_stable(text: str) -> None:
    once = normalise(text, "cn", "010")
    assert set(once) <= set("+*#0123456789")
    assert normalise(once, "cn", "010") == once


def test_every_spelling_leads_back() -> None:
    found = spellings("+861088885002")
    assert found == ("+861088885002", "861088885002", "00861088885002", "01088885002", "1088885002")
    assert {normalise(text, "cn") for text in found} == {"+861088885002"}
    assert spellings("5002") == ("5002",)


def test_a_prefix_begins_mobiles_landlines_and_extensions() -> None:
    assert prefixes_of("139", "cn") == {"139", "+86139"}
    assert prefixes_of("010", "cn") == {"010", "+8610"}
    assert prefixes_of("+852", "cn") == {"+852"}
    assert prefixes_of("x", "cn") == frozenset()
