"""Cards get the active key set lazily: each at the end of a sale of its own, when the cashier has been told already."""

from __future__ import annotations

import logging
from collections.abc import Callable

from drivers.base import ClassicConnection
from drivers.errors import DriverError
from terminal_agent.card.problems import from_driver
from terminal_agent.desk.rekey import is_due, rekey
from terminal_agent.errors import AgentError
from terminal_agent.service.settings import KeySettings, Rekey
from terminal_agent.taps import PresentedCard, Terminal

log = logging.getLogger(__name__)

HOLD_STILL = "The sale is done. The card gets its new keys: leave it on the reader a moment longer."


def renew_keys(
    settings: KeySettings,
    terminal: Terminal,
    connection: ClassicConnection,
    card: PresentedCard,
    talk: Callable[[str], None] = lambda _text: None,
) -> None:
    """One try to re-key the card whose sale has just been done, if that is due; ``talk`` hears before it begins.

    Lets out no error of card, reader or journal: the sale is over, and a run cut short is finished at a later tap.
    """
    try:
        if settings.rekey is Rekey.LAZY and is_due(terminal, card):
            talk(HOLD_STILL)
            rekey(terminal, connection)
    except DriverError as error:
        log.info("card=not_rekeyed code=%s", from_driver(error).code)
    except AgentError as error:
        log.warning("card=not_rekeyed code=%s", error.code)
