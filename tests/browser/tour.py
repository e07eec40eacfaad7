"""Looks at a page as anybody may have it: both languages and colour schemes, three sizes, zoomed, in forced colours."""

from __future__ import annotations

from typing import Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.browser.conftest import Look

Language = Literal["fa", "en"]
Scheme = Literal["light", "dark"]
LANGUAGES: tuple[Language, ...] = ("fa", "en")
SIZES = {"pos": (1024, 600), "wide": (1920, 1080), "phone": (390, 844)}
SCHEMES: dict[tuple[Language, str], tuple[Scheme, ...]] = {
    ("fa", "pos"): ("light", "dark"),
    ("fa", "wide"): ("light",),
    ("fa", "phone"): ("dark",),
    ("en", "pos"): ("light", "dark"),
    ("en", "wide"): ("dark",),
    ("en", "phone"): ("light",),
}
"""Colours move nothing: on one size both are looked at, on the others each once."""
ZOOMED = {"reflow": (320, 640), "zoom-200": (512, 300)}
"""WCAG 2.2: 320 CSS pixels wide (1.4.10), and the POS screen at 200 % (1.4.4)."""
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], "resultTypes": ["violations"]}
SMALLEST_TARGET_PX = 44
TARGETS = """() => [...document.querySelectorAll("button, input, select, summary, a")]
    .filter((it) => it.type !== "checkbox").map((it) => [it.getBoundingClientRect(), it.outerHTML])
    .filter(([box]) => box.width && (box.width < 43.9 || box.height < 43.9))
    .map(([box, it]) => [box.width, box.height, it])"""
OVERFLOW = """() => [document.documentElement, ...document.querySelectorAll("dialog")]
    .map((it) => it.scrollWidth - it.clientWidth).filter((over) => over > 0)"""
CUT_OFF = """() => [...document.querySelectorAll("button, h1, h2, p, dd, dt, li, label")]
    .filter((it) => it.scrollWidth > it.clientWidth + 1 && !it.closest(".unseen"))
    .filter((it) => getComputedStyle(it).textOverflow !== "ellipsis" && getComputedStyle(it).display !== "inline")
    .map((it) => it.textContent)"""
MOVING = "() => document.getAnimations().map((it) => it.animationName)"
SPEAK = "(language) => localStorage.setItem('language', language)"
AXE = """(rules) => axe.run(rules).then((found) =>
    found.violations.map((each) => [each.id, each.help, each.nodes.map((node) => node.html)]))"""
LATIN = r"""() => [...document.querySelectorAll("#app *")].flatMap((it) => [...it.childNodes])
    .filter((it) => it.nodeType === 3 && /\d/.test(it.data) && !it.parentElement.closest("bdi, code, [lang=en]"))
    .map((it) => it.data)"""

REACHABLE = """() => {
    window.before = document.activeElement;
    const room = document.querySelector("dialog[open]") ?? document;
    window.reachable = [...room.querySelectorAll("button:enabled, input:enabled, select, summary, a[href]")]
        .filter((it) => it.checkVisibility()); before.blur(); return reachable.length; }"""
FOCUSED = """() => { const it = document.activeElement, box = it.getBoundingClientRect(), style = getComputedStyle(it);
    const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    const ring = [it, it.parentElement].some((each) => getComputedStyle(each).outlineStyle !== "none");
    return [reachable.indexOf(it), it.id || it.ariaLabel || it.textContent, it.contains(top), ring]; }"""
PUT_BACK = "() => before.focus()"


class Tour:
    """Walks over screens. ``other``: one more page of this browser: what is chosen there, the toured ones follow."""

    def __init__(self, look: Look, other: Page) -> None:
        self._look = look
        self._other = other
        self.problems: list[str] = []
        """What was found wrong, all of it: one walk tells everything."""

    def see(self, page: Page, name: str) -> None:
        """Pictures of everything, axe in each language and scheme, nothing cut off, nothing too small to touch."""
        for language in LANGUAGES:
            self._speak(page, language)
            for size in (*SIZES, *ZOOMED):
                self._fits(page, f"{name}-{language}-{size}", size, SCHEMES.get((language, size), ()))
            page.set_viewport_size({"width": 1024, "height": 600})
            if language == "fa":
                self._expect(page, LATIN, f"{name}: Latin digits in Persian")
                self._walk(page, name)
        page.emulate_media(forced_colors="active", color_scheme="light")
        self._look(page, f"{name}-en-pos-forced")
        page.emulate_media(forced_colors="none")
        self._speak(page, "fa")

    def _walk(self, page: Page, name: str) -> None:
        """Tab reaches everything, in the order of reading, and shows where it is (WCAG 2.1.1, 2.4.3, 2.4.7, 2.4.11)."""
        count = page.evaluate(REACHABLE)
        reached = []
        for _ in range(count + 3):  # on its way round it stands on the document, or nowhere
            page.keyboard.press("Tab")
            place, label, is_seen, has_ring = page.evaluate(FOCUSED)
            if place >= 0:
                reached.append(place)
                self.problems.extend(f"{name}: Tab hides {label}" for _ in [0] if not (is_seen and has_ring))
        order = list(dict.fromkeys(reached))
        start = order.index(0) if 0 in order else 0
        if order[start:] + order[:start] != list(range(count)):
            self.problems.append(f"{name}: Tab goes {reached} of {count}")
        page.evaluate(PUT_BACK)

    def glance(self, page: Page, name: str) -> None:
        """One picture of what stays for a moment only."""
        self._look(page, f"{name}-fa-pos-light")
        self._expect(page, OVERFLOW, f"{name}: wider than the screen")

    def _speak(self, page: Page, language: Language) -> None:
        self._other.evaluate(SPEAK, language)
        page.locator(f"html[lang={language}]").wait_for(state="attached")

    def _fits(self, page: Page, name: str, size: str, schemes: tuple[Scheme, ...]) -> None:
        width, height = {**SIZES, **ZOOMED}[size]
        page.set_viewport_size({"width": width, "height": height})
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            self._look(page, f"{name}-{scheme}")
            if size != "wide":  # the same elements in the same colours as on the POS screen
                self._expect(page, AXE, f"{name}-{scheme}: axe")
        self._expect(page, OVERFLOW, f"{name}: wider than the screen")
        self._expect(page, CUT_OFF, f"{name}: cut off")
        self._expect(page, TARGETS, f"{name}: smaller than {SMALLEST_TARGET_PX} px")
        self._expect(page, MOVING, f"{name}: moves although less motion is asked for")

    def _expect(self, page: Page, nothing: str, what: str) -> None:
        """``nothing`` is a script that lists what should not be there."""
        if nothing is AXE and not page.evaluate("() => 'axe' in window"):
            page.evaluate(Axe().axe_script)
        found = page.evaluate(nothing, RULES if nothing is AXE else None)
        self.problems.extend(f"{what}: {each}" for each in found)
