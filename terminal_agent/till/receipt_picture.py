"""Receipts as pictures of one bit per dot: Persian letters joined and in order, a QR code of the member's page.

The only file that imports Pillow and segno; both come with the extra ``receipts``. Pillow brings HarfBuzz, which joins
letters; FriBiDi, which orders them, it takes from a Linux system. The font lies beside this file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.till.escpos import Bitmap
from terminal_agent.till.locale import Language, isolated
from terminal_agent.till.receipt import Heading, Link, Note, Pair, Receipt, Row, Ruler, rows
from terminal_agent.till.receipt_text import COLUMNS, paired, wrap

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

FONTS = Path(__file__).with_name("fonts")
DOTS = dict(zip(COLUMNS, (384, 576, 576), strict=True))
"""Dots across the paper, at the usual eight in a millimetre, for printers of so many columns."""
_FONT_DOTS = {384: 24, 576: 28}
_SMALL_DOTS = 20
_LEADING = 1.5
_MARGIN = 8
_QUIET_ZONE = 4
"""Modules left white around a QR code (ISO/IEC 18004)."""
_SMALLEST_MODULE, _LARGEST_MODULE = 3, 8


@dataclass(frozen=True)
class _Text:
    """``anchor`` says which edge of the text is at ``x``: left, middle, right."""

    x: int
    y: int
    content: str
    font: FreeTypeFont
    anchor: Literal["la", "ma", "ra"]


@dataclass(frozen=True)
class _Box:
    left: int
    top: int
    width: int
    height: int


@dataclass
class _Paper:
    """What was laid out so far, from the top down to ``y``."""

    dots: int
    language: Language
    y: int = _MARGIN
    items: list[_Text | _Box] = field(default_factory=list)

    def add(self, row: Row) -> None:
        size = _FONT_DOTS[self.dots]
        match row:
            case Heading(content):
                self._centred(content, _font(size, bold=True))
            case Ruler():
                self.items.append(_Box(_MARGIN, self.y + size // 2, self._room, 2))
                self.y += size
            case Note(content):
                font = _font(size, bold=False)
                for line in wrap(content, self._room, lambda text: self._length(text, font)):
                    self._line(line, "", font)
            case Link(content, url):
                self.add(Note(content))
                self._qr(url)
                self._centred(isolated(url, self.language), _font(_SMALL_DOTS, bold=False))
            case Pair(label, value, strong):
                font = _font(size, bold=strong)
                for start, end in paired(label, value, self._room, lambda text: self._length(text, font)):
                    self._line(start, end, font)

    @property
    def _room(self) -> int:
        return self.dots - 2 * _MARGIN

    def _length(self, text: str, font: FreeTypeFont) -> float:
        return font.getlength(text, direction=_direction(self.language), language=self.language.value)

    def _line(self, start: str, end: str, font: FreeTypeFont) -> None:
        """One text where a line begins in this language, one where it ends."""
        left, right = _MARGIN, self.dots - _MARGIN
        if self.language is Language.FA:
            self.items += [_Text(right, self.y, start, font, "ra"), _Text(left, self.y, end, font, "la")]
        else:
            self.items += [_Text(left, self.y, start, font, "la"), _Text(right, self.y, end, font, "ra")]
        self.y += _line_height(font)

    def _centred(self, content: str, font: FreeTypeFont) -> None:
        for line in wrap(content, self._room, lambda text: self._length(text, font)):
            self.items.append(_Text(self.dots // 2, self.y, line, font, "ma"))
            self.y += _line_height(font)

    def _qr(self, url: str) -> None:
        """The code as large as two thirds of the paper allow; left out where its dots would be too small to read."""
        matrix = _qr_matrix(url)
        modules = len(matrix) + 2 * _QUIET_ZONE
        dot = min(_LARGEST_MODULE, self.dots * 2 // 3 // modules)
        if dot < _SMALLEST_MODULE:
            return
        left, top = (self.dots - len(matrix) * dot) // 2, self.y + _QUIET_ZONE * dot
        for y, line in enumerate(matrix):
            self.items += [_Box(left + x * dot, top + y * dot, dot, dot) for x, dark in enumerate(line) if dark]
        self.y += modules * dot


def picture(receipt: Receipt, language: Language, dots: int = 384) -> Bitmap:
    """The receipt for paper of ``dots`` dots across, 384 or 576.

    Raises AgentError ``config_invalid`` where a library or the font is missing, with what installs it.
    """
    _check_libraries()
    paper = _Paper(dots, language)
    for row in rows(receipt, language):
        paper.add(row)
    return _drawn(paper)


def png(picture: Bitmap) -> bytes:
    """The picture as a PNG file, for a screen or a printer with a driver."""
    _check_libraries()
    from PIL import Image, ImageChops

    image = Image.frombytes("1", (picture.width, picture.height), picture.dots)
    file = BytesIO()
    ImageChops.invert(image).save(file, "PNG")
    return file.getvalue()


def _drawn(paper: _Paper) -> Bitmap:
    from PIL import Image, ImageDraw

    image = Image.new("L", (paper.dots, paper.y + _MARGIN), 0)
    draw = ImageDraw.Draw(image)
    direction, language = _direction(paper.language), paper.language.value
    for item in paper.items:
        if isinstance(item, _Box):
            corner = (item.left + item.width - 1, item.top + item.height - 1)
            draw.rectangle((item.left, item.top, *corner), fill=255)
        elif item.content:
            draw.text(
                (item.x, item.y), item.content, 255, item.font, item.anchor, direction=direction, language=language
            )
    # No dithering: on paper a grey edge is a ragged one.
    return Bitmap(image.width, image.height, image.convert("1", dither=Image.Dither.NONE).tobytes())


def _direction(language: Language) -> Literal["rtl", "ltr"]:
    return "rtl" if language is Language.FA else "ltr"


def _line_height(font: FreeTypeFont) -> int:
    return int(font.size * _LEADING)


@cache
def _font(size: int, *, bold: bool) -> FreeTypeFont:
    from PIL import ImageFont

    path = FONTS / ("Vazirmatn-Bold.ttf" if bold else "Vazirmatn-Regular.ttf")
    try:
        return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.RAQM)
    except OSError as error:
        raise _missing(
            f"the font {path} cannot be read", "Install terminal-agent again: the font is part of it"
        ) from error


def _qr_matrix(url: str) -> tuple[bytearray, ...]:
    import segno

    return segno.make_qr(url, error="m").matrix


def _check_libraries() -> None:
    try:
        import segno  # noqa: F401
        from PIL import features
    except ImportError as error:
        message = f"pictures of receipts need the library {error.name}"
        raise _missing(message, "Install it: pip install 'terminal-agent[receipts]'") from error
    if not features.check("raqm") or not features.version("fribidi"):
        raise _missing("Persian cannot be laid out without FriBiDi", "Install it: sudo apt-get install libfribidi0")


def _missing(message: str, hint: str) -> AgentError:
    return AgentError(ErrorCode.CONFIG_INVALID, message, hint=hint)
