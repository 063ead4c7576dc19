"""Candidates from Indonesian law: the generators of the quality measures, and comparisons."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from rag_lab.corpora import Corpus
from rag_lab.evaluation.candidates.candidate import Kind
from rag_lab.evaluation.candidates.drafts import Draft, drawn_by
from rag_lab.evaluation.quality.citation_forms import make_forms, make_no_places
from rag_lab.evaluation.quality.citations import columns_of
from rag_lab.evaluation.quality.compound import compound_questions
from rag_lab.evaluation.quality.definitions import Defined, defined_terms, definition_questions
from rag_lab.records import Part, Question
from rag_lab.retrieval.citation.statutes import Row

_ENGLISH = re.compile(r"(?i)\b(?:article|art\.|law)")
_NUMBERED = re.compile(r"(?:uu|pp)-\d{4}-\d+")
_LEAST = 4
"""Pasal of a statute; of shorter ones no citations are made."""
_COMPARISONS = (
    "Apa perbedaan pengertian {term} menurut {law} dan {other}?",
    "Bandingkan definisi {term} dalam {law} dengan definisinya dalam {other}.",
    "Bagaimana {law} dan {other} masing-masing mendefinisikan {term}?",
)
_DEFINITION = "Apa definisi {term} menurut {law}?"


def law_drafts(corpus: Corpus, count: int, seed: int) -> Mapping[Kind, Sequence[Draft]]:
    """Drafts of every kind from a corpus of law; where it has nothing to ask of, none.

    Args:
        corpus: its documents are articles.
        count: about how many citations are made up; of the other kinds, all there are.
        seed: of the choice.
    """
    asked = [question for question in corpus.questions if question.relevant_ids]
    compound = [
        Draft(_of_kind(question, "compound"), f"law/{question.kind}")
        for question in compound_questions(corpus, asked)
    ]
    definitions = [
        Draft(question, f"law/{name}")
        for name, questions in definition_questions(corpus.documents).items()
        for question in questions
    ]
    terms = defined_terms(corpus.documents)
    citations, absent = _cited(corpus, count, seed)
    return {
        "definition": definitions,
        "citation": citations,
        "comparison": list(_comparisons(terms, seed)),
        "compound": compound,
        "unanswerable": [*absent, *_undefined(corpus, terms, count, seed)],
    }


def _of_kind(question: Question, kind: Kind) -> Question:
    return Question(
        question.id, question.text, kind, relevant_ids=question.relevant_ids, parts=question.parts
    )


def _comparisons(terms: Sequence[Defined], seed: int) -> Iterator[Draft]:
    """A term that several laws define: two of them, drawn, are compared."""
    defining: dict[str, dict[str, Defined]] = defaultdict(dict)
    for entry in terms:
        defining[entry.term.casefold()].setdefault(entry.law, entry)
    for term, entries in defining.items():
        if len(entries) > 1:
            ranked = sorted(entries.values(), key=lambda entry: drawn_by(seed, entry.key))
            pattern = _COMPARISONS[drawn_by(seed, term) % len(_COMPARISONS)]
            yield Draft(_comparison(pattern, *ranked[:2]), "law/comparison")


def _comparison(pattern: str, one: Defined, other: Defined) -> Question:
    parts = [
        Part(_DEFINITION.format(term=one.term, law=entry.law), (entry.document_id,))
        for entry in (one, other)
    ]
    return Question(
        id="",
        text=pattern.format(term=one.term, law=one.law, other=other.law),
        kind="comparison",
        relevant_ids=(one.document_id, other.document_id),
        parts=tuple(parts),
    )


def _undefined(corpus: Corpus, terms: Sequence[Defined], count: int, seed: int) -> Iterator[Draft]:
    """Terms of one law asked of another, drawn, none of whose articles has them."""
    laws = sorted({(entry.doc, entry.law) for entry in terms})
    asked: dict[str, dict[str, Draft]] = defaultdict(dict)
    for entry in sorted(terms, key=lambda entry: drawn_by(seed, entry.key))[:count]:
        others = [(doc, law) for doc, law in laws if doc != entry.doc]
        if others:
            doc, law = others[drawn_by(seed, "law", entry.key) % len(others)]
            question = Question("", _DEFINITION.format(term=entry.term, law=law), "unanswerable")
            draft = Draft(question, "law/undefined-term", (entry.document_id,))
            asked[doc][entry.term.casefold()] = draft
    for document in corpus.documents:
        held = asked.get(str(document.metadata["doc"]), {})
        for term in [term for term in held if term in document.text.casefold()]:
            del held[term]
    for held in asked.values():
        yield from held.values()


def _cited(corpus: Corpus, count: int, seed: int) -> tuple[list[Draft], list[Draft]]:
    """Citations of what is there, and of what is not; none where there are too few articles."""
    rows = _citable(columns_of(corpus)[0])
    if len({doc for _, doc, *_ in rows if _NUMBERED.fullmatch(doc)}) < 2:
        return [], []
    gold: dict[tuple[str, str], list[str]] = defaultdict(list)
    for document_id, doc, _, _, pasal in rows:
        gold[doc, pasal].append(document_id)
    found: list[Draft] = []
    for form in make_forms(rows, count, "", seed):
        ids = {key for doc, pasal, _ in form.places for key in gold[doc, pasal]}
        text = form.question.text
        if not _ENGLISH.search(text):
            question = Question("", text, "citation", relevant_ids=tuple(sorted(ids)))
            found.append(Draft(question, "law/citation"))
    absent = [
        Draft(_of_kind(made.question, "unanswerable"), "law/no-such-place")
        for made in make_no_places(rows, count, "", seed)
    ]
    return found, absent


def _citable(rows: Sequence[Row]) -> list[Row]:
    """The articles of statutes with three Pasal in a row: the makers of citations need those."""
    numbers: dict[str, set[int]] = defaultdict(set)
    for _, doc, _, _, pasal in rows:
        if pasal.isdecimal():
            numbers[doc].add(int(pasal))
    usable = {
        doc
        for doc, held in numbers.items()
        if len(held) >= _LEAST and any(n + 1 in held and n + 2 in held for n in held)
    }
    return [row for row in rows if row[1] in usable]
