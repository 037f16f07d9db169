"""Where calls go (duties.md A004-A007, A010)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctid.routing.decide import CallRequest, Decision, FloorView, decide, decide_open
from ctid.routing.policy import Policy, from_table
from ctid.routing.variables import FROM_ROUTE
from tests.routing.fakes import GONE, SMALL, bent

OPEN = datetime(2026, 11, 16, 2, 0, tzinfo=UTC)
"""10:00 in Shanghai, a Monday."""
SHUT = datetime(2026, 11, 16, 12, 0, tzinfo=UTC)
FREE = FloorView(idle={"repair": frozenset({"1001"})})


def decided(
    dialled: str = "5002",
    caller: str = "13612345678",
    *,
    floor: FloorView = FREE,
    now: datetime = OPEN,
    last_agent: str | None = None,
    **changes: Any,
) -> Decision:
    request = CallRequest(dialled=dialled, caller=caller, recording="some-uuid", last_agent=last_agent)
    return decide(from_table(bent(**changes)), request, floor, now)


def test_a_line_says_it_all() -> None:
    assert decided() == Decision(
        queue="repair",
        priority=5,
        timeout=timedelta(seconds=45),
        overflow_queue="overflow",
        overflow_timeout=timedelta(seconds=90),
        rule="relax",
        language="zh",
        greeting="ctid/repair",
        name_prefix="[报修]",
        recording="some-uuid",
        line="repair",
        business="repair",
    )


def test_variables_are_those_of_the_contract_in_its_order() -> None:
    variables = decided(last_agent="1001", caller="13800138000").variables()
    assert list(variables) == list(FROM_ROUTE)
    assert variables["CTID_TIMEOUT"] == "45"
    assert (variables["CTID_AGENT_QUEUE"], variables["CTID_AGENT_TIMEOUT"]) == ("agent-1001", "15")
    assert (variables["CTID_VIP"], variables["CTID_RECORD"], variables["CTID_OK"]) == ("1", "1", "1")
    assert variables["CTID_NAME_PREFIX"] == "[报修][VIP]"


def test_what_a_line_leaves_out_comes_from_the_site() -> None:
    plain = decided("5001")
    assert (plain.timeout, plain.overflow_queue, plain.rule) == (timedelta(seconds=60), "", "")
    assert decided("5001", site__record=False).variables()["CTID_RECORD"] == "0"
    assert decided("5001", site__record=False, lines__plain__record=True).recording == "some-uuid"
    assert decided("5001", lines__plain__record=False).recording == ""


def test_english_lines_have_english_titles() -> None:
    assert decided("5001", "13800138000", lines__plain__language="en").name_prefix == "[Enquiry][VIP]"
    own = {"zh": "宽带", "en": "Broadband"}
    assert decided("5001", site__language="en", lines__plain__title=own).name_prefix == "[Broadband]"


@pytest.mark.parametrize(
    ("closed", "action", "queue", "greeting"),
    [
        (GONE, "closed", "", ""),
        ({"greeting": "ctid/shut"}, "closed", "", "ctid/shut"),
        ({"action": "reject"}, "reject", "", ""),
        ({"action": "queue", "queue": "overflow"}, "queue", "overflow", ""),
    ],
)
def test_a010_outside_the_hours(closed: Any, action: str, queue: str, greeting: str) -> None:
    changes = {} if closed is GONE else {"lines__repair__closed": closed}
    found = decided(now=SHUT, **changes)
    assert (found.action, found.queue, found.greeting) == (action, queue, greeting)
    assert bool(found.recording) == (action == "queue")
    assert (found.line, found.business) == ("repair", "repair")


def test_a010_hours_are_those_of_the_site() -> None:
    assert decided(now=SHUT, site__time_zone="Europe/Berlin").action == "queue"


def test_a_number_of_no_line_is_answered_all_the_same() -> None:
    assert decided("9999") == Decision(
        queue="consultation",
        timeout=timedelta(seconds=60),
        language="zh",
        business="consultation",
        recording="some-uuid",
    )
    vip = decided("", "13800138000", site__record=False)
    assert (vip.queue, vip.priority, vip.vip, vip.name_prefix) == ("consultation", 20, True, "[VIP]")
    assert vip.recording == ""
    assert decided("9999", "13911112222").queue == "overflow"


def test_a006_a_vip_goes_before_the_others() -> None:
    assert (decided(caller="13800138000").priority, decided(caller="13800138000").vip) == (25, True)


def test_a004_an_inspector_has_a_queue_of_his_own() -> None:
    found = decided(caller="13911112222")
    assert (found.queue, found.overflow_queue, found.name_prefix, found.vip) == (
        "overflow",
        "",
        "[报修][监督员]",
        False,
    )


@pytest.mark.parametrize("now", [OPEN, SHUT])
@pytest.mark.parametrize("dialled", ["5002", "9999"])
def test_a_nuisance_is_refused(now: datetime, dialled: str) -> None:
    found = decided(dialled, "110110", now=now)
    assert (found.action, found.queue, found.recording) == ("reject", "", "")


@pytest.mark.parametrize(
    ("waiting", "idle", "queue", "overflow", "rule"),
    [
        (2, frozenset[str](), "repair", "overflow", "relax"),
        (3, frozenset[str](), "overflow", "", ""),
        (3, frozenset({"1001"}), "repair", "overflow", "relax"),
    ],
)
def test_a007_a_hopeless_queue_is_left_out(
    waiting: int, idle: frozenset[str], queue: str, overflow: str, rule: str
) -> None:
    found = decided(floor=FloorView(waiting={"repair": waiting}, idle={"repair": idle}))
    assert (found.queue, found.overflow_queue, found.rule) == (queue, overflow, rule)


@pytest.mark.parametrize(
    ("last_agent", "dialled", "floor", "queue"),
    [
        ("1001", "5002", FREE, "agent-1001"),
        ("1001", "5002", FloorView(), ""),
        ("1001", "5001", FREE, ""),
        ("1002", "5002", FloorView(idle={"overflow": frozenset({"1002"})}), ""),
        ("9", "5002", FloorView(idle={"repair": frozenset({"9"})}), ""),
        (None, "5002", FREE, ""),
    ],
)
def test_the_agent_who_knows_the_caller_is_tried_if_free(
    last_agent: str | None, dialled: str, floor: FloorView, queue: str
) -> None:
    found = decided(dialled, last_agent=last_agent, floor=floor)
    assert (found.agent_queue, bool(found.agent_timeout)) == (queue, bool(queue))


POLICY: Policy = from_table(SMALL)


@given(
    st.text(max_size=20) | st.sampled_from(["5001", "5002"]),
    st.text(max_size=20),
    st.datetimes(timezones=st.just(UTC)),
    st.none() | st.text(max_size=5),
)
def test_whoever_calls_whenever_there_is_one_decision(
    dialled: str, caller: str, now: datetime, last_agent: str | None
) -> None:
    request = CallRequest(dialled=dialled, caller=caller, last_agent=last_agent)
    found = decide(POLICY, request, FREE, now)
    assert (found.action == "queue") == bool(found.queue)
    assert not found.queue or found.queue in POLICY.queue_names()
    assert list(found.variables()) == list(FROM_ROUTE)


def test_open_needs_no_clock() -> None:
    request = CallRequest(dialled="5002", caller="13612345678", recording="some-uuid")
    assert decide_open(POLICY, request) == decided(floor=FloorView())
