"""Citation correctness for Indonesian law: are the Pasal an answer cites the gold ones.

Precision and recall are over Pasal (law and number); the exact match is over ayat too where the
reference answer names them. Where a set knows only the laws of an answer, laws are compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache

from rag_lab.corpora.statute import split_ayat
from rag_lab.evaluation.answers.base import AnswerMeasure, computed
from rag_lab.evaluation.scores import Sample, Score
from rag_lab.records import Answer, Passage, Question
from rag_lab.retrieval.citation import Citation, Statutes
from rag_lab.retrieval.citation.parse import MAX_CHARS

Cited = tuple[str, str, str]
"""Law, Pasal and ayat; "" where none is named."""

_DOCUMENT = re.compile(r"(?P<law>[^#]+)#pasal-(?P<pasal>[0-9A-Za-z]+)")
_IN_BRACKETS = re.compile(r"\[([^\[\]]{1,300})\]")
_CUT = re.compile(r"(?<=[.;\n])\s")
_REMEMBERED = 8_192
"""Texts whose citations are remembered: each measure reads them anew."""
_NONE_CITED = "the answer cites no law"


def citation_precision() -> AnswerMeasure:
    """Share of the cited Pasal that are gold."""
    return computed("citation_precision", _precision, _with_gold)


def citation_recall() -> AnswerMeasure:
    """Share of the gold Pasal that are cited."""
    return computed("citation_recall", _recall, _with_gold)


def citation_exact_match() -> AnswerMeasure:
    """Whether the cited Pasal are the gold ones, no more and no fewer, and their ayat too."""
    return computed("citation_exact_match", _exact, _with_gold)


def citation_in_context() -> AnswerMeasure:
    """Share of the citations, ayat included, that exist in the retrieved passages."""
    return computed("citation_in_context", _in_context)


def cited_in(answer: Answer) -> frozenset[Cited]:
    """What an answer cites: by name, and through the passages that it refers to.

    Of an extractive answer only its sources count: the citations in its text are the law's own.
    """
    found = [_of_passage(each) for each in answer.passages if each.document_id in answer.cited_ids]
    sources = {each.source: _of_passage(each) for each in answer.passages if each.source}
    for said in _IN_BRACKETS.findall(answer.text):
        # A source is what its document's id says: its law may bear a name that only its corpus
        # knows.
        found += [sources[said]] if said in sources else _read(said)
    if answer.kind == "generated":
        found += _read(_IN_BRACKETS.sub(" ", answer.text))
    keys = _corpus_keys(answer.passages)
    found = [(keys.get(law, law), pasal, ayat) for law, pasal, ayat in found]
    # "UU 40/2007 … Pasal 7 ayat (2) … [Pasal 7 UU 40/2007]" is one citation, the fullest.
    shorter = {(law, "", "") for law, pasal, _ in found if pasal}
    shorter |= {(law, pasal, "") for law, pasal, ayat in found if ayat}
    return frozenset(each for each in found if any(each)) - shorter


def gold_of(question: Question) -> frozenset[Cited]:
    """The gold Pasal, with the ayat that the reference answer names; or the gold laws."""
    matches = map(_DOCUMENT.match, question.relevant_ids)
    pasal = {(match["law"].lower(), _fold(match["pasal"])) for match in matches if match}
    if not pasal:
        return frozenset((law.lower(), "", "") for law in question.relevant_groups)
    named = {each for each in _read(question.answer) if each[2] and each[:2] in pasal}
    return frozenset(named | {(*each, "") for each in pasal - {one[:2] for one in named}})


def _with_gold(question: Question) -> str:
    return "" if gold_of(question) else "the question has no gold Pasal or law"


def _pasal(cited: Iterable[Cited], gold: frozenset[Cited]) -> set[tuple[str, str]]:
    """Law and Pasal; the law alone where the gold knows no more."""
    whole_laws = all(not pasal for _, pasal, _ in gold)
    return {(law, "" if whole_laws else pasal) for law, pasal, _ in cited}


def _precision(sample: Sample, answer: Answer) -> Score:
    gold = gold_of(sample.question)
    cited = _pasal(cited_in(answer), gold)
    if not cited:
        return Score.none(_NONE_CITED)
    return Score(len(cited & _pasal(gold, gold)) / len(cited))


def _recall(sample: Sample, answer: Answer) -> Score:
    gold = gold_of(sample.question)
    wanted = _pasal(gold, gold)
    return Score(len(wanted & _pasal(cited_in(answer), gold)) / len(wanted))


def _exact(sample: Sample, answer: Answer) -> Score:
    gold, cited = gold_of(sample.question), cited_in(answer)
    same = _pasal(cited, gold) == _pasal(gold, gold)
    with_ayat = {each[:2] for each in gold if each[2]}
    said = {each for each in cited if each[:2] in with_ayat}
    return Score(float(same and said == {each for each in gold if each[2]}))


def _in_context(sample: Sample, answer: Answer) -> Score:
    cited = cited_in(answer)
    if not cited:
        return Score.none(_NONE_CITED)
    there: set[Cited] = set()
    for passage in answer.passages:
        law, pasal, _ = _of_passage(passage)
        numbers = (re.sub(r"\s", "", number).lower() for number, _ in split_ayat(passage.text))
        there |= {(law, "", ""), (law, pasal, ""), *((law, pasal, number) for number in numbers)}
    return Score(len(cited & there) / len(cited))


def _of_passage(passage: Passage) -> Cited:
    """The Pasal that a passage is of: by its document's id, else by its source."""
    match = _DOCUMENT.match(passage.document_id)
    if match:
        return match["law"].lower(), _fold(match["pasal"]), ""
    return next(iter(_read(passage.source)), ("", "", ""))


def _corpus_keys(passages: Iterable[Passage]) -> dict[str, str]:
    """Laws as their names are read → as the corpus calls them, where that is something else.

    A code may have a key of its own (`kuhp-2023`) beside its number (UU 1/2023).
    """
    keys: dict[str, str] = {}
    for passage in passages:
        law = _of_passage(passage)[0]
        keys |= {read: law for read, _, _ in _read(passage.source) if read and read != law}
    return keys


def _read(text: str) -> list[Cited]:
    """The citations of a text of any length; those without a law are not resolved."""
    pieces = [text] if len(text) <= MAX_CHARS else _pieces(text)
    return [each for piece in pieces for each in _read_piece(piece)]


@lru_cache(_REMEMBERED)
def _read_piece(text: str) -> tuple[Cited, ...]:
    return tuple(map(_plain, _statutes().read(text)))


def _pieces(text: str) -> list[str]:
    """A long text, cut at sentences into what is read at a time."""
    pieces = [""]
    for sentence in _CUT.split(text):
        if len(pieces[-1]) + len(sentence) >= MAX_CHARS:
            pieces.append("")
        pieces[-1] += f"{sentence} "
    return pieces


def _plain(citation: Citation) -> Cited:
    return citation.law, _fold(citation.pasal), citation.ayat


def _fold(pasal: str) -> str:
    return re.sub(r"\s+", "", pasal).upper()


@cache
def _statutes() -> Statutes:
    """Reads laws by number and by well-known names; no corpus is needed."""
    return Statutes.of(())
