"""Customers and cashiers: who comes when, what they buy, and what they do when something goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drivers.simulator import Fault, Torn
from terminal_agent.errors import AgentError, ErrorCode
from tests.simulation import checks
from tests.simulation.book import DONE, FINAL, IN_DOUBT, REFUSED, UNKNOWN, Broken, Card, Sale
from tests.simulation.shop import Shop, Tap
from tests.simulation.world import World

PATIENCE = 6
PURCHASE_CALLS = (1, 2, 3, 4, 5, 5, 5, 5, 6, 6, 7, 8, 8, 9)
"""Where a tap is torn: 1 authenticate, 2 to 4 read, 5 write, 6 read back, 7 and 8 history."""
ISSUE_CALLS = range(1, 301)
REKEY_CALLS = (*range(10, 40), *range(10, 40), *range(10, 150))
"""What follows the sale of a card that gets new keys: it moves to its other home, then come the other sectors."""
SPOILT = {ErrorCode.CARD_ROLLED_BACK, ErrorCode.CARD_BLOCKED, ErrorCode.DATA_CORRUPT, ErrorCode.KEY_REJECTED}
SPOILT |= {ErrorCode.NOT_OUR_CARD, ErrorCode.CARD_ERASED, ErrorCode.BLANK_CARD}
HOPELESS = {*SPOILT, ErrorCode.REVERSAL_REFUSED, ErrorCode.RECEIPT_CONFLICT, ErrorCode.NOT_FOUND}
REFUSALS = {ErrorCode.INSUFFICIENT_POINTS, ErrorCode.OFFLINE_LIMIT}
NO_DISK = {ErrorCode.JOURNAL_FAILED, ErrorCode.DISK_FULL}


class People:
    """Fills a world with visits."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._receipts = 0

    def arrive(self) -> None:
        """Everybody plans a first visit."""
        for card in self._world.cards:
            self.expect(card)

    def expect(self, card: Card) -> None:
        """Its owner comes by now and then."""
        self._world.later(self._world.exponential(self._world.size.visits), lambda: self._visit(card))

    def _visit(self, card: Card) -> None:
        world = self._world
        gone = card.lost and card.spoilt is None
        if world.closing or gone or (card.leaves and card.card_no is None):
            return
        self.expect(card)
        shop = world.chance.choice(world.shops)
        if card.busy or not shop.is_open:
            return
        if card.card_no is None:
            self.issue(card, shop)
        else:
            self.buy(card, shop)

    # Getting a card.

    def issue(self, card: Card, shop: Shop) -> bool:
        """One try at the desk; a card that was begun at one shop is finished there, as the desk's people would."""
        world = self._world
        shop = next((s for s in world.shops if s.name == card.desk), shop)
        if not shop.is_open:
            return False
        card.desk = shop.name
        world.taps += 1
        tap = Tap(card.image, self._tear(ISSUE_CALLS))
        answer = world.step(shop, lambda: shop.issue(tap, card.phone))
        world.say(f"{shop.name} issues {card.name}: {in_words(answer)}")
        if isinstance(answer, dict):
            card.card_no = answer["card_no"]
            world.wake(shop)
        elif isinstance(answer, AgentError) and card.half_programmed and answer.code in SPOILT:
            card.take_another(bytes([0x90 + card.uid[0] % 0x60]) + world.chance.randbytes(3))
        elif isinstance(answer, AgentError):
            self._expect_card_error(answer, card, shop, tap)
            card.half_programmed |= tap.fault is not None and tap.fault.outcome is Torn.GARBAGE
        return card.card_no is not None

    # Buying.

    def buy(self, card: Card, shop: Shop) -> None:
        """A customer comes to the till."""
        world = self._world
        chance = world.chance
        amount = chance.choice((5_000, 10_000, 49_999, 120_000, 250_000, 900_000, 3_000_000))
        state = card.state()
        balance = state["balance"] if state else 0
        redeem = 0
        if balance > 0 and chance.random() < 0.4:
            redeem = min(chance.randint(1, balance), amount // 100)
        if chance.random() < world.faults.rate("mistakes"):
            redeem = balance + chance.randint(1, 500)
        card.busy = True
        self.sell(Sale(shop.name, self.next_receipt(), card, amount, redeem, card.image), shop)

    def next_receipt(self) -> str:
        self._receipts += 1
        return f"R-{self._receipts}"

    def sell(self, sale: Sale, shop: Shop) -> None:
        """One sale, to its end or to the end of everybody's patience."""
        self._world.book.open(sale)
        self._try(sale, shop)

    def _try(self, sale: Sale, shop: Shop) -> None:
        world = self._world
        if not shop.is_open:
            world.later(30, lambda: self._try(sale, shop))
            return
        if self._mistype(sale, shop):
            return
        sale.tries += 1
        image, card = self._what_is_laid_down(sale)
        tap = Tap(image, self._tear(PURCHASE_CALLS) or self._tear(REKEY_CALLS, "keys"))
        before = card.state(image)
        sale.asked.add(sale.redeem)
        sale.cards.append(card)
        world.taps += 1
        outcome = world.step(shop, lambda: _at_the_till(sale, shop, tap))
        where = f"{shop.name} {sale.receipt_no}"
        what = f"{sale.kind} {sale.amount} -{sale.redeem}"
        world.say(f"{where} {card.name} {what}: {in_words(outcome)} {_plastic(card, image)}")
        if not card.spoilt:
            checks.card_is_whole(card, before, card.state(image), where)
        self._note(sale, shop, card, tap, outcome)
        if image is not sale.image and image is card.image:
            card.busy = False
        self._next(sale, shop, outcome)

    def _note(self, sale: Sale, shop: Shop, card: Card, tap: Tap, outcome: Any) -> None:
        book = self._world.book
        if isinstance(outcome, dict):
            fresh = not outcome["replayed"]
            book.answered(sale, outcome)
            if fresh:
                checks.card_says_what_was_answered(card, outcome, card.state(tap.image))
                checks.blocked_card_is_refused(card, shop)
                checks.forgetful_till_redeems_nothing(shop, outcome)
                checks.older_image_is_refused(card, shop, outcome["sequence"])
            self._world.wake(shop)
        elif outcome is None:
            if sale.state not in FINAL:
                book.still_open(sale, UNKNOWN)
        elif outcome.details.get("state") == IN_DOUBT:
            book.still_open(sale, IN_DOUBT)
        else:
            book.still_open(sale, REFUSED)
            self._expect(outcome, sale, card, shop, tap)

    def _next(self, sale: Sale, shop: Shop, outcome: Any) -> None:
        """What cashier and customer do now."""
        world, chance = self._world, self._world.chance
        walks_out = outcome is not None and chance.random() < world.faults.rate("departures")
        if sale.state in FINAL or sale.tries >= PATIENCE or (sale.state != DONE and walks_out):
            self._leave(sale)
            return
        code = outcome.code if isinstance(outcome, AgentError) else None
        if code in HOPELESS or (code in NO_DISK and chance.random() < 0.5):
            self._leave(sale)
            return
        if code is ErrorCode.DISK_FULL:
            sale.redeem = 0  # what is left of the disk is kept for sales
        if code in REFUSALS:
            sale.redeem = outcome.details.get("redeemable_points", 0) if chance.random() < 0.5 else 0
        world.later(chance.uniform(1, 20), lambda: self._try(sale, shop))

    def _leave(self, sale: Sale) -> None:
        world = self._world
        if sale.image is not sale.card.image:
            return  # a copy: the card itself may be in use elsewhere
        sale.card.busy = False
        if sale.of is None and sale.state in FINAL and world.chance.random() < world.faults.rate("returns"):
            world.later(world.chance.uniform(60, 7200), lambda: self._bring_back(sale))

    def _bring_back(self, bought: Sale) -> None:
        """The customer returns what was bought, or a part of it, where it was bought; once for each receipt."""
        world, card = self._world, bought.card
        if card.busy or card.lost or world.closing or bought.answer is None:
            return
        shop = next(shop for shop in world.shops if shop.name == bought.shop)
        amount = bought.amount if world.chance.random() < 0.5 else world.chance.randint(1, bought.amount)
        back = Sale(bought.shop, bought.receipt_no, card, amount, 0, card.image, of=bought)
        world.book.open(back)
        world.faults.count("return")
        card.busy = True
        self._try(back, shop)

    def _what_is_laid_down(self, sale: Sale) -> tuple[Any, Card]:
        """The customer's card; on a retry now and then another one."""
        world = self._world
        if sale.tries > 1 and world.chance.random() < world.faults.rate("swaps"):
            others = [c for c in world.cards if not c.busy and not c.lost and not c.spoilt and c.card_no]
            if others:
                world.faults.count("swapped_card")
                other = world.chance.choice(others)
                other.busy = True
                return other.image, other
        return sale.image, sale.card

    def _mistype(self, sale: Sale, shop: Shop) -> bool:
        """The cashier types another amount on a retry: refused if the receipt is known, and never booked twice."""
        world = self._world
        if sale.of or sale.tries == 0 or sale.mistaken or world.chance.random() >= world.faults.rate("mistakes"):
            return False
        sale.mistaken = True
        journal = shop.rows("SELECT amount FROM checkouts WHERE receipt_no = ?", sale.receipt_no)
        if not journal:
            return False  # nothing was recorded: another amount would simply be the sale
        world.faults.count("mistyped_amount")
        tap = Tap(sale.image)
        outcome = world.step(shop, lambda: shop.purchase(tap, sale.receipt_no, sale.amount + 10_000, 0))
        world.say(f"{shop.name} {sale.receipt_no} mistyped: {in_words(outcome)}")
        is_conflict = isinstance(outcome, AgentError) and outcome.code is ErrorCode.RECEIPT_CONFLICT
        known_trouble = outcome is None or (isinstance(outcome, AgentError) and outcome.code is not None)
        if not is_conflict and not (known_trouble and not isinstance(outcome, dict)):
            raise Broken("P2 once", f"{shop.name} {sale.receipt_no}: another amount was answered {in_words(outcome)}")
        world.later(5, lambda: self._try(sale, shop))
        return True

    def _tear(self, calls: Sequence[int], kind: str = "tears") -> Fault | None:
        world = self._world
        if not world.faults.has(kind) or world.chance.random() >= world.faults.rate(kind):
            return None
        fault = Fault(world.chance.choice(calls), world.chance.choice(list(Torn)))
        world.faults.count(f"{'tear' if kind == 'tears' else 'rekey_tear'}_{fault.outcome.value}")
        return fault

    # What may be refused, and why.

    def _expect(self, error: AgentError, sale: Sale, card: Card, shop: Shop, tap: Tap) -> None:
        """An error is an answer too: it needs a reason that is really there."""
        if error.code in REFUSALS:
            if not sale.redeem:
                raise Broken("P6 sales", f"{shop.name} {sale.receipt_no}: {error.code} without a redemption")
            return
        if error.code is ErrorCode.DISK_FULL and sale.redeem:
            return  # until its housekeeping finds room for a reserve again, a till redeems nothing
        is_theirs = sale.of is None or (sale.of.answer or {}).get("card_no") == card.card_no
        if sale.of is not None and error.code is ErrorCode.OTHER_CARD and not is_theirs:
            return
        if sale.of is not None and sale.of.gone and error.code is ErrorCode.NOT_FOUND:
            return
        if error.code is ErrorCode.REVERSAL_REFUSED and self._world.faults.has("clocks"):
            return  # this clock says that it was sold too long ago
        self._expect_card_error(error, card, shop, tap)

    def _expect_card_error(self, error: AgentError, card: Card, shop: Shop, tap: Tap) -> None:
        reasons = {
            ErrorCode.CARD_REMOVED_EARLY: tap.fault is not None,
            ErrorCode.JOURNAL_FAILED: shop.name in self._world.disk_troubles,
            ErrorCode.DISK_FULL: shop.name in self._world.disk_troubles,
        }
        if not reasons.get(error.code, bool(card.spoilt) and error.code in SPOILT):
            raise Broken("P6 sales", f"{shop.name} refused {card.name} for no reason: {error.code} {error}")


def _at_the_till(sale: Sale, shop: Shop, tap: Tap) -> dict[str, Any]:
    if sale.of is not None:
        return shop.reverse(tap, sale.receipt_no, sale.amount)
    return shop.purchase(tap, sale.receipt_no, sale.amount, sale.redeem)


def in_words(outcome: Any) -> str:
    """An outcome for the trace."""
    if isinstance(outcome, dict):
        names = ("state", "points_earned", "points_redeemed", "points_after", "sequence", "online", "replayed")
        return " ".join(str(outcome.get(name)) for name in names)
    if isinstance(outcome, AgentError):
        return f"{outcome.code.value} {outcome.details.get('state', '')}".strip()
    return "died"


def _plastic(card: Card, image: Any) -> str:
    state = card.state(image)
    return f"[{state['sequence']} {state['balance']} {state['adjustments_through']}]" if state else "[unreadable]"
