"""A purchase by tap against a bare script that sends the same commands and commits twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

from bench.measure import Figure, Samples, time_ms
from bench.rig import CardOnReader, Rig, Shop
from drivers import open_reader
from drivers.pseudo_apdu import INS_UPDATE_BINARY
from terminal_agent.service.agent import Agent
from terminal_agent.service.operations import OPERATIONS
from terminal_agent.service.settings import load_settings
from terminal_agent.till.checkout import PurchaseRequest, purchase

TAPS = 300
WARM_UP = 20
TARGET_RATIO = 1.5
READER = "pcsc:Virtual PCD 00 00"


class Bare:
    """The least a purchase can cost: plain SCardTransmit, and two rows, each on disk before the script goes on."""

    def __init__(self, file: Path) -> None:
        from smartcard import scard

        self._scard = scard
        self._context = self._check(scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM))[0]
        self._name = self._check(scard.SCardListReaders(self._context, []))[0][0]
        self._database = sqlite3.connect(file, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL").fetchall()
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute("CREATE TABLE sale (id INTEGER PRIMARY KEY, state TEXT NOT NULL) STRICT")

    @staticmethod
    def _check(answer: Any) -> list[Any]:
        code, *rest = answer
        if code:
            raise RuntimeError(f"PC/SC answered 0x{code & 0xFFFFFFFF:08X}")
        return rest

    def tap(self, commands: list[bytes]) -> None:
        """Open the card, do the purchase, let go of the card as we do: reset."""
        card = self.open()
        self.purchase(card, commands)
        self.let_go(card)

    def sale(self, commands: list[bytes]) -> float:
        """What the purchase takes once the card is open, in ms; GET UID belongs to the opening."""
        card = self.open()
        taken = time_ms(lambda: self.purchase(card, commands[1:]))
        self.let_go(card)
        return taken

    def open(self) -> Any:
        scard = self._scard
        protocols = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
        return self._check(scard.SCardConnect(self._context, self._name, scard.SCARD_SHARE_EXCLUSIVE, protocols))[0]

    def let_go(self, card: Any) -> None:
        self._scard.SCardDisconnect(card, self._scard.SCARD_RESET_CARD)

    def purchase(self, card: Any, commands: list[bytes]) -> None:
        """One row before the card is first written, one once that is read back."""
        first_write = next(place for place, command in enumerate(commands) if command[1] == INS_UPDATE_BINARY)
        for place, command in enumerate(commands):
            if place == first_write:
                self._commit("begun")
            if self.status_of(card, command) != [0x90, 0]:
                raise RuntimeError("the reader said no to a command it took before")
            if place == first_write + 1:
                self._commit("done")

    def status_of(self, card: Any, command: bytes) -> list[int]:
        _code, answer = self._scard.SCardTransmit(card, self._scard.SCARD_PCI_T1, list(command))
        return list(answer[-2:])

    def _commit(self, state: str) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute("INSERT INTO sale (state) VALUES (?)", (state,))
        self._database.execute("COMMIT")

    def close(self) -> None:
        self._database.close()
        self._scard.SCardReleaseContext(self._context)


class PyscardScript(Bare):
    """The same with pyscard as its documentation teaches it: a connection object for each card."""

    def __init__(self, file: Path) -> None:
        from smartcard.System import readers

        super().__init__(file)
        self._reader = readers()[0]

    def open(self) -> Any:
        connection = self._reader.createConnection()
        scard = self._scard
        connection.connect(scard.SCARD_PROTOCOL_T1, scard.SCARD_SHARE_EXCLUSIVE, scard.SCARD_RESET_CARD)
        return connection

    def let_go(self, card: Any) -> None:
        card.disconnect()
        card.release()

    def status_of(self, card: Any, command: bytes) -> list[int]:
        _data, sw1, sw2 = card.transmit(list(command))
        return [sw1, sw2]


class Till:
    """Purchases in this process, the way the daemon makes them."""

    def __init__(self, shop: Shop) -> None:
        self.agent = Agent(load_settings(shop.config), shop.config)
        self._receipts = count(1)

    def _request(self) -> PurchaseRequest:
        return PurchaseRequest(f"R-{next(self._receipts)}", 250_000)

    def tap(self) -> None:
        """The whole operation: find the reader, open the card, purchase, let go of the card."""
        request = self._request()
        params = {"receipt_no": request.receipt_no, "amount": request.amount, "wait_s": 5}
        answer = OPERATIONS["purchase"](self.agent, params, lambda _text: None)
        if answer["state"] != "done":
            raise RuntimeError(f"a purchase that is not done: {answer}")

    def sale(self) -> float:
        """What a sale takes once the card is open, in ms."""
        terminal, request = self.agent.terminal, self._request()
        reserving = self.agent.redemptions.for_a_tap()
        with open_reader(READER) as reader, reader.connect() as card, reserving as reserve:
            return time_ms(lambda: purchase(terminal, card, request, reserve))

    def close(self) -> None:
        self.agent.close()


def run(rig: Rig) -> Iterator[Figure]:
    with rig.card() as card:
        shop = rig.shop("purchase", READER)
        with (
            closing(Till(shop)) as till,
            closing(PyscardScript(rig.folder / "script.sqlite3")) as script,
            closing(Bare(rig.folder / "bare.sqlite3")) as bare,
        ):
            whole = _in_turns(lambda: time_ms(till.tap), lambda sent: time_ms(lambda: script.tap(sent)), card)
            yield _figure("whole tap, beside a bare pyscard script", *whole, TARGET_RATIO)
            strict = _in_turns(lambda: time_ms(till.tap), lambda sent: time_ms(lambda: bare.tap(sent)), card)
            yield _figure("whole tap, beside nothing but SCardTransmit", *strict)
            alone = _in_turns(till.sale, bare.sale, card)
            yield _figure("sale alone, card open already, beside SCardTransmit", *alone)


def _in_turns(
    ours: Callable[[], float], theirs: Callable[[list[bytes]], float], card: CardOnReader
) -> tuple[Samples, Samples, dict[str, int]]:
    """Ours, then the yardstick with the very commands that ours sent, and so on."""
    times: list[tuple[float, float]] = []
    card.take()
    for _ in range(WARM_UP + TAPS):
        our_ms = ours()
        commands, kinds = card.take()
        times.append((our_ms, theirs(commands)))
        card.take()
    measured = list(zip(*times[WARM_UP:], strict=True))
    return Samples.of(list(measured[0])), Samples.of(list(measured[1])), dict(kinds)


def _figure(what: str, ours: Samples, theirs: Samples, kinds: dict[str, int], target: float | None = None) -> Figure:
    return Figure(
        "purchase",
        what,
        "ms",
        ours,
        theirs,
        "the same commands, and two rows in SQLite (WAL, FULL)",
        target,
        target_is_ratio=target is not None,
        details={"operations": kinds},
    )
