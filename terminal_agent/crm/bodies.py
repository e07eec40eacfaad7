"""Reading request bodies within limits, and checking what they hold before anything is done with it."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from terminal_agent.contract import BATCH_MEDIA_TYPE, MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from terminal_agent.crm.problems import ProblemError

JSON_MEDIA_TYPE = "application/json"
MAX_SMALL_BYTES = 4096
_GZIP = 16 + zlib.MAX_WBITS

Shape = TypeVar("Shape", bound=BaseModel)


def reader_of(shape: type[Shape]) -> Callable[[Request], Awaitable[Shape]]:
    """What reads a small body of this shape. ProblemError: 400, 413, 415."""

    async def read(request: Request) -> Shape:
        _check_media_type(request, {JSON_MEDIA_TYPE})
        document = parse_json(_decoded(request, await _read(request, MAX_SMALL_BYTES), MAX_SMALL_BYTES))
        return _validated(shape, document)

    return read


async def read_batch(request: Request) -> list[Any]:
    """The events of a batch, not yet looked at. ProblemError: 400, 413, 415."""
    _check_media_type(request, {JSON_MEDIA_TYPE, BATCH_MEDIA_TYPE})
    documents = parse_json(_decoded(request, await _read(request, MAX_BATCH_BYTES), MAX_BATCH_BYTES))
    if not isinstance(documents, list):
        raise _bad("The body must be a JSON array of events.")
    if len(documents) > MAX_BATCH_EVENTS:
        raise ProblemError(413, "too_large", f"At most {MAX_BATCH_EVENTS} events fit a batch.")
    return documents


def _check_media_type(request: Request, allowed: set[str]) -> None:
    given = request.headers.get("content-type", JSON_MEDIA_TYPE).split(";")[0].strip().lower()
    if given not in allowed:
        raise ProblemError(415, "unsupported_media_type", f"Content-Type must be one of {', '.join(sorted(allowed))}.")


async def _read(request: Request, limit: int) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise _too_large(limit)
    except ClientDisconnect as error:  # nobody reads this answer; what it spares is a traceback in the log
        raise _bad("The request ended before its body was complete.") from error
    return bytes(body)


def _decoded(request: Request, body: bytes, limit: int) -> bytes:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return body
    if encoding != "gzip":
        raise ProblemError(415, "unsupported_media_type", "Content-Encoding must be gzip or absent.")
    return unzip(body, limit)


def unzip(body: bytes, limit: int) -> bytes:
    """Never unpacks more than ``limit``, whatever the body claims."""
    unpacker = zlib.decompressobj(_GZIP)
    try:
        plain = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise _bad("The body is not gzip.") from error
    if len(plain) > limit:
        raise _too_large(limit)
    if not unpacker.eof or unpacker.unused_data:
        raise _bad("The gzip body is cut short or has more than one part.")
    return plain


def parse_json(body: bytes) -> Any:
    """Strict JSON in UTF-8, of any shape. ProblemError: 400."""
    try:
        return json.loads(body.decode("utf-8"), parse_int=_whole, parse_float=_finite, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _bad("The body is not JSON in UTF-8.") from error


def _whole(digits: str) -> int | float:
    """Numbers no field can hold become fractions, which no field takes; huge ones would cost quadratic time."""
    return int(digits) if len(digits) <= 20 else _finite(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("number out of range")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _validated(shape: type[Shape], document: Any) -> Shape:
    try:
        return shape.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        raise _bad(f"{field}: {first['msg']}") from error


def _bad(detail: str) -> ProblemError:
    return ProblemError(400, "request_invalid", detail)


def _too_large(limit: int) -> ProblemError:
    return ProblemError(413, "too_large", f"The body may hold at most {limit} bytes.")


def json_body(schema: dict[str, Any], *media_types: str) -> dict[str, Any]:
    """The ``openapi_extra`` of a route that reads its body itself."""
    content = {media_type: {"schema": schema} for media_type in media_types}
    return {"requestBody": {"required": True, "content": content}}
