"""One error for everything a person must be told: a stable code, one sentence, the next action, an exit code."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Any


class ExitCode(IntEnum):
    """What a command ends with; the README prints this table."""

    DONE = 0
    FAILURE = 1
    USAGE = 2
    NO_READER = 3
    CARD_PROBLEM = 4
    CRM_UNREACHABLE = 5
    CONFIGURATION = 6
    NEEDS_ATTENTION = 7


class ErrorCode(StrEnum):
    """Stable names of problems, as docs/json-output.md lists them."""

    READER_MISSING = "reader_missing"
    READER_LOST = "reader_lost"
    SERVICE_UNAVAILABLE = "service_unavailable"
    NO_CARD_TIMEOUT = "no_card_timeout"
    CARD_REMOVED_EARLY = "card_removed_early"
    MULTIPLE_CARDS = "multiple_cards"
    UNSUPPORTED_CARD = "unsupported_card"
    BLANK_CARD = "blank_card"
    NOT_OUR_CARD = "not_our_card"
    OTHER_CARD = "other_card"
    KEY_REJECTED = "key_rejected"
    DATA_CORRUPT = "data_corrupt"
    RECEIPT_CONFLICT = "receipt_conflict"
    REVERSAL_REFUSED = "reversal_refused"
    ALREADY_ISSUED = "already_issued"
    CARD_BLOCKED = "card_blocked"
    CARD_ROLLED_BACK = "card_rolled_back"
    CARD_ERASED = "card_erased"
    CARD_PENDING = "card_pending"
    CARD_TAKEN = "card_taken"
    INSUFFICIENT_POINTS = "insufficient_points"
    OFFLINE_LIMIT = "offline_limit"
    COUPON_REFUSED = "coupon_refused"
    DUMP_INVALID = "dump_invalid"
    FILE_INVALID = "file_invalid"
    CRM_UNAUTHORIZED = "crm_unauthorized"
    CRM_UNREACHABLE = "crm_unreachable"
    NOT_ENROLLED = "not_enrolled"
    CONFIG_INVALID = "config_invalid"
    KEYS_UNAVAILABLE = "keys_unavailable"
    BUSY = "busy"
    NOT_FOUND = "not_found"
    MEMBER_NOT_FOUND = "member_not_found"
    INVALID_INPUT = "invalid_input"
    DISK_FULL = "disk_full"
    JOURNAL_FAILED = "journal_failed"
    INTERNAL = "internal"


_READER = {ErrorCode.READER_MISSING, ErrorCode.READER_LOST, ErrorCode.SERVICE_UNAVAILABLE}
_CARD = {
    ErrorCode.NO_CARD_TIMEOUT,
    ErrorCode.CARD_REMOVED_EARLY,
    ErrorCode.MULTIPLE_CARDS,
    ErrorCode.UNSUPPORTED_CARD,
    ErrorCode.BLANK_CARD,
    ErrorCode.NOT_OUR_CARD,
    ErrorCode.OTHER_CARD,
    ErrorCode.KEY_REJECTED,
    ErrorCode.DATA_CORRUPT,
    ErrorCode.ALREADY_ISSUED,
    ErrorCode.CARD_BLOCKED,
    ErrorCode.CARD_ROLLED_BACK,
    ErrorCode.CARD_ERASED,
    ErrorCode.CARD_PENDING,
    ErrorCode.CARD_TAKEN,
    ErrorCode.INSUFFICIENT_POINTS,
    ErrorCode.OFFLINE_LIMIT,
    ErrorCode.COUPON_REFUSED,
}
_CRM = {ErrorCode.CRM_UNAUTHORIZED, ErrorCode.CRM_UNREACHABLE}
_CONFIGURATION = {ErrorCode.CONFIG_INVALID, ErrorCode.KEYS_UNAVAILABLE, ErrorCode.NOT_ENROLLED}

EXIT_CODES: dict[ErrorCode, ExitCode] = {
    code: ExitCode.NO_READER
    if code in _READER
    else ExitCode.CARD_PROBLEM
    if code in _CARD
    else ExitCode.CRM_UNREACHABLE
    if code in _CRM
    else ExitCode.CONFIGURATION
    if code in _CONFIGURATION
    else ExitCode.USAGE
    if code is ErrorCode.INVALID_INPUT
    else ExitCode.FAILURE
    for code in ErrorCode
}

RETRYABLE = _READER | {
    ErrorCode.NO_CARD_TIMEOUT,
    ErrorCode.CARD_REMOVED_EARLY,
    ErrorCode.MULTIPLE_CARDS,
    ErrorCode.OTHER_CARD,
    ErrorCode.CRM_UNREACHABLE,
    ErrorCode.KEYS_UNAVAILABLE,
    ErrorCode.BUSY,
}


class AgentError(Exception):
    """A problem to show to a person. ``details`` are top-level fields of the JSON answer beside ``error``."""

    def __init__(self, code: ErrorCode, message: str, *, hint: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.details = details or {}

    @property
    def exit_code(self) -> ExitCode:
        if self.details.get("state") == "in_doubt":
            return ExitCode.CARD_PROBLEM
        return EXIT_CODES[self.code]

    @property
    def retryable(self) -> bool:
        return self.code in RETRYABLE

    def to_json(self) -> dict[str, Any]:
        """The ``--json`` answer: ``error`` and whatever details belong beside it."""
        error = {"code": self.code.value, "message": self.message, "hint": self.hint, "retryable": self.retryable}
        return {**self.details, "error": error}
