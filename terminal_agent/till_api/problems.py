"""Every error of the till's API: an RFC 9457 problem that a POS can act on and a cashier can read in two languages."""

from __future__ import annotations

import json
from enum import Enum
from http import HTTPStatus
from typing import Any, NamedTuple

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.till.messages import UposCode, action_of, message_of, upos_code

MEDIA_TYPE = "application/problem+json"


class _Said(NamedTuple):
    status: int
    upos_code: UposCode
    fa: str
    en: str
    hint: str
    retryable: bool = False


class Refusal(Enum):
    """Why a request is not even looked at, or not carried out, whatever the till is doing."""

    WRONG_HOST = _Said(
        421,
        UposCode.ILLEGAL,
        "این نشانی پذیرفته نیست.",
        "This address is not accepted.",
        "Call the till at the address that terminal-agent status shows",
    )
    FOREIGN_ORIGIN = _Said(
        403,
        UposCode.ILLEGAL,
        "این صفحه اجازهٔ کار با صندوق را ندارد.",
        "This page may not use the till.",
        "Add the page's origin to [till] origins in the config file, if it is yours",
    )
    NOT_JSON = _Said(
        415,
        UposCode.ILLEGAL,
        "درخواست باید JSON باشد.",
        "The request must be JSON.",
        "Send Content-Type: application/json",
    )
    TOO_LARGE = _Said(
        413,
        UposCode.ILLEGAL,
        "درخواست بیش از اندازه بزرگ است.",
        "The request is too large.",
        "Send at most 256 KiB",
    )
    TOO_SLOW = _Said(
        408,
        UposCode.TIMEOUT,
        "درخواست به‌موقع نرسید.",
        "The request did not arrive in time.",
        "Send it again",
        True,
    )
    UNAUTHORIZED = _Said(
        401,
        UposCode.ILLEGAL,
        "این برنامه به صندوق وصل نشده است.",
        "This program is not paired with the till.",
        "Pair it with a code: terminal-agent till code",
    )
    FORBIDDEN = _Said(
        403,
        UposCode.ILLEGAL,
        "این برنامه اجازهٔ این کار را ندارد.",
        "This program may not do this.",
        "Pair it again with a code that allows it: terminal-agent till code --help",
    )
    PAIRING_REFUSED = _Said(
        403,
        UposCode.ILLEGAL,
        "کد اتصال درست نیست یا دیگر اعتبار ندارد.",
        "The pairing code is wrong or no longer works.",
        "Get a new one: terminal-agent till code",
    )
    SIGN_IN_REQUIRED = _Said(
        403,
        UposCode.ILLEGAL,
        "اول وارد شوید.",
        "Sign in first.",
        "Sign in: POST /v1/sessions, then send what it gives as Cashier-Session",
    )
    SUPERVISOR_NEEDED = _Said(
        403,
        UposCode.ILLEGAL,
        "این مرجوعی با اجازهٔ سرپرست ممکن است.",
        "This return needs a supervisor.",
        "Let a supervisor approve it: POST /v1/approvals, then send what it gives as Cashier-Approval. The limit is "
        "[till] reversal_limit in the config file",
    )
    ADMINISTRATOR_NEEDED = _Said(
        403,
        UposCode.ILLEGAL,
        "این کار فقط با رمز مدیر ممکن است.",
        "Only an administrator may do this, signed in by PIN.",
        "Sign in as one; the first is named by: terminal-agent till cashier add NAME --role administrator",
    )
    STAFF_CARD_UNKNOWN = _Said(
        403,
        UposCode.ILLEGAL,
        "این کارت، کارت همکار نیست.",
        "This is nobody's staff card.",
        "Sign in by PIN; an administrator, or terminal-agent till cashier card NAME, makes it somebody's",
    )
    CASHIERS_LOST = _Said(
        403,
        UposCode.ILLEGAL,
        "فهرست همکاران از دست رفته است؛ مدیر باید دوباره آن‌ها را معرفی کند.",
        "The list of cashiers was lost: they must be named again.",
        "Name them again: terminal-agent till cashier add NAME --role administrator",
    )
    CASHIER_EXISTS = _Said(
        409,
        UposCode.EXISTS,
        "همکاری با این نام از پیش هست.",
        "There is a cashier of that name already.",
        "Choose another name, or change that one: POST /v1/cashiers/change",
    )
    LAST_ADMINISTRATOR = _Said(
        409,
        UposCode.ILLEGAL,
        "آخرین مدیر را نمی‌توان برداشت.",
        "This is the last administrator.",
        "Make somebody else administrator first, or run on the shop PC: terminal-agent till cashier remove NAME",
    )
    PIN_WRONG = _Said(
        403,
        UposCode.ILLEGAL,
        "نام یا رمز درست نیست.",
        "The name or the PIN is wrong.",
        "Try again; a new PIN is set by: terminal-agent till cashier add",
    )
    PIN_LATER = _Said(
        429,
        UposCode.BUSY,
        "رمز چند بار اشتباه وارد شد؛ کمی صبر کنید.",
        "Too many wrong PINs: wait a while.",
        "Wait, or set a new PIN: terminal-agent till cashier add",
        True,
    )
    TOO_MANY_LOOKUPS = _Said(
        429,
        UposCode.BUSY,
        "شماره‌های زیادی پرسیده شد؛ کمی صبر کنید.",
        "Too many phone numbers were asked for: wait a while.",
        "Send it again after the seconds that Retry-After names",
        True,
    )
    KEY_MISSING = _Said(
        400,
        UposCode.ILLEGAL,
        "درخواست کلید یکتا ندارد.",
        "The request has no idempotency key.",
        "Send an Idempotency-Key header: a new one for each sale, the same one for each try",
    )
    KEY_REUSED = _Said(
        422,
        UposCode.ILLEGAL,
        "این کلید برای درخواست دیگری به‌کار رفته است.",
        "This idempotency key was used for another request.",
        "Use a new Idempotency-Key for a new request",
    )
    INVALID = _Said(
        400,
        UposCode.ILLEGAL,
        "درخواست درست نیست.",
        "The request is not valid.",
        "Correct what detail names",
    )
    NOT_FOUND = _Said(
        404,
        UposCode.NO_EXIST,
        "چیزی با این نشانی یافت نشد.",
        "There is nothing here.",
        "See GET /openapi.json",
    )
    NOT_ACCEPTABLE = _Said(
        406,
        UposCode.ILLEGAL,
        "رسید به این شکل ساخته نمی‌شود.",
        "There is no receipt of this kind.",
        "Accept text/plain, image/png or application/octet-stream, or name one with ?format=",
    )
    METHOD_NOT_ALLOWED = _Said(
        405,
        UposCode.ILLEGAL,
        "این کار با این نشانی شدنی نیست.",
        "This cannot be done here.",
        "See GET /openapi.json",
    )
    TOO_LATE = _Said(
        409,
        UposCode.ILLEGAL,
        "این خرید دیگر لغو‌شدنی نیست.",
        "This checkout can no longer be cancelled.",
        "Look at it: GET /v1/checkouts/{id}. Take a finished one back with POST /v1/reversals",
    )
    TOO_MANY_STREAMS = _Said(
        503,
        UposCode.BUSY,
        "برنامه‌های زیادی به صندوق گوش می‌دهند.",
        "Too many programs listen to the till.",
        "Close streams that are no longer needed; each program needs one",
        True,
    )
    INTERNAL = _Said(
        500,
        UposCode.FAILURE,
        "خطایی پیش‌بینی‌نشده رخ داد.",
        "Something unforeseen went wrong.",
        "Try again; if it stays, run: terminal-agent doctor",
        True,
    )
    STOPPING = _Said(
        503,
        UposCode.OFFLINE,
        "صندوق در حال خاموش شدن است.",
        "The till is stopping.",
        "Try again in a few seconds",
        True,
    )

    @property
    def code(self) -> str:
        return self.name.lower()


