"""Documents whose names resemble a text: in letters, in sound, in meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Final

import numpy as np

from rag_lab.index.keyword import KeywordIndex
from rag_lab.retrieval.alias.glossary import Glossary, characters_and_pairs
from rag_lab.retrieval.alias.names import is_cjk, romanised

__all__ = ["Resemblance"]

K1: Final = 0.5
B: Final = 0.5
TRANSLATION_WEIGHT: Final = 10.0
"""For one translated word, which by letters would match with some eight n-grams."""

_KANA_RUN: Final = re.compile(r"[ぁ-ゖー]{2,}")
_SOUNDS: Final = tuple(
    (re.compile(pattern), sound)
    for pattern, sound in (
        ("ph", "f"), ("ck", "k"), ("th|sh", "s"), ("tch|ch|ts", "t"), ("c(?=[eiy])", "s"),
        ("[cq]", "k"), ("x", "ks"), ("l", "r"), ("v", "b"), ("j", "z"),
        ("(?<=.)[aeiouywh]", ""), (r"(.)\1+", r"\1"),
    )
)  # fmt: skip


class Resemblance:
    """The names of each document taken together, and how well they resemble a text.

    Args:
        documents: the names, as words, of each document; its position is the answer.
    """

    def __init__(self, documents: Sequence[Sequence[Sequence[str]]]) -> None:
        features = ([f for name in names for f in features_of(name)] for names in documents)
        self._letters = KeywordIndex.build(features, k1=K1, b=B)
        self._glossary = Glossary(documents)

    def by_letters(self, words: Sequence[str]) -> np.ndarray:
        """BM25 over n-grams of letters and sounds, of shape (documents,)."""
        return self._letters.scores(features_of(words))

    def scores(self, words: Sequence[str]) -> np.ndarray:
        """By letters, sounds and translations, of shape (documents,).

        They are shares of what a document would score that had every n-gram of the words, so 0
        is nothing in common; translations may lift a score above 1.
        """
        if not words:
            return np.zeros(len(self._letters))
        features = features_of(words)
        weights = self._letters.weights(features)
        ideal = sum(weights[feature] for feature in features)
        translated = TRANSLATION_WEIGHT * self._glossary.scores(words)
        return (self._letters.scores(features) + translated) / ideal


def features_of(words: Sequence[str]) -> list[str]:
    """What is compared: words, their trigrams and sounds, four letters across words, characters.

    Kana count as written and as read, so that コルダ meets `corda`.
    """
    features: list[str] = []
    readings: list[str] = []
    for run in _runs(words):
        if is_cjk(run[0]):
            features += characters_and_pairs(run)
            readings += [romanised(kana[0]) for kana in _KANA_RUN.finditer(run)]
        else:
            readings.append(run)
    for reading in readings:
        features += _word_features(reading)
    line = "".join(readings)
    features += [f"+{line[i : i + 4]}" for i in range(len(line) - 3)]
    return features


def _runs(words: Sequence[str]) -> Iterator[str]:
    """Words one by one, but neighbouring CJK characters together."""
    for cjk, group in groupby(words, is_cjk):
        if cjk:
            yield "".join(group)
        else:
            yield from group


@lru_cache(maxsize=100_000)
def _word_features(word: str) -> tuple[str, ...]:
    edged = f" {word} "
    features = [f"={word}", *(edged[i : i + 3] for i in range(len(edged) - 2))]
    if len(word) >= 3:
        sound = f" {_sound(word)} "
        features += [f"~{sound[i : i + 3]}" for i in range(len(sound) - 2)]
    return tuple(features)


def _sound(word: str) -> str:
    """The consonants that a Japanese ear tells apart: `corda` and `koruda` are both `krd`."""
    for pattern, sound in _SOUNDS:
        word = pattern.sub(sound, word)
    return word
