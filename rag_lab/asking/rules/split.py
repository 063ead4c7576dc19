"""A question taken apart by rules: offline, in Indonesian and English, each part by itself.

What stays together is as much of the work: a question that one place answers ("hak dan kewajiban
konsumen", "who made it and when did it air?") is left whole. A part that leaned on another one
is given its subject, the law and the opening words that both share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from rag_lab.asking.rules.grammar import GRAMMARS, Grammar
from rag_lab.asking.rules.standing import (
    SHIELD,
    SHIELDS,
    UNSHIELD,
    WORD,
    Clause,
    carried,
    content_of,
    lawless,
    laws_in,
    unopened,
)

MOST_CHARS = 1_000
"""A longer text is a document that somebody pasted, not a question."""

_MOST_PIECES = 24
"""So is one with more commas and joining words; the work grows with their square."""

_WORDS_OF_QUESTION = 4
"""A sentence with a question mark and so many words of content asks more than "is that so?"."""

_CLEAR = str.maketrans(dict.fromkeys(SHIELDS, " "))
_CLOSED = re.compile(r"\([^()]{1,200}\)|\"[^\"]{1,200}\"|“[^”]{1,200}”|「[^」]{1,200}」")
_COMMAS = re.compile(r"\s*,\s*")
_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class _Piece:
    """The text between two joins.

    Attributes:
        start: where it begins in the question.
        text: its words.
        strong: whether the join before it may begin a clause without an opening.
        fresh: whether a sentence begins with it.
        ends: whether a question mark follows.
    """

    start: int
    text: str
    strong: bool
    fresh: bool
    ends: bool

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def split_question(
    question: str, language: str, *, max_parts: int = 4, names: Sequence[tuple[int, int]] = ()
) -> tuple[str, ...]:
    """The parts of a question in its order, each standing alone; the question itself if it is one.

    Args:
        question: as it was asked.
        language: "id" or "en"; a question in any other language stays whole.
        max_parts: at most so many; what is left over stays with the last one.
        names: spans (start, end) of the question that are never cut through.
    """
    grammar = GRAMMARS.get(language)
    if grammar is None or len(question) > MOST_CHARS or max_parts < 2:
        return (question,)
    text = _shielded(question, names, grammar).strip()
    pieces = list(islice(_pieces(text, grammar), _MOST_PIECES + 1))
    if len(pieces) > _MOST_PIECES:
        return (question,)
    parts = [
        Clause(part, clause.context)
        for clause in _clauses(text, pieces, grammar)
        for part in _within(clause.text, grammar)
    ]
    if len(parts) < 2:
        return (question,)
    rest = "? ".join(part.text for part in parts[max_parts - 1 :])
    bounded = [*parts[: max_parts - 1], Clause(rest, parts[-1].context)]
    whole = carried(bounded if len(parts) > max_parts else parts, grammar)
    return tuple(part.translate(UNSHIELD) for part in whole)


def _shielded(question: str, names: Sequence[tuple[int, int]], grammar: Grammar) -> str:
    """The question with what could look like a join replaced inside names, laws and quotations."""
    text = _SPACE.sub(" ", question.translate(_CLEAR))
    spans = [*names, *(found.span() for found in _CLOSED.finditer(text))]
    spans += [found.span() for found in grammar.law.finditer(text)]
    for start, end in spans:
        text = text[:start] + text[start:end].translate(SHIELD) + text[end:]
    return text


def _pieces(text: str, grammar: Grammar) -> Iterator[_Piece]:
    start, strong, fresh = 0, True, True
    for join in grammar.joiner.finditer(text):
        yield _Piece(start, text[start : join.start()], strong, fresh, "?" in join[0])
        start, strong, fresh = join.end(), bool(join["strong"]), bool(join["end"])
    yield _Piece(start, text[start:], strong, fresh, text.endswith("?"))


def _clauses(text: str, pieces: Sequence[_Piece], grammar: Grammar) -> list[Clause]:
    """Cut where a join is followed by a clause that asks for something of its own."""
    first, *others = pieces
    context, start, end, fresh = "", 0, first.end, False
    ahead: tuple[int, _Piece] | None = None  # words that may belong to the clause after them
    asked: list[Clause] = []
    for piece in others:
        until, begins = ahead or (end, piece)
        current = text[start:until]
        if _opens(piece, current, ahead is not None, grammar):
            if not grammar.asking.search(current):
                if not asked:
                    context, start = text[: begins.start], begins.start
            elif _stands_apart(piece.text, text[:until], grammar):
                asked.append(Clause(current, "" if fresh else context))
                start, fresh = begins.start, begins.fresh
            ahead = None
        elif piece.strong or grammar.adverbial.match(piece.text):
            ahead = (end, piece)
        end = piece.end
    return [*asked, Clause(text[start:end], "" if fresh else context)]


def _opens(piece: _Piece, current: str, introduced: bool, grammar: Grammar) -> bool:
    """Whether a clause begins with a piece that may be asked by itself."""
    if not _says(current, grammar):
        return False
    if grammar.opening.match(piece.text):
        return True
    if piece.fresh and piece.ends and len(content_of(piece.text, grammar)) >= _WORDS_OF_QUESTION:
        return True
    told = piece.text.translate(UNSHIELD)
    backward = bool(grammar.aspect(told)[0] or grammar.law.match(told))
    if piece.strong or introduced or backward:
        return bool(grammar.question_word.search(piece.text))
    asks = bool(grammar.asking.search(current))
    return asks and bool(grammar.trailing.match(piece.text))


def _says(clause: str, grammar: Grammar) -> bool:
    """Whether a clause is more than a question word."""
    return bool(content_of(unopened(clause, grammar), grammar))


def _stands_apart(piece: str, before: str, grammar: Grammar) -> bool:
    """Whether a clause asks for more than another fact of the record that answers the first."""
    rest = unopened(piece, grammar)
    kind, words = grammar.aspect(rest)
    if grammar.by_name:
        return bool(kind) or bool(_names(rest) - _names(before))
    own = content_of(rest, grammar) - content_of(before, grammar)
    if kind and own <= content_of(words, grammar):
        # "… and what conditions?" is asked in the same breath, "and what are its conditions?" is
        # not; a fine is where the prison term is.
        again = grammar.aspects[kind].search(before)
        return not again and (kind in grammar.apart or _points(piece, grammar))
    return kind in grammar.apart or bool(own)


def _points(part: str, grammar: Grammar) -> bool:
    return any(pattern.search(part) for pattern, _ in grammar.pointing)


def _names(text: str) -> set[str]:
    """Words that look like names or numbers."""
    return {
        word
        for word in WORD.findall(text)
        if (word[0].isupper() and word != "I") or any(map(str.isdigit, word))
    }


def _within(clause: str, grammar: Grammar) -> list[str]:
    """The parts of one clause: what it compares, lists, or asks of one subject."""
    bare = clause.rstrip(" ?.!")
    return _compared(bare, grammar) or _listed(bare, grammar) or _aspects(bare, grammar) or [clause]


def _compared(clause: str, grammar: Grammar) -> list[str]:
    if grammar.sentence.search(clause):
        return []
    for pattern in grammar.comparing:
        found = pattern.match(clause)
        if found is None:
            continue
        left, right = found["left"].strip(), found["right"].strip()
        if grammar.and_.search(right) or "," in left or _refers(left) or _refers(right):
            return []  # where one side ends cannot be told
        said = (found.groupdict().get("tail") or "").strip()
        # Where each side names its law, what is said of both comes after the second one.
        own = list(laws_in(right, grammar)) if any(laws_in(left, grammar)) else []
        tail = "" if said else _tail(right, grammar, own[-1].end() if own else 0)
        right = right[: len(right) - len(tail)]
        right = _headed(left, right, grammar)
        return [_asked(side + tail, said, grammar) for side in (left, right)]
    return []


def _headed(left: str, right: str, grammar: Grammar) -> str:
    """The right side with the head that it shares: `tugas Direksi` and `(tugas) Komisaris`."""
    kind, aspect = grammar.aspect(left)
    if kind and not grammar.aspect(right)[0] and left != aspect:
        return f"{aspect} {right}"
    last = [*grammar.tail.finditer(left)][-1:]
    if last and left[last[0].end() :][:1].isupper() and right[:1].isupper():
        return left[: last[0].end()] + right
    return right


def _refers(side: str) -> bool:
    return bool(
        re.match(r"(?:yang|itu|its?|the\s+(?:one|first|second|other|last))\b", side, re.IGNORECASE)
    )


def _tail(side: str, grammar: Grammar, begin: int = 0) -> str:
    """What a side ends in that is said of both, from its preposition."""
    found = grammar.tail.search(side, begin) or grammar.under.search(side, begin)
    return side[found.start() :] if found and found.start() else ""


def _asked(noun: str, said: str, grammar: Grammar) -> str:
    """A question about one side of a comparison, with what is said of both."""
    if grammar.opening.match(said):
        return f"{said}, {noun}"
    asks = grammar.define.format(noun=noun)
    return f"{asks} {said}".strip()


def _aspects(clause: str, grammar: Grammar) -> list[str]:
    """Two aspects that are looked up in different places: a definition and a sanction, say."""
    opening = grammar.opening.match(clause)
    start = opening.end() if opening else 0
    head, body = clause[:start], clause[start:].lstrip()
    kind, words = grammar.aspect(body)
    for join in grammar.and_.finditer(body) if kind else ():
        left, right = body[: join.start()], body[join.end() :]
        second, others = grammar.aspect(right)
        if not second:
            continue
        own_subject = content_of(lawless(left[len(words) :], grammar), grammar)
        if own_subject and _differ(kind, words, second, others):
            return [f"{head} {left}".strip(), f"{head} {right}".strip()]
        apart = kind != second and bool({kind, second} & grammar.apart)
        if not own_subject and apart and not _more(right, grammar):
            return [f"{head} {left}{right[len(others) :]}".strip(), f"{head} {right}".strip()]
        return []
    return []


def _more(phrase: str, grammar: Grammar) -> bool:
    """Whether a further aspect is asked for."""
    return any(grammar.aspect(phrase[join.end() :])[0] for join in grammar.and_.finditer(phrase))


# "Hak konsumen dan kewajiban pelaku usaha" are two of a kind, asked of two subjects.
def _differ(kind: str, words: str, second: str, others: str) -> bool:
    return kind != second or words.lower() == others.lower() or kind == "right"


def _listed(clause: str, grammar: Grammar) -> list[str]:
    """The items of a list of three or more, each with what is said of all."""
    found = grammar.listing.match(clause)
    if found is None or "," not in found["items"]:
        return []
    *firsts, last = _COMMAS.split(found["items"])
    joined = grammar.and_.split(last if grammar.and_.search(last) else f" {last}")
    items = [item.strip() for item in (*firsts, *joined)]
    items = [re.sub(r"^(?:dan|serta|and)\s+", "", item) for item in items if item]
    if len(items) < 3 or any(len(item.split()) > 12 for item in items):
        return []
    tail = _tail(items[-1], grammar)
    shared = "" if any(grammar.tail.search(item) for item in items[:-1]) else tail
    return [f"{found['verb']} {item}{shared}" for item in items[:-1]] + [
        f"{found['verb']} {items[-1]}"
    ]
