"""Definition questions: what a term means, with the law named and without.

The questions are generated from `law_id_core`. Every term that the opening articles (Pasal 1) of
its laws define, by the reader's `definition_items`, is a candidate if no other article of the same
law defines it too. `_ASKED` of them are drawn by a hash of law and term, so that neither order nor
length decides; each gets one of `_WORDINGS` and one of `_REFERENCES` by the same hash, and the id
`def-<law>-<hash>`. Gold with the law named is that article; without it, every opening article that
defines the term.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rag_lab.corpora import load_corpus
from rag_lab.corpora.statute import definition_items
from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.quality.figures import Figures, split_figures
from rag_lab.evaluation.quality.indexes import PlainBM25, indexed
from rag_lab.evaluation.ranking import DocumentRanker, rank_questions, score_ranking
from rag_lab.records import Question
from rag_lab.retrieval import DenseRetriever, HybridRetriever, KeywordRetriever

if TYPE_CHECKING:
    from llama_index.core.schema import Document

_ASKED = 400
_LONGEST_TERM = 8
"""Words; what is longer is a slip of the reader rather than a term."""
_MEASURES = ("RR@10", "P@1", "R@5")

_WORDINGS = (
    ("Apa yang dimaksud dengan {term} dalam {law}?", "Apa yang dimaksud dengan {term}?"),
    ("Menurut {law}, apa itu {term}?", "Apa itu {term}?"),
    ("Jelaskan pengertian {term} menurut {law}.", "Jelaskan pengertian {term}."),
    ("Apa definisi {term} berdasarkan {law}?", "Apa definisi {term} menurut hukum?"),
    ("Bagaimana {law} mendefinisikan {term}?", "Bagaimana hukum mendefinisikan {term}?"),
)
"""Each way of asking, with the law named and without."""

_REFERENCES = (
    "{kind} {number}/{year}",
    "{kind} No. {number} Tahun {year}",
    "{long} Nomor {number} Tahun {year} tentang {title}",
    "{kind} {title}",
    "{long} tentang {title}",
)
_LONG_KINDS = {"UU": "Undang-Undang", "PERPPU": "Peraturan Pemerintah Pengganti Undang-Undang"}


@dataclass(frozen=True, slots=True)
class Defined:
    """A term and the article that defines it."""

    term: str
    document_id: str
    doc: str
    law: str
    title: str

    @property
    def key(self) -> str:
        """Names term and law, and decides the draw."""
        return hashlib.sha256(f"{self.doc}\n{_same(self.term)}".encode()).hexdigest()


async def definitions(figures: Figures, cache: Path) -> None:
    """Definition questions over all articles of `law_id_core`, against BM25 on whole articles."""
    corpus = load_corpus("law_id_core")
    questions = definition_questions(corpus.documents)
    with closing(await indexed(corpus, cache)) as index:
        systems: dict[str, DocumentRanker] = {
            "plain BM25": PlainBM25(corpus),
            "keyword": KeywordRetriever(index),
            "dense": DenseRetriever(index),
            "hybrid": HybridRetriever(index),
        }
        for name, asked in questions.items():
            qrels = {question.id: dict.fromkeys(question.relevant_ids, 1) for question in asked}
            for system, ranker in systems.items():
                table = score_ranking(await rank_questions(ranker, asked), qrels, _MEASURES)
                figures.rows += split_figures(name, system, table, asked)
    reached = figures.value("definitions", "hybrid", "RR@10")
    figures.bars.append(Bar("definitions with the law named, MRR@10", reached, 0.60, ">="))


def definition_questions(documents: Iterable[Document]) -> dict[str, list[Question]]:
    """The questions by set: `definitions` name the law, `definitions-no-law` do not."""
    found = defined_terms(documents)
    titles = Counter(title for _, title in {(entry.doc, entry.title) for entry in found})
    gold: defaultdict[str, list[str]] = defaultdict(list)
    for entry in found:
        gold[_same(entry.term)].append(entry.document_id)
    drawn = sorted(found, key=lambda entry: entry.key)[:_ASKED]
    named = [_question(entry, titles) for entry in drawn]
    return {
        "definitions": named,
        "definitions-no-law": _unnamed(drawn, named, gold),
    }


def defined_terms(documents: Iterable[Document]) -> list[Defined]:
    """Terms of opening articles that no second place of their law defines, in order."""
    found: list[Defined] = []
    places: Counter[tuple[str, str]] = Counter()
    for document in documents:
        about = document.metadata
        for _, term, _ in definition_items(document.text):
            places[about["doc"], _same(term)] += 1
            if about.get("pasal") == "1" and len(term.split()) <= _LONGEST_TERM:
                law, title = str(about["law"]), str(about.get("title", ""))
                found.append(Defined(term, document.id_, str(about["doc"]), law, title))
    return [entry for entry in found if places[entry.doc, _same(entry.term)] == 1]


def _question(entry: Defined, titles: Mapping[str, int]) -> Question:
    seed = int(entry.key[:8], 16)
    with_law, _ = _WORDINGS[seed % len(_WORDINGS)]
    return Question(
        id=f"def-{entry.doc}-{entry.key[:8]}",
        text=with_law.format(term=entry.term, law=_reference(entry, seed, titles)),
        kind="definition",
        relevant_ids=(entry.document_id,),
    )


def _unnamed(
    drawn: Sequence[Defined], named: Sequence[Question], gold: Mapping[str, Sequence[str]]
) -> list[Question]:
    """The same terms asked for without a law, each once."""
    asked: dict[str, Question] = {}
    for entry, question in zip(drawn, named, strict=True):
        _, without_law = _WORDINGS[int(entry.key[:8], 16) % len(_WORDINGS)]
        text = without_law.format(term=entry.term)
        relevant = tuple(gold[_same(entry.term)])
        asked.setdefault(_same(entry.term), replace(question, text=text, relevant_ids=relevant))
    return list(asked.values())


def _reference(entry: Defined, seed: int, titles: Mapping[str, int]) -> str:
    """How the question calls the law; never by a title alone that another law bears as well."""
    kind, _, rest = entry.law.partition(" ")
    number, slash, year = rest.partition("/")
    if not slash:
        return entry.law
    telling = bool(entry.title) and titles[entry.title] == 1
    ways = _REFERENCES if telling else _REFERENCES[:2]
    return ways[seed // len(_WORDINGS) % len(ways)].format(
        kind=kind, long=_LONG_KINDS.get(kind, kind), number=number, year=year, title=entry.title
    )


def _same(term: str) -> str:
    return " ".join(term.casefold().split())
