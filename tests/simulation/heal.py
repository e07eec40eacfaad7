"""The end of a world: faults stop, everything drains within bounded time, every card is tapped everywhere.

Then the books of ledger, plastic and people must be one.
"""

from __future__ import annotations

from contextlib import suppress

from terminal_agent.errors import AgentError
from tests.simulation import checks
from tests.simulation.book import FINAL, IN_DOUBT, NEW, REFUSED, UNKNOWN, Card, Sale, require
from tests.simulation.mishaps import Mishaps
from tests.simulation.shop import Shop, Tap
from tests.simulation.world import World

SETTLE_S = 3 * 3600.0
"""Bounded: the longest pause anybody may ask for is an hour, and a sale in doubt is closed after a quarter of one."""


def heal(world: World, mishaps: Mishaps) -> None:
    """Raises :class:`~tests.simulation.book.Broken` where something does not heal."""
    world.closing = True
    world.faults.stop()
    world.say("faults stop")
    mishaps.crm_comes_back()
    for shop in world.shops:
        mishaps.disk_is_freed(shop)
        shop.line.turn(up=True)
        if not shop.is_open:
            world.open_shop(shop)
        world.wake(shop)
    _wait(world)
    for _round in range(2):  # the first settles what was in doubt, the second brings what that was worth
        _tap_everywhere(world)
        _wait(world)
    _tap_everywhere(world)
    _wait(world)
    _ask_again(world)
    _check(world)


def _wait(world: World) -> None:
    world.run_until(world.timeline.now + SETTLE_S)


def _tap_everywhere(world: World) -> None:
    """A purchase too small to earn, at every shop: whatever that shop or the CRM still owes the card is settled."""
    for card in world.cards:
        if card.card_no is None or card.lost:
            continue
        for shop in world.shops:
            _small_purchase(world, card, shop)


def _small_purchase(world: World, card: Card, shop: Shop) -> None:
    world.taps += 1
    receipt = f"last-{world.taps}"
    answer = world.step(shop, lambda: shop.purchase(Tap(card.image), receipt, 1, 0))
    words = answer.code.value if isinstance(answer, AgentError) else answer["points_after"]
    world.say(f"{shop.name} last tap of {card.name}: {words}")
    if not card.spoilt:
        require(isinstance(answer, dict), "P6 usable", f"{shop.name} refuses {card.name} after healing: {words}")
    world.wake(shop)


def _ask_again(world: World) -> None:
    """Every receipt whose end the cashier did not see is asked for; what was refused must be unknown."""
    shops = {shop.name: shop for shop in world.shops}
    for sale in world.book.sales:
        answer = _recorded(shops[sale.shop], sale)
        if sale.gone and answer is None:
            continue
        if answer is not None:
            where = f"{sale.shop} {sale.receipt_no}"
            known = sale.gone or sale.state in (*FINAL, IN_DOUBT, UNKNOWN)
            require(known, "P2 once", f"{where} was {sale.state}, and is {answer['state']}")
            (world.book.answered_by_phone if sale.by_phone else world.book.answered)(sale, answer)
        else:
            gone = sale.state in (NEW, REFUSED, UNKNOWN)
            require(gone, "P1 on disk", f"{sale.shop} {sale.receipt_no} was {sale.state}, and nobody knows of it")
            sale.state = REFUSED


def _recorded(shop: Shop, sale: Sale) -> dict[str, object] | None:
    if sale.of is None:
        return shop.recorded(sale.receipt_no, sale.amount)
    with suppress(AgentError):  # it never began, and cannot any more
        return shop.recorded_return(sale.receipt_no, sale.amount)
    return None


def _check(world: World) -> None:
    world.look()
    for shop in world.shops:
        checks.everything_arrived(shop)
        checks.crm_has_every_sequence(world.crm, shop)
    checks.every_answer_is_at_the_crm_once(world.crm, world.book)
    for card in world.cards:
        if card.card_no and not card.lost and not card.spoilt:
            checks.card_has_the_new_keys(card)
        checks.books_agree(world.crm, world.book, card)
        world.lost_points += checks.loss_is_bounded(world.book, card)
        if card.twins:
            checks.copies_are_blocked_everywhere(world.crm, world.shops, card)
    for stranger in world.strangers:
        checks.books_agree(world.crm, world.book, stranger)
    for person in (*world.cards, *world.strangers):
        if person.erased:
            world.nobody_is_told_of(person)
    checks.nothing_contradicts(world.crm, {card.card_no for card in world.cards if card.spoilt})
