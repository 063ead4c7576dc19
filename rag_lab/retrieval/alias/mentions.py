"""Is it said as a name? "Another" is a show, another thing is not.

Names of everyday words count only where the writer marks them: quoted, capitalised among words
that are not, or with nothing else asked. Names that no English or Indonesian sentence holds by
chance (`toradora`, `shingeki no kyojin`) always count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from rag_lab.corpora.analysis import ENGLISH_STOP_WORDS, INDONESIAN_STOP_WORDS
from rag_lab.retrieval.alias.names import Word, has_cjk, is_romaji, words_of

__all__ = ["Sentence", "is_telling"]


def _spelt(*texts: Iterable[str]) -> frozenset[str]:
    """Word lists as `words_of` spells words."""
    return frozenset(word.text for text in texts for word in words_of(" ".join(text)))


_STOP: Final = _spelt(ENGLISH_STOP_WORDS, INDONESIAN_STOP_WORDS)
_ASKING: Final = _spelt(
    [
        "anime animes animated animate animation series serie show shows season seasons episode",
        "episodes eps ep movie film ova tv studio studios made make makes director directed aired",
        "air airing year genre character characters main plot story about called name named title",
        "titles english japanese watch know many long source manga novel original score rating",
        "rated judul karakter tokoh musim tahun tayang buatan cerita ceritanya",
    ]
)
"""Words of questions about shows; one of them, or a question mark, makes a text a question."""

_CHANCE: Final = _STOP | _spelt(
    [
        "ado age ago aka are ate bane bare base bee bite bone bus bye came cane care chose date",
        "dame dare data done due ease fake fame fare fate fire fume gaze game gate gave gene give",
        "gun hate hero hide hike hire home hope idea japan joke june kite mane mate maze mere mine",
        "mission mode mute nine note nude ore pane pen pine pipe poke pose potato pure rage rain",
        "rare rate remain ride rise robe robot rose rude run sake same san side site some soon",
        "sore sun sure tame taste ten tie time toe tomato tone tuna tune use wake wane wide wine",
        "wipe woke yen zero zone zoo",
    ],
    [
        "anak dua gadis hari hati hidup maha mata mimpi naga raja rumah satu semua suka tiga",
    ],
)
"""English and Indonesian words that have the form of Japanese syllables."""

_WH: Final = _spelt(["what which who whom whose when where why how apa siapa kapan berapa mana"])
_FRAME: Final = _STOP | _ASKING
_SHOW: Final = _spelt(["anime show series"])

_QUOTED: Final = re.compile(
    r"[“«「『《]([^”»」』》]+)[”»」』》]|\"([^\"]+)\"|(?<!\w)['‘]([^'’]+)['’](?!\w)"
)
_ENDS_SENTENCE: Final = re.compile(r"[.!?。！？]\W*$")
_POSSESSIVE: Final = re.compile(r"['’]s$")
_JOINS: Final = re.compile(r"[ -]*")
_SETS_OFF: Final = re.compile(r"[!?]*(?:\s*[:;()]|\s+[-–—]|\s*[–—])")
_NAME_NUMBER: Final = re.compile(r"\d+[a-z]{3,}")
_KATAKANA: Final = re.compile(r"[\u30a1-\u30fa\u30fc\uff66-\uff9f]")
_KANJI: Final = re.compile(r"[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_HANGUL: Final = re.compile(r"[\uac00-\ud7af]")
_PARTICLES: Final = "はがのをにでともや"


class Sentence:
    """A question and its words, asked whether some of them are said as a name."""

    def __init__(self, text: str, words: Sequence[Word]) -> None:
        self._text = text
        self._words = words
        self._quotes = [found.span() for found in _QUOTED.finditer(text)]
        self._core = self._asked()

    def names(self, first: int, last: int) -> bool:
        """Whether words[first:last], which some show is called by, are meant as its name."""
        if self._core == (first, last) or self._quoted(first, last):
            return True
        said = [word.text for word in self._words[first:last]]
        if has_cjk("".join(said)):
            return self._stands_apart(first, last)
        if "".join(said).isdigit():
            return not _SHOW.isdisjoint((self._at(first - 1), self._at(last)))
        return is_telling(said) or self._capitalised(first, last)

    def asked(self) -> Sequence[Word]:
        """The words without those that only ask: what is quoted, or what is left inside."""
        return self._words[slice(*self._core)]

    def content(self) -> list[Word]:
        """What is asked, without function words and words of questions."""
        return [word for word in self.asked() if word.text not in _FRAME]

    def _asked(self) -> tuple[int, int]:
        for begin, end in self._quotes:
            inside = [i for i, w in enumerate(self._words) if begin <= w.start and w.end <= end]
            if inside:
                return inside[0], inside[-1] + 1
        first, last = 0, len(self._words)
        if not self._asks():
            return first, last
        while first < last and self._frames(first):
            first += 1
        while first < last and self._frames(last - 1):
            last -= 1
        return (first, last) if first < last else (0, len(self._words))

    def _asks(self) -> bool:
        said = {word.text for word in self._words}
        return "?" in self._text or not said.isdisjoint(_ASKING | _WH)

    def _frames(self, at: int) -> bool:
        opens = at == 0 or not self._upper(at)
        return opens and self._words[at].text in _FRAME

    def _at(self, place: int) -> str:
        return self._words[place].text if 0 <= place < len(self._words) else ""

    def _quoted(self, first: int, last: int) -> bool:
        start, end = self._words[first].start, self._words[last - 1].end
        return any(
            begin < start and end < stop and not _is_word(self._text[begin + 1 : start])
            and not _is_word(self._text[end : stop - 1])
            for begin, stop in self._quotes
        )  # fmt: skip

    def _capitalised(self, first: int, last: int) -> bool:
        """Whether capitals mark the words, in a text where not every word has one."""
        said = range(first, last)
        marked = [i for i in said if not _is_filling(self._words[i].text)]
        if not marked or not all(map(self._upper, marked)) or not self._capitals_tell(first, last):
            return False
        if len(marked) > 1:
            return True
        if len("".join(self._words[i].text for i in said)) <= 2:
            return first > 0 and self._at(first - 1) in _FRAME
        if self._opens(first):
            return _SETS_OFF.match(self._text, self._words[last - 1].end) is not None
        return not (self._continues(first - 1, first) or self._continues(last, last))

    def _capitals_tell(self, first: int, last: int) -> bool:
        others = [self._upper(i) for i in range(1, len(self._words)) if not first <= i < last]
        return sum(others) * 2 <= len(others)

    def _continues(self, neighbour: int, gap: int) -> bool:
        """Whether a neighbouring word is capitalised as if it belonged to the same name."""
        if not 0 <= neighbour < len(self._words) or self._words[neighbour].text in _STOP:
            return False
        if gap != neighbour and _POSSESSIVE.search(self._said(neighbour)):
            return False  # "Urasawa's Monster" is Monster
        between = self._text[self._words[gap - 1].end : self._words[gap].start]
        return self._upper(neighbour) and _JOINS.fullmatch(between) is not None

    def _said(self, at: int) -> str:
        return self._text[self._words[at].start : self._words[at].end]

    def _upper(self, at: int) -> bool:
        return self._text[self._words[at].start].isupper()

    def _opens(self, at: int) -> bool:
        before = self._text[: self._words[at].start]
        return at == 0 or _ENDS_SENTENCE.search(before[-4:]) is not None

    def _stands_apart(self, first: int, last: int) -> bool:
        """Whether characters are no accidental part of a longer word in a text without blanks."""
        start, end = self._words[first].start, self._words[last - 1].end
        said, before, after = self._text[start:end], self._text[:start][-1:], self._text[end:][:1]
        for script in (_KATAKANA, _HANGUL):
            if script.match(said) and script.match(before):
                return False
        if _KATAKANA.match(said[-1]) and _KATAKANA.match(after):
            return False
        if last - first >= _enough(said):
            return True
        left = not has_cjk(before)
        right = not has_cjk(after) or (last - first > 2 and after in _PARTICLES)
        return left and right and last - first > 1


def _enough(said: str) -> int:
    """Characters of a script from which on a name is not met by chance."""
    if _KANJI.search(said):
        return 3
    return 4 if _KATAKANA.search(said) else 5


def _is_word(text: str) -> bool:
    return any(character.isalnum() for character in text)


def is_telling(said: Sequence[str]) -> bool:
    """Whether words, in lower case too, are hardly met in a sentence but as a name."""
    if any(_is_name_like(word) for word in said):
        return True
    content = [word for word in said if not _is_filling(word)]
    return len(content) >= 2 and sum(map(len, said)) >= 9


def _is_filling(word: str) -> bool:
    return word in _STOP or word.isdigit()


def _is_name_like(word: str) -> bool:
    if word in _CHANCE:
        return False
    spoken = any(vowel in word for vowel in "aeiouy")
    if not spoken:
        return len(word) >= 3 and word.isalpha()
    return len(word) >= 4 and (is_romaji(word) or _NAME_NUMBER.fullmatch(word) is not None)
