"""Text to index tokens: one analyser for the keyword index and the offline embedding.

An analyser folds case, width and Latin accents, writes one form for each way of citing a law,
splits words, drops function words and stems what remains. Chinese and Japanese characters and
Hangul, which have no spaces to split at, become overlapping character pairs. The same text gives
the same tokens on every machine; ``Analyzer.identity`` names the rules for index fingerprints.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from typing import Final, Literal

import Stemmer

__all__ = ["ENGLISH_STOP_WORDS", "INDONESIAN_STOP_WORDS", "Analyzer"]

RULES_VERSION: Final = 1
"""Raise when a rule or a word list below changes: stored indexes are then rebuilt."""

MAX_CACHED_STEMS: Final = 500_000

INDONESIAN_STOP_WORDS: Final = frozenset(
    # joining words and prepositions
    """
    yang dan di ke dari untuk pada dengan dalam oleh atau bagi kepada terhadap tentang mengenai
    antara hingga sampai sejak selama seperti tanpa guna demi agar supaya karena sebab sehingga
    maka namun tetapi tapi melainkan sedangkan serta maupun jika apabila bila bilamana kalau
    walaupun meskipun ketika saat sebelum setelah sesudah bahwa sebagai sebagaimana berdasarkan
    menurut secara terkait daripada pula
    """
    # pointing words, pronouns, articles
    """
    ini itu tersebut dimaksud dimaksudkan termaksud saya aku kamu anda kami kita dia ia mereka
    nya para sang si suatu sebuah seorang tiap setiap masing yaitu yakni lain lainnya sini situ
    sana begitu begini
    """
    # verbs of being, auxiliaries, particles
    """
    adalah ialah merupakan menjadi ada akan telah sudah belum sedang masih dapat bisa boleh harus
    tidak bukan jangan juga saja hanya lagi pun lah kah sangat lebih paling hal
    """
    # question words and the verbs a question opens with
    """
    apa apakah apanya siapa siapakah kapan kapankah mana manakah dimana kemana bagaimana
    bagaimanakah berapa berapakah mengapa kenapa maksud maksudnya jelaskan sebutkan uraikan
    terangkan bandingkan tolong mohon tahu ingin mau
    """.split()
)
"""Indonesian function and question words, written for this project."""

ENGLISH_STOP_WORDS: Final = frozenset(
    # articles, pointing words, pronouns
    """
    a an the this that these those i me my mine myself we us our ours ourselves you your yours
    yourself yourselves he him his himself she her hers herself it its itself they them their
    theirs themselves one ones such same other others each every any some all both either neither
    few many much more most several own no none
    """
    # prepositions and joining words
    """
    of in on at by for from to with without within into onto upon over under between among amongst
    through during before after above below about against across along around behind beside
    beyond off out up down near per via toward towards until since till as than then thus hence
    therefore however and or but nor if unless because while whereas although though so yet not
    only also too very quite rather just even still again once here there
    """
    # verbs of being, auxiliaries
    """
    be is am are was were been being do does did done doing have has had having can could may
    might must shall should will would cannot dont doesnt didnt isnt arent wasnt werent wont cant
    """
    # question words and the verbs a question opens with
    """
    what whats which who whom whose when where why how whether tell show give please explain
    describe
    """.split()
)
"""English function and question words, written for this project."""

_STOP_WORDS: Final = {"id": INDONESIAN_STOP_WORDS, "en": ENGLISH_STOP_WORDS}
_STEMMERS: Final = {"id": "indonesian", "en": "english"}

_CJK: Final = r"\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD: Final = re.compile(rf"[{_CJK}]+|\d+[a-z]?/\d{{4}}(?!\d)|[^\W_{_CJK}]+")
# Each begins with what is rare, and looks back from there: that is twice as fast.
_APOSTROPHE: Final = re.compile(r"['’`´](?<=\w['’`´])(?:s\b)?")
_ACCENT: Final = re.compile(r"[\u0300-\u036f]")
_THOUSANDS: Final = re.compile(r"[.,](?<=\d[.,])(?=\d{3}(?!\d))")
_RUPIAH: Final = re.compile(r"\brp\.?(?=\d)")

_DASH: Final = r"\s*[-\u2010-\u2015]?\s*"
_LAW_NAMES: Final = tuple(
    (re.compile(pattern), short)
    for pattern, short in (
        (rf"\bperaturan pemerintah pengganti undang{_DASH}undang\b", "perppu"),
        (rf"\bkitab undang{_DASH}undang hukum acara pidana\b", "kuhap"),
        (rf"\bkitab undang{_DASH}undang hukum pidana\b", "kuhp"),
        (rf"\bkitab undang{_DASH}undang hukum perdata\b", "kuhperdata"),
        (rf"\bundang{_DASH}undang dasar\b", "uud"),
        (rf"\bundang{_DASH}undang\b", "uu"),
        (r"\bperaturan pemerintah\b", "pp"),
        (r"\bperaturan presiden\b", "perpres"),
        (r"\bperaturan daerah\b", "perda"),
    )
)
_NUMBER_AND_YEAR: Final = re.compile(
    r"\b(?:republik indonesia\s+)?(?:(?:nomor|no|nr)\b\.?\s*:?\s*)?"
    r"(\d{1,4}[a-z]?)\s*(?:/|\btahun\b)\s*(\d{4})(?!\d)"
)
_REPEATED: Final = re.compile(r"\b([^\W\d_]{2,})[-\u2010-\u2015]\1(?=nya\b|\b)")


class _Stems(dict[str, str]):
    """Word to stem, filled on first use; a Stemmer holds state, so one thread stems at a time."""

    def __init__(self, algorithm: str) -> None:
        super().__init__()
        self._stemmer = Stemmer.Stemmer(algorithm, 0)
        self._lock = threading.Lock()

    def __missing__(self, word: str) -> str:
        with self._lock:
            stem: str = self._stemmer.stemWord(word)
            if len(self) >= MAX_CACHED_STEMS:
                self.clear()
            self[word] = stem
        return stem


@cache
def _stems(algorithm: str) -> _Stems:
    return _Stems(algorithm)


def _fold(text: str) -> str:
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", text).lower()
    decomposed = _ACCENT.sub("", unicodedata.normalize("NFD", folded))
    return unicodedata.normalize("NFC", decomposed)


def _cite(text: str) -> str:
    """Write law citations and reduplicated words of lower-case Indonesian text in one form."""
    for pattern, short in _LAW_NAMES:
        text = pattern.sub(short, text)
    text = _RUPIAH.sub("rp ", text)
    text = _NUMBER_AND_YEAR.sub(r" \1/\2 ", text)
    return _REPEATED.sub(r"\1", text)


def _pairs(run: str) -> Iterable[str]:
    if len(run) == 1:
        return (run,)
    return (run[at : at + 2] for at in range(len(run) - 1))


@dataclass(frozen=True)
class Analyzer:
    """Turns text into the tokens that are indexed and searched.

    Attributes:
        language: ``"id"`` or ``"en"`` choose a stemmer and a stop list; any other value, such as
            ``"ja"`` or ``"xx"``, has neither.
        stemmer: a Snowball algorithm by name (``"porter"``), ``None`` for no stemming, or
            ``"auto"`` for the one of the language.
        stop_words: words to drop, in lower case and unstemmed; ``None`` drops none; ``"auto"``
            takes the list of the language.
    """

    language: str
    stemmer: str | None = "auto"
    stop_words: frozenset[str] | Literal["auto"] | None = "auto"

    def __post_init__(self) -> None:
        known = Stemmer.algorithms()
        if self.stemmer not in (None, "auto", *known):
            raise ValueError(
                f"stemmer must be None, 'auto' or one of {known}, got {self.stemmer!r}"
            )

    @cached_property
    def _algorithm(self) -> str | None:
        return _STEMMERS.get(self.language) if self.stemmer == "auto" else self.stemmer

    @cached_property
    def _dropped(self) -> frozenset[str]:
        if self.stop_words == "auto":
            return _STOP_WORDS.get(self.language, frozenset())
        return self.stop_words or frozenset()

    @cached_property
    def identity(self) -> str:
        """Name and version of the rules: two analysers with one identity give the same tokens."""
        words = sha256(" ".join(sorted(self._dropped)).encode()).hexdigest()[:8]
        stemmer = f"{self._algorithm}@{Stemmer.version()}" if self._algorithm else "none"
        return f"analyzer/{RULES_VERSION} {self.language} stemmer={stemmer} stop={words}"

    def tokens(self, text: str) -> list[str]:
        """Return the tokens of a text in reading order, repetitions included.

        In Indonesian text a citation is a law type and one token for number and year: *UU 40/2007*
        and *Undang-Undang Nomor 40 Tahun 2007* both give ``uu`` and ``40/2007``. A text of function
        words alone keeps them, so that a work called *Who Are You* stays findable when its title
        is analysed as a text of its own.
        """
        folded = _THOUSANDS.sub("", _APOSTROPHE.sub("", _fold(text)))
        if self.language == "id":
            folded = _cite(folded)
        words: list[str] = []
        for word in _WORD.findall(folded):
            words.extend(_pairs(word) if word[0] >= "\u3005" else (word,))
        dropped = self._dropped
        kept = [word for word in words if word not in dropped] or words
        if self._algorithm is None:
            return kept
        stems = _stems(self._algorithm)
        return [stems[word] for word in kept]
