"""The config file: a mistake is told with its place, and a program changes one line of it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.settings import (
    CONFIG_VARIABLE,
    Settings,
    find_config,
    load_settings,
    render_config,
    set_crm_url,
)

URL = "https://crm.example"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('data_dir = "/data"\nterminal_id = "till-1"\n')
    return path


def problem_of(config: Path, text: str) -> str:
    config.write_text('data_dir = "/data"\nterminal_id = "till-1"\n' + text)
    with pytest.raises(AgentError) as told:
        load_settings(config)
    assert told.value.code is ErrorCode.CONFIG_INVALID
    assert str(config) in told.value.message
    return told.value.message


def test_a_config_of_two_lines_is_enough(config: Path) -> None:
    loaded = load_settings(config)
    assert (loaded.data_dir, loaded.terminal_id) == (Path("/data"), "till-1")
    assert (loaded.currency, loaded.reader, loaded.crm.url, loaded.till.listen) == ("IRR", None, None, "127.0.0.1:7411")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('raeder = "pcsc:"', "no key raeder; did you mean reader?"),
        ('[crm]\nulr = "x"', "no key crm.ulr; did you mean url?"),
        ('[tilll]\nlisten = "x"', "no key tilll; did you mean till?"),
        ("zzz = 1", "no key zzz"),
        ('[till]\nlisten = "7411"', "till.listen must be HOST:PORT"),
        ('[till]\nlisten = "127.0.0.1:99999"', "till.listen must be HOST:PORT"),
        ('reader = "pscs:"', "reader must be a reader URL: pcsc:"),
        ('currency = "rial"', "currency must be the three capital letters"),
        ("reader = 5", "reader must be a reader URL"),
        ('reader = "pcsc:\n', "(at line 3, column"),
        ("[crm\n", "(at line 3, column"),
        ('[shop]\nnmae = "x"', "no key shop.nmae; did you mean name?"),
        ('[shop]\nname = ""', "shop.name must be 1 to 60 printable characters"),
        ('[shop]\nname = "\\u202eevil"', "shop.name must be 1 to 60 printable characters"),
        ('[shop]\nlanguage = "de"', 'shop.language must be "fa" or "en"'),
        ('[shop]\namounts_in = "euro"', 'shop.amounts_in must be "rial" or "toman"'),
        ("[shop]\nreceipt_columns = 40", "shop.receipt_columns must be 32, 42 or 48"),
        ('[shop]\nmember_page = "club.example"', "shop.member_page must be an address"),
        ("shop = 1", "shop must be a table"),
    ],
)
def test_a_mistake_is_told_with_its_place(config: Path, text: str, told: str) -> None:
    assert told in problem_of(config, text)


def test_a_wild_key_gets_no_wild_guess(config: Path) -> None:
    assert "did you mean" not in problem_of(config, "zzz = 1")


def test_a_missing_key_is_told(config: Path) -> None:
    config.write_text('data_dir = "/data"\n')
    with pytest.raises(AgentError, match="terminal_id"):
        load_settings(config)


@pytest.mark.parametrize("terminal_id", ["", "a b", "till/1", "x" * 65, "تیل"])
def test_a_terminal_id_that_would_not_travel_is_refused(config: Path, terminal_id: str) -> None:
    config.write_text(f'data_dir = "/data"\nterminal_id = "{terminal_id}"\n')
    with pytest.raises(AgentError, match="terminal_id"):
        load_settings(config)


def test_a_file_that_is_not_there_or_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="there is no config file") as told:
        load_settings(tmp_path / "none.toml")
    assert f"terminal-agent --config {tmp_path / 'none.toml'} init" in told.value.hint
    with pytest.raises(AgentError, match="cannot be read"):
        load_settings(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'terminal_id = "caf\xe9"\n')
    with pytest.raises(AgentError, match="not written in UTF-8"):
        load_settings(tmp_path / "latin.toml")


def test_the_file_named_comes_before_the_one_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "b.toml"))
    assert find_config(tmp_path / "a.toml") == tmp_path / "a.toml"
    assert find_config(None) == tmp_path / "b.toml"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\x7f"), min_size=1))
def test_what_init_writes_is_read_back_as_it_was(config: Path, name: str) -> None:
    written = Settings.model_validate(
        {"data_dir": f"/data/{name}", "terminal_id": "t", "reader": f"sim:{name}", "crm": {"url": URL}}
    )
    config.write_text(render_config(written), encoding="utf-8")
    assert load_settings(config) == written


HEAD = 'data_dir = "/data" # ours\nterminal_id = "till-1"\n'


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (HEAD, HEAD + f'\n[crm]\nurl = "{URL}"\n'),
        (HEAD + "[crm]", HEAD + f'[crm]\nurl = "{URL}"\n'),
        (HEAD + "[crm] # head office\n", HEAD + f'[crm] # head office\nurl = "{URL}"\n'),
        (HEAD + "[ crm ]\n", HEAD + f'[ crm ]\nurl = "{URL}"\n'),
        (
            HEAD + '[crm]\n# the old one\nurl = "https://old.example" # since May\n\n[till]\nlisten = "127.0.0.1:0"\n',
            HEAD + f'[crm]\nurl = "{URL}"\n# the old one\n\n[till]\nlisten = "127.0.0.1:0"\n',
        ),
        (HEAD + '[till]\nlisten = "127.0.0.1:0"', HEAD + f'[till]\nlisten = "127.0.0.1:0"\n\n[crm]\nurl = "{URL}"\n'),
    ],
)
def test_the_address_is_put_in_its_place_and_other_lines_stay(config: Path, text: str, changed: str) -> None:
    config.write_text(text)
    config.chmod(0o644)
    for _ in range(2):
        set_crm_url(config, URL)
        assert config.read_text() == changed
    assert load_settings(config).crm.url == URL
    assert stat.S_IMODE(config.stat().st_mode) == 0o644, "the daemon may be another user than who joins the CRM"


@pytest.mark.parametrize("crm", ['crm = {url = "https://old.example"}\n', 'crm.url = "https://old.example"\n'])
def test_a_table_that_cannot_be_edited_line_by_line_is_told_and_left(config: Path, crm: str) -> None:
    config.write_text(crm + HEAD)
    with pytest.raises(AgentError) as told:
        set_crm_url(config, URL)
    assert told.value.code is ErrorCode.CONFIG_INVALID
    assert f'url = "{URL}"' in told.value.hint
    assert config.read_text() == crm + HEAD


def test_a_relative_data_directory_lies_beside_the_config_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('data_dir = "data"\nterminal_id = "till-1"\n')
    monkeypatch.chdir("/")
    assert load_settings(config).data_dir == config.parent / "data"


def test_sockets_lie_beside_the_data_for_their_owner_or_in_a_folder_for_its_group(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('data_dir = "data"\nterminal_id = "till-1"\n')
    alone = load_settings(config)
    assert (alone.socket_dir, alone.socket_mode) == (tmp_path / "data", 0o600)
    config.write_text(config.read_text() + 'runtime_dir = "run"\n')
    shared = load_settings(config)
    assert (shared.socket_dir, shared.socket_mode) == (tmp_path / "run", 0o660)
