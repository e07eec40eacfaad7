"""The reader on a serial line, and a card on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from drivers import Reader, open_reader
from tests.pn532.chip import FieldCard
from tests.pn532.line import UID
from tests.pn532.serial_line import SerialPn532


@pytest.fixture
def reader(pn532: SerialPn532) -> Iterator[Reader]:
    with open_reader(f"pn532:{pn532.link}") as opened:
        yield opened


@pytest.fixture
def card(pn532: SerialPn532) -> FieldCard:
    """A blank card, lying on the reader."""
    card = FieldCard.blank(UID)
    pn532.lay(card)
    return card
