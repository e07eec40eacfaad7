"""Whoever copies a card, lays an old image down again, or writes to it with a reader of their own."""

from __future__ import annotations

from functools import partial

from drivers.mifare_classic import BLOCK_SIZE
from drivers.simulator import MemoryImage
from tests.simulation.book import Card, Sale
from tests.simulation.people import People
from tests.simulation.ports import DAY_S
from tests.simulation.world import World

VISITS_A_DAY = 300.0
MOST_COPIES = 5
EDITED_BLOCKS = (1, 4, 5, 6, 5, 6, 7, 8, 9, 12, 20, 40)


class Thieves:
    """Plans frauds into a world. What they hold are images: each visit lays one down, as it is or as it once was."""

    def __init__(self, world: World, people: People) -> None:
        self._world = world
        self._people = people

    def begin(self) -> None:
        world = self._world
        span = world.size.days * DAY_S
        for card in world.cards:
            if world.chance.random() < world.faults.rate("fraud"):
                world.later(world.chance.uniform(span * 0.2, span * 0.6), partial(self._copy, card))
            if world.chance.random() < world.faults.rate("edits"):
                world.later(world.chance.uniform(0, span), partial(self._edit, card))

    def _copy(self, card: Card) -> None:
        """The first copy; from then on there are two cards of this number, and soon more."""
        world = self._world
        if world.closing:
            return
        if card.card_no is None or card.busy:
            world.later(600, partial(self._copy, card))
            return
        card.spoilt = "copied"
        card.twins.append(_same(card.image))
        world.faults.count("copied_card")
        world.say(f"{card.name} is copied")
        self._plan(card)

    def _plan(self, card: Card) -> None:
        self._world.later(self._world.exponential(VISITS_A_DAY), partial(self._use, card))

    def _use(self, card: Card) -> None:
        """To a shop: with the copy that got furthest without redeeming, for its points; or with another one, a cheap
        purchase to get it ahead of what the other shops have seen. Both end at the hotlist."""
        world, chance = self._world, self._world.chance
        if world.closing:
            return
        self._plan(card)
        shop = chance.choice(world.shops)
        if not shop.is_open:
            return
        if len(card.twins) < MOST_COPIES:
            card.twins.append(_same(chance.choice((card.twins[0], card.image))))
        fresh = [image for image in card.twins[1:] if not (card.state(image) or {}).get("redeemed_offline")]
        redeem, image = 0, chance.choice(fresh or card.twins[1:])
        if chance.random() < 0.5:
            image = max(fresh or card.twins[1:], key=lambda image: (card.state(image) or {}).get("sequence", 0))
            redeem = min(200, max(0, (card.state(image) or {}).get("balance", 0)))
        sale = Sale(shop.name, self._people.next_receipt(), card, max(100 * redeem, 5_000), redeem, image)
        self._people.sell(sale, shop)

    def _edit(self, card: Card) -> None:
        """Bytes of the card are written past every key: CRYPTO1 is broken."""
        world, chance = self._world, self._world.chance
        if card.card_no is None or card.busy or world.closing:
            return
        card.spoilt = card.spoilt or "edited"
        block = chance.choice(EDITED_BLOCKS)
        source = chance.choice((chance.randbytes(BLOCK_SIZE), card.image.read(chance.choice((4, 5, 6)))))
        card.image.write(block, source)
        world.faults.count("edited_card")
        world.say(f"{card.name} block {block} is edited")


def _same(image: MemoryImage) -> MemoryImage:
    return MemoryImage(bytes(image.content))
