"""Parts that stand alone: each with the subject, the law and the context it leans on.

Here are also the views of a question's text that the rules take: its content, its laws, what
follows its opening. In a shielded text the characters that could look like a join between clauses
stand for themselves only outside names, laws and quotations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rag_lab.asking.rules.grammar import Grammar

_JOINS = " ,?!;:."
SHIELDS = "".join(chr(0xE000 + place) for place in range(len(_JOINS)))
SHIELD = str.maketrans(_JOINS, SHIELDS)
UNSHIELD = str.maketrans(SHIELDS, _JOINS)
WORD = re.compile(r"\w[\w'’-]*")
_LEANING = re.compile(r"^(?:of|for|dari|saja|sih|untuk|the)\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause that asks something, and whether what was said before the first is said of it."""

    text: str
    context: str = ""


def carried(parts: Sequence[Clause], grammar: Grammar) -> list[str]:
    """The parts, each with the subject, the law and the context that it needs to stand alone."""
    texts = [part.text for part in parts]
    subject = _subject(texts[0], grammar)
    alone = []
    for place, part in enumerate(parts):
        clear = part.text.strip(" ,?.!")
        topical = bool(content_of(lawless(part.context, grammar), grammar))
        if place and not topical and subject:
            clear = _resolved(clear, subject, texts[0], grammar)
        if part.context.rstrip().endswith(tuple(".!?")):
            clear = _capital(clear)
        clear = part.context + clear
        if law := _law_for(place, texts, clear, grammar):
            clear += grammar.cite.format(law=law)
        mark = "." if grammar.listing.match(clear) else "?"
        alone.append(_capital(clear) + mark)
    return alone


def lawless(text: str, grammar: Grammar) -> str:
    """A text, unshielded, without the laws it names and the prepositions before them."""
    return grammar.under.sub("", text.translate(UNSHIELD))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _law_for(place: int, parts: list[str], part: str, grammar: Grammar) -> str:
    """The law that a part which names none is about: the last one named before it, or the next."""
    if any(laws_in(part, grammar)):
        return ""
    for other in (*reversed(parts[:place]), *parts[place + 1 :]):
        for found in laws_in(other, grammar):
            return found["statute"].strip()
    return ""


def _subject(clause: str, grammar: Grammar) -> str:
    """What a clause is about, without the law; empty if that cannot be told."""
    rest = unopened(lawless(clause, grammar), grammar).strip(" ,?.!")
    _, words = grammar.aspect(rest)
    *telling, last = grammar.subject
    searched = [*((each, rest) for each in telling), (last, rest[len(words) :].strip())]
    for pattern, text in searched:
        if found := pattern.search(text):
            return _LEANING.sub("", found["subject"].strip(" ,?.!"))
    return rest


def unopened(clause: str, grammar: Grammar) -> str:
    """A clause without its question word and what belongs to that."""
    opening = grammar.opening.match(clause)
    return clause[opening.end() if opening else 0 :].strip()


def _resolved(part: str, subject: str, first: str, grammar: Grammar) -> str:
    """The part with the word that points back replaced by what it points to."""
    part = _demonstrated(part, subject, first)
    for pattern, instead in grammar.pointing:
        found = pattern.search(part)
        if found:
            told = found.expand(instead).replace("{subject}", subject)
            return part[: found.start()] + told + part[found.end() :]
    rest = unopened(part, grammar)
    kind, words = grammar.aspect(rest)
    bare = bool(kind) and not content_of(lawless(rest[len(words) :], grammar), grammar)
    return f"{part} {subject}" if bare else part


def _demonstrated(part: str, subject: str, first: str) -> str:
    """`hak itu` is the `Hak atas Merek` of the first clause."""
    found = re.search(r"\b(?!apa\b|siapa\b)(\w{3,})\s+(?:tersebut|itu)\b", part, re.IGNORECASE)
    if found is None or not re.search(rf"\b{re.escape(found[1])}\b", first, re.IGNORECASE):
        return part
    names_it = re.search(rf"\b{re.escape(found[1])}\b", subject, re.IGNORECASE)
    return part[: found.start()] + (subject if names_it else found[1]) + part[found.end() :]


def content_of(text: str, grammar: Grammar) -> set[str]:
    """The words of a text that say something, in lower case and without the pronoun -nya."""
    words = (word.lower().removesuffix("nya") for word in WORD.findall(text))
    return {word for word in words if word not in grammar.stop_words and len(word) > 1}


def laws_in(text: str, grammar: Grammar) -> Iterator[re.Match[str]]:
    """Where a text, shielded or not, names laws."""
    return grammar.law.finditer(text.translate(UNSHIELD))
