"""Cards issued and tapped by the product, read by a reader that knows docs/card-format.md only."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from drivers.errors import CardRemoved
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.card.layout import HISTORY_BLOCKS
from terminal_agent.desk import inspect
from terminal_agent.desk.rekey import rekey
from terminal_agent.errors import AgentError
from tests.card.independent_reader import read_card
from tests.workbench import MASTER_KEY, UID, UID_7, Workbench, blank, lay

uids = st.binary(min_size=4, max_size=4) | st.binary(min_size=7, max_size=7)
taps = st.one_of(
    st.tuples(st.just("purchase"), st.integers(1, 10**12), st.integers(0, 300)),
    st.tuples(st.just("adjust"), st.integers(-(10**6), 10**6), st.just(0)),
    st.tuples(st.just("torn"), st.integers(1, 10**8), st.integers(1, 8)),
    st.tuples(st.just("rekey"), st.integers(1, 3), st.just(0)),
)


@contextmanager
def workbench(programme_id: str | None = None) -> Iterator[Workbench]:
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench(Path(folder), programme_id=programme_id)
        for version in (2, 3):
            bench.keys.add(bytes([version]) * 16, version, activate=False)
        yield bench
        bench.close()


def show(bench: Workbench, card: MemoryImage) -> dict[str, Any]:
    with lay(card) as connection:
        return inspect.show(bench.terminal, connection)


def carry_out(bench: Workbench, card: MemoryImage, card_no: str, steps: list[tuple[str, int, int]]) -> None:
    adjustments = 0
    for number, (step, value, extra) in enumerate(steps):
        bench.clock.advance(minutes=7)
        with suppress(AgentError, CardRemoved):  # a refused or torn tap is part of the story
            if step == "adjust":
                adjustments += 1
                bench.adjust(card_no, value, first=adjustments)
            elif step == "purchase":
                bench.purchase(card, f"R-{number}", value, redeem=extra)
            elif step == "rekey":
                bench.keys.activate(value)
                with lay(card) as connection:
                    rekey(bench.terminal, connection)
            else:
                bench.purchase(card, f"R-{number}", value, fault=Fault(extra, list(Torn)[value % 3]))


@settings(max_examples=40)
@given(uid=uids, steps=st.lists(taps, max_size=25))
@example(uid=UID, steps=[("purchase", 50_000, 0)] * 40)
@example(uid=UID, steps=[("purchase", 50_000, 0), ("rekey", 2, 0), ("purchase", 70_000, 0), ("rekey", 3, 0)])
@example(uid=UID_7, steps=[("purchase", 10**7, 0), ("adjust", -5000, 0), ("purchase", 1, 0), ("purchase", 1, 1)])
def test_it_reads_what_the_product_wrote(uid: bytes, steps: list[tuple[str, int, int]]) -> None:
    with workbench("club-7") as bench:
        card = blank(uid)
        card_no = bench.encode(card)["card_no"]
        carry_out(bench, card, card_no, steps)
        shown, read = show(bench, card), bench.read(card)
        version = shown["key_set_version"]
        assert read.uid == uid
        programme = int.from_bytes(sha256(b"club-7").digest()[:2], "big")
        assert read.identity == {"key_set_version": version, "programme": programme, "card_no": card_no}
        assert read.home == (1 if version % 2 else 7)
        assert read.state == bench.state(card).to_json()
        assert read.slots == [slot and slot.to_json() for slot in bench.slots(card)]
        assert read.state["balance"] == shown["points"]
        assert (read.foreign_trailers, read.free_blocks_in_use) == ([], [])
        assert [_line(entry) for entry in read.history] == shown["history"]


def _line(entry: dict[str, Any]) -> dict[str, Any]:
    kinds = ["issue", "purchase", "reversal", "adjustment"]
    return {
        "sequence": entry["sequence"],
        "kind": kinds[entry["kind"]],
        "time": entry["time"].replace("Z", ":00.000Z"),
        "amount": entry["amount"],
        "points": entry["points"],
        "terminal_code": f"{entry['terminal']:04x}",
    }


def test_the_ring_keeps_the_last_fifteen_taps(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    card = bench.issue()
    for number in range(300):
        bench.purchase(card, f"R-{number}", 10_000 * (number + 1))
    history = read_card(bytes(card.content), MASTER_KEY).history
    assert [entry["sequence"] for entry in history] == list(range(301, 286, -1))
    assert [entry["points"] for entry in history] == list(range(300, 285, -1))
    assert len(history) == len(HISTORY_BLOCKS)
    bench.close()


def test_a_blank_card_says_nothing_to_it() -> None:
    read = read_card(bytes(blank().content), MASTER_KEY)
    assert (read.identity, read.slots, read.state, read.history) == (None, [None, None], None, [])
    assert read.foreign_trailers == list(range(16))


def test_another_master_key_reads_nothing(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    read = read_card(bytes(bench.issue().content), bytes(16))
    assert (read.identity, read.state, read.foreign_trailers) == (None, None, list(range(16)))
    bench.close()
