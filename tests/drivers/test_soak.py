"""Taps without end: neither memory nor descriptors grow."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

import pytest

from drivers import KeyType
from drivers.base import ClassicConnection
from drivers.mifare_classic import TRANSPORT_KEY, blank_card
from drivers.simulator import MemoryImage
from terminal_agent.ports import SystemClock
from terminal_agent.service.card_lane import CardLane
from tests.drivers.rig import UID
from tests.pn532.chip import FieldCard
from tests.pn532.serial_line import SerialPn532

pytestmark = pytest.mark.slow
TAPS, WARM_UP, AT_MOST_S = 10_000, 1_000, 60.0
GROWTH_BYTES = 1_000_000


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def tap_and_watch(url: str) -> int:
    """Up to 10 000 taps, each written and read back; how many fitted into a minute."""
    lane = CardLane(SystemClock())

    def tap(number: int) -> None:
        data = number.to_bytes(16)

        def job(card: ClassicConnection) -> bytes:
            card.authenticate(4, KeyType.A, TRANSPORT_KEY)
            card.write_block(4, data)
            return card.read_block(4)

        assert lane.with_card(url, 5, job) == data

    until = time.monotonic() + AT_MOST_S
    for number in range(WARM_UP):
        tap(number)
    memory, files = resident_bytes(), descriptors()
    done = WARM_UP
    while done < TAPS and time.monotonic() < until:
        tap(done)
        done += 1
    grown = resident_bytes() - memory
    assert descriptors() == files
    assert grown < GROWTH_BYTES, f"{grown} bytes more after {done} taps"
    lane.close()
    assert done > 2 * WARM_UP, "too few taps to tell anything"
    sys.stderr.write(
        f"{url.partition(':')[0]}: {done} taps, {grown / 1000:.0f} kB more, {files} descriptors as before\n"
    )
    return done


def test_ten_thousand_taps_on_the_simulator_cost_nothing_that_stays(tmp_path: Path) -> None:
    (tmp_path / "card.mfd").write_bytes(blank_card(UID))
    done = tap_and_watch(f"sim:{tmp_path}/card.mfd")
    assert (tmp_path / "card.mfd").read_bytes()[64:80] == (done - 1).to_bytes(16)


@pytest.mark.nfcpy
def test_ten_thousand_taps_on_a_pn532_cost_nothing_that_stays(pn532: SerialPn532) -> None:
    card = FieldCard.blank(UID)
    pn532.lay(card)
    done = tap_and_watch(f"pn532:{pn532.link}")
    assert isinstance(card.image, MemoryImage)
    assert card.image.read(4) == (done - 1).to_bytes(16)
    assert pn532.counts["auth"] == done
