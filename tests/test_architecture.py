"""The house's rules, read off the imports: what docs/architecture.md draws is what the code does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("drivers", "terminal_agent")

# Each room and what it may import of ours, itself included. The rooms of docs/architecture.md, top to bottom.
FOUNDATION = {"errors", "ports", "contract", "sealed", ""}
MAY_IMPORT = {
    "cli": {"cli", "service", "crm", *FOUNDATION},
    "service": {
        "service",
        "till_api",
        "till",
        "sync",
        "desk",
        "taps",
        "card",
        "club",
        "journal",
        "drivers",
        *FOUNDATION,
    },
    "till_api": {"till_api", "till", "taps", "card", "journal", "drivers", *FOUNDATION},
    "till": {"till", "taps", "card", "club", "journal", "drivers", *FOUNDATION},
    "desk": {"desk", "taps", "card", "club", "journal", "drivers", *FOUNDATION},
    "sync": {"sync", "club", "journal", *FOUNDATION},
    "taps": {"taps", "card", "journal", "drivers", *FOUNDATION},
    "card": {"card", "drivers", *FOUNDATION},
    "journal": {"journal", "club", *FOUNDATION},
    "crm": {"crm", "club", *FOUNDATION},
    "club": {"club"},
    "contract": {"contract"},
    "sealed": {"sealed", "contract", "errors"},
    "errors": {"errors"},
    "ports": {"ports"},
    "": {"", "cli"},  # __init__ and __main__
    "drivers": {"drivers"},
}
# Libraries that live behind one file or in one room.
ONLY_IN = {
    "smartcard": ("drivers/pcsc.py",),
    "nfc": ("drivers/pn53x.py",),
    "serial": ("drivers/serial_line.py",),
    "click": ("terminal_agent/cli/",),
    "rich": ("terminal_agent/cli/",),
    "sqlite3": ("terminal_agent/journal/", "terminal_agent/crm/sqlite.py"),
    "sqlite_utils": ("terminal_agent/journal/",),
    "requests": ("terminal_agent/sync/client.py",),
    "tenacity": ("terminal_agent/sync/client.py",),
    "fastapi": ("terminal_agent/crm/", "terminal_agent/till_api/"),
    "sqlalchemy": ("terminal_agent/crm/",),
    "jdatetime": ("terminal_agent/till/locale.py",),
    "PIL": ("terminal_agent/till/receipt_picture.py",),
    "segno": ("terminal_agent/till/receipt_picture.py",),
    "pkcs11": ("terminal_agent/service/keys/pkcs11_token.py",),
    "psycopg": ("terminal_agent/crm/postgres.py",),
}
# Time and chance come through ports.py; these rooms never ask the system.
PURE_ROOMS = ("card", "club", "journal", "till", "desk", "taps", "sync", "contract")
TIME_AND_CHANCE = {"time", "random", "secrets", "uuid"}
LONGEST_FUNCTION = 60
LONGEST_FILE = 400


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def room_of(module: str) -> str:
    """``terminal_agent.card.layout`` is in ``card``, anything under ``drivers`` in ``drivers``."""
    parts = module.split(".")
    return "drivers" if parts[0] == "drivers" else (parts[1] if len(parts) > 1 else "")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part not in ("__init__", "__main__"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every import, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are written in full"
            if node.module in PACKAGES:  # from terminal_agent import taps
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
            elif node.module:
                yield node.lineno, node.module


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(module_of(path))
    for line, name in imports(path):
        target = room_of(name) if name.split(".")[0] in PACKAGES else None
        if target is not None and target.startswith("__"):
            continue  # a name of the package itself, such as __version__
        assert target is None or target in MAY_IMPORT[room], f"{path}:{line}: {room} must not import {name}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_stay_in_their_room(path: Path) -> None:
    place = str(path.relative_to(ROOT))
    for line, name in imports(path):
        allowed = ONLY_IN.get(name.split(".")[0])
        assert allowed is None or place.startswith(allowed), f"{place}:{line}: {name} belongs in {allowed}"


def test_the_core_asks_its_ports_for_time_and_chance() -> None:
    for path in sources():
        if room_of(module_of(path)) in PURE_ROOMS:
            asked = {name for _, name in imports(path)} & TIME_AND_CHANCE
            assert not asked, f"{path}: ask terminal_agent.ports instead of {asked}"


def test_functions_and_files_stay_short() -> None:
    for path in sources():
        source = path.read_text()
        assert source.count("\n") <= LONGEST_FILE, f"{path} is too long"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                assert length <= LONGEST_FUNCTION, f"{path}:{node.lineno}: {node.name} has {length} lines"


def test_a_reader_library_is_imported_only_when_that_reader_is_chosen() -> None:
    for path in sources():
        assert not {"drivers.pcsc", "drivers.pn53x"} & {name for _, name in imports(path)}, path


def test_broad_excepts_stand_only_at_the_tops_of_loops() -> None:
    tops = ("cli/main", "service/control", "service/daemon", "service/reader_watch", "sync/worker")
    allowed = {f"terminal_agent/{top}.py" for top in tops}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                caught = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {"bare"}
                broad = caught & {"Exception", "bare"}
                assert not broad or str(path.relative_to(ROOT)) in allowed, f"{path}:{node.lineno}"
