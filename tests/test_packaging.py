"""What `pip install .` brings, and what the lock files say."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import terminal_agent

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["version"] == terminal_agent.__version__


def test_the_wheel_holds_our_two_packages_and_their_types(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"drivers", "terminal_agent"}
    assert {"drivers/py.typed", "terminal_agent/py.typed"} <= set(names)
    sources = {str(path.relative_to(ROOT)) for p in ("drivers", "terminal_agent") for path in (ROOT / p).rglob("*.py")}
    assert sources <= set(names)
    fonts = {str(path.relative_to(ROOT)) for path in (ROOT / "terminal_agent" / "till" / "fonts").iterdir()}
    assert len(fonts) == 3, "two weights and their licence"
    assert fonts <= set(names)
    page = {str(path.relative_to(ROOT)) for path in (ROOT / "terminal_agent" / "till_api" / "static").iterdir()}
    assert page <= set(names), "the cashier page is served from the wheel"


EXTRAS = {
    "pyscard": "pcsc",
    "nfcpy": "nfcpy",
    "pillow": "receipts",
    "segno": "receipts",
    "psycopg": "postgres",
    "pkcs11": "pkcs11",
}


def test_the_libraries_of_readers_receipts_and_servers_are_extras() -> None:
    for library, extra in EXTRAS.items():
        assert not any(library in requirement for requirement in PROJECT["dependencies"])
        assert any(library in requirement for requirement in PROJECT["optional-dependencies"][extra])
        assert extra in PROJECT["optional-dependencies"]["all"][0]


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_lock_files_have_hashes_and_no_addresses(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--\w*-?(index|links|host))", text, re.MULTILINE)
    pinned = re.findall(r"^([\w.-]+)==", text, re.MULTILINE)
    assert pinned
    for requirement in re.split(r"\n(?=\w)", text.strip()):
        assert "--hash=sha256:" in requirement, requirement


def test_the_simulator_needs_no_readers_library() -> None:
    program = (
        "import sys; sys.modules['smartcard'] = sys.modules['nfc'] = None;"
        "import drivers; drivers.open_reader('sim:nowhere.mfd')"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=60)


def test_help_imports_neither_web_nor_crypto_nor_readers() -> None:
    program = (
        "import sys; from terminal_agent.cli.main import run; run(['--help']);"
        "heavy = 'fastapi pydantic cryptography requests sqlalchemy psycopg smartcard nfc sqlite_utils rich'.split();"
        "sys.exit(' '.join(name for name in heavy if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
