"""What gives away a chip that is no genuine MIFARE Classic. Noted, never relied on: newer copies pass all of this.

Only what a reader sees without risk. Writing block 0 would tell more, and would spoil some of the cards it finds.
Source: the Proxmark3 project's notes on magic cards (doc/magic_cards_notes.md) and what its firmware probes for.
"""

from __future__ import annotations

from enum import StrEnum

UNFUSED_FUID = bytes.fromhex("AA55C396")
RANDOM_UID = 0x08


class Tell(StrEnum):
    """One thing that a genuine chip does not do."""

    WRONG_CHECK_BYTE = "wrong_check_byte"
    """Block 0 holds a 4-byte UID whose check byte is not its XOR."""
    UID_NOT_IN_BLOCK_0 = "uid_not_in_block_0"
    """The card answers with another UID than its block 0 has."""
    UNFUSED_UID = "unfused_uid"
    """The UID that copies of one make (FUID) have until their first write."""
    RANDOM_UID = "random_uid"
    """A UID made up for each tap (ISO/IEC 14443-3 section 6.5.4): a phone, or another emulation."""
    BLOCK_0_WITHOUT_KEY = "block_0_without_key"
    """Block 0 can be read before any authentication, as on "Gen3" copies."""


def tells(uid: bytes, block_0: bytes, *, without_key: bytes | None = None) -> list[Tell]:
    """What the card gives away. ``uid``: its answer at selection; ``block_0``: read with a key; ``without_key``: what a
    READ of block 0 brought before any authentication, None where it was refused or not tried."""
    stored, check = block_0[: len(uid)], block_0[4]
    found = {
        Tell.WRONG_CHECK_BYTE: len(uid) == 4 and check != stored[0] ^ stored[1] ^ stored[2] ^ stored[3],
        Tell.UID_NOT_IN_BLOCK_0: stored != uid,
        Tell.UNFUSED_UID: uid == UNFUSED_FUID,
        Tell.RANDOM_UID: len(uid) == 4 and uid[0] == RANDOM_UID,
        Tell.BLOCK_0_WITHOUT_KEY: without_key is not None,
    }
    return [tell for tell, holds in found.items() if holds]
