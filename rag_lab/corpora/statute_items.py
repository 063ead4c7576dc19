"""Split a Pasal into its ayat, and a definition Pasal into its terms."""

import re

from rag_lab.corpora.statute_headings import CONFUSABLE

# "(21 Setiap" is how OCR often reads "(2) Setiap".
_AYAT = re.compile(r"[({] ?([\dlI]{1,3})([a-z]?)(?:[)}]|(?= [A-Z]))")
_NO_AYAT_AFTER = ("ayat", "ayat-ayat", "dan", "sampai", "dengan", "atau", "pada", "dalam", "huruf")


def split_ayat(text: str) -> list[tuple[str, str]]:
    """Return the numbered ayat ``(number, text)`` of a Pasal, ``[]`` when it has none.

    An ayat begins at a line start or after a sentence, and its number is the expected next one, so
    that "(2)" in "sebagaimana dimaksud pada ayat (2)" does not begin one.
    """
    starts: list[tuple[str, int, int]] = []
    value, suffix = 0, ""
    for found in _AYAT.finditer(text):
        digits = found[1].translate(CONFUSABLE)
        number = int(digits if found[0][-1] in ")}" else digits[:-1] or "0")
        follows = (number, found[2]) == (value + 1, "")
        inserted = number == value > 0 and found[2] == (chr(ord(suffix) + 1) if suffix else "a")
        if (follows or inserted) and _begins(text, found.start()):
            value, suffix = number, found[2]
            starts.append((f"{number}{suffix}", found.start(), found.end()))
    return _cut(text, starts)


def _cut(text: str, starts: list[tuple[str, int, int]]) -> list[tuple[str, str]]:
    """Cut a text at (label, start of the label, end of the label)."""
    ends = [*(start for _, start, _ in starts[1:]), len(text)]
    pairs = zip(starts, ends, strict=False)
    return [(label, text[begin:end].strip()) for (label, _, begin), end in pairs]


def _begins(text: str, start: int) -> bool:
    before = text[max(0, start - 20) : start]
    previous = before.rstrip()
    if not previous:
        return True
    if previous.rsplit(None, 1)[-1].lower() in _NO_AYAT_AFTER:
        return False
    return "\n" in before[len(previous) :] or previous[-1] in '.;:"”'


_LABELS = (
    re.compile(r"(?<![\w(])([\dlIO]{1,3})[.)](?=[ \n\"“'A-Z])"),
    re.compile(r"(?<![\w(])([a-z])[.)](?=[ \n\"“'A-Z])"),
    re.compile(r"\(([\dlI]{1,3})\)(?=[ \n\"“'A-Z])"),
)
_DEFINES = re.compile(r"\b(?:[ai]?dalah|[iy]alah|yaitu|berarti)\b")
_ANNOUNCED = re.compile(r"(?<!sebagaimana )\b[YyJj]ang (?:di)?maksud|\bdiartikan\b")
_ALIAS = re.compile(
    r",? ?(?:\(|(?:yang )?(?:untuk )?selanjutnya|yang disebut|(?:yang )?disingkat"
    r"|atau (?:yang )?disebut)"
)
_TERM_WORDS = 25


def definition_items(text: str) -> list[tuple[str, str, str]]:
    """Return (item number, defined term, item text) of a definition Pasal such as Pasal 1.

    Reads "1. Konsumen adalah …", "a. …", "(1) "tempat kerja" ialah …", quoted terms without a
    number, and a single definition; the number is ``""`` where none is written. A text that is no
    list of definitions gives ``[]``.
    """
    lists = [_numbered_items(text, label) for label in _LABELS]
    lists.append([("", item) for item in _unnumbered_items(text)])
    named = [[(number, _term(item), item) for number, item in items] for items in lists]
    best = max(named, key=lambda items: sum(1 for _, term, _ in items if term))
    found = [entry for entry in best if entry[1]]
    announced = bool(_ANNOUNCED.search(text, 0, 300)) or text.lstrip()[:1] in ('"', "“")
    enough = (announced or len(found) >= 3) and 2 * len(found) >= len(best)
    return found if enough else []


def _numbered_items(text: str, pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    starts: list[tuple[str, int, int]] = []
    for found in pattern.finditer(text):
        numeric = pattern is not _LABELS[1]
        label = found[1].translate(CONFUSABLE) if numeric else found[1]
        if _follows(starts[-1][0] if starts else "", label, _place(text, found.start())):
            starts.append((label, found.start(), found.end()))
    return _cut(text, starts)


def _place(text: str, start: int) -> str:
    before = text[max(0, start - 20) : start]
    if not before.strip() or "\n" in before[len(before.rstrip()) :]:
        return "line"
    return "sentence" if before.rstrip()[-1] in '.;:"”' else ""


def _follows(previous: str, label: str, place: str) -> bool:
    """Tell whether a label continues the list; at a line start up to two labels may be lost."""
    if not previous:
        return bool(place) and label in ("1", "a")
    value, before = (int(x) if x.isdigit() else ord(x) for x in (label, previous))
    return 1 <= value - before <= {"line": 3, "sentence": 1}.get(place, 0)


def _unnumbered_items(text: str) -> list[str]:
    quoted = [item.strip() for item in re.split(r"(?:(?<=\n)|(?<=[.;] )|\A)(?=[\"“])", text)]
    quoted = [item for item in quoted if item[:1] in ('"', "“") and _term(item)]
    if quoted:
        return quoted
    single = re.match(r".{0,60}?\b(?:yang )?(?:di)?maksud(?:kan)? dengan:?\s+", text, re.DOTALL)
    return [text[single.end() :].strip()] if single else []


def _term(item: str) -> str:
    verb = _DEFINES.search(item, 0, 600)
    head = item[: verb.start()] if verb else ""
    alias = _ALIAS.search(head, 1)
    term = (head[: alias.start()] if alias else head).strip(" .,\n\"“”'\u2018\u2019:")
    is_name = len(term.split()) <= _TERM_WORDS and "dimaksud" not in term
    return term if is_name else ""
