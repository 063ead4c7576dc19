"""Shows found by any of their names, said anywhere in a question; no model is called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from rag_lab.index.keyword import best
from rag_lab.retrieval.alias.edits import edit_distance
from rag_lab.retrieval.alias.mentions import Sentence, is_telling
from rag_lab.retrieval.alias.names import Word, has_cjk, is_kana, key_of, romanised, words_of
from rag_lab.retrieval.alias.resemblance import Resemblance

__all__ = ["AliasHit", "AliasIndex"]

MAX_WORDS: Final = 200
"""Words of a question that are read; an alias is looked for in the first ones only."""
MAX_ALIAS_WORDS: Final = 60
LETTERS_PER_TYPO: Final = 7
CHARACTERS_PER_TYPO: Final = 5
MAX_TYPOS: Final = 3
BEGINNING: Final = 0.9
"""Similarity of a name said without its subtitle."""
TYPO_COST: Final = 5
"""A longer name with a typo counts more than a shorter one without, from so many letters on."""
TRIGRAMS_PER_TYPO: Final = 4
"""A swap of neighbours spoils as many."""
TYPO_CANDIDATES: Final = 20
NAMED_WEIGHT: Final = 0.25
"""What a name found in the question adds to a resemblance of 0 to 1, if it is all that is asked."""


_SUBTITLE: Final = re.compile(r"(?<=\w)(?:[:：](?=\s)|：|\s[-–~～])")


@dataclass(frozen=True, slots=True)
class AliasHit:
    """A name found in a question.

    Attributes:
        alias: the name as it is in the index.
        said: the words of the question, `question[start:end]`.
        start: offset of the first character.
        end: offset behind the last character.
        document_ids: every document that bears the name, in the order of the index.
        similarity: 1.0 for the same name in another spelling, less without its subtitle and with
            each typo.
        reason: why it counts.
    """

    alias: str
    said: str
    start: int
    end: int
    document_ids: tuple[str, ...]
    similarity: float
    reason: str


@dataclass(frozen=True, slots=True)
class _Find:
    """A key found in words[first:last] of a question."""

    first: int
    last: int
    key: str
    typos: int = 0


@dataclass(slots=True)
class _Name:
    """A name in its one spelling: as first written, and the positions of its documents."""

    alias: str
    similarity: float = 1.0
    documents: dict[int, None] = field(default_factory=dict)


class _Names:
    """Names as they are collected: by key, and as words by document."""

    def __init__(self) -> None:
        self.positions: dict[str, int] = {}
        self.by_key: dict[str, _Name] = {}
        self.beginnings: dict[str, _Name] = {}
        self.keys: list[list[str]] = []
        self.words: list[list[list[str]]] = []

    def add(self, document_id: str, alias: str) -> None:
        """Takes up a name, unless it has no letter or digit."""
        words = words_of(alias)[:MAX_ALIAS_WORDS]
        if not words:
            return
        position = self.positions.setdefault(document_id, len(self.positions))
        if position == len(self.keys):
            self.keys.append([])
            self.words.append([])
        self.words[position].append([word.text for word in words])
        for key in _keys_of(words):
            self.by_key.setdefault(key, _Name(alias)).documents[position] = None
            self.keys[position].append(key)
        if begins := _SUBTITLE.search(alias):
            key = key_of(word for word in words if word.end <= begins.start())
            if key:
                name = self.beginnings.setdefault(key, _Name(alias, BEGINNING))
                name.documents[position] = None

    def known(self) -> dict[str, _Name]:
        """Names by key; what only begins a name counts where no show is called so."""
        return {**self.beginnings, **self.by_key}


class AliasIndex:
    """The names of all documents, in one spelling each."""

    def __init__(self, names: _Names) -> None:
        self._ids = list(names.positions)
        self._keys = names.keys
        self._size = len(names.by_key)
        self._names = names.known()
        self._like = Resemblance(names.words)

    @classmethod
    def build(cls, names: Iterable[tuple[str, str]]) -> AliasIndex:
        """Indexes (document id, alias) pairs; an alias without a letter or digit is left out."""
        collected = _Names()
        for document_id, alias in names:
            collected.add(document_id, alias)
        return cls(collected)

    def __len__(self) -> int:
        """Distinct names, spellings of one name counted once."""
        return self._size

    def find(self, question: str) -> list[AliasHit]:
        """The names said in a question, in its order: the longest first, none inside another."""
        words = words_of(question)[:MAX_WORDS]
        found = self._found(words, Sentence(question, words))
        return [self._hit(question, words, find) for find in found]

    def rank(self, question: str, k: int = 10) -> list[tuple[str, float]]:
        """The k documents whose names resemble the question, or the name in it, most.

        Returns:
            Pairs of document id and score, best first. A score is the resemblance (0 to about 1)
            plus what the names in `find` add in proportion to their share of what is asked;
            documents that share nothing with the question are left out.
        """
        words = words_of(question)[:MAX_WORDS]
        sentence = Sentence(question, words)
        asked = [word.text for word in sentence.asked()]
        scores = self._like.scores(asked)
        for find in self._found(words, sentence):
            share = min(len(find.key) / len("".join(asked)), 1.0)
            named = list(self._names[find.key].documents)
            scores[named] += NAMED_WEIGHT * self._similarity(find) * share
        return [(self._ids[place], score) for place, score in best(scores, k)]

    def _similarity(self, find: _Find) -> float:
        return self._names[find.key].similarity * (1 - find.typos / len(find.key))

    def _hit(self, question: str, words: Sequence[Word], find: _Find) -> AliasHit:
        name = self._names[find.key]
        start, end = words[find.first].start, words[find.last - 1].end
        reasons = [
            f"the beginning of {name.alias!r}" if name.similarity < 1 else "",
            f"a typo of {name.alias!r}" if find.typos else "",
            f"{len(name.documents)} shows bear this name" if len(name.documents) > 1 else "",
        ]
        return AliasHit(
            alias=name.alias,
            said=question[start:end],
            start=start,
            end=end,
            document_ids=tuple(self._ids[place] for place in name.documents),
            similarity=round(self._similarity(find), 4),
            reason="; ".join(filter(None, reasons)) or "a name of this show",
        )

    def _found(self, words: Sequence[Word], sentence: Sentence) -> list[_Find]:
        """The longest names first, where a typo costs some letters; none overlaps another."""
        kept: list[_Find] = []
        finds = [*self._same(words, sentence), *self._misspelt(words, sentence)]
        for find in sorted(finds, key=lambda find: TYPO_COST * find.typos - len(find.key)):
            if all(find.last <= other.first or other.last <= find.first for other in kept):
                kept.append(find)
        return sorted(kept, key=lambda find: find.first)

    def _same(self, words: Sequence[Word], sentence: Sentence) -> Iterator[_Find]:
        """Names in their one spelling, or read aloud."""
        for first in range(len(words)):
            said = ""
            for last in range(first + 1, min(first + MAX_ALIAS_WORDS, len(words)) + 1):
                said += words[last - 1].text
                key = said if said in self._names else romanised(said) if is_kana(said) else ""
                if key in self._names and sentence.names(first, last):
                    yield _Find(first, last, key)

    def _misspelt(self, words: Sequence[Word], sentence: Sentence) -> Iterator[_Find]:
        """Names with typos, among those that share most letters with what is asked."""
        for key in self._candidates(words, sentence):
            for first, last in _spans(words, key):
                said = key_of(words[first:last])
                if not _may_be_typo(said, key):
                    continue
                typos = edit_distance(key, said)
                if typos <= _tolerated(key) and self._telling(key, sentence, first, last):
                    yield _Find(first, last, key, typos)

    def _candidates(self, words: Sequence[Word], sentence: Sentence) -> list[str]:
        telling = [word.text for word in sentence.content()]
        trigrams, starts = _trigrams(key_of(words)), {word.text[0] for word in words}
        places = [place for place, _ in best(self._like.by_letters(telling), TYPO_CANDIDATES)]
        keys = dict.fromkeys(key for place in places for key in self._keys[place])
        return [
            key
            for key in keys
            if key[0] in starts
            and (typos := _tolerated(key))
            and len(_trigrams(key) - trigrams) <= TRIGRAMS_PER_TYPO * typos
        ]

    def _telling(self, key: str, sentence: Sentence, first: int, last: int) -> bool:
        name = [word.text for word in words_of(self._names[key].alias)]
        return is_telling(name) or sentence.names(first, last)


def _keys_of(words: Sequence[Word]) -> list[str]:
    """The key of a name, and the key of how it is read if it is all kana."""
    key = key_of(words)
    return [key, reading] if is_kana(key) and (reading := romanised(key)) else [key]


def _tolerated(key: str) -> int:
    return min(len(key) // (CHARACTERS_PER_TYPO if has_cjk(key) else LETTERS_PER_TYPO), MAX_TYPOS)


def _trigrams(key: str) -> set[str]:
    return {key[i : i + 3] for i in range(len(key) - 2)}


def _spans(words: Sequence[Word], key: str) -> Iterator[tuple[int, int]]:
    """Runs of words that are about as long as a key and begin as it does."""
    typos = _tolerated(key)
    for first in range(len(words)):
        if words[first].text[0] != key[0]:
            continue
        length = 0
        for last in range(first + 1, len(words) + 1):
            length += len(words[last - 1].text)
            if length > len(key) + typos:
                break
            if length >= len(key) - typos:
                yield first, last


def _may_be_typo(said: str, key: str) -> bool:
    """Another number is another season, one more s is the plural of an everyday word."""
    plural = said == f"{key}s" or key == f"{said}s"
    return said != key and not plural and _digits(said) == _digits(key)


def _digits(key: str) -> str:
    return "".join(filter(str.isdigit, key))
