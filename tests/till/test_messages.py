"""What a cashier reads of every problem: nothing missing, nothing half translated, Persian as it is typed properly."""

from __future__ import annotations

import re
import unicodedata

import pytest

from terminal_agent.errors import ErrorCode
from terminal_agent.till.messages import UposCode, action_of, message_of, upos_code

LONGEST = 90
"""Characters that a cashier's screen shows in two lines."""
DETACHED = re.compile(r"(?<!\w)ن?می (?=\w)|\w (?:ها|های|هایی|تر|ترین|ام|اند)(?!\w)")
"""Prefixes and endings that are written with a zero-width non-joiner, not with a space."""
UPOS_RESULT_CODES = {
    "E_CLOSED", "E_CLAIMED", "E_NOTCLAIMED", "E_NOSERVICE", "E_DISABLED", "E_ILLEGAL", "E_NOHARDWARE", "E_OFFLINE",
    "E_NOEXIST", "E_EXISTS", "E_FAILURE", "E_TIMEOUT", "E_BUSY", "E_EXTENDED", "E_DEPRECATED",
}  # fmt: skip


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_problem_is_told_in_both_languages_with_a_next_action(code: ErrorCode) -> None:
    for words in (message_of(code), action_of(code)):
        assert set(words) == {"fa", "en"}
        for language, text in words.items():
            assert text.endswith("."), (language, text)
            assert text == text.strip()
            assert len(text) <= LONGEST, text
    assert message_of(code) != action_of(code)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_persian_is_persian_and_typed_as_persian(code: ErrorCode) -> None:
    for words in (message_of(code), action_of(code)):
        persian, english = words["fa"], words["en"]
        assert persian != english
        assert english.isascii()
        assert not re.search(r"[A-Za-z0-9]", persian), f"Latin letters in {persian}"
        assert not re.search("[يكةى٠-٩]", persian), f"Arabic letters in {persian}"
        assert not re.search("[,;?]", persian), f"Latin punctuation in {persian}"
        assert not DETACHED.search(persian), f"a half-space is missing in {persian}"
        assert not re.search(r"(?<!\w)\u200c|\u200c(?!\w)|  ", persian), f"a stray half-space in {persian}"
        assert unicodedata.normalize("NFC", persian) == persian


def test_two_problems_are_not_told_alike() -> None:
    for language in ("fa", "en"):
        told = [message_of(code)[language] for code in ErrorCode]
        assert len(set(told)) == len(told)


def test_a_point_of_sale_gets_a_result_code_it_knows() -> None:
    assert {upos_code(code) for code in ErrorCode} <= UPOS_RESULT_CODES
    assert {upos_code(code) for code in ErrorCode} == {code.value for code in UposCode}, "a code that nothing has"
    assert upos_code(ErrorCode.BUSY) == "E_BUSY"
    assert upos_code(ErrorCode.READER_MISSING) == "E_NOHARDWARE"
    assert upos_code(ErrorCode.NO_CARD_TIMEOUT) == "E_TIMEOUT"
    assert upos_code(ErrorCode.CARD_REMOVED_EARLY) == "E_EXTENDED"


@pytest.mark.parametrize("wrong", ["می شود", "نمی شود", "کارت ها", "بزرگ تر"])
def test_the_check_for_half_spaces_can_fail(wrong: str) -> None:
    assert DETACHED.search(wrong)
