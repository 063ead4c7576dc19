"""Candidates from documents with titles: shows, articles of an encyclopaedia.

A document is asked for by its title if no other bears it. Its partner in a comparison or a compound
question is a neighbour with the same first tag, where there is one. A name that the corpus does not
hold is made of the halves of two titles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from rag_lab.corpora import Corpus
from rag_lab.evaluation.candidates.candidate import Kind
from rag_lab.evaluation.candidates.drafts import Draft, drawn_by
from rag_lab.records import Part, Question

LANGUAGES = ("en", "id")
_LONGEST = 80
"""Characters of a title; longer ones are headlines rather than names."""

_WHAT: Mapping[tuple[str, bool], Sequence[str]] = {
    ("en", True): ("What is {title} about?", "What happens in {title}?"),
    ("en", False): ("What is {title}?", "What is meant by {title}?"),
    ("id", True): ("{title} bercerita tentang apa?", "Bagaimana jalan cerita {title}?"),
    ("id", False): ("Apa itu {title}?", "Apa yang dimaksud dengan {title}?"),
}
"""(language, of shows) → ways to ask."""
_COMPARISONS: Mapping[str, Sequence[str]] = {
    "en": ("How do {title} and {other} differ?", "Compare {title} with {other}."),
    "id": ("Apa perbedaan {title} dan {other}?", "Bandingkan {title} dengan {other}."),
}
_COMPOUNDS: Mapping[tuple[str, bool], Sequence[str]] = {
    ("en", True): ("What is {title} about, and what is {other} about?",),
    ("en", False): ("What is {title}, and what is {other}?",),
    ("id", True): ("{title} bercerita tentang apa, dan {other} tentang apa?",),
    ("id", False): ("Apa itu {title}, dan apa itu {other}?",),
}


@dataclass(frozen=True, slots=True)
class _Titled:
    document_id: str
    title: str
    tag: str
    show: bool


def title_drafts(corpus: Corpus, seed: int) -> Mapping[Kind, Sequence[Draft]]:
    """Drafts of definitions, comparisons, compound and unanswerable questions; perhaps none."""
    entries, names = _titled(corpus)
    ring = sorted(entries, key=lambda entry: (entry.tag, drawn_by(seed, entry.document_id)))
    pairs = list(zip(ring, ring[1:] + ring[:1], strict=True)) if len(ring) > 1 else []
    language = corpus.language
    return {
        "definition": [_definition(entry, language, seed) for entry in ring],
        "comparison": [
            _of_two("comparison", _COMPARISONS[language], pair, language, seed) for pair in pairs
        ],
        "compound": [
            _of_two("compound", _COMPOUNDS[language, pair[0].show], pair, language, seed)
            for pair in pairs
        ],
        "unanswerable": list(_unknown(pairs, names, language, seed)),
    }


def _titled(corpus: Corpus) -> tuple[list[_Titled], set[str]]:
    """Documents with a title of their own, and every name that the corpus holds, case-folded."""
    entries: list[_Titled] = []
    bearers: Counter[str] = Counter()
    for document in corpus.documents:
        about = document.metadata
        title = " ".join(str(about.get("title", "")).split())
        names = {title.casefold(), *(str(name).casefold() for name in about.get("titles", ()))}
        bearers.update(names - {""})
        if 0 < len(title) <= _LONGEST:
            tag = next(iter(about.get("tags", ())), "")
            show = about.get("record") == "show"
            entries.append(_Titled(document.id_, title, str(tag), show))
    return [entry for entry in entries if bearers[entry.title.casefold()] == 1], {*bearers}


def _asked(title: str, show: bool, language: str, seed: int) -> str:
    ways = _WHAT[language, show]
    return ways[drawn_by(seed, title) % len(ways)].format(title=title)


def _definition(entry: _Titled, language: str, seed: int) -> Draft:
    text = _asked(entry.title, entry.show, language, seed)
    question = Question("", text, "definition", relevant_ids=(entry.document_id,))
    return Draft(question, "title/definition")


def _of_two(
    kind: Kind, ways: Sequence[str], pair: tuple[_Titled, _Titled], language: str, seed: int
) -> Draft:
    one, other = pair
    pattern = ways[drawn_by(seed, one.title, other.title) % len(ways)]
    parts = tuple(
        Part(_asked(each.title, each.show, language, seed), (each.document_id,)) for each in pair
    )
    question = Question(
        id="",
        text=pattern.format(title=one.title, other=other.title),
        kind=kind,
        relevant_ids=(one.document_id, other.document_id),
        parts=parts,
    )
    return Draft(question, f"title/{kind}")


def _unknown(
    pairs: Sequence[tuple[_Titled, _Titled]], names: set[str], language: str, seed: int
) -> Iterator[Draft]:
    within = "\n".join(names)
    for one, other in pairs:
        first, second = one.title.split(), other.title.split()
        name = " ".join([*first[: (len(first) + 1) // 2], *second[len(second) // 2 :]])
        if name.casefold() not in within and names.isdisjoint(_runs(name.casefold().split())):
            question = Question("", _asked(name, one.show, language, seed), "unanswerable")
            ids = (one.document_id, other.document_id)
            yield Draft(question, "title/no-such-name", ids)


def _runs(words: Sequence[str]) -> Iterator[str]:
    """Every run of words: a made name holds no real one."""
    for first, last in combinations(range(len(words) + 1), 2):
        yield " ".join(words[first:last])
