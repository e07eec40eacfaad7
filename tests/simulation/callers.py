"""Customers who give a phone instead of a card: members who left theirs at home, strangers, people who want to be
forgotten, and whoever comes for a new card because the old one is blocked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from terminal_agent.errors import AgentError, ErrorCode
from tests.simulation.book import FINAL, REFUSED, UNKNOWN, Card, Sale, require
from tests.simulation.people import NO_DISK, PATIENCE, People, in_words
from tests.simulation.ports import DAY_S
from tests.simulation.shop import Shop
from tests.simulation.world import World

NEW_CARDS_EVERY_S = 1800.0
AMOUNTS = (5_000, 49_999, 120_000, 900_000)
ERASED_SHARE = 0.25
NO_LINE = {ErrorCode.CRM_UNREACHABLE, ErrorCode.CRM_UNAUTHORIZED}


class Callers:
    """Plans sales by phone into a world, at the rate it drew."""

    def __init__(self, world: World, people: People) -> None:
        self._world = world
        self._people = people

    def begin(self) -> None:
        world = self._world
        if not world.faults.has("phones"):
            return
        for person in (*world.cards, *world.strangers):
            self._plan(person)
        if world.faults.has("backups") or world.faults.has("rollback"):
            return  # what is put back knows neither an erasure nor a block, and nobody here would say it again
        for person in (*world.cards, *world.strangers):
            if world.chance.random() < ERASED_SHARE:
                moment = world.chance.uniform(0.2, 0.9) * world.size.days * DAY_S
                world.later(moment, partial(self._wants_to_be_forgotten, person))
        world.later(NEW_CARDS_EVERY_S, self._come_for_new_cards)

    def _plan(self, person: Card) -> None:
        rate = self._world.faults.rate("phones")
        if rate:
            self._world.later(self._world.exponential(rate), partial(self._visit, person))

    def _visit(self, person: Card) -> None:
        world = self._world
        if world.closing or person.leaves:
            return
        self._plan(person)
        shop = world.chance.choice(world.shops)
        if person.busy or not shop.is_open:
            return
        person.busy = True
        sale = Sale(shop.name, self._people.next_receipt(), person, world.chance.choice(AMOUNTS), 0, person.image)
        sale.by_phone = True
        world.faults.count("sale_by_phone")
        world.book.open(sale)
        self._try(sale, shop)

    def _try(self, sale: Sale, shop: Shop) -> None:
        world = self._world
        if not shop.is_open:
            world.later(30, partial(self._try, sale, shop))
            return
        sale.tries += 1
        outcome = world.step(shop, lambda: _at_the_till(sale, shop))
        world.say(
            f"{shop.name} {sale.receipt_no} {sale.card.name} by phone {sale.kind} {sale.amount}: {in_words(outcome)}"
        )
        if isinstance(outcome, dict):
            world.book.answered_by_phone(sale, outcome)
            world.wake(shop)
        else:
            world.book.still_open(sale, UNKNOWN if outcome is None else REFUSED)
        if sale.state in FINAL or sale.tries >= PATIENCE:
            self._leave(sale)
        elif not isinstance(outcome, AgentError) or self._may_be_refused(outcome, sale, shop):
            world.later(world.chance.uniform(1, 20), partial(self._try, sale, shop))
        else:
            self._leave(sale)

    def _may_be_refused(self, error: AgentError, sale: Sale, shop: Shop) -> bool:
        """Whether to try again. Raises :class:`Broken` for a refusal without a reason."""
        world, person = self._world, sale.card
        if error.code is ErrorCode.MEMBER_NOT_FOUND:
            known = world.crm.rows(
                "SELECT status FROM members WHERE phone = ? AND status IN ('active', 'pending')", person.phone
            )
            told_by_a_cache = world.faults.has("network")  # refusals are not signed: an old one may be told again
            require(
                not known or told_by_a_cache, "P6 sales", f"{shop.name} says that nobody has {person.phone}: {known}"
            )
            return world.chance.random() < 0.5 and self._enrols(person, shop)
        no_disk = error.code in NO_DISK and shop.name in world.disk_troubles
        too_late = error.code is ErrorCode.REVERSAL_REFUSED and world.faults.has("clocks")
        forgotten = error.code is ErrorCode.NOT_FOUND and sale.of is not None and sale.of.gone
        says = f"{shop.name} {sale.receipt_no} by phone: {error.code} {error}"
        require(no_disk or too_late or forgotten, "P6 sales", says)
        return no_disk

    def _enrols(self, person: Card, shop: Shop) -> bool:
        """A stranger joins without a card; true: the sale is tried again."""
        world = self._world
        outcome = world.step(shop, lambda: shop.ask("member.enroll", phone=person.phone, marketing_consent=True))
        world.say(f"{shop.name} enrols {person.name}: {in_words(outcome)}")
        if isinstance(outcome, dict):
            person.member_ids.add(outcome["member_id"])
            world.faults.count("enrolled_without_card")
            world.wake(shop)
        return True

    def _leave(self, sale: Sale) -> None:
        world = self._world
        sale.card.busy = False
        if sale.of is None and sale.state in FINAL and world.chance.random() < max(0.1, world.faults.rate("returns")):
            world.later(world.chance.uniform(60, 7200), partial(self._bring_back, sale))

    def _bring_back(self, bought: Sale) -> None:
        world, person = self._world, bought.card
        if person.busy or person.leaves or world.closing or bought.answer is None:
            return
        amount = bought.amount if world.chance.random() < 0.5 else world.chance.randint(1, bought.amount)
        back = Sale(bought.shop, bought.receipt_no, person, amount, 0, person.image, of=bought)
        back.by_phone = True
        world.book.open(back)
        world.faults.count("return_by_phone")
        person.busy = True
        self._try(back, next(shop for shop in world.shops if shop.name == bought.shop))

    def _come_for_new_cards(self) -> None:
        """Whose card head office has blocked asks for another one at any desk, which may not have heard of that."""
        world = self._world
        for card in list(world.cards):
            if (
                card.spoilt == "blocked"
                and card.heir is None
                and not card.leaves
                and not world.closing
                and world.chance.random() < 0.5
            ):
                card.heir = world.new_card(len(world.cards) + 1, card.phone)
                card.heir.heir_of = card
                world.cards.append(card.heir)
                world.faults.count("new_card_for_a_blocked_one")
                world.say(f"{card.name} is to be followed by {card.heir.name}")
                self._people.expect(card.heir)
        world.later(NEW_CARDS_EVERY_S, self._come_for_new_cards)

    # Being forgotten.

    def _wants_to_be_forgotten(self, person: Card) -> None:
        """Asked for where the line is up, until it is done. Nobody asks while some till has yet to tell of them: it
        would make a new member of them, as docs/members-and-privacy.md says."""
        world = self._world
        if world.closing or person.erased:
            return
        again: Callable[[], None] = partial(self._wants_to_be_forgotten, person)
        shop = world.chance.choice(world.shops)
        theirs = [person, *([person.heir] if person.heir else [])]
        if (
            any(card.busy for card in theirs)
            or not shop.is_open
            or any(_has_yet_to_tell(each, person.phone) for each in world.shops)
        ):
            world.later(600, again)
            return
        for card in theirs:
            card.leaves, card.spoilt, card.lost = True, card.spoilt or "erased", True
        outcome = world.step(shop, lambda: shop.ask("member.erase", phone=person.phone))
        world.say(f"{shop.name} erases {person.name}: {in_words(outcome)}")
        if isinstance(outcome, dict):
            person.member_ids.add(outcome["member_id"])
            person.erased = True
            world.faults.count("erasure")
            world.wake(shop)
        elif outcome is None or self._may_fail(outcome, shop):
            world.later(600, again)

    def _may_fail(self, error: AgentError, shop: Shop) -> bool:
        known = error.code in NO_LINE or (error.code in NO_DISK and shop.name in self._world.disk_troubles)
        require(known or error.code is ErrorCode.NOT_FOUND, "P6 foreseen", f"{shop.name} erases: {error.code} {error}")
        return known


def _at_the_till(sale: Sale, shop: Shop) -> dict[str, Any]:
    if sale.of is not None:
        return shop.ask("reverse", receipt_no=sale.receipt_no, amount=sale.amount)
    return shop.ask("purchase", receipt_no=sale.receipt_no, amount=sale.amount, phone=sale.card.phone)


def _has_yet_to_tell(shop: Shop, phone: str) -> bool:
    waits = "SELECT 1 FROM events JOIN outbox USING (event_id) WHERE outbox.state <> 'acknowledged' AND body LIKE ?"
    begun = "SELECT 1 FROM intents WHERE state = 'open' AND document LIKE ?"
    return any(shop.rows(sql, f"%{phone}%") for sql in (waits, begun))