class Refused(Exception):
    """A request is refused; ``detail`` says what of it, in English, ``retry_after_s`` when to send it again."""

    def __init__(self, refusal: Refusal, detail: str = "", retry_after_s: int | None = None) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal
        self.detail = detail
        self.retry_after_s = retry_after_s


_STATUS = {
    ErrorCode.RECEIPT_CONFLICT: 409,
    ErrorCode.BUSY: 409,
    ErrorCode.REVERSAL_REFUSED: 409,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.MEMBER_NOT_FOUND: 404,
    ErrorCode.NO_CARD_TIMEOUT: 404,
    ErrorCode.BLANK_CARD: 404,
    ErrorCode.NOT_OUR_CARD: 404,
    ErrorCode.INVALID_INPUT: 400,
    ErrorCode.READER_MISSING: 503,
    ErrorCode.READER_LOST: 503,
    ErrorCode.SERVICE_UNAVAILABLE: 503,
    ErrorCode.CRM_UNREACHABLE: 503,
    ErrorCode.CRM_UNAUTHORIZED: 503,
    ErrorCode.CONFIG_INVALID: 500,
    ErrorCode.KEYS_UNAVAILABLE: 503,
    ErrorCode.DISK_FULL: 507,
    ErrorCode.JOURNAL_FAILED: 500,
    ErrorCode.INTERNAL: 500,
}
_CARD_PROBLEM = 409


def refused(refusal: Refusal, detail: str = "") -> tuple[int, str, bytes]:
    """Status, media type and body of a refusal."""
    said = refusal.value
    document = _problem(said.status, refusal.code, detail or said.en, said.retryable, said.hint)
    document |= {"upos_code": said.upos_code.value, "message": {"fa": said.fa, "en": said.en}}
    return said.status, MEDIA_TYPE, json.dumps(document, ensure_ascii=False).encode()


def failed(error: AgentError) -> tuple[int, str, bytes]:
    """Status, media type and body of a problem of the till itself."""
    status = _STATUS.get(error.code, _CARD_PROBLEM)
    document = _problem(status, error.code.value, error.message, error.retryable, error.hint)
    document |= {"upos_code": upos_code(error.code), "message": message_of(error.code), "action": action_of(error.code)}
    document |= error.details
    return status, MEDIA_TYPE, json.dumps(document, ensure_ascii=False).encode()


def busy() -> AgentError:
    """One checkout at a time."""
    return AgentError(
        ErrorCode.BUSY, "another checkout is open at this till", hint="Finish or cancel it, then open the next one"
    )


def as_shown(error: AgentError) -> dict[str, Any]:
    """An error inside a checkout or an event."""
    return {
        "code": error.code.value,
        "retryable": error.retryable,
        "upos_code": upos_code(error.code),
        "message": message_of(error.code),
        "action": action_of(error.code),
        "detail": error.message,
        "hint": error.hint,
        "redeemable_points": error.details.get("redeemable_points"),
    }


def _problem(status: int, code: str, detail: str, retryable: bool, hint: str) -> dict[str, Any]:
    title = HTTPStatus(status).phrase
    return {
        "type": "about:blank", "title": title, "status": status, "code": code, "detail": detail,
        "retryable": retryable, "hint": hint,
    }  # fmt: skip
