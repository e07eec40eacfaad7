"""The config file: TOML, few keys, every typo told with the key that was meant."""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from drivers.registry import SCHEMES, URL_FORMS
from terminal_agent.club.text import plain_text
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.files import GROUP_FILE, PRIVATE_FILE, write_private
from terminal_agent.till.locale import AmountsIn, Language

CONFIG_VARIABLE = "TERMINAL_AGENT_CONFIG"
SYSTEM_CONFIG = Path("/etc/terminal-agent/config.toml")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CrmSettings(_Section):
    """Where the CRM is; set by ``enroll``."""

    url: str | None = None


class TillSettings(_Section):
    """Where the till API listens, port 0 being any free one, the origins of other programs' pages that may call, and
    the largest return that needs no supervisor, in the currency's smallest unit."""

    listen: str = Field("127.0.0.1:7411", pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$")

    origins: tuple[str, ...] = ()
    reversal_limit: int | None = Field(None, ge=0)

    @field_validator("origins")
    @classmethod
    def _origins_are_exact(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"https?://[a-z0-9.-]+(:\d{1,5})?", origin) for origin in value):
            raise ValueError("no such origin")
        return value

    @field_validator("listen")
    @classmethod
    def _port_exists(cls, value: str) -> str:
        if int(value.rpartition(":")[2]) > HIGHEST_PORT:
            raise ValueError("no such port")
        return value


class ShopSettings(_Section):
    """How the shop calls itself, what its people read, and what its receipts look like."""

    name: str | None = None
    language: Language = Language.FA
    amounts_in: AmountsIn = AmountsIn.RIAL
    receipt_columns: Literal[32, 42, 48] = 42
    first_name_on_receipts: bool = False
    member_page: str | None = Field(None, pattern=r"^https?://[!-~]{1,200}$")

    @field_validator("name")
    @classmethod
    def _name_can_be_printed(cls, value: str | None) -> str | None:
        return None if value is None else plain_text(value, LONGEST_SHOP_NAME)


class Rekey(StrEnum):
    """Whether a card of an older key set gets the active one at its tap."""

    LAZY = "lazy"
    OFF = "off"


class KeysIn(StrEnum):
    """Where master keys are."""

    FILE = "file"
    PKCS11 = "pkcs11"


class KeySettings(_Section):
    """Where the master keys are, and what taps do with cards of older key sets.

    Of a PKCS#11 token: the library that speaks to it, its label, the label of each key, and a file with its PIN.
    """

    rekey: Rekey = Rekey.LAZY
    provider: KeysIn = KeysIn.FILE
    module: Path | None = None
    token: str | None = None
    key_label: str = Field("loyalty-v{version}", pattern=r"^[^{}]*\{version\}[^{}]*$")
    pin_file: Path | None = None


class Settings(_Section):
    """The whole config file."""

    data_dir: Path
    runtime_dir: Path | None = None
    terminal_id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    currency: str = Field("IRR", pattern=r"^[A-Z]{3}$")
    reader: str | None = None
    crm: CrmSettings = CrmSettings()
    till: TillSettings = TillSettings()
    shop: ShopSettings = ShopSettings()
    keys: KeySettings = KeySettings()

    @property
    def socket_dir(self) -> Path:
        """Where the daemon's sockets lie."""
        return self.runtime_dir or self.data_dir

    @property
    def socket_mode(self) -> int:
        """The sockets' rights: beside the data for their owner alone, in a folder of their own for its group too."""
        return PRIVATE_FILE if self.runtime_dir is None else GROUP_FILE

    @field_validator("reader")
    @classmethod
    def _reader_kind_exists(cls, value: str | None) -> str | None:
        if value is not None and value.partition(":")[0] not in SCHEMES:
            raise ValueError("no such kind of reader")
        return value


_SECTIONS: dict[str, type[BaseModel]] = {
    "crm": CrmSettings,
    "till": TillSettings,
    "shop": ShopSettings,
    "keys": KeySettings,
}


# What each key must be, in words; pydantic's own are a programmer's.
EXPECTED = {
    "data_dir": "the path of a folder, in quotes",
    "runtime_dir": "the path of a folder, in quotes",
    "terminal_id": "1 to 64 letters, digits, dots, dashes or underscores, in quotes",
    "currency": "the three capital letters of a currency, as in IRR",
    "reader": f"a reader URL: {URL_FORMS}",
    "crm": "a table: a line [crm], and below it url = ...",
    "crm.url": "the CRM's address, in quotes",
    "till": "a table: a line [till], and below it listen = ...",
    "till.origins": 'a list of origins in full, as in ["https://pos.example"]',
    "till.reversal_limit": "a whole number: the largest amount that a cashier may give back alone",
    "till.listen": "HOST:PORT, as in 127.0.0.1:7411",
    "shop": "a table: a line [shop], and below it name = ...",
    "shop.name": "1 to 60 printable characters, in quotes",
    "shop.language": '"fa" or "en"',
    "shop.amounts_in": '"rial" or "toman"',
    "shop.receipt_columns": "32, 42 or 48",
    "shop.first_name_on_receipts": "true or false",
    "keys": "a table: a line [keys], and below it rekey = ...",
    "keys.rekey": '"lazy" or "off"',
    "keys.provider": '"file" or "pkcs11"',
    "keys.module": "the path of a PKCS#11 library, in quotes",
    "keys.token": "the label of a PKCS#11 token, in quotes",
    "keys.key_label": "the label of a key in the token, with {version} where its number stands",
    "keys.pin_file": "the path of a file, in quotes",
    "shop.member_page": "an address of at most 200 characters, as in https://club.example",
}
HIGHEST_PORT = 65535
LONGEST_SHOP_NAME = 60


