"""What the fallback script and Asterisk read of the policy."""

import json
from pathlib import Path

from ctid.routing.policy import from_table, load
from ctid.routing.writing import last_good_routes, queue_rules_conf
from tests.routing.fakes import SMALL, bent

ROOT = Path(__file__).parents[2]


def test_routes_are_there_in_every_spelling() -> None:
    routes = json.loads(last_good_routes(from_table(SMALL)))
    assert routes["version"] == 1
    assert set(routes["lines"]) == {
        "5001", "5002", "+861088885002", "861088885002", "00861088885002", "01088885002", "1088885002",
    }  # fmt: skip
    assert routes["lines"]["01088885002"] == routes["lines"]["5002"]
    assert routes["lines"]["5002"] == {
        "queue": "repair",
        "timeout": 45,
        "overflow_queue": "overflow",
        "overflow_timeout": 90,
        "name_prefix": "[报修]",
        "business": "repair",
        "line": "repair",
        "language": "zh",
        "greeting": "ctid/repair",
        "record": True,
    }
    assert routes["default"]["queue"] == "consultation"


def test_what_is_not_recorded_is_not_recorded_by_the_script() -> None:
    assert json.loads(last_good_routes(from_table(bent(site__record=False))))["default"]["record"] is False


def test_a007_skills_relax_in_the_order_of_time() -> None:
    assert queue_rules_conf(from_table(SMALL)) == (
        "; Written from policy.toml.\n\n[relax]\npenaltychange => 0,1\npenaltychange => 20,99\n"
    )


def test_the_example_and_the_shipped_rules_are_the_same() -> None:
    def rules(text: str) -> list[str]:
        lines = (line.partition(";")[0].strip() for line in text.splitlines())
        return [line for line in lines if line]

    shipped = (ROOT / "config" / "asterisk" / "queuerules.conf").read_text(encoding="utf-8")
    assert rules(queue_rules_conf(load(ROOT / "config" / "policy.toml"))) == rules(shipped)
