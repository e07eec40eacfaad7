"""A card follows the ledger: always in a CRM that forgot nothing, again after one that was put back from a backup."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from terminal_agent.crm.reconcile import State, newest_of, owed
from tests.crm.club_world import World

MakeWorld = Callable[..., World]
STEPS = 60


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[MakeWorld]:
    made: list[World] = []

    def make(seed: int, **settings: bool) -> World:
        made.append(World(seed, tmp_path / "crm", **settings))
        return made[-1]

    yield make
    for world in made:
        world.close()


def state(sequence: int, writer: str = "a", balance: int | None = 100, through: int | None = 0) -> State:
    return State(sequence, writer, balance, through)


@pytest.mark.parametrize(
    ("chain", "issued_at", "newest"),
    [
        ([], 1, None),
        ([1], None, None),
        ([1, 2, 3], 1, 3),
        ([3, 1, 2], 1, 3),
        ([2, 3], 1, None),
        ([1, 3], 1, None),
        ([1, 2], 2, None),
        ([4, 5], 4, 5),
    ],
)
def test_a_chain_tells_the_newest_state_only_when_it_is_whole(
    chain: list[int], issued_at: int | None, newest: int | None
) -> None:
    found = newest_of([state(sequence) for sequence in chain], issued_at)
    assert (found.sequence if found else None) == newest


def test_a_counter_that_two_wrote_tells_nothing_and_one_told_twice_does() -> None:
    assert newest_of([state(1), state(2, "a"), state(2, "b")], 1) is None
    assert newest_of([state(1), state(2, "a"), state(2, "a")], 1) == state(2, "a")


@pytest.mark.parametrize(
    ("balance", "newest", "given", "points"),
    [
        (100, state(3), {}, 0),
        (105, state(3), {}, 5),
        (105, state(3), {1: 5}, 0),
        (105, state(3, through=1), {1: 5}, 5),
        (105, state(3, through=1), {1: 5, 2: 7, 3: -2}, 0),
        (90, state(3, through=4), {1: 5}, -10),
        (90, state(3, balance=None), {}, None),
        (90, state(3, through=None), {}, None),
    ],
)
def test_a_card_is_owed_what_neither_it_nor_an_adjustment_on_its_way_has(
    balance: int, newest: State, given: dict[int, int], points: int | None
) -> None:
    assert owed(balance, newest, given) == points


@pytest.mark.parametrize("seed", range(6))
def test_in_a_crm_that_forgot_nothing_no_card_is_ever_owed_anything(seed: int, make_world: MakeWorld) -> None:
    world = make_world(seed)
    told = 0
    for _ in range(2 * STEPS):
        world.step()
        owed_now = world.owed()
        assert set(owed_now.values()) <= {0, None}, owed_now
        told += list(owed_now.values()).count(0)
    assert told  # the check looked, and not only at cards it cannot speak of
    world.end_doubts()
    world.exchange_all()
    world.tap_all()
    world.exchange_all()
    assert set(world.owed().values()) == {0}
    assert world.on_cards() == world.ledger()


def run_and_put_back(world: World, backup_at: int, restore_at: int) -> None:
    """Steps with a backup after ``backup_at`` of them that is put back after ``restore_at``, and as many again."""
    for _ in range(backup_at):
        world.step()
    backup = world.backup()
    for _ in range(restore_at - backup_at):
        world.step()
    world.put_back(backup)
    for _ in range(backup_at):
        world.step()


@pytest.mark.parametrize("seed", range(8))
def test_after_a_restore_every_card_follows_the_ledger_with_one_more_tap(seed: int, make_world: MakeWorld) -> None:
    world = make_world(seed)
    backup_at = random.Random(seed).randrange(STEPS)
    run_and_put_back(world, backup_at, backup_at + STEPS)
    world.end_doubts()
    world.exchange_all()
    world.tap_all()
    world.exchange_all()
    assert set(world.owed().values()) == {0}
    world.tap_all()
    world.exchange_all()
    assert set(world.owed().values()) == {0}
    assert world.on_cards() == world.ledger()


@pytest.mark.parametrize("seed", range(3))
def test_a_crm_put_back_again_and_again_comes_to_rest_as_well(seed: int, make_world: MakeWorld) -> None:
    world = make_world(100 + seed)
    backups = []
    for _ in range(3):
        for _ in range(20):
            world.step()
        backups.append(world.backup())
    for backup in world.random.sample(backups, 3):
        world.put_back(backup)
        for _ in range(15):
            world.step()
    world.end_doubts()
    for _ in range(3):
        world.exchange_all()
        world.tap_all()
    world.exchange_all()
    assert set(world.owed().values()) == {0}
    assert world.on_cards() == world.ledger()


@pytest.mark.parametrize("seed", range(3))
def test_shops_that_keep_what_the_crm_forgot_only_take_more_taps(seed: int, make_world: MakeWorld) -> None:
    world = make_world(200 + seed, forgetful=False)
    run_and_put_back(world, 20, 20 + STEPS)
    world.end_doubts()
    taps = 0
    world.exchange_all()
    while set(world.owed().values()) != {0} or world.on_cards() != world.ledger():
        world.tap_all()
        world.exchange_all()
        taps += 1
        assert taps < 40
    assert set(world.owed().values()) == {0}
