"""What people saw, and what must follow from it. Shares no code with the product: its own few lines of arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from drivers.mifare_classic import blank_card
from drivers.simulator import MemoryImage
from tests.card.independent_reader import HOMES, card_key, home_that_counts, master_of, open_state, read_home

EARN_PER = 10_000
CARD_CAP = 200
TERMINAL_DAY_CAP = 2_000

DONE, CLOSED, IN_DOUBT, UNKNOWN, REFUSED, NEW = "done", "closed", "in_doubt", "unknown", "refused", "new"
FINAL = (DONE, CLOSED)


class Broken(AssertionError):
    """A promise does not hold. ``promise`` names the checker."""

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise


def require(holds: bool, promise: str, what: str) -> None:
    """Raises :class:`Broken` unless it ``holds``."""
    if not holds:
        raise Broken(promise, what)


@dataclass(eq=False)
class Card:
    """A customer's card. ``image`` is the plastic; ``twins`` are copies of it in other hands."""

    name: str
    uid: bytes
    phone: str
    image: MemoryImage
    masters: tuple[bytes, ...]
    """The key sets of the shops, the first one first."""
    card_no: str | None = None
    busy: bool = False
    lost: bool = False
    desk: str | None = None
    """The shop that began to issue it."""
    half_programmed: bool = False
    """Torn at the desk in the middle of a write, perhaps of a sector's keys: then it is waste."""
    blocked_at: float | None = None
    """When head office put it on the hotlist."""
    spoilt: str | None = None
    """Why the plastic may be refused from now on: it was edited, rolled back, copied or blocked."""
    twins: list[MemoryImage] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    """The highest sequence each shop has written to it."""
    given: int = 0
    """Points head office moved, all in all."""
    taken: int = 0
    """Those it took."""
    member_ids: set[str] = field(default_factory=set)
    """Every id their sales by phone named."""
    leaves: bool = False
    """They asked to be forgotten, which may have been done in part."""
    erased: bool = False
    """It was done."""
    heir: Card | None = None
    """The card they got because this one was blocked."""
    heir_of: Card | None = None

    def take_another(self, uid: bytes) -> None:
        """The desk throws the plastic away and takes a blank one."""
        self.uid, self.image, self.half_programmed = uid, MemoryImage(bytes(blank_card(uid))), False

    def state(self, image: MemoryImage | None = None) -> dict[str, int] | None:
        """The newest valid state on the plastic, as an independent reader sees it."""
        content = bytes((image or self.image).content)
        blocks = [content[at : at + 16] for at in range(0, len(content), 16)]
        home, master = self._where(blocks)
        key = card_key(master, self.uid, b"STATE")
        slots = [open_state(key, blocks[4 * home + 1 + slot], slot) for slot in (0, 1)]
        return max((slot for slot in slots if slot), key=lambda slot: slot["sequence"], default=None)

    def _where(self, blocks: list[bytes]) -> tuple[int, bytes]:
        """The home that counts and its master key; without new keys in this world there is only the first of each."""
        if len(self.masters) > 1:
            four = {number: blocks[4 * number : 4 * number + 4] for number in HOMES}
            home = home_that_counts([read_home(four[n], self.masters, self.uid, n) for n in HOMES])
            if home is not None:
                master = master_of(four[home.number][3], self.masters, self.uid, home.number)
                return home.number, master or self.masters[0]
        return HOMES[0], self.masters[0]


