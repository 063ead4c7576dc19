"""What the rules of decomposition know of a language: words as data, patterns built from them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rag_lab.corpora.analysis import ENGLISH_STOP_WORDS, INDONESIAN_STOP_WORDS


@dataclass(frozen=True, slots=True)
class Grammar:
    """The patterns of one language.

    Attributes:
        opening: what may begin a question, with what may stand before its question word.
        asking: what makes a clause a question, wherever it stands.
        question_word: what makes a clause a question that asks for more than yes or no.
        joiner: where clauses may be joined; group `strong` where the second one needs no opening.
        adverbial: what begins the words before a question word: a law, a case, a condition.
        trailing: a clause whose question word stands at its end.
        sentence: where a sentence ends within a clause.
        and_: joins two of a kind; matches with the spaces around it.
        aspects: what may be asked of a subject, by kind: those of one kind are asked together.
        apart: kinds that are looked up in a place of their own.
        law: how a law is named; group `statute` without the article.
        under: a preposition and the law that it leads to.
        subject: patterns of a clause, first match first, with the group `subject`.
        comparing: patterns with the groups `left`, `right` and, where they have one, `tail`.
        listing: an imperative, in group `verb`, and what it lists, in group `items`.
        tail: where that begins which is said of all items of a list and of both sides.
        pointing: words that point back to the subject, and what takes their place, in order.
        stop_words: words that say nothing by themselves.
        by_name: a clause is a part only if it has a name or an aspect of its own. Where it is
            false, any word of its own will do.
        cite: adds a law to a part that lacks it.
        define: asks about a bare noun.
    """

    opening: re.Pattern[str]
    asking: re.Pattern[str]
    question_word: re.Pattern[str]
    joiner: re.Pattern[str]
    adverbial: re.Pattern[str]
    trailing: re.Pattern[str]
    sentence: re.Pattern[str]
    and_: re.Pattern[str]
    aspects: dict[str, re.Pattern[str]]
    apart: frozenset[str]
    law: re.Pattern[str]
    under: re.Pattern[str]
    subject: tuple[re.Pattern[str], ...]
    comparing: tuple[re.Pattern[str], ...]
    listing: re.Pattern[str]
    tail: re.Pattern[str]
    pointing: tuple[tuple[re.Pattern[str], str], ...]
    stop_words: frozenset[str]
    by_name: bool
    cite: str
    define: str

    def aspect(self, phrase: str) -> tuple[str, str]:
        """Kind and words of the aspect that a phrase begins with; both empty if there is none."""
        for kind, pattern in self.aspects.items():
            if found := pattern.match(phrase):
                return kind, found[0]
        return "", ""


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _aspects(by_kind: dict[str, str], before: str, after: str) -> dict[str, re.Pattern[str]]:
    return {
        kind: _compiled(rf"(?:{before})?(?:{words}){after}\b") for kind, words in by_kind.items()
    }


_END = r"[?!;]\s+|(?<=\w\w\w)\.\s+(?=(?-i:[A-Z]))"
_SENTENCE = _compiled(_END)
_NAMED = r"(?-i:[A-Z])[\w'’-]*(?:(?:\s+(?:dan|atas|and|of)|,)?\s+(?-i:[A-Z])[\w'’-]*)*"
_LAW_ID = (
    r"\b(?:(?:pasal|psl?\.?)\s+\d+[A-Z]{0,2}(?:\s+ayat\s+\(?\d+\)?)?\s+)?(?P<statute>"
    r"(?:UU|undang-undang|PP|peraturan pemerintah|perpu|perppu|perpres|peraturan presiden)\s+(?:"
    rf"(?:no(?:mor|\.)?\s*)?\d+[A-Z]?(?:/\d{{4}}|\s+tahun\s+\d{{4}})(?:\s+tentang\s+{_NAMED})?"
    rf"|(?:tentang\s+)?{_NAMED})|KUHPerdata|KUHAP|KUHP(?:\s+baru)?"
    r"|UUD(?:\s+NRI)?(?:\s+(?:tahun\s+)?(?:1945|45)\b)?)"
)
_LAW_EN = (
    r"\b(?:article\s+\d+\w?\s+of\s+)?(?:the\s+)?(?P<statute>"
    r"(?:law|act|regulation)\s+(?:no\.?\s*|number\s+)?\d+(?:/|\s+of\s+)\d{4}"
    r"|(?:(?-i:[A-Z])[\w'’-]*\s+(?:(?:of|and)\s+)?){1,6}(?-i:Law|Act|Code)\b(?:\s+of\s+\d{4})?)"
)
_ASK_ID = (
    r"(?:apa(?:kah)?(?!\s*pun)|siapa(?:kah)?(?!\s*pun)|kapan(?:kah)?|berapa(?:kah)?|mengapa|kenapa"
    r"|bagaimana(?:kah)?|g[ie]mana|(?:di|ke|dari)\s?mana(?:kah)?|mana|seberapa)\b"
)
_OPEN_ID = (
    r"(?:(?:tolong\s+)?(?:jelaskan|sebutkan|uraikan|terangkan|ringkas|rangkum)\b"
    r"|(?:bisa|boleh|dapat|harus|wajib|perlu)(?:kah|\s+(?:ng?gak|tidak))\b"
    r"|(?:(?:(?:dalam|sampai|sejak|setelah|sebelum|karena|atas|dari|untuk|dengan|oleh|pada|kepada"
    r"|paling\s+(?:lambat|lama|sedikit|banyak)|alasan|dasar)\s+){1,3}(?:\w+\s+(?=(?:apa|mana)\b))?"
    r"|\w+\s+(?=mana\b))?"
    rf"{_ASK_ID}(?:\s+(?:saja|sih)\b)*)"
)
_ASPECTS_ID = {
    "definition": r"definisi|pengertian|arti|makna",
    "sanction": (
        r"(?:ancaman|sanksi)(?:\s+(?:pidana|hukuman|administrati[fv]e?|perdata|denda))?"
        r"|hukuman(?:\s+pokok)?|pidana(?:\s+(?:penjara|pokok|denda|tambahan))?|denda"
    ),
    "condition": r"persyaratan|syarat|kriteria|tata\s+cara|prosedur|mekanisme|langkah(?:-langkah)?",
    "right": r"hak|kewajiban|larangan",
    "task": r"tugas|wewenang|kewenangan|fungsi|peran|tujuan|asas|prinsip(?:-prinsip)?|fokus",
    "extent": r"jangka\s+waktu|batas|jenis|bentuk|ruang\s+lingkup|konsep",
}
_NO_PRONOUN = r"(?!(?:ha|ta|pu|biasa|misal|sebenar|umum|ada|lain|maksud|beda|harus|seharus)nya\b)"
_PREDICATE_ID = (
    r"(?:paling|harus|wajib|dapat|bisa|boleh|yang|adalah|dianggap|akan|tidak|ng?gak|itu|sih"
    r"|menurut|berdasarkan|mulai|(?-i:ber[a-z]{5,}|me[a-z]{6,}"
    r"|di(?!reksi|rektur|nas\b|versi|visi|gital|siplin|viden)[a-z]{4,}))"
)

_SAYING_LITTLE = """
lama hari besar jumlah persen tahun banyak cara tentu sama katanya kata sebenar sebener emang memang
sih gimana nggak ngga gak ya kok kayak aja dong deh udah kalo gitu buat pas tuh banget
dipenuhi berlaku dikenakan dijatuhkan diancamkan ditetapkan
"""
"""Measures, colloquial particles and verbs of the law: what is asked is said by other words."""

INDONESIAN = Grammar(
    opening=_compiled(_OPEN_ID),
    asking=_compiled(
        rf"\b{_ASK_ID}|\b(?:tidak|ng?gak|belum)\W*$|^\W*(?:tolong\s+)?"
        r"(?:jelaskan|sebutkan|uraikan|terangkan|ringkas|rangkum"
        r"|bisa(?:kah)?|boleh(?:kah)?|dapatkah|haruskah)\b"
    ),
    question_word=_compiled(rf"\b{_ASK_ID}"),
    joiner=_compiled(
        rf"(?P<strong>(?P<end>{_END})(?:(?:lalu|terus|kemudian|dan|serta)\s+)?"
        r"|:\s+|\s[-–—]\s(?:dan\s+)?"
        r"|,?\s+(?:lalu|terus|kemudian|sedangkan)\s+|,\s*(?:dan|serta)\s+(?:juga\s+)?)"
        r"|,\s+|\s+(?:dan|serta)\s+(?:juga\s+)?"
    ),
    adverbial=_compiled(
        r"(?:menurut|berdasarkan|dalam|untuk|soal|mengenai|kalau|jika|bila|apabila|ketika)\b"
    ),
    trailing=_compiled(
        r".*\b(?:apa|siapa|berapa|bagaimana|gimana|kapan)(?:\s+(?:saja|sih|ya|tahun|lama))?\W*$"
    ),
    sentence=_SENTENCE,
    and_=_compiled(r",?\s+(?:dan|serta)\s+(?:apa\s+)?(?:saja\s+)?"),
    aspects=_aspects(_ASPECTS_ID, "", r"(?:nya)?"),
    apart=frozenset({"definition", "sanction"}),
    law=_compiled(_LAW_ID),
    under=_compiled(rf"\s*[(,]?\s*(?:(?:menurut|berdasarkan|dalam|di|pada)\s+)?{_LAW_ID}\)?"),
    subject=(
        _compiled(r"^yang\s+di(?:maksud|sebut)\s+(?:dengan\s+)?(?P<subject>.+)"),
        _compiled(r"^(?:itu|definisi|pengertian|arti|makna)\s+(?P<subject>.+)"),
        _compiled(r"^(?P<subject>.+?)\s+itu\s+(?:apa|siapa)\b"),
        _compiled(rf"^(?P<subject>(?:(?!{_PREDICATE_ID}\b)\S+(?:\s+|$))+)"),
    ),
    comparing=(
        _compiled(
            r"^(?:(?:apa(?:kah)?|jelaskan|sebutkan|bagaimana|di\s?mana)"
            r"(?:\s+(?:saja|sih|letak))*\s+)?(?:per)?beda(?:an|nya)?(?:\s+(?:umum|antara))*\s+"
            r"(?P<left>.+?)\s+(?:dan|dengan|sama|serta)\s+(?P<right>.+)"
        ),
        _compiled(r"^(?:tolong\s+)?bandingkan\s+(?P<left>.+?)\s+(?:dan|dengan)\s+(?P<right>.+)"),
        _compiled(
            r"^(?P<left>.+?)\s+(?:dan|dengan|sama)\s+(?P<right>.+?)\s+(?:itu\s+)?(?:apa\s+)?"
            r"(?:per)?beda(?:an)?(?:nya)?(?:\s+(?:apa|di\s?mana|gimana|sih))*(?P<tail>\s+.+)?$"
        ),
        _compiled(
            r"^(?P<tail>(?:mana|siapa)\s+yang\s+(?:lebih\s+)?[\w\s]+?)\s*[,:]\s*"
            r"(?P<left>.+?)\s+atau\s+(?P<right>.+)"
        ),
    ),
    listing=_compiled(
        r"^(?P<verb>(?:tolong\s+)?(?:sebutkan|jelaskan|uraikan|terangkan))\s+(?P<items>.+)"
    ),
    tail=_compiled(
        r"\s+(?:menurut|berdasarkan|dalam|di|pada|untuk|bagi|dari|terkait|sebagai|ditinjau)\s"
    ),
    pointing=(
        (_compiled(r"\s+(?:yang\s+)?(?:terkait|bersangkutan)(?=\W*$)"), " {subject}"),
        (_compiled(r"\b(?:hal|perbuatan|tindakan|orang)\s+(?:tersebut|itu|ini)\b"), "{subject}"),
        (_compiled(r"\s+di\s?situ\b"), " dalam hal {subject}"),
        (_compiled(r"\s+tersebut\b"), " {subject}"),
        (_compiled(r"\s+masing-masing(?=\W*$)"), " masing-masing {subject}"),
        (_compiled(rf"\b{_NO_PRONOUN}(\w{{3,}}?)nya\b"), r"\1 {subject}"),
        (_compiled(r"\b(?:ia|dia|mereka)\b"), "{subject}"),
    ),
    stop_words=INDONESIAN_STOP_WORDS | frozenset(_SAYING_LITTLE.split()),
    by_name=False,
    cite=" menurut {law}",
    define="apa itu {noun}",
)

_WH = r"(?:what(?:['’]s)?|who(?:['’]s|se|m)?|which|when|where|why|how)\b"
_BE = r"(?:is|are|was|were|do|does|did|can|could|has|have|will|would|should|must)\b"
_ASPECTS_EN = {
    "definition": r"definition|meaning",
    "sanction": r"(?:criminal\s+)?(?:penalt(?:y|ies)|sanctions?|punishments?|fines?)",
    "condition": r"requirements?|conditions?|criteria|procedures?",
    "right": r"rights?|obligations?|prohibitions?",
    "task": r"dut(?:y|ies)|tasks?|powers?|purposes?|roles?|principles?",
    "extent": r"deadlines?|scope|exceptions?|exemptions?",
}
_ADVERBIAL = r"(?:in|on|at|over|from|to|by|for|of|with|under|until|since)\s+"

ENGLISH = Grammar(
    opening=_compiled(
        rf"(?:(?:please\s+)?(?:tell\s+me|name|list|explain|describe)\b(?:\s+{_WH})?"
        rf"|(?:{_ADVERBIAL})?{_WH}(?:\s+{_BE})?|{_BE})"
    ),
    asking=_compiled(
        rf"^\W*(?:(?:please\s+)?(?:tell\s+me|name|list|explain|describe)\b"
        rf"|(?:{_ADVERBIAL})?{_WH}|{_BE})|\b(?:{_ADVERBIAL})?{_WH}[^?]*\?\s*$"
    ),
    question_word=_compiled(rf"\b{_WH}"),
    joiner=_compiled(
        rf"(?P<strong>(?P<end>{_END})(?:(?:and|also|then)\s+)?"
        r"|:\s+|\s[-–—]\s(?:and\s+)?)"
        r"|,\s*(?:and|but|then)?\s+|\s+(?:and|as\s+well\s+as)\s+(?:also\s+)?"
    ),
    adverbial=_compiled(r"(?:under|according\s+to|in|for|if|when|during)\b"),
    trailing=_compiled(r"(?!)"),
    sentence=_SENTENCE,
    and_=_compiled(r",?\s+(?:and|as\s+well\s+as)\s+"),
    aspects=_aspects(_ASPECTS_EN, r"(?:the|its|their)\s+", ""),
    apart=frozenset({"definition", "sanction"}),
    law=_compiled(_LAW_EN),
    under=_compiled(rf"\s*[(,]?\s*(?:(?:under|in|of|according\s+to)\s+)?{_LAW_EN}\)?"),
    subject=(
        _compiled(r"^(?:the\s+)?(?:definition|meaning)\s+of\s+(?P<subject>.+)"),
        _compiled(r"^(?:of|for)\s+(?P<subject>.+)"),
        _compiled(
            r"(?P<subject>(?-i:[A-Z0-9])[\w'’:;!.-]*"
            r"(?:\s+(?:(?:of|the|and|no)\s+)?(?-i:[A-Z0-9])[\w'’:;!.-]*)*)"
        ),
        _compiled(r"^(?:an?\s+|the\s+)?(?P<subject>.+)"),
    ),
    comparing=(
        _compiled(
            r"^(?:(?:what(?:['’]s)?|explain|describe)\s+)?(?:(?:is|are)\s+)?(?:the\s+)?"
            r"differences?\s+between\s+(?P<left>.+?)\s+and\s+(?P<right>.+)"
        ),
        _compiled(
            r"^how\s+(?:do|does)\s+(?P<left>.+?)\s+and\s+(?P<right>.+?)\s+(?:differ|compare)\b.*"
        ),
        _compiled(r"^(?:please\s+)?compare\s+(?P<left>.+?)\s+(?:and|with|to)\s+(?P<right>.+)"),
        _compiled(
            r"^(?P<tail>(?:which|who)\s[^,:]+?)\s*[,:]\s*(?P<left>[^,]+?),?\s+or\s+(?P<right>[^,]+)"
        ),
    ),
    listing=_compiled(
        r"^(?P<verb>(?:please\s+)?(?:tell\s+me|name|list|explain|describe))\s+(?P<items>.+)"
    ),
    tail=_compiled(
        r"\s+(?:under|according\s+to|in\s+terms\s+of|regarding|with\s+respect\s+to|in|of|for)\s"
    ),
    pointing=(
        (_compiled(r"\s+(?:that\s+are\s+)?related(?=\W*$)"), " {subject}"),
        (_compiled(r"\b(?:its|their)\s+([\w-]+)"), r"the \1 of {subject}"),
        (_compiled(r"\b(?:it|they|them)\b"), "{subject}"),
    ),
    stop_words=ENGLISH_STOP_WORDS,
    by_name=True,
    cite=" under {law}",
    define="what is {noun}",
)

GRAMMARS = {"id": INDONESIAN, "en": ENGLISH}
