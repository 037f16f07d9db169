"""A screen that only applies messages always shows what a reload would show.

Random lives of many offers, in any order, with repetitions; after each step the screen's
picture is compared with the desk.
"""

from __future__ import annotations

from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from ctid.acd.facts import OfferMade, OfferOutcome
from ctid.sinks.pop import Background, PastCall, Pop, PopClosed, PopMessage
from ctid.sinks.pop_book import PopBook
from tests.fakes_web import ended, moment, offer, pop_of

OFFERS: list[OfferMade] = [offer(f"c{n % 4}", f"20{n % 3}", f"leg{n}") for n in range(60)]
ANY = st.sampled_from(OFFERS)
OUTCOMES: st.SearchStrategy[OfferOutcome] = st.sampled_from(
    ["answered", "no_answer", "declined", "cancelled", "unknown_end"]
)


class AnyLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.book = PopBook(missed_for=timedelta(seconds=30))
        self.now = moment()
        self.screens: dict[str, dict[str, Pop]] = {f"20{n}": {} for n in range(3)}

    def tell(self, messages: list[PopMessage]) -> None:
        """Do what state.js does."""
        for message in messages:
            screen = self.screens[message.pop.agent]
            if isinstance(message, PopClosed):
                screen.pop(message.pop.id, None)
            else:
                screen[message.pop.id] = message.pop

    @rule(made=ANY)
    def offered(self, made: OfferMade) -> None:
        self.tell(self.book.offered(pop_of(replace(made, at=self.now))))

    @rule(made=ANY, outcome=OUTCOMES)
    def ended(self, made: OfferMade, outcome: OfferOutcome) -> None:
        self.tell(self.book.ended(replace(ended(made, outcome), at=self.now)))

    @rule(made=ANY)
    def talks(self, made: OfferMade) -> None:
        self.tell(self.book.talking(made.leg, self.now))

    @rule(made=ANY)
    def found(self, made: OfferMade) -> None:
        pop = replace(pop_of(replace(made, at=self.now)), state="answered")
        self.tell(self.book.found_talking(pop))

    @rule(made=ANY)
    def handled(self, made: OfferMade) -> None:
        self.tell(self.book.handled(made.leg))

    @rule(made=ANY, vip=st.booleans())
    def routed(self, made: OfferMade, vip: bool) -> None:
        self.tell(self.book.routed(made.call, line="l", business="repair", vip=vip))

    @rule(made=ANY, calls=st.integers(0, 2))
    def enriched(self, made: OfferMade, calls: int) -> None:
        past = PastCall(at=made.at)
        self.tell(self.book.enriched(made.leg, Background(calls=(past,) * calls)))

    @rule(made=ANY)
    def dismissed(self, made: OfferMade) -> None:
        self.tell(self.book.dismissed(made.agent, pop_of(made).id))

    @rule(seconds=st.sampled_from([1, 20, 700]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.tell(self.book.expired(self.now))

    @invariant()
    def screens_equal_reloads(self) -> None:
        for agent, screen in self.screens.items():
            desk = self.book.desk(agent, self.now)
            assert screen == {pop.id: pop for pop in (*desk.open, *desk.missed)}
            assert all(pop.agent == agent for pop in screen.values())
            assert all(pop.state != "withdrawn" for pop in desk.open)

    @invariant()
    def found_by_id_and_leg(self) -> None:
        assert len(self.book) == sum(len(screen) for screen in self.screens.values())
        for screen in self.screens.values():
            for pop in screen.values():
                assert self.book.find(pop.id) == self.book.of_leg(pop.leg) == pop


AnyLife.TestCase.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
TestAnyLife = AnyLife.TestCase
