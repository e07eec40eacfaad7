"""What a cashier reads when something is wrong: one short sentence and the next action, in Persian and English, and the
UnifiedPOS result code that POS software knows.

A sentence says what is wrong without naming what only an engineer knows; ``AgentError`` tells the details in English.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from terminal_agent.errors import ErrorCode


class UposCode(StrEnum):
    """Result codes of the UnifiedPOS specification, those we use. ``E_EXTENDED`` is a device's own condition: the
    problem's ``code`` says which."""

    NO_SERVICE = "E_NOSERVICE"
    ILLEGAL = "E_ILLEGAL"
    NO_HARDWARE = "E_NOHARDWARE"
    OFFLINE = "E_OFFLINE"
    NO_EXIST = "E_NOEXIST"
    EXISTS = "E_EXISTS"
    FAILURE = "E_FAILURE"
    TIMEOUT = "E_TIMEOUT"
    BUSY = "E_BUSY"
    EXTENDED = "E_EXTENDED"


class Words(NamedTuple):
    """The same words in both languages."""

    fa: str
    en: str


class _Told(NamedTuple):
    upos_code: UposCode
    message: Words
    action: Words


_CARD_AGAIN = Words("کارت را روی کارت‌خوان بگذارید و دوباره امتحان کنید.", "Put the card on the reader and try again.")
_SAME_CARD = Words("همان کارت را دوباره روی کارت‌خوان بگذارید.", "Put the SAME card back on the reader.")
_CLUB_CARD = Words("از مشتری کارت همین باشگاه را بخواهید.", "Ask the customer for this club's card.")
_REPLACE = Words(
    "از این کارت استفاده نکنید و آن را تعویض کنید؛ امتیازها محفوظ است.",
    "Do not use this card; replace it. The points are safe.",
)
_SUPPORT = Words("با پشتیبانی تماس بگیرید.", "Call support.")
_HEAD_OFFICE_CODE = Words("از دفتر مرکزی کد اتصال بگیرید.", "Ask head office for a code to join.")

