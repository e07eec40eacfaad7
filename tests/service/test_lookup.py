"""Who has this phone? The CRM is asked for a moment; without it what the terminal knows counts."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivers.simulator import MemoryImage
from terminal_agent.crm import admin_club
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.errors import AgentError
from terminal_agent.service import lookup, members
from terminal_agent.sync.adapters.base import CrmUnreachable
from tests.service.tills import Till
from tests.workbench import blank, lay

PHONE = "09125554433"


def quiet(_text: str) -> None:
    """Nobody reads along."""


def enrol(till: Till, phone: str = PHONE, name: str = "سارا احمدی") -> tuple[MemoryImage, dict[str, Any]]:
    image = blank()
    with lay(image) as connection:
        return image, issue(till.agent.terminal, connection, IssueRequest(phone, name))


def asked(till: Till, phone: str = PHONE) -> dict[str, Any]:
    found: dict[str, Any] = lookup.show(till.agent, {"phone": phone}, quiet)
    return found


def refusal(till: Till, phone: str = PHONE) -> str:
    with pytest.raises(AgentError) as refused:
        asked(till, phone)
    return refused.value.code.value


def point_to(till: Till, crm_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the till finds its CRM there."""
    assert till.agent.credentials is not None
    monkeypatch.setattr(till.agent, "_credentials", replace(till.agent.credentials, crm_url=crm_url))


@pytest.mark.parametrize("phone", ["۰۹۱۲ ۵۵۵ ۴۴۳۳", "+98 912 555 4433", "0098 912 555 4433", "٠٩١٢٥٥٥٤٤٣٣"])
def test_the_crm_says_who_it_is_with_the_points_it_has_booked(tills: list[Till], phone: str) -> None:
    card, issued = enrol(tills[0])
    tills[0].buy(card, "R-1", 1_000_000)
    tills[0].sync()
    assert asked(tills[1], phone) == {
        "member_id": issued["member_id"],
        "first_name": "سارا",
        "tier": "basic",
        "card_no": issued["card_no"],
        "points": 100,
        "status": "active",
        "source": "crm",
    }


def test_what_waits_here_is_known_here_and_what_the_crm_forgot_is_nobody(tills: list[Till], crm_dir: Path) -> None:
    _, issued = enrol(tills[0])
    assert asked(tills[0])["source"] == "terminal"  # not told yet
    assert refusal(tills[1]) == "member_not_found"
    tills[0].sync()
    assert asked(tills[0])["source"] == "crm"
    admin_club.erase_member(crm_dir, issued["member_id"])
    assert refusal(tills[0]) == "member_not_found"  # though its own list does not know yet


def test_a_crm_that_is_down_or_silent_is_made_up_for_by_what_was_heard(
    tills: list[Till], monkeypatch: pytest.MonkeyPatch
) -> None:
    card, issued = enrol(tills[0])
    tills[0].buy(card, "R-1", 1_000_000)
    tills[0].sync()
    tills[1].sync()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for url in ("http://127.0.0.1:9", f"http://127.0.0.1:{silent.getsockname()[1]}"):
            for till in tills:
                point_to(till, url, monkeypatch)
            assert (asked(tills[0])["source"], asked(tills[0])["points"]) == ("terminal", 100)
            elsewhere = asked(tills[1])  # the feed told who it is; the card was never seen here
            assert (elsewhere["card_no"], elsewhere["points"]) == (issued["card_no"], None)
            assert refusal(tills[1], "09120000000") == "crm_unreachable"


def test_a_blocked_card_is_not_the_one_that_is_named(tills: list[Till]) -> None:
    _, first = enrol(tills[0])
    _, second = enrol(tills[0])
    assert asked(tills[0])["card_no"] == second["card_no"]
    members.block_card(tills[0].agent, {"card_no": second["card_no"], "reason": "lost"}, quiet)
    assert asked(tills[0])["card_no"] == first["card_no"]
    tills[0].sync()
    assert (asked(tills[0])["card_no"], asked(tills[0])["source"]) == (first["card_no"], "crm")


def test_what_is_no_phone_is_refused(tills: list[Till]) -> None:
    assert refusal(tills[0], "12") == refusal(tills[0], "09125554433a") == "invalid_input"


def test_nobody_waits_longer_than_the_patience_and_a_crm_that_is_kept_away_from_is_not_asked(
    tills: list[Till], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        waited: list[float | None] = []

        def get_member(self, _phone: str, timeout_s: float | None = None) -> Any:
            self.waited.append(timeout_s)
            raise CrmUnreachable("no answer in time")

        def close(self) -> None: ...

    with monkeypatch.context() as patched:
        patched.setattr(tills[0].agent, "open_crm", Slow)
        assert refusal(tills[0]) == "crm_unreachable"
        assert Slow.waited == [lookup.PATIENCE_S]
        patched.setattr(type(tills[0].agent.sync), "keeps_away", True)
        assert refusal(tills[0]) == "crm_unreachable"
        assert Slow.waited == [lookup.PATIENCE_S]
