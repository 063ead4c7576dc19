"""Find the headings "Pasal N" in statute text, by their surroundings and their numbers.

Every place that may be a heading is rated by what stands around it; the headings are then the
increasing chain of numbers with the highest total, a weighted longest increasing subsequence. That
finds inline headings and misread numbers where the sequence asks for them, and leaves references.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

Key = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Heading:
    """A possible heading.

    Attributes:
        number: As written in the result: ``"12A"`` or ``"II"``.
        key: What orders it, ``(12, "A")``.
        roman: Whether the number is roman; the two kinds are never in one chain.
        start: Where "Pasal" begins; ``end`` is where the number stops.
        score: How much its surroundings look like a heading's: 3 for a line of its own, negative
            where only the sequence can make it one.
        lead: Whether "… sebagai berikut:" announces it, as amending acts do.
        last: The last number of a range such as "Pasal 3 sampai dengan Pasal 5", else ``None``.
    """

    number: str
    key: Key
    roman: bool
    start: int
    end: int
    score: int
    lead: bool
    last: Key | None = None


_HEADING = re.compile(
    r"(?<![A-Za-z])(?:[Pp] ?[aA] ?[sS] ?[aA] ?[lL1Iit\]|]|[Ff]asal|FASAL)[ .·]{0,3}\n?[ ·]{0,2}"
    r"([IVXl]{1,6}|[\dIl](?: [\dIl]){1,2}"
    r"|[\dlIOTSLZ][\dlIOoTSLZ]{0,3}(?:[A-Z]{1,2}|[a-k]| [A-Z])?)(?!\w)"
)
_RANGE = re.compile(
    r"\s?(?:s/d|s\.d\.?|sampai dengan|sampai|dan|-|,(?: \d{1,3},?){0,9} dan)\s?"
    r"(?:[Pp]asal\s+)?(\d{1,4})([A-Z]?)(?!\w)"
)
_CITING = """
    antara antaranya atas atau ayat angka bagi berdasarkan bunyi dalam dan dan/atau dari dengan di
    dimaksud dimaksudkan huruf ini isi jika jis jo jo. juga juncto ke kecuali kepada ketentuan
    ketentuan-ketentuan lihat maksud melanggar memenuhi mengenai menurut oleh pada penjelasan
    perubahan rumusan s/d sampai sebagaimana sebelum sehingga seperti sesuai sesudah setelah sub
    substansi termaksud termasuk tersebut terhadap untuk yaitu yakni yang
"""
_REFERENCE_BEFORE = frozenset(_CITING.split())
_REFERENCE_AFTER = re.compile(
    r"\s*(?:ayat|huruf|angka|juncto|jo\b|dan\b|atau\b|sub\b|sampai|s/d|[;)\]/]"
    r"|,(?! [A-OQ-Z])|\.{2})"
)
_LEAD = re.compile(r"(?:berikut|berbunyi|bunyinya)\s?[:;,]?\s*[\"“”'\u2018]{0,2}\s*\Z")
_OPENING = re.compile(r"[\s.,:·\-\u2013]*[\"“”'\u2018]?(?:[({]|[A-Z\d\"“]|[a-z]\.)")
# What OCR and typists write for figures.
CONFUSABLE = str.maketrans("lILOoTSZB", "111007528")
_STANDALONE_AFTER = re.compile(r"[ .:]*(?:\n|\Z)")


def _roman_value(numeral: str) -> int:
    values = [{"I": 1, "V": 5, "X": 10}[letter] for letter in numeral]
    following = [*values[1:], 0]
    return sum(-a if a < b else a for a, b in zip(values, following, strict=True))


def _readings(token: str) -> Iterator[tuple[str, Key, bool]]:
    """Yield every (number, key, roman) a heading's token may stand for; the chain decides.

    ``I`` may be a typist's 1, and ``ll`` an OCR reading of 11 or II.
    """
    numeral = token.replace("l", "I")
    if re.fullmatch("[IVX]+", numeral):
        yield numeral, (_roman_value(numeral), ""), True
    compact = re.sub(r"(?<=\d) (?=\d)", "", token)
    if found := re.fullmatch(r"(\d+) ?([A-Z]{1,2}|[a-k])?", compact):
        yield _arabic(int(found[1]), (found[2] or "").upper())
    figures = compact.replace(" ", "").translate(CONFUSABLE)
    if figures != compact and figures.isdecimal():
        yield _arabic(int(figures), "")
        return
    # "l2B": the last letter is a letter, the rest is not.
    misread = re.fullmatch(r"(\d+)([A-K])", figures[:-1] + token[-1])
    if misread and not compact[:-1].strip().isdecimal():
        yield _arabic(int(misread[1]), misread[2])


def _arabic(value: int, suffix: str) -> tuple[str, Key, bool]:
    return f"{value}{suffix}", (value, suffix), False


def find_headings(text: str, low: int, ranges: bool = False) -> list[Heading]:
    """Return every possible heading from offset ``low`` on, in text order.

    One place may give several headings, one a reading of its number. With ``ranges``, "Pasal 3
    sampai dengan Pasal 5" is one heading; without, it is a reference.
    """
    heads: list[Heading] = []
    for found in _HEADING.finditer(text, low):
        end, last = _range_end(text, found.end()) if ranges else (found.end(), None)
        score = _score(text, found.start(), end)
        if score is None:
            continue
        lead = bool(_LEAD.search(text, max(0, found.start() - 40), found.start()))
        for number, key, roman in _readings(found[1]):
            heads.append(Heading(number, key, roman, found.start(), end, score, lead, last))
    return _without_echoes(text, heads)


def _range_end(text: str, end: int) -> tuple[int, Key | None]:
    span = _RANGE.match(text, end)
    return (span.end(), (int(span[1]), span[2])) if span else (end, None)


def _without_echoes(text: str, heads: list[Heading]) -> list[Heading]:
    """Drop a heading whose own repetition follows at once: it is a catchword without dots."""
    kept: list[Heading] = []
    for head in heads:
        if kept and kept[-1].number == head.number and kept[-1].end <= head.start:
            between = text[kept[-1].end : min(head.start, kept[-1].end + 130)]
            if len(between) < 130 and not re.search(r"[a-z]{4}|[({]", between):
                head = replace(head, start=kept.pop().start)
        kept.append(head)
    return kept


def _score(text: str, start: int, end: int) -> int | None:
    """Rate how much the surroundings look like a heading's; ``None`` for a plain reference."""
    before, after = text[max(0, start - 60) : start], text[end : end + 40]
    alone_left = not before or before.rstrip(' "“”').endswith("\n")
    previous = before.rstrip()
    numbered = bool(re.match(r"[\s.]*[({][1lI]", after))
    word = previous.rsplit(None, 1)[-1].strip('("“') if previous else ""
    # "Pelbagai Ketentuan Pasal 217 (1)" ends a title; "Ketentuan Pasal 10 huruf a" does not.
    word = "" if numbered and word.istitle() else word.lower()
    cited = previous.endswith(",") or word in _REFERENCE_BEFORE
    opening = bool(_OPENING.match(after)) or not after.strip()
    lower = 2 if text[start].islower() else 0
    if alone_left and _STANDALONE_AFTER.match(after):
        return (3 if opening else 0) - (5 if cited else 0) - lower
    if cited or _REFERENCE_AFTER.match(after):
        return None
    if not opening:
        return -3 if previous[-1:] in tuple(".;)") and not lower else None
    if alone_left:
        return (3 if numbered else 1) - lower
    return (1 if numbered else 0) - (1 if previous[-1:] in tuple('.;:)"”>') else 2) - lower


