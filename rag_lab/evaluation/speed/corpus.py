"""A made-up corpus of any size: real sentences, shuffled into texts of about 100 tokens."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import lru_cache

from llama_index.core import Document

from rag_lab.corpora import Corpus, load_corpus
from rag_lab.corpora.base import in_memory
from rag_lab.simulate import tokens_of

NAME = "made-up"
_SOURCES = ("anime", "law_id")
_LEAST_TOKENS = 88  # the last sentence brings it to about 100
_SENTENCE_END = re.compile(r"(?<=[.;])\s+")
_WORD = re.compile(r"\w{5,}")


def made_up_corpus(documents: int, seed: int = 0) -> Corpus:
    """Documents put together from sentences of the bundled corpora.

    The same numbers give the same corpus. It means nothing: it is to be embedded and searched,
    not read.
    """
    rng = random.Random(seed)
    made = [
        Document(id_=f"made-up-{number}", text=_text(number, rng)) for number in range(documents)
    ]
    return in_memory(f"{NAME}-{documents}-{seed}", made)


def marker(number: int) -> str:
    """What only the text of that document contains."""
    return f"Made-up record {number}."


def made_up_questions(count: int, seed: int = 0) -> list[str]:
    """Questions that differ from each other, and from those of another seed."""
    rng = random.Random(f"questions {seed}")
    words = _words()
    return [
        f"What does record {seed}-{number} tell about {' and '.join(rng.sample(words, 2))}?"
        for number in range(count)
    ]


def _text(number: int, rng: random.Random) -> str:
    """About 100 tokens; the number keeps any two texts apart."""
    told = [marker(number)]
    tokens = tokens_of(told[0])
    while tokens < _LEAST_TOKENS:
        told.append(rng.choice(_sentences()))
        tokens += tokens_of(told[-1])
    return " ".join(told)


@lru_cache(1)
def _sentences() -> tuple[str, ...]:
    return tuple(dict.fromkeys(_bundled_sentences()))


@lru_cache(1)
def _words() -> tuple[str, ...]:
    return tuple(sorted({word for text in _sentences() for word in _WORD.findall(text)}))


def _bundled_sentences() -> Iterator[str]:
    for name in _SOURCES:
        for document in load_corpus(name).documents:
            for sentence in _SENTENCE_END.split(" ".join(document.text.split())):
                if 20 <= len(sentence) <= 200:
                    yield sentence
