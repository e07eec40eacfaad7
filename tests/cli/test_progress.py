"""An exchange that takes long is watched: a bar on a terminal, plain lines elsewhere, the same through the daemon."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal_agent.service.progress import heard, told
from tests.cli.shop import CrmProcess, Shop


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_what_is_told_is_heard(sent: int, left: int) -> None:
    assert heard(told(sent, left)) == (sent, left)


@pytest.mark.parametrize("text", ["", "card on the reader", "sent 1, 2 left.", "sent -1, 2 left", "sent 1, ٢ left"])
def test_other_talk_is_no_progress(text: str) -> None:
    assert heard(text) is None


def on_a_terminal(shop: Shop, *arguments: str) -> tuple[str, str]:
    """What a person sees on stderr, and what the command says on stdout; it must succeed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "terminal_agent", "--config", str(shop.config), *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            seen += chunk
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode()), out.decode()


@pytest.mark.parametrize("daemon", [False, True], ids=["without the daemon", "with the daemon"])
def test_a_person_sees_a_bar_and_a_program_lines(shop: Shop, crm: CrmProcess, daemon: bool) -> None:
    shop.done("card", "issue")
    shop.join(crm)
    if daemon:
        shop.start_daemon()
    shop.done("purchase", "250000", "--receipt", "1")
    seen, _ = on_a_terminal(shop, "sync")
    assert "sending" in seen
    if not daemon:  # which may have sent the sale by itself
        assert "100%" in seen
    shop.done("purchase", "250000", "--receipt", "2")
    answer = shop.ta("sync", human=True)
    assert "sending" not in answer.err
    if not daemon:
        assert told(1, 0) in answer.err
