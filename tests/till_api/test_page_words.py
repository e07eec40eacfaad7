"""What the pages say: every word in both languages, none missing, none left over."""

from __future__ import annotations

import re
from pathlib import Path

import terminal_agent.till_api

STATIC = Path(terminal_agent.till_api.__file__).parent / "static"
WORD = re.compile(r'^  "(?P<key>[^"]+)": \[\s*"(?P<fa>[^"]*)",\s*"(?P<en>[^"]*)",?\s*\],$', re.MULTILINE)
PERSIAN = re.compile("[\u0600-\u06ff]")
IN_ITS_OWN_LANGUAGE = {"language", "language.to"}
"""The button that leads to the other language speaks it."""


def words() -> dict[str, tuple[str, str]]:
    text = (STATIC / "words.js").read_text()
    found = {each["key"]: (each["fa"], each["en"]) for each in WORD.finditer(text)}
    assert len(found) == len(re.findall(r'^  "[^"]+": \[', text, re.MULTILINE))
    return found


def test_each_word_is_persian_and_english_with_the_same_gaps() -> None:
    for key, (fa, en) in words().items():
        assert sorted(re.findall(r"{\w+}", fa)) == sorted(re.findall(r"{\w+}", en)), key
        if key not in IN_ITS_OWN_LANGUAGE:
            assert PERSIAN.search(fa), key
            assert not PERSIAN.search(en), key
            assert en, key


def test_no_word_is_missing_and_none_is_left_over() -> None:
    views = "".join(path.read_text() for path in STATIC.glob("*.js") if path.name != "words.js")
    named = set(re.findall(r'"([\w.-]+)"', views))
    families = tuple(re.findall(r"`([a-z.-]+\.)\${", views))
    assert set(re.findall(r'\bt\("([^"]+)"', views)) <= set(words())
    assert [key for key in words() if key not in named and not key.startswith(families)] == []
