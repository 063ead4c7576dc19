"""Split plain Indonesian statute text into its Pasal, with ayat and explanations.

The texts come from PDF conversion and OCR: a heading may stand on its own line, inside a paragraph,
or twice; page furniture interrupts sentences; references look like headings. The reader therefore
collects every *possible* heading, scores it by its surroundings, and keeps the increasing chain of
numbers with the highest total (weighted longest increasing subsequence, O(n log n)).
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from rag_lab.corpora.statute_headings import Heading, best_chain, find_headings
from rag_lab.corpora.statute_items import definition_items, split_ayat

__all__ = ["Article", "Statute", "cut_closing", "definition_items", "split_ayat", "split_statute"]


@dataclass(frozen=True, slots=True)
class Article:
    """One Pasal of a statute.

    Attributes:
        number: ``"12"``, ``"12A"`` (no inner space, upper case) or a roman ``"I"``.
        bab: Chapter heading such as ``"BAB II RUANG LINGKUP"``; empty when there is none, and for
            articles an amending act inserts elsewhere.
        text: Body without heading, page furniture, explanation or closing formula. The text of an
            amending ``Pasal I`` contains the articles nested in it, which are also listed apart.
        ayat: ``(number, text)`` pairs; empty when the Pasal is not divided.
        explanation: The *penjelasan* of this Pasal; empty when there is none.
        kind: ``"pasal"``, or ``"perubahan"`` for an article nested in an amending one.
        parent: Number of the enclosing Pasal when ``kind`` is ``"perubahan"``.
        ordinal: 1; 2, 3 … for further articles of the same number and kind, in text order.
    """

    number: str
    bab: str
    text: str
    ayat: tuple[tuple[str, str], ...]
    explanation: str
    kind: str = "pasal"
    parent: str = ""
    ordinal: int = 1

    @property
    def key(self) -> str:
        """Unit name, unique in the statute: ``pasal-12``, ``ubah-12A``, ``ubah-1~2``."""
        prefix = "ubah" if self.kind == "perubahan" else "pasal"
        return f"{prefix}-{self.number}" + (f"~{self.ordinal}" if self.ordinal > 1 else "")


@dataclass(frozen=True, slots=True)
class Statute:
    """A split statute.

    Attributes:
        preamble: What precedes the first Pasal, without its chapter heading.
        articles: In text order; nested ones follow the Pasal that holds them.
        general_explanation: The *penjelasan umum*; the whole explanation where no Pasal was found.
        closing: Closing formula and signatures, and what is annexed before the explanation.
        warnings: Characters removed, numbers missing, Pasal without text, no Pasal at all.
    """

    preamble: str
    articles: tuple[Article, ...]
    general_explanation: str
    closing: str
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Unit:
    """A chosen heading with the span of its text and the headings nested in it."""

    head: Heading
    end: int
    nested: list["_Unit"] = field(default_factory=list)


def split_statute(text: str) -> Statute:
    """Split one statute.

    Never raises: what cannot be read becomes a warning. A text without any Pasal gives no articles.
    """
    cleaned, warnings = _clean(text)
    body_end, explanation_start = _parts(cleaned)
    body, explanation = cleaned[:body_end], cleaned[explanation_start:]
    units = _outline(body, _enacting_start(body))
    closing = _tidy(cleaned[body_end:explanation_start])
    if not units:
        warnings.append("no Pasal found")
        return Statute(_tidy(body), (), _tidy(explanation), closing, tuple(warnings))
    general, notes = _read_explanation(explanation, units)
    preamble, bab = _cut_tail(body[: units[0].head.start])
    articles = tuple(_number_repeats(_articles(body, units, bab, notes)))
    warnings.extend(_gaps(articles))
    warnings.extend(f"no text under {article.key}" for article in articles if not article.text)
    return Statute(_tidy(preamble), articles, general, closing, tuple(warnings))


# --- cleaning ---------------------------------------------------------------------------------

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd\ufeff\u200b-\u200f]")
# Looking back after the dash, not before it, lets the search skip to the dashes.
_PAGE_NUMBER = re.compile(r"[-\u2013_](?<!\d.)(?<!\d .) ?\d{1,3} ?[-\u2013_](?![\w-])")
_FOOTER = re.compile(
    r"www\.[\w./-]+|epkumham\.go(?:\.id)?|ditjen[ \n]+Peraturan[ \n]+Perundang-undangan"
)
# Headers of scanned pages: "PRES I DEN REPUBLIK INDONESIA", "FRES IDEI{ REPUELIK INDONIESIA".
_PRESIDENT = re.compile(
    r"[PFr]RES ?I ?DE ?(?:N|[I!l]\S{0,2})\s{1,3}"
    r"(?:R\S{4,8}\s{1,3}(?:I\S{0,3} ?\S?D\S{5,8},?)?)?"
)
_ELLIPSIS = re.compile(r"\.(?: ?\.){2,}|…+")
_HEADING_CATCHWORD = re.compile(
    r"(?:Pasal|PASAL|BAB|Bagian|Paragraf) ?[\w]{1,12}(?: ?[A-Z])? ?(?:…|\.(?: ?\.){2,4})"
)


def _clean(text: str) -> tuple[str, list[str]]:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ").replace("\t", " ")
    text, removed = _UNPRINTABLE.subn("", text)
    warnings = [f"removed {removed} control or replacement characters"] if removed else []
    # The converter wrote superscripts as ^word and empty emphasis as __.
    text = re.sub(r"\^|_{2,}", "", text)
    text = re.sub(r" {2,}", " ", text)
    text = re.sub(r"\n\s*", "\n", text)
    text = _FOOTER.sub(" ", _PAGE_NUMBER.sub(" ", text))
    return _drop_catchwords(text), warnings


def _drop_catchwords(text: str) -> str:
    """Drop the words that announce the next page ("b. bahwa . . .") when the page repeats them."""
    pieces: list[str] = []
    done = 0
    for dots in _ELLIPSIS.finditer(text):
        if dots.start() < done or dots.end() - dots.start() > 10:
            continue
        start = _catchword_start(text, max(done, dots.start() - 100), dots.start(), dots.end())
        if start is not None:
            pieces.append(text[done:start])
            done = dots.end()
    pieces.append(text[done:])
    return _HEADING_CATCHWORD.sub(" ", "".join(pieces))


def _catchword_start(text: str, low: int, start: int, end: int) -> int | None:
    words = list(re.finditer(r"\S+", text[low:start]))
    following = [word.casefold() for word in _PRESIDENT.sub("", text[end : end + 160]).split()]
    for count in range(min(10, len(words), len(following)), 0, -1):
        shown = [word[0].casefold() for word in words[-count:]]
        if shown[:-1] == following[: count - 1] and following[count - 1].startswith(shown[-1]):
            return low + words[-count].start()
    return None


def _tidy(text: str) -> str:
    lines = (re.sub(r" {2,}", " ", line).strip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


# --- the parts of a statute -------------------------------------------------------------------

_ENACTING = re.compile(r"M ?E ?M ?U ?T ?U ?S ?K ?A ?N|Memutuskan|Menetapkan")
_EXPLANATION = re.compile(
    r"P ?E ?N ?J ?E ?L ?A ?S ?A ?N\s+"
    r"(?:ATAS|MENGENAI|UMUM|UNDANG|PASAL|RANCANGAN|TENTANG|USUL|RESMI)|MEMORI\s+PENJELASAN"
)
_GENERAL = re.compile(r"(?<!\w)[I1l] ?\. ?UMUM\b")
_ITEMISED = re.compile(r"PASAL\s?DEMI\s?PASAL")
_CLOSING = re.compile(
    r"(?:Agar|AGAR|Supaya)\s+(?:supaya\s+)?(?:setiap|tiap|semua|segala)[^.]{0,60}mengetahui"
    r"[^.:]{0,60}(?:erintah|pengundangan|pengumuman|diumumkan)"
    r"|(?:Disahkan|Ditetapkan|Diundangkan|Diumumkan)\s+(?:di\s+[A-Z]|pada\s+tanggal)"
)

# What the printer adds after the explanation of the last Pasal.
_IMPRINT = re.compile(r"\s(?:(?:TAMBAHAN\s+)?LEMBARAN[ -]NEGARA|LAMPIRAN)\b")


def _enacting_start(text: str) -> int:
    found, closing = _ENACTING.search(text), _CLOSING.search(text)
    if not found or (closing and closing.start() < found.start()):
        return 0
    return found.end()


def _parts(text: str) -> tuple[int, int]:
    """Return where the body ends and where the explanation starts."""
    low = _enacting_start(text)
    closing = _CLOSING.search(text, low)
    found = _EXPLANATION.search(text, low)
    # Before the closing, "I. UMUM" would be a chapter.
    found = (
        found or (closing and _GENERAL.search(text, closing.end())) or _ITEMISED.search(text, low)
    )
    explanation = found.start() if found else len(text)
    return min(closing.start() if closing else explanation, explanation), explanation


def cut_closing(text: str) -> tuple[str, str]:
    """Split a text before its closing formula ("Agar setiap orang mengetahuinya, …")."""
    found = _CLOSING.search(text)
    end = found.start() if found else len(text)
    return text[:end].rstrip(), text[end:]


# --- outline: top level and nested ------------------------------------------------------------


_ANNOUNCEMENT = re.compile(r"berikut\s?[:.]")


def _outline(text: str, low: int) -> list[_Unit]:
    heads = find_headings(text, low)
    units = _units(_top_level(heads), len(text))
    arabic = [head for head in heads if not head.roman]
    for unit in units:
        unit.nested = _nested(text, _within(arabic, unit), unit)
    return units


def _within(heads: Sequence[Heading], unit: _Unit) -> Sequence[Heading]:
    low = bisect_left(heads, unit.head.end, key=lambda head: head.start)
    return heads[low : bisect_left(heads, unit.end, lo=low, key=lambda head: head.start)]


def _units(heads: Sequence[Heading], end: int) -> list[_Unit]:
    ends = [*(head.start for head in heads[1:]), end]
    return [_Unit(head, stop) for head, stop in zip(heads, ends, strict=False)]


def _top_level(heads: Sequence[Heading]) -> list[Heading]:
    roman = best_chain([head for head in heads if head.roman])
    first = min((head.start for head in heads), default=0)
    # What "… berbunyi sebagai berikut:" introduces is quoted, unless the enacting words do.
    arabic = [head for head in heads if not head.roman and (not head.lead or head.start == first)]
    whole = best_chain(arabic)
    if not roman or roman[0].number != "I" or (len(roman) == 1 and len(whole) > 1):
        return whole
    return best_chain([head for head in arabic if head.start < roman[0].start]) + roman


def _nested(text: str, inside: Sequence[Heading], unit: _Unit) -> list[_Unit]:
    opening = next((h.start for h in inside if _is_quoted(text, h, unit.head.end)), None)
    if opening is None:
        return []
    quoted = [replace(h, score=h.score + 3 * h.lead) for h in inside if h.start >= opening]
    return _units(best_chain(quoted, jump=0), unit.end)


def _is_quoted(text: str, head: Heading, low: int) -> bool:
    """Tell whether the enclosing Pasal announces it, at once or above a chapter heading."""
    if head.lead or head.key != (1, ""):
        return head.lead
    return bool(_ANNOUNCEMENT.search(text, max(low, head.start - 300), head.start))


# --- articles ---------------------------------------------------------------------------------

_DIVISION = re.compile(
    r"(?<!\w)(?:(?:BAB|BUKU) ?[IVXLC1l]{1,7}[A-Z]?\b|(?:Paragraf|PARAGRAF) \w{1,3}\b"
    r"|(?:Bag[il]an|BAGIAN|Bab)\s+(?:[Kk]e\w{3,12}|KE\w+|Pertama|PERTAMA|[IVX\d]+)\b)"
)
_CONNECTING = """
    antara atas atau bagi dalam dan dan/atau dari dengan di ke kepada melalui oleh pada sebagai
    secara serta tentang terhadap untuk yang
