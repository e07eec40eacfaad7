"""The receipt of a checkout, for POS software that prints it: text, bytes for a receipt printer, or a picture."""

from __future__ import annotations

from base64 import b64decode
from enum import StrEnum
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response

from terminal_agent.till.locale import Language
from terminal_agent.till_api.calls import CallerIn, TillIn, allow, problems
from terminal_agent.till_api.problems import Refusal, Refused

router = APIRouter(prefix="/v1")


class Form(StrEnum):
    """What a receipt is printed from."""

    TEXT = "text"
    ESCPOS = "escpos"
    PNG = "png"


_MEDIA_TYPES = {
    Form.TEXT: "text/plain; charset=utf-8",
    Form.ESCPOS: "application/octet-stream",
    Form.PNG: "image/png",
}
_CONTENT: dict[str, Any] = {
    "text/plain": {"schema": {"type": "string"}},
    **{_MEDIA_TYPES[form]: {"schema": {"type": "string", "format": "binary"}} for form in (Form.ESCPOS, Form.PNG)},
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    **problems(404, 406),
    200: {"description": "The receipt", "content": _CONTENT},
}


@router.get("/checkouts/{checkout_id}/receipt", response_class=Response, responses=_ANSWERS)
def show_receipt(
    till: TillIn,
    caller: CallerIn,
    checkout_id: str,
    form: Annotated[Form | None, Query(alias="format", description="as Accept says when left out, else text")] = None,
    language: Annotated[Language | None, Query(description="the shop's when left out")] = None,
    width: Annotated[
        Literal["32", "42", "48"] | None, Query(description="characters in a line; the shop's paper when left out")
    ] = None,
    copy: Annotated[bool, Query(description="whether it is marked as a copy")] = False,
    accept: Annotated[str | None, Header(max_length=512)] = None,
) -> Response:
    """What the customer takes home of a recorded sale or return; 404 as long as nothing was recorded of it."""
    allow(caller, "read")
    wanted = form or _accepted(accept or "*/*")
    params = {"checkout_id": checkout_id, "format": wanted.value, "copy": copy}
    printed = till.ask("receipt", params | {"language": language, "columns": int(width) if width else None})
    content = "\n".join(printed["lines"]) + "\n" if "lines" in printed else b64decode(printed["content"])
    return Response(content, media_type=_MEDIA_TYPES[wanted], headers={"Vary": "Accept"})


def _accepted(accept: str) -> Form:
    """The form a caller likes best, text before others (RFC 9110, 12.5.1). Raises Refused when it takes none."""
    liked = {form: _liking(accept, _MEDIA_TYPES[form].split(";")[0]) for form in Form}
    best = max(Form, key=liked.__getitem__)
    if liked[best] <= 0:
        raise Refused(Refusal.NOT_ACCEPTABLE)
    return best


def _liking(accept: str, media_type: str) -> float:
    """The weight that an Accept header gives a media type: that of the narrowest range which covers it, or 0."""
    ranges = ("*/*", media_type.partition("/")[0] + "/*", media_type)
    found = (-1, 0.0)
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name in ranges:
            found = max(found, (ranges.index(name), _weight(parameters)))
    return found[1]


def _weight(parameters: list[str]) -> float:
    given = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
    try:
        return float(given[0]) if given else 1.0
    except ValueError:
        return 0.0