_TOLD = {
    ErrorCode.READER_MISSING: _Told(
        UposCode.NO_HARDWARE,
        Words("کارت‌خوان پیدا نشد.", "No card reader was found."),
        Words("کابل کارت‌خوان را وصل کنید و دوباره امتحان کنید.", "Plug the card reader in and try again."),
    ),
    ErrorCode.READER_LOST: _Told(
        UposCode.OFFLINE,
        Words("ارتباط با کارت‌خوان قطع شد.", "The card reader was disconnected."),
        Words("کابل را بررسی کنید و همان کارت را دوباره بگذارید.", "Check its cable, then put the same card back."),
    ),
    ErrorCode.SERVICE_UNAVAILABLE: _Told(
        UposCode.NO_SERVICE,
        Words("سرویس کارت‌خوان در دسترس نیست.", "The card reader's service is not running."),
        Words(
            "صندوق را خاموش و روشن کنید؛ اگر درست نشد، با پشتیبانی تماس بگیرید.",
            "Restart the till; if it stays so, call support.",
        ),
    ),
    ErrorCode.NO_CARD_TIMEOUT: _Told(
        UposCode.TIMEOUT, Words("کارتی گذاشته نشد.", "No card was presented in time."), _CARD_AGAIN
    ),
    ErrorCode.CARD_REMOVED_EARLY: _Told(
        UposCode.EXTENDED, Words("کارت زود برداشته شد.", "The card was taken away too soon."), _SAME_CARD
    ),
    ErrorCode.MULTIPLE_CARDS: _Told(
        UposCode.EXTENDED,
        Words("بیش از یک کارت روی کارت‌خوان است.", "There is more than one card on the reader."),
        Words("فقط یک کارت روی کارت‌خوان بگذارید.", "Put one card alone on the reader."),
    ),
    ErrorCode.UNSUPPORTED_CARD: _Told(
        UposCode.EXTENDED, Words("این نوع کارت پشتیبانی نمی‌شود.", "This kind of card is not supported."), _CLUB_CARD
    ),
    ErrorCode.BLANK_CARD: _Told(
        UposCode.EXTENDED,
        Words("این کارت هنوز صادر نشده است.", "This card has not been issued yet."),
        Words("کارت را صادر کنید یا کارت دیگری بخواهید.", "Issue the card, or ask for another one."),
    ),
    ErrorCode.NOT_OUR_CARD: _Told(
        UposCode.EXTENDED,
        Words("این کارت متعلق به باشگاه ما نیست.", "This card does not belong to our club."),
        _CLUB_CARD,
    ),
    ErrorCode.OTHER_CARD: _Told(
        UposCode.EXTENDED,
        Words("این کارت، کارت همان خرید نیست.", "This is not the card of that sale."),
        Words("کارتی را بگذارید که خرید با آن ثبت شد.", "Put the card on the reader that the sale was made with."),
    ),
    ErrorCode.KEY_REJECTED: _Told(
        UposCode.EXTENDED,
        Words("این کارت کلید ما را نمی‌پذیرد.", "This card refuses its keys."),
        Words(
            "کارت را صاف نگه دارید و دوباره امتحان کنید؛ اگر نشد، کارت را تعویض کنید.",
            "Hold the card flat and try again; if it stays so, replace the card.",
        ),
    ),
    ErrorCode.DATA_CORRUPT: _Told(
        UposCode.EXTENDED, Words("اطلاعات این کارت خراب است.", "The data on this card is damaged."), _REPLACE
    ),
    ErrorCode.RECEIPT_CONFLICT: _Told(
        UposCode.EXISTS,
        Words(
            "این شمارهٔ رسید قبلاً با مبلغ دیگری ثبت شده است.",
            "This receipt number was already used with another amount.",
        ),
        Words("شمارهٔ رسید و مبلغ را بررسی کنید.", "Check the receipt number and the amount."),
    ),
    ErrorCode.REVERSAL_REFUSED: _Told(
        UposCode.ILLEGAL,
        Words("این خرید را نمی‌توان مرجوع کرد.", "This purchase cannot be returned."),
        Words(
            "شمارهٔ رسید، مبلغ و مهلت مرجوعی را بررسی کنید.", "Check the receipt number, the amount and the time limit."
        ),
    ),
    ErrorCode.ALREADY_ISSUED: _Told(
        UposCode.EXISTS,
        Words("این کارت قبلاً صادر شده است.", "This card was issued before."),
        Words("یک کارت خالی روی کارت‌خوان بگذارید.", "Put a blank card on the reader."),
    ),
    ErrorCode.CARD_BLOCKED: _Told(
        UposCode.EXTENDED,
        Words("این کارت مسدود است.", "This card is blocked."),
        Words(
            "خرید را بدون کارت ثبت کنید و مشتری را به پشتیبانی باشگاه راهنمایی کنید.",
            "Sell without the card and send the customer to the club's support.",
        ),
    ),
    ErrorCode.CARD_ROLLED_BACK: _Told(
        UposCode.EXTENDED,
        Words("اطلاعات این کارت قدیمی است.", "The data on this card is out of date."),
        Words("این کارت را نپذیرید و به دفتر مرکزی خبر دهید.", "Do not accept this card, and tell head office."),
    ),
    ErrorCode.CARD_ERASED: _Told(
        UposCode.EXTENDED,
        Words(
            "صاحب این کارت اطلاعات خود را حذف کرده است؛ کارت خالی می‌شود.",
            "The owner of this card had everything erased; the card is made blank.",
        ),
        Words(
            "بدون کارت بفروشید؛ کارت خالی را می‌توان دوباره صادر کرد.",
            "Sell without it; the blank card can be issued anew.",
        ),
    ),
    ErrorCode.CARD_PENDING: _Told(
        UposCode.EXTENDED,
        Words(
            "عضویت صاحب این کارت هنوز تأیید نشده است.",
            "The membership of this card's owner is not approved yet.",
        ),
        Words("بدون خرج امتیاز ادامه دهید؛ خرید امتیاز می‌گیرد.", "Go on without redeeming; the purchase earns points."),
    ),
    ErrorCode.CARD_TAKEN: _Told(
        UposCode.EXISTS,
        Words("این کارت مال همکار دیگری است.", "This card is another cashier's staff card."),
        Words("کارت دیگری بردارید یا اول آن را از همکار قبلی بگیرید.", "Take another card, or remove it there first."),
    ),
    ErrorCode.INSUFFICIENT_POINTS: _Told(
        UposCode.EXTENDED,
        Words("این مقدار امتیاز را نمی‌توان خرج کرد.", "This many points cannot be redeemed."),
        Words(
            "مقدار امتیاز را تغییر دهید یا بدون خرج امتیاز ادامه دهید.",
            "Change the number of points, or go on without redeeming.",
        ),
    ),
    ErrorCode.OFFLINE_LIMIT: _Told(
        UposCode.EXTENDED,
        Words(
            "بدون ارتباط با مرکز، این مقدار امتیاز را نمی‌توان خرج کرد.",
            "This many points cannot be redeemed while the till is offline.",
        ),
        Words(
            "امتیاز کمتری خرج کنید یا پس از برقراری ارتباط دوباره امتحان کنید.",
            "Redeem fewer points, or try again when the till is online.",
        ),
    ),
    ErrorCode.COUPON_REFUSED: _Told(
        UposCode.EXTENDED,
        Words(
            "این کوپن برای این خرید پذیرفته نشد.",
            "This coupon brings nothing on this bill.",
        ),
        Words(
            "کد کوپن را بررسی کنید یا خرید را بدون کوپن ثبت کنید.",
            "Check the code, or record the sale without the coupon.",
        ),
    ),
    ErrorCode.FILE_INVALID: _Told(
        UposCode.ILLEGAL,
        Words(
            "این پرونده صف یا رسید آن نیست یا دستکاری شده است.",
            "This is no queue file or receipt, or it was tampered with.",
        ),
        Words("پرونده را دوباره از پایانه بگیرید.", "Export it again at the terminal it comes from."),
    ),
    ErrorCode.DUMP_INVALID: _Told(
        UposCode.ILLEGAL,
        Words("این فایل، نسخهٔ معتبری از یک کارت نیست.", "This file is not a valid copy of a card."),
        Words("فایل دیگری انتخاب کنید.", "Choose another file."),
    ),
    ErrorCode.CRM_UNAUTHORIZED: _Told(
        UposCode.NO_SERVICE,
        Words("سرور باشگاه این صندوق را نمی‌پذیرد.", "The club's server does not accept this till."),
        _HEAD_OFFICE_CODE,
    ),
    ErrorCode.CRM_UNREACHABLE: _Told(
        UposCode.OFFLINE,
        Words("ارتباط با سرور باشگاه برقرار نیست.", "The club's server cannot be reached."),
        Words(
            "به فروش ادامه دهید؛ اطلاعات بعداً خودکار ارسال می‌شود.",
            "Go on selling; everything is sent later by itself.",
        ),
    ),
    ErrorCode.NOT_ENROLLED: _Told(
        UposCode.NO_SERVICE,
        Words("این صندوق هنوز به باشگاه وصل نشده است.", "This till has not joined the club yet."),
        _HEAD_OFFICE_CODE,
    ),
    ErrorCode.CONFIG_INVALID: _Told(
        UposCode.NO_SERVICE, Words("تنظیمات این صندوق درست نیست.", "This till is not set up correctly."), _SUPPORT
    ),
    ErrorCode.KEYS_UNAVAILABLE: _Told(
        UposCode.OFFLINE,
        Words("قطعهٔ نگه‌دارندهٔ کلیدها در دسترس نیست.", "The device that holds the keys does not answer."),
        Words(
            "آن را وصل کنید و دوباره امتحان کنید؛ اگر نشد، با پشتیبانی تماس بگیرید.",
            "Plug it in and try again; if it stays so, call support.",
        ),
    ),
    ErrorCode.BUSY: _Told(
        UposCode.BUSY,
        Words("دستگاه مشغول است.", "The till is busy."),
        Words("چند لحظه صبر کنید و دوباره امتحان کنید.", "Wait a moment and try again."),
    ),
    ErrorCode.NOT_FOUND: _Told(
        UposCode.NO_EXIST,
        Words("موردی با این مشخصات پیدا نشد.", "Nothing was found under this number."),
        Words("شماره را بررسی کنید.", "Check the number."),
    ),
    ErrorCode.MEMBER_NOT_FOUND: _Told(
        UposCode.NO_EXIST,
        Words("عضوی با این شمارهٔ تلفن پیدا نشد.", "No member has this phone number."),
        Words(
            "شماره را بررسی کنید یا مشتری را عضو کنید.",
            "Check the number, or enrol the customer.",
        ),
    ),
    ErrorCode.INVALID_INPUT: _Told(
        UposCode.ILLEGAL,
        Words("مقدار واردشده درست نیست.", "What was entered is not valid."),
        Words("آن را اصلاح کنید و دوباره امتحان کنید.", "Correct it and try again."),
    ),
    ErrorCode.DISK_FULL: _Told(
        UposCode.FAILURE,
        Words("فضای ذخیره‌سازی صندوق پر شده است.", "The till's disk is full."),
        Words("فعلاً امتیاز خرج نکنید و با پشتیبانی تماس بگیرید.", "Redeem no points for now, and call support."),
    ),
    ErrorCode.JOURNAL_FAILED: _Told(
        UposCode.FAILURE,
        Words("ثبت اطلاعات در صندوق ممکن نشد.", "The till could not record this."),
        Words("فعلاً کارت نپذیرید و با پشتیبانی تماس بگیرید.", "Accept no cards for now, and call support."),
    ),
    ErrorCode.INTERNAL: _Told(
        UposCode.FAILURE,
        Words("خطایی پیش‌بینی‌نشده رخ داد.", "Something unforeseen happened."),
        Words(
            "یک بار دیگر امتحان کنید؛ اگر تکرار شد، با پشتیبانی تماس بگیرید.",
            "Try once more; if it happens again, call support.",
        ),
    ),
}


def message_of(code: ErrorCode) -> dict[str, str]:
    """What is wrong: ``{"fa", "en"}``."""
    return _TOLD[code].message._asdict()


def action_of(code: ErrorCode) -> dict[str, str]:
    """What to do next: ``{"fa", "en"}``."""
    return _TOLD[code].action._asdict()


def upos_code(code: ErrorCode) -> str:
    """The UnifiedPOS result code, as in ``E_BUSY``."""
    return _TOLD[code].upos_code.value