_SUCCESSION = 4
_JUMP = -1


def best_chain(heads: Sequence[Heading], jump: int = _JUMP) -> list[Heading]:
    """Return the increasing chain of headings with the highest total score.

    Each heading adds its score, plus a bonus when it directly succeeds the one before it (12 after
    11 or 11B, 12A after 12) and a penalty otherwise. Ties go to the earlier headings.
    """
    table = _Table(sorted({head.key for head in heads}))
    back: list[int] = []
    pending: list[tuple[Heading, tuple[int, int]]] = []
    for index, head in enumerate(heads):
        # Two readings of one heading must not follow each other.
        if pending and pending[-1][0].start < head.start:
            table.add(pending)
            pending = []
        total, parent = table.before(head.key, jump)
        back.append(parent)
        pending.append((head, (total + head.score, index)))
    table.add(pending)
    return _trace(heads, back, table.best[1])


class _Table:
    """Best totals so far, as (total, index) by number; a Fenwick tree answers "below this one"."""

    def __init__(self, keys: list[Key]) -> None:
        self.keys = keys
        self.best = (0, -1)
        self._prefix = [(0, -1)] * (len(keys) + 1)
        self._by_key: dict[Key, tuple[int, int]] = {}
        self._by_value: dict[int, tuple[int, int]] = {}

    def before(self, key: Key, jump: int) -> tuple[int, int]:
        """Return the best (total, index) to continue from, with the bonus or penalty added."""
        rank, best = bisect_left(self.keys, key), (0, -1)
        while rank > 0:
            best = _better(best, self._prefix[rank])
            rank -= rank & -rank
        follows = self._predecessor(key)
        if follows and follows[0] + _SUCCESSION >= best[0] + jump:
            return follows[0] + _SUCCESSION, follows[1]
        if key == (1, "") and best[0] + jump < _SUCCESSION:
            return _SUCCESSION, -1
        return best[0] + jump, best[1]

    def add(self, entries: Iterable[tuple[Heading, tuple[int, int]]]) -> None:
        for head, entry in entries:
            self.best = _better(self.best, entry)
            self._by_key[head.key] = _better(self._by_key.get(head.key), entry)
            self._by_value[head.key[0]] = _better(self._by_value.get(head.key[0]), entry)
            rank = bisect_left(self.keys, head.key) + 1
            while rank < len(self._prefix):
                self._prefix[rank] = _better(self._prefix[rank], entry)
                rank += rank & -rank

    def _predecessor(self, key: Key) -> tuple[int, int] | None:
        value, suffix = key
        if not suffix:
            return self._by_value.get(value - 1)
        if suffix == "A":
            return self._by_key.get((value, ""))
        return self._by_key.get((value, suffix[:-1] + chr(ord(suffix[-1]) - 1)))


def _better(old: tuple[int, int] | None, new: tuple[int, int]) -> tuple[int, int]:
    return new if old is None or new[0] > old[0] else old


def _trace(heads: Sequence[Heading], back: list[int], index: int) -> list[Heading]:
    chain: list[Heading] = []
    while index >= 0:
        chain.append(heads[index])
        index = back[index]
    return chain[::-1]
