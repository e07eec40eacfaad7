"""A card's tells put down: a line in the log and one in the audit log, and nothing else follows."""

from __future__ import annotations

import logging

from drivers.base import ClassicConnection
from drivers.errors import AccessDenied
from terminal_agent.card.tells import Tell
from terminal_agent.ports import rfc3339
from terminal_agent.taps import Terminal

log = logging.getLogger(__name__)


def block_0_without_key(connection: ClassicConnection) -> bytes | None:
    """What the card answers to a READ of block 0 before any authentication: a genuine one nothing (None).

    Only on a connection that has authenticated nothing yet. The driver selects the card again after its refusal.
    """
    try:
        return connection.read_block(0)
    except AccessDenied:
        return None


def note_tells(terminal: Terminal, uid: bytes, tells: list[Tell]) -> None:
    """Once for each card and set of tells."""
    journal, key = terminal.journal, f"tells:{uid.hex()}:{','.join(tells)}"
    if not tells or journal.meta(key) is not None:
        return
    log.warning("card=suspicious uid=%s tells=%s", uid.hex(), ",".join(tells))
    with journal.transaction():
        journal.set_meta(key, rfc3339(terminal.clock.now()))
        journal.audit("card.tells", uid=uid.hex(), tells=[tell.value for tell in tells])