"""
_TITLE_WORDS = frozenset(_CONNECTING.split())
# "8. Ketentuan Pasal 10 diubah …" after a nested article belongs to the amending one.
_AMENDMENT = re.compile(
    r"(?:(?<=\n)|(?<=[.;:\"”] ))\s?(?:\d{1,3}|[A-Z]|[IVX]{1,5})\. ?"
    r"(?:Ketentuan|Di ?antara|Antara|Dalam|Pada|Pasal|Ayat|BAB|Bagian|Judul|Penjelasan|Setelah"
    r"|Sesudah|Mengubah|Menambah|Mengganti)\b"
)
_AMENDING_VERB = re.compile(
    r"di ?ubah|di ?hapus|di ?sisip|di ?tambah|berbunyi|di ?ganti|dicabut", re.IGNORECASE
)


def _cut_tail(text: str) -> tuple[str, str]:
    """Split off the chapter and section headings a text ends with."""
    low = max(0, len(text) - 700)
    for found in _DIVISION.finditer(text, low):
        before = text[max(0, found.start() - 20) : found.start()].rstrip(' "“”')
        apart = not before or before[-1] in "\n.;:)" or found[0][:3].isupper()
        if apart and _is_title(text[found.end() :]):
            return text[: found.start()], _tidy(text[found.start() :])
    return text, ""


def _is_title(text: str) -> bool:
    words = re.findall(r"[^\W\d_]+(?:/[^\W\d_]+)?", text)
    odd = sum(1 for word in words if word[0].islower() and word not in _TITLE_WORDS)
    return odd <= len(words) // 8


def _bab(tail: str, current: str) -> str:
    found = list(re.finditer(r"BAB ?[IVXLC1l]{1,7}[A-Z]?\b", tail))
    if not found:
        return current
    heading = tail[found[-1].start() :]
    section = re.search(r"\s(?:Bagian|BAGIAN|Paragraf|PARAGRAF) \w", heading)
    heading = heading[: section.start()] if section else heading
    return " ".join(heading.split()).rstrip(".")


def _body_text(text: str) -> str:
    return _tidy(_PRESIDENT.sub(" ", text)).lstrip(".:-\u2013— ").strip()


def _articles(
    body: str, units: Iterable[_Unit], bab: str, notes: dict[int, str]
) -> Iterator[Article]:
    current = _bab(bab, "")
    for unit in units:
        head = unit.head
        raw, tail = _cut_tail(_PRESIDENT.sub(" ", body[head.end : unit.end]))
        text = _body_text(raw)
        note = notes.get(head.start, "")
        # The "(1)" in an amending Pasal belong to the articles nested in it.
        ayat = () if unit.nested else tuple(split_ayat(text))
        yield Article(head.number, current, text, ayat, note)
        for inner in unit.nested:
            yield _nested_article(body, inner, head.number, notes)
        current = _bab(tail, current)


def _nested_article(body: str, unit: _Unit, parent: str, notes: dict[int, str]) -> Article:
    raw = _PRESIDENT.sub(" ", body[unit.head.end : unit.end])
    for found in _AMENDMENT.finditer(raw):
        instructs = _AMENDING_VERB.search(raw, found.end(), found.end() + 300)
        if instructs and raw[: found.start()].strip(" .\n"):
            raw = raw[: found.start()]
            break
    text = _body_text(_cut_tail(raw)[0])
    ayat = tuple(split_ayat(text))
    return Article(
        unit.head.number, "", text, ayat, notes.get(unit.head.start, ""), "perubahan", parent
    )


def _number_repeats(articles: Iterable[Article]) -> Iterator[Article]:
    seen: dict[tuple[str, str], int] = {}
    for article in articles:
        name = (article.number, article.kind)
        seen[name] = seen.get(name, 0) + 1
        yield replace(article, ordinal=seen[name])


def _gaps(articles: Sequence[Article]) -> Iterator[str]:
    values = [int(a.number) for a in articles if a.kind == "pasal" and a.number.isdigit()]
    for before, after in zip([0, *values], values, strict=False):
        if after > before + 1:
            yield f"missing Pasal {before + 1}" + (f" to {after - 1}" if after > before + 2 else "")


# --- explanations -----------------------------------------------------------------------------


def _read_explanation(text: str, units: Sequence[_Unit]) -> tuple[str, dict[int, str]]:
    """Return the general part, and the explanation of each unit by where its heading starts."""
    itemised = _ITEMISED.search(text)
    heads = find_headings(text, itemised.end() if itemised else 0, ranges=True)
    chosen = _explained(heads, units, len(text))
    notes = _assign(text, chosen, units)
    owners = {(unit.head.key, unit.head.roman): unit.nested for unit in units}
    for note in chosen:
        nested = owners.get((note.head.key, note.head.roman))
        if nested:
            inner = _explained(_within(heads, note), nested, note.end)
            notes |= _assign(text, inner, nested)
    stop = itemised.start() if itemised else (chosen[0].head.start if chosen else len(text))
    return _tidy(text[:stop]), notes


def _explained(heads: Sequence[Heading], units: Sequence[_Unit], end: int) -> list[_Unit]:
    known = {(u.head.key, u.head.roman) for u in units}
    named = [head for head in heads if (head.key, head.roman) in known]
    roman = best_chain([head for head in named if head.roman])
    taken = {head.start for head in roman}
    arabic = best_chain([head for head in named if not head.roman and head.start not in taken])
    if roman and units[0].head.roman:
        arabic = []
    return _units(sorted(arabic + roman, key=lambda head: head.start), end)


_WIDEST_RANGE = 50


def _assign(text: str, notes: Sequence[_Unit], units: Sequence[_Unit]) -> dict[int, str]:
    ordered = sorted(units, key=lambda unit: (unit.head.roman, unit.head.key))
    keys = [(unit.head.roman, unit.head.key) for unit in ordered]
    assigned: dict[int, str] = {}
    for note in notes:
        content = _IMPRINT.split(text[note.head.end : note.end], maxsplit=1)[0]
        first = bisect_left(keys, (note.head.roman, note.head.key))
        last = bisect_right(keys, (note.head.roman, note.head.last or note.head.key))
        for unit in ordered[first : min(last, first + _WIDEST_RANGE)]:
            assigned.setdefault(unit.head.start, _body_text(content))
    return assigned