def user_config() -> Path:
    return Path.home() / ".config" / "terminal-agent" / "config.toml"


def find_config(named: Path | None) -> Path:
    """The config file to use: named, from the environment, the system's, the user's."""
    if named is not None:
        return named
    variable = os.environ.get(CONFIG_VARIABLE)
    if variable:
        return Path(variable)
    if SYSTEM_CONFIG.exists() or user_config().exists():
        return SYSTEM_CONFIG if SYSTEM_CONFIG.exists() else user_config()
    return _config_of_this_user()


def _config_of_this_user() -> Path:
    return SYSTEM_CONFIG if os.geteuid() == 0 else user_config()


def config_to_write(named: Path | None) -> Path:
    """Where ``init`` writes: like :func:`find_config`, the system's file only when we may write there."""
    if named is None and not os.environ.get(CONFIG_VARIABLE):
        return _config_of_this_user()
    return find_config(named)


def load_settings(path: Path) -> Settings:
    """Read the config file. Raises AgentError ``config_invalid`` that names file, key and remedy."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = f"Create it: terminal-agent --config {path} init --data-dir DIR"
        raise _invalid(f"there is no config file {path}", hint) from None
    except UnicodeDecodeError as error:
        raise _invalid(f"the config file {path} is not written in UTF-8", "Save it as UTF-8 text") from error
    except OSError as error:
        raise _invalid(
            f"the config file {path} cannot be read: {error.strerror}", "Check its place and rights"
        ) from error
    try:
        settings = Settings.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise _invalid(
            f"{path}: {error}", "Correct the line; config/terminal-agent.example.toml shows the form"
        ) from error
    except ValidationError as error:
        raise _invalid(f"{path}: {first_problem(error)}", "Correct that key in the config file") from error
    # A relative folder lies beside the config file, whatever folder a command is run in.
    beside = path.absolute().parent
    runtime_dir = settings.runtime_dir and beside / settings.runtime_dir
    return settings.model_copy(update={"data_dir": beside / settings.data_dir, "runtime_dir": runtime_dir})


def _invalid(message: str, hint: str) -> AgentError:
    return AgentError(ErrorCode.CONFIG_INVALID, message, hint=hint)


def first_problem(error: ValidationError) -> str:
    """The first thing wrong with settings, with the key that was probably meant."""
    problems = error.errors(include_url=False)
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])  # a typo explains the rest
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"the key {key} is missing"
    if problem["type"] != "extra_forbidden":
        return f"{key} must be {EXPECTED.get(key, 'something else')}"
    section: type[BaseModel] = _SECTIONS.get(str(problem["loc"][0]), Settings) if len(problem["loc"]) > 1 else Settings
    near = difflib.get_close_matches(str(problem["loc"][-1]), list(section.model_fields), n=1)
    return f"there is no key {key}" + (f"; did you mean {near[0]}?" if near else "")


def render_config(settings: Settings) -> str:
    """The config file as ``init`` writes it."""
    lines = ["# Written by: terminal-agent init. All keys: config/terminal-agent.example.toml"]
    lines += [f"{key} = {_toml(value)}" for key, value in _top_level(settings).items()]
    if settings.crm.url:
        lines += ["", "[crm]", f"url = {_toml(settings.crm.url)}"]
    lines += ["", "[till]", f"listen = {_toml(settings.till.listen)}"]
    return "\n".join(lines) + "\n"


def _top_level(settings: Settings) -> dict[str, Any]:
    keys = {"data_dir": str(settings.data_dir), "terminal_id": settings.terminal_id, "currency": settings.currency}
    return {**keys, "reader": settings.reader} if settings.reader else keys


def _toml(text: str) -> str:
    """A TOML basic string; JSON's escapes are TOML's too."""
    return json.dumps(text, ensure_ascii=False)


def set_crm_url(path: Path, url: str) -> None:
    """Put ``[crm] url`` into the config file and leave every other line, and its rights, as they are.

    Raises OSError, or AgentError for a file whose ``crm`` table is not written line by line.
    """
    line = f"url = {_toml(url)}"
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    header = next((n for n, text in enumerate(lines) if re.match(r"\s*\[\s*crm\s*\]", text)), None)
    if header is None:
        lines += ["", "[crm]", line]
    else:
        after = range(header + 1, len(lines))
        end = next((n for n in after if lines[n].lstrip().startswith("[")), len(lines))
        kept = [text for text in lines[header + 1 : end] if not re.match(r"\s*url\s*=", text)]
        lines[header + 1 : end] = [line, *kept]
    changed = "\n".join(lines) + "\n"
    if _crm_url_in(changed) != url:
        raise _invalid(f"the crm table of {path} cannot be edited by program", f"Put into its [crm] table: {line}")
    mode = stat.S_IMODE(path.stat().st_mode)
    write_private(path, changed)
    path.chmod(mode)


def _crm_url_in(text: str) -> Any:
    try:
        return tomllib.loads(text)["crm"]["url"]
    except (tomllib.TOMLDecodeError, KeyError, TypeError):
        return None
