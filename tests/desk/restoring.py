"""Dumps as files, and what restoring one to a card comes to."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from drivers.card_dump import Block, CardDump, card_dump
from drivers.dumps import DumpFormat, encode_dump
from drivers.simulator import Fault, MemoryImage
from terminal_agent.desk.restore import RestoreRequest, restore
from terminal_agent.errors import AgentError, ErrorCode
from tests.workbench import (
    Workbench,
    block_of,
    lay,
    operations_of,
)

OTHER_UID = bytes.fromhex("51617181")
LOCK = "--allow-lock"


def image_of(card: MemoryImage) -> CardDump:
    return card_dump([tuple(block_of(card, number)) for number in range(64)])


def file(name: str, raw: bytes) -> dict[str, str]:
    """A file as the command sends it."""
    return {"name": name, "content": b64encode(raw).decode()}


def request(
    dump: CardDump | MemoryImage, kind: DumpFormat = DumpFormat.JSON, keys: MemoryImage | None = None, **told: bool
) -> RestoreRequest:
    """As the command makes it: through files."""
    dump = image_of(dump) if isinstance(dump, MemoryImage) else dump
    sent: dict[str, Any] = {"input": file(f"card.{kind}", encode_dump(dump, kind))}
    return RestoreRequest.of({**sent, "keys_from": file("keys.mfd", bytes(keys.content)) if keys else None, **told})


def restored(
    bench: Workbench, card: MemoryImage, dump: CardDump | MemoryImage, fault: Fault | None = None, **told: Any
) -> dict[str, Any]:
    with lay(card, fault) as connection:
        return restore(bench.terminal, connection, request(dump, **told))


def refused(code: ErrorCode, said: str, job: Callable[[], Any]) -> AgentError:
    with pytest.raises(AgentError) as caught:
        job()
    assert caught.value.code is code, caught.value
    assert said in caught.value.message
    return caught.value


def with_block(dump: CardDump | MemoryImage, number: int, block: Block | bytes) -> CardDump:
    dump = image_of(dump) if isinstance(dump, MemoryImage) else dump
    return card_dump([*dump.blocks[:number], tuple(block), *dump.blocks[number + 1 :]], dump.uid)


def writes_of(bench: Workbench, card: MemoryImage, dump: CardDump | MemoryImage) -> list[int]:
    calls = operations_of(lambda c: restore(bench.terminal, c, request(dump)), card)
    return [block for action, block in calls if action == "write"]
