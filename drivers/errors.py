"""What can go wrong between us and a card. Facts travel as attributes; key bytes never do."""

from __future__ import annotations


class DriverError(Exception):
    """Anything a reader or a card refused. ``hint`` is the next action for a person."""

    hint: str = ""


class ReaderError(DriverError):
    """The reader, its cable or its service; the card is not to blame."""


class NoReader(ReaderError):
    """No reader answers to this URL."""

    hint = "Plug the reader in, then: terminal-agent reader list"


class ReaderLost(ReaderError):
    """A reader that was there is gone (unplugged, or its driver died)."""

    hint = "Check the cable, then: terminal-agent reader list"


class ReaderBusy(ReaderError):
    """Another program holds the reader's card for itself. Heals when that program lets go."""

    hint = "Close the program that uses the reader (often a browser, gpg's scdaemon or another agent), then try again"


class ServiceUnavailable(ReaderError):
    """The smart-card service (pcscd) or the reader's library is not there."""

    hint = "Start the smart-card service: sudo systemctl start pcscd.socket"


class CardError(DriverError):
    """The card in hand."""


class CardRemoved(CardError):
    """The card left the field, or answers no more. A write under way has an unknown outcome."""

    hint = "Put the same card back and hold it still"


class MultipleCards(CardError):
    """More than one card is in the field."""

    hint = "Hold one card alone on the reader"


class UnsupportedCard(CardError):
    """A card that is not a MIFARE Classic 1K. ``found`` says what it seems to be."""

    hint = "Use a MIFARE Classic 1K card"

    def __init__(self, found: str) -> None:
        super().__init__(f"this is not a MIFARE Classic 1K card: {found}")
        self.found = found


class AuthenticationFailed(CardError):
    """The card refused the key for ``block``."""

    hint = "The card carries other keys; check it with: terminal-agent card verify"

    def __init__(self, block: int, key_type: str) -> None:
        super().__init__(f"the card refused key {key_type} for block {block}")
        self.block = block
        self.key_type = key_type


class NoValueBlock(CardError):
    """A block that should be a value block holds something else."""

    hint = "Check the card with: terminal-agent card verify"

    def __init__(self, block: int) -> None:
        super().__init__(f"block {block} holds no value")
        self.block = block


class WriteNotKept(CardError):
    """The reader said yes, and yet ``block`` does not hold what was written to it."""

    hint = "Hold the card still and try again; if it stays so, replace the card"

    def __init__(self, block: int) -> None:
        super().__init__(f"block {block} does not hold what was written to it")
        self.block = block


class AccessDenied(CardError):
    """The card is there and open, and yet refused to read or write ``block``."""

    hint = "Check the card with: terminal-agent card verify"

    def __init__(self, block: int, action: str, detail: str = "") -> None:
        super().__init__(f"the card refused to {action} block {block}" + (f" ({detail})" if detail else ""))
        self.block = block
        self.action = action