@dataclass(eq=False)
class Sale:
    """One receipt at one shop: a purchase, or with ``of`` the return of one, whole or of ``amount``.

    ``asked`` holds every number of points a try asked to redeem.
    """

    shop: str
    receipt_no: str
    card: Card
    amount: int
    redeem: int
    image: MemoryImage
    state: str = NEW
    tries: int = 0
    mistaken: bool = False
    answer: dict[str, Any] | None = None
    asked: set[int] = field(default_factory=set)
    cards: list[Card] = field(default_factory=list)
    """Every card that lay on the reader for this receipt while its outcome was open."""
    of: Sale | None = None
    by_phone: bool = False
    """No card is laid down: ``card`` is who gave their phone."""
    gone: bool = False
    """The journal was put back to a copy that does not know of it."""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.shop, self.kind, self.receipt_no

    @property
    def kind(self) -> str:
        return "reversal" if self.of else "purchase"

    @property
    def earned(self) -> int:
        """What it must earn; a return takes back what the rest would not have earned."""
        if self.of is None:
            return self.amount // EARN_PER
        return (self.of.amount - self.amount) // EARN_PER - self.of.earned

    @property
    def gives_back(self) -> int:
        """Redeemed points that a return brings back: those of the part returned, never more than were paid."""
        if self.of is None or self.of.answer is None:
            return 0
        paid: int = self.of.answer["points_redeemed"]
        return paid - -(-paid * (self.of.amount - self.amount) // self.of.amount)


class Book:
    """Every sale, and every answer a cashier saw."""

    def __init__(self) -> None:
        self.sales: list[Sale] = []
        self.by_receipt: dict[tuple[str, str, str], Sale] = {}
        self.answers = 0
        self.forgotten: dict[tuple[str, str, str], tuple[str, int]] = {}
        """Sales whose end the till forgot, as the CRM has them if it has them: card, or who gave a phone; points."""
        self.sent: set[tuple[str, str, str]] = set()
        """Sales whose event was acknowledged before the journal forgot them."""

    def open(self, sale: Sale) -> None:
        self.sales.append(sale)
        self.by_receipt[sale.key] = sale

    def answered(self, sale: Sale, answer: dict[str, Any]) -> None:
        """The cashier saw a final answer. Raises :class:`Broken` when it contradicts an earlier one, or arithmetic."""
        self.answers += 1
        where = f"{sale.shop} {sale.receipt_no}"
        got = (answer["state"], answer["points_earned"], answer["points_redeemed"], answer["card_no"])
        require(answer["state"] in FINAL, "P1 answers", f"{where}: state {answer['state']}")
        require(answer["amount"] == sale.amount, "P1 answers", f"{where}: amount {answer['amount']} of {sale.amount}")
        require(answer["points_earned"] == sale.earned, "P2 earning", f"{where}: {got} for {sale.amount}")
        if sale.of is not None:
            require(answer["points_redeemed"] == -sale.gives_back, "P2 returns", f"{where}: {got}, {sale.gives_back}")
        elif answer["state"] == CLOSED:
            require(answer["points_redeemed"] == 0, "P4 redemption", f"{where}: closed, and redeemed {got}")
        else:
            require(answer["points_redeemed"] in sale.asked, "P4 redemption", f"{where}: {got}, asked {sale.asked}")
        cards = {card.card_no for card in sale.cards}
        require(answer["card_no"] in cards, "P3 whose card", f"{where}: {answer['card_no']} is none of {cards}")
        moved = answer["points_adjusted"] + answer["points_earned"] - answer["points_redeemed"]
        require(answer["points_before"] + moved == answer["points_after"], "P2 earning", f"{where}: {answer}")
        if sale.answer is not None and not sale.gone:
            before = tuple(sale.answer[k] for k in ("state", "points_earned", "points_redeemed", "card_no"))
            require(before == got, "P1 answers", f"{where}: was {before}, is {got}")
        sale.answer, sale.state = answer, answer["state"]

    def answered_by_phone(self, sale: Sale, answer: dict[str, Any]) -> None:
        """The same of a sale or return without a card."""
        self.answers += 1
        where = f"{sale.shop} {sale.receipt_no} by phone"
        got = (answer["state"], answer["points_earned"], answer["points_redeemed"], answer["card_no"])
        require(got == (DONE, sale.earned, 0, None), "P2 by phone", f"{where}: {got} for {sale.amount}")
        require(answer["amount"] == sale.amount, "P1 answers", f"{where}: amount {answer['amount']} of {sale.amount}")
        named = answer["member_id"]
        if sale.answer is not None and not sale.gone:
            require(sale.answer["member_id"] == named, "P1 answers", f"{where}: was {sale.answer}, is {answer}")
        sale.card.member_ids.add(named)
        sale.answer, sale.state = answer, answer["state"]

    def still_open(self, sale: Sale, state: str) -> None:
        """The cashier saw no final answer, or none at all."""
        require(sale.state not in FINAL, "P1 answers", f"{sale.shop} {sale.receipt_no}: was {sale.state}, is {state}")
        if state == REFUSED and sale.state == UNKNOWN:
            return  # this try did nothing; what the one before did is as open as it was
        where = f"{sale.shop} {sale.receipt_no}"
        require((sale.state, state) != (IN_DOUBT, REFUSED), "P1 answers", f"{where}: in doubt, and told otherwise")
        sale.state = state

    def final_sales(self, card_no: str) -> list[Sale]:
        """The sales of a card that stand, in the order the card has them."""
        mine = [s for s in self.sales if s.answer is not None and s.answer["card_no"] == card_no]
        return sorted(mine, key=lambda sale: sale.answer["sequence"] if sale.answer else 0)

    def loss(self, card: Card) -> int:
        """Points that were redeemed and that the card's account does not cover: what copies cost."""
        returned = sum(-s.answer["points_earned"] for s in self.final_sales(card.card_no or "") if s.of and s.answer)
        return max(0, -(self.expected_balance(card) + card.taken + returned))

    def expected_balance(self, card: Card) -> int:
        """What the card must be worth: every sale once, closed ones without their redemption, and the gifts; with what
        the blocked card before it was worth, and its owner's sales by phone."""
        inherited = self.expected_balance(card.heir_of) if card.heir_of else 0
        return self.own_balance(card) + self.by_phone(card) + inherited

    def by_phone(self, person: Card) -> int:
        """What somebody's sales by phone have brought."""
        mine = [s.answer for s in self.sales if s.by_phone and s.card is person and s.answer and not s.gone]
        forgotten = sum(points for holder, points in self.forgotten.values() if holder == person.name)
        return forgotten + sum(answer["points_earned"] for answer in mine)

    def own_balance(self, card: Card) -> int:
        """What the card's own taps were worth, and the gifts."""
        forgotten = sum(points for holder, points in self.forgotten.values() if holder == card.card_no)
        return (
            card.given
            + forgotten
            + sum(
                sale.answer["points_earned"] - sale.answer["points_redeemed"]
                for sale in self.final_sales(card.card_no or "")
                if sale.answer and not sale.gone
            )
        )
