"""P1, P2, P3 and P7 at a power cut: days of the real program recorded, their power cut at every place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.power_cut import campaign
from tests.power_cut.campaign import LOST
from tests.power_cut.crm_day import CrmWitness, day_of_a_crm
from tests.power_cut.recorder import Recording
from tests.power_cut.shop_witness import ShopWitness
from tests.power_cut.story import day_of_a_daemon, day_of_commands
from tests.power_cut.told import Told

SEED = 20261122


def nothing_is_lost(recording: Recording, cuts: int, kept: Path) -> Told:
    """Cut that often; gives what had been told at the last cut, so that a test can see that something was at stake."""
    witness = ShopWitness(recording)
    report = campaign.run(recording, campaign.plan(recording, cuts, SEED), witness)
    if report.kinds:
        campaign.save(recording, kept)
    assert not report.kinds, f"{report.told}\npython -m tests.power_cut --recording {kept} --cut …"
    assert report.gone_on > 0
    return witness.told


def test_no_power_cut_loses_a_sale_of_the_daemon(tmp_path: Path) -> None:
    told = nothing_is_lost(day_of_a_daemon(tmp_path, 16, SEED), 400, tmp_path / "recording")
    assert {answer["state"] for answer in told.checkouts.values()} == {"done", "in_doubt", "closed"}
    assert any("reversed_event_id" in answer for answer in told.checkouts.values())
    assert any(answer["points_redeemed"] for answer in told.checkouts.values())
    assert told.sales >= 12
    assert len(told.sent) >= 12


def test_no_power_cut_loses_a_sale_of_a_command(tmp_path: Path) -> None:
    recording = day_of_commands(tmp_path, 4, SEED, cards=1, with_crm=False)
    told = nothing_is_lost(recording, 200, tmp_path / "recording")
    assert told.sales >= 3
    assert told.set_up == {"init"}


def test_no_power_cut_loses_an_event_that_the_crm_acknowledged(tmp_path: Path) -> None:
    recording = day_of_a_crm(tmp_path, 5)
    report = campaign.run(recording, campaign.plan(recording, 200, SEED), CrmWitness())
    assert not report.kinds, report.told
    assert report.most_at_stake >= 5


@pytest.mark.parametrize(
    ("broken", "kind"), [("normal", LOST), ("intent-last", "card"), ("event-apart", "went on")], ids=str
)
def test_the_model_sees_a_broken_promise(tmp_path: Path, broken: str, kind: str) -> None:
    recording = day_of_a_daemon(tmp_path, 4, SEED, cards=1, broken=broken, with_crm=False)
    report = campaign.run(recording, campaign.plan(recording, 300, SEED), ShopWitness(recording))
    assert report.kinds[kind] > 0


def test_the_model_sees_a_crm_that_answers_too_early(tmp_path: Path) -> None:
    recording = day_of_a_crm(tmp_path, 3, broken="crm-full")
    report = campaign.run(recording, campaign.plan(recording, 200, SEED), CrmWitness())
    assert report.kinds[LOST] > 0


@pytest.mark.slow
def test_two_thousand_power_cuts_of_a_longer_day_lose_nothing(tmp_path: Path) -> None:
    told = nothing_is_lost(day_of_a_daemon(tmp_path, 30, SEED + 1), 2000, tmp_path / "recording")
    assert told.sales >= 22


@pytest.mark.slow
def test_no_power_cut_between_commands_that_join_a_crm_loses_anything(tmp_path: Path) -> None:
    told = nothing_is_lost(day_of_commands(tmp_path, 5, SEED + 2), 600, tmp_path / "recording")
    assert told.set_up == {"init", "enroll"}


@pytest.mark.slow
def test_a_power_cut_at_any_place_of_init_leaves_what_init_can_finish(tmp_path: Path) -> None:
    recording = day_of_commands(tmp_path, 0, SEED, cards=0, with_crm=False)
    report = campaign.run(recording, campaign.plan(recording, 1500, SEED), ShopWitness(recording), go_on_each=1)
    assert not report.kinds, report.told
